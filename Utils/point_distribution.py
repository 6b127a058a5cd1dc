"""A point distribution model (Cootes et al. 1995): how the landmarks of an object usually stand."""

from dataclasses import dataclass

import numpy as np

from Utils.evaluation import fill_by_means

NOISE = 0.1  # standard deviation, in sides of the crop, that every coordinate may have beside the shape's own


@dataclass(frozen=True)
class PointDistribution:
    """Mean (2L,) and covariance (2L, 2L) of the coordinates of L landmarks, in sides of the crop."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray) -> "PointDistribution":
        """From points (n, L, 2) in sides of the crop; unknown ones, NaN, count as their means."""
        values = fill_by_means(points, points).reshape(len(points), 2 * points.shape[1])
        return cls(values.mean(axis=0), np.cov(values.T, bias=True))

    def subset(self, landmarks: np.ndarray) -> "PointDistribution":
        """Of some of the landmarks, by their places in the order (L',)."""
        coordinates = np.column_stack([2 * landmarks, 2 * landmarks + 1]).ravel()
        return PointDistribution(self.mean[coordinates], self.covariance[np.ix_(coordinates, coordinates)])

    def oddness(self, points: np.ndarray) -> np.ndarray:
        """How unlikely points (..., L, 2) are, (...): half the squared Mahalanobis distance, per coordinate."""
        off = points.reshape(*points.shape[:-2], -1) - self.mean
        precision = np.linalg.inv(self.covariance + NOISE**2 * np.eye(len(self.mean)))
        return ((off @ precision) * off).mean(axis=-1) / 2
