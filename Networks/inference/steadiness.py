"""How steady landmarks are: do they follow a picture that is turned, scaled and shifted?"""

from dataclasses import dataclass

import numpy as np
import torch

from Databases.augmentation import draw_similarity
from Databases.database import ImageSet
from Databases.groundtruth import PREDICTION_SIZE
from Networks.execution import inference_batches
from Networks.inference.detector import LandmarkDetector, warped
from Utils import crops
from Utils.runtime.progress import Progress

STEADY = 0.8  # R2 under known warps from which a landmark counts as one that follows the picture
_STAGE = 3  # of random numbers; 1 and 2 are the training steps


@dataclass(frozen=True)
class Steadiness:
    """What is known of L landmarks without groundtruth.

    found: (L,) share of the n pictures in which each is found. error: (L,) mean distance, in percent of the crop's
    side, between a landmark of a picture and of its warped copy, warped back; NaN if never found in both. r2: (L,)
    1 - squared distance / squared shift by the warp: near 1 for a landmark that follows the picture, 0 for one that
    keeps its place in the crop. points: (n, L, 2) in pixels of the 256x256 crop, NaN if not found.
    """

    found: np.ndarray
    error: np.ndarray
    r2: np.ndarray
    points: np.ndarray

    def steady(self) -> np.ndarray:
        """(L,) bool: landmarks that keep to the picture, not to the crop, where they are found."""
        return np.nan_to_num(self.r2, nan=-1) > STEADY


def steadiness(detector: LandmarkDetector, images: ImageSet) -> Steadiness:
    """Detect in each picture and in a rotated, scaled and shifted copy, and compare.

    The copy differs slightly, and by any of the poses in which the data set's objects stand.
    """
    size, seed, parts = detector.size, detector.options.hyper.seed, []
    batches = inference_batches(detector.database, images, detector.options, range(len(images)))
    with Progress("Steadiness", len(images)) as progress:
        for pictures, _, numbers in batches:
            warps = np.stack([_draw_warp(detector, np.random.default_rng([seed, _STAGE, i])) for i in numbers])
            points, back = _found(detector, pictures), crops.invert(warps)
            moved, expected = _found(detector, warped(pictures, warps)), crops.apply(warps, points)
            distance = np.linalg.norm(points - crops.apply(back, moved), axis=2)
            distance[~((expected >= 0) & (expected < size)).all(axis=2)] = np.nan
            shift = np.linalg.norm(points - crops.apply(back, points), axis=2)
            shift[np.isnan(distance)] = np.nan
            parts.append((points, distance, shift))
            progress.update(len(numbers))
    points, distance, shift = (np.concatenate(part) for part in zip(*parts, strict=True))
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: never found in both
        error = 100 * np.nansum(distance, axis=0) / np.isfinite(distance).sum(axis=0) / size
        r2 = 1 - np.nansum(distance**2, axis=0) / np.nansum(shift**2, axis=0)
    return Steadiness(np.isfinite(points[..., 0]).mean(axis=0), error, r2, points * (PREDICTION_SIZE / size))


def training_steadiness(detector: LandmarkDetector) -> Steadiness:
    """`steadiness` in some of the data set's training pictures."""
    return steadiness(detector, detector.database.some_training())


def _draw_warp(detector: LandmarkDetector, rng: np.random.Generator) -> np.ndarray:
    """A random point map (2, 3) of crops."""
    small, poses = draw_similarity(detector.size, rng), detector.database.poses
    return crops.compose(small, poses[rng.integers(len(poses))] * (1, 1, detector.size))


def _found(detector: LandmarkDetector, pictures: torch.Tensor) -> np.ndarray:
    """The landmarks (n, L, 2) of crops (n, 3, S, S), in pixels of the crop, NaN if not found."""
    points, confidence = detector.run(pictures)
    points[confidence < detector.threshold] = np.nan
    return points
