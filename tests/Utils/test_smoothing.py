"""The One-Euro filter: what rests trembles less, what moves is followed, what is missing stays so."""

import numpy as np
import pytest

from Utils.smoothing import OneEuro

RATE = 25.0


def through(points: np.ndarray, **settings: float) -> np.ndarray:
    smooth = OneEuro(RATE, **settings)
    return np.stack([smooth(frame, side=100.0) for frame in points])


def test_jitter_falls_and_lag_stays_small():
    """A point that rests under noise of one pixel, and one that crosses the object in a second."""
    noise = np.random.default_rng(0).normal(0, 1, (100, 1, 2))
    rest = 50 + noise
    assert np.diff(through(rest)[20:], axis=0).std() < 0.3 * np.diff(rest[20:], axis=0).std()
    way = np.zeros((50, 1, 2))
    way[:, 0, 0] = 100 * np.arange(50) / RATE
    behind = way - through(way)
    seconds = behind[-1, 0, 0] / 100
    assert 0 < seconds < 0.05
    assert through(way, speed_gain=0.0)[-1, 0, 0] < way[-1, 0, 0] - 20  # a plain low-pass filter lags


def test_the_filter_by_hand():
    smooth = OneEuro(rate=2 * np.pi, minimum_cutoff=1.0, speed_gain=0.0)
    assert smooth(np.array([[0.0, 4.0]])).tolist() == [[0.0, 4.0]]
    assert smooth(np.array([[1.0, 4.0]])) == pytest.approx(np.array([[0.5, 4.0]]))  # half the way
    assert smooth(np.array([[1.0, 4.0]])) == pytest.approx(np.array([[0.75, 4.0]]))


def test_missing_points_stay_missing_and_start_afresh():
    points = np.zeros((6, 2, 2))
    points[3:, 0] = 30
    points[2, 0] = np.nan
    smoothed = through(points)
    assert np.isnan(smoothed[2, 0]).all()
    assert smoothed[3, 0].tolist() == [30, 30]
    assert np.isfinite(smoothed[:, 1]).all()
