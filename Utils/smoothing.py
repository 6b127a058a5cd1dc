"""Smoothing of points in videos: the One-Euro filter (Casiez, Roussel, Vogel, CHI 2012).

A low-pass filter whose cutoff rises with speed: resting points do not tremble, and moving points lag little.
"""

import math

import numpy as np

# Chosen on rendered, moving heads (benchmarks/smoothing.py); speeds are in sides of the object's box per second.
MINIMUM_CUTOFF = 0.5  # hertz, for a point at rest
SPEED_GAIN = 8.0  # hertz per unit of speed
SPEED_CUTOFF = 1.0  # hertz, of the speed's own filter


class OneEuro:
    """The filter for any number of points, frame by frame.

    rate: frames per second. A missing point (NaN) stays missing, and starts afresh when it returns.
    """

    def __init__(self, rate: float, minimum_cutoff: float = MINIMUM_CUTOFF, speed_gain: float = SPEED_GAIN) -> None:
        self.rate, self.minimum_cutoff, self.speed_gain = rate, minimum_cutoff, speed_gain
        self.points: np.ndarray | None = None
        self.speed: np.ndarray | None = None

    def __call__(self, points: np.ndarray, side: float = 1.0) -> np.ndarray:
        """Points (L, 2) of the next frame -> smoothed ones; side: of the object, in the points' unit."""
        if self.points is None or self.speed is None:
            self.points, self.speed = points.copy(), np.zeros_like(points)
            return points
        known = np.where(np.isnan(self.points), points, self.points)
        speed = (points - known) * self.rate / side
        smoothed = self.speed + _share(SPEED_CUTOFF, self.rate) * (speed - self.speed)
        self.speed = np.where(np.isnan(self.points) | np.isnan(points), 0.0, smoothed)
        fastness = np.linalg.norm(self.speed, axis=1, keepdims=True)
        self.points = known + _share(self.minimum_cutoff + self.speed_gain * fastness, self.rate) * (points - known)
        return self.points.copy()


def _share(cutoff: np.ndarray | float, rate: float) -> np.ndarray | float:
    """The weight of a new value in a low-pass filter of this cutoff in hertz."""
    turn = 2 * math.pi * cutoff / rate
    return turn / (turn + 1)
