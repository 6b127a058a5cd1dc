"""SuperPoint and OpenCV's detectors behind one interface: points, scores, and descriptors of a choice of them."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from Networks.superpoint import SuperPoint, sample_descriptors, score_map

# gray uint8 (H, W) -> points (n, 2), scores (n,), and a function that describes a choice of the points
Method = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, Callable | None]]


@dataclass(frozen=True)
class Features:
    """The points of a view that a method keeps, and their descriptors."""

    points: np.ndarray  # (n, 2)
    descriptors: np.ndarray | None  # (n, D) float32, or uint8 bits, or None


def features(method: Method, gray: np.ndarray, valid: np.ndarray, half_side: int, most: int) -> Features:
    """The method's best points within the part of the view that shows the picture (bool, (H, W))."""
    points, scores, describe = method(gray)
    columns, rows = np.round(points).astype(int).reshape(-1, 2).T
    shown = np.flatnonzero(valid[rows.clip(0, gray.shape[0] - 1), columns.clip(0, gray.shape[1] - 1)])
    choice = shown[suppress_square(points[shown], scores[shown], half_side, most)]
    if describe is None or not len(choice):
        return Features(points[choice], None)
    return Features(*describe(choice))


def suppress_square(points: np.ndarray, scores: np.ndarray, half_side: int, most: int) -> np.ndarray:
    """Indices of the best `most` points, none within `half_side` pixels (in x and y) of a better one."""
    order = np.argsort(-scores, kind="stable")
    columns, rows = np.round(points).astype(int).reshape(-1, 2).T
    taken = np.zeros((rows.max(initial=0) + 2 * half_side + 1, columns.max(initial=0) + 2 * half_side + 1), bool)
    kept = []
    for i in order:
        row, column = rows[i], columns[i]
        if taken[row + half_side, column + half_side]:
            continue
        taken[row : row + 2 * half_side + 1, column : column + 2 * half_side + 1] = True
        kept.append(i)
        if len(kept) == most:
            break
    return np.array(kept, int)


def opencv_keypoints(found: list) -> tuple[np.ndarray, np.ndarray]:
    """OpenCV's keypoints -> points (n, 2), scores (n,)."""
    points = np.array([keypoint.pt for keypoint in found], float).reshape(-1, 2)
    return points, np.array([keypoint.response for keypoint in found], float)


def fast(gray: np.ndarray):
    """FAST corners; no descriptor."""
    return *opencv_keypoints(cv2.FastFeatureDetector_create(threshold=3).detect(gray)), None


def harris(gray: np.ndarray):
    """goodFeaturesToTrack with Harris' measure, best first; no descriptor."""
    found = cv2.goodFeaturesToTrack(gray, 5000, 1e-6, 1, useHarrisDetector=True)
    points = np.zeros((0, 2)) if found is None else found.reshape(-1, 2).astype(float)
    return points, -np.arange(len(points), dtype=float), None


def described_by(extractor, gray: np.ndarray):
    """Points of an OpenCV feature extractor; description waits until some are chosen."""
    found = extractor.detect(gray)

    def describe(choice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kept, descriptors = extractor.compute(gray, [found[i] for i in choice])
        return opencv_keypoints(kept)[0], descriptors

    return *opencv_keypoints(found), describe


def orb(gray: np.ndarray):
    """ORB."""
    return described_by(cv2.ORB_create(nfeatures=5000, fastThreshold=3), gray)


def sift(gray: np.ndarray):
    """SIFT."""
    return described_by(cv2.SIFT_create(contrastThreshold=0.005), gray)


def superpoint(network: SuperPoint, refined: bool = False) -> Method:
    """SuperPoint with these weights; every pixel is a candidate. Refined: places between pixels, as SIFT's are."""

    @torch.inference_mode()
    def method(gray: np.ndarray):
        semi, desc = network(torch.from_numpy(gray)[None, None].float() / 255)
        heat = score_map(semi)[0].numpy()
        rows, columns = np.nonzero(heat > 1e-4)
        points = np.stack([columns, rows], 1).astype(float)

        def describe(choice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            chosen = points[choice]
            descriptors = sample_descriptors(desc, torch.from_numpy(chosen)).numpy()
            return refine(heat, chosen) if refined else chosen, descriptors

        return points, heat[rows, columns], describe

    return method


def refine(heat: np.ndarray, points: np.ndarray, half_side: int = 2) -> np.ndarray:
    """Points (n, 2) moved to the centroid of the square root of the scores (H, W) around them."""
    x, y = points.astype(int).T
    offsets = np.arange(-half_side, half_side + 1)
    rows, columns = y[:, None, None] + half_side + offsets[:, None], x[:, None, None] + half_side + offsets
    weights = np.sqrt(np.pad(heat, half_side)[rows, columns])
    shift = np.stack([(weights * offsets).sum((1, 2)), (weights * offsets[:, None]).sum((1, 2))], 1)
    return points + shift / weights.sum((1, 2))[:, None]
