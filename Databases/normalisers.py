"""Lengths by which errors are divided."""

import numpy as np

from Utils.runtime.errors import UserError


def distance(points: np.ndarray, a: int, b: int) -> np.ndarray:
    """Distance of points a and b: (n, G, 2) -> (n,); UserError if there are fewer points."""
    if points.shape[1] <= max(a, b):
        raise UserError(
            f"the groundtruth has points 0 to {points.shape[1] - 1}, but errors are divided by the distance of "
            f"points {a} and {b}; give the data set's own groundtruth, or for Custom another --set normalise_by"
        )
    return np.linalg.norm(points[:, a] - points[:, b], axis=-1)


def root_of_extent(points: np.ndarray) -> np.ndarray:
    """sqrt(w h) of the extent of the known points: (n, G, 2) -> (n,), NaN if none is known."""
    low = np.where(np.isnan(points), np.inf, points).min(1)
    high = np.where(np.isnan(points), -np.inf, points).max(1)
    extent = np.where(np.isfinite(low), high - low, np.nan)
    return np.sqrt(extent.prod(-1))
