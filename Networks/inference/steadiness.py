"""How steady landmarks are: whether they follow a picture that is turned, scaled and shifted."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from Databases.augmentation import draw_similarity
from Databases.database import ImageSet
from Databases.groundtruth import PREDICTION_SIZE
from Networks.execution import inference_batches
from Networks.inference.detector import LandmarkDetector
from Utils import crops
from Utils.runtime.progress import Progress

_STAGE = 3  # of random numbers: 1 and 2 are the training steps


@dataclass(frozen=True)
class Steadiness:
    """What can be told of landmarks without groundtruth.

    found: (L,) share of the images in which each is detected; error: (L,) mean distance, in percent of the
    crop's side, between a landmark of a picture and of its warped copy, warped back; NaN where never in both;
    r2: (L,) 1 - squared distance / squared shift by the warp, near 1 for a landmark that follows the picture, 0 for
    one that keeps its place in the crop; points: (n, L, 2) in pixels of the 256x256 crop, NaN where not detected.
    """

    found: np.ndarray
    error: np.ndarray
    r2: np.ndarray
    points: np.ndarray


def steadiness(detector: LandmarkDetector, images: ImageSet) -> Steadiness:
    """Detect in each picture and in a slightly rotated, scaled and shifted copy, and compare."""
    size, seed = detector.size, detector.options.hyper.seed
    total, squares, shifts, both, found = (np.zeros(len(detector.active)) for _ in range(5))
    places: list[np.ndarray] = [np.zeros((0, len(detector.active), 2))]
    batches = inference_batches(detector.database, images, detector.options, range(len(images)))
    with Progress("Steadiness", len(images)) as progress:
        for pictures, _, numbers in batches:
            warps = np.stack([draw_similarity(size, np.random.default_rng([seed, _STAGE, i])) for i in numbers])
            points, confidence = detector.run(pictures)
            warped_points, warped_confidence = detector.run(_warped(pictures, warps))
            seen, warped_seen = confidence >= detector.threshold, warped_confidence >= detector.threshold
            back = crops.apply(crops.invert(warps), warped_points)
            distance = np.linalg.norm(points - back, axis=2)
            shift = np.linalg.norm(points - crops.apply(crops.invert(warps), points), axis=2)
            expected = crops.apply(warps, points)
            inside = ((expected >= 0) & (expected < size)).all(axis=2)
            counted = seen & warped_seen & inside
            total += np.where(counted, distance, 0).sum(axis=0)
            squares += np.where(counted, distance**2, 0).sum(axis=0)
            shifts += np.where(counted, shift**2, 0).sum(axis=0)
            both += counted.sum(axis=0)
            found += seen.sum(axis=0)
            places.append(np.where(seen[:, :, None], points, np.nan) * (PREDICTION_SIZE / size))
            progress.update(len(numbers))
    error = np.where(both > 0, 100 * total / np.maximum(both, 1) / size, np.nan)
    r2 = np.where(shifts > 0, 1 - squares / np.where(shifts > 0, shifts, 1), np.nan)
    return Steadiness(found / max(len(images), 1), error, r2, np.concatenate(places))


def _warped(pictures: torch.Tensor, warps: np.ndarray) -> torch.Tensor:
    """Pictures (B, 3, S, S) uint8, each under its point map (B, 2, 3); the border is repeated."""
    size = pictures.shape[-1]
    warped = [
        cv2.warpAffine(picture, crops.pixel_map(warp), (size, size), borderMode=cv2.BORDER_REPLICATE)
        for picture, warp in zip(pictures.permute(0, 2, 3, 1).numpy(), warps, strict=True)
    ]
    return torch.from_numpy(np.stack(warped)).permute(0, 3, 1, 2)
