"""PointDistribution: how odd a constellation of landmarks is."""

import numpy as np

from Utils.point_distribution import PointDistribution

SHAPE = np.array([[0.3, 0.2], [0.7, 0.2], [0.5, 0.9]])


def shapes(count: int = 400) -> np.ndarray:
    """The first two points move together, along x; a tenth of all points is unknown."""
    rng = np.random.default_rng(0)
    points = SHAPE + 0.01 * rng.normal(size=(count, 3, 2))
    points[:, :2, 0] += 0.2 * rng.normal(size=(count, 1))
    points[rng.random((count, 3)) < 0.1] = np.nan
    return points


def test_what_moves_together_is_odd_apart():
    model = PointDistribution.of(shapes())
    together, apart = SHAPE.copy(), SHAPE.copy()
    together[:2, 0] += 0.3
    apart[:2, 0] += (0.3, -0.3)
    usual, moved, torn = model.oddness(np.stack([SHAPE, together, apart]))
    assert usual < 0.01 < moved < 0.3 < 2 * moved < torn
    assert model.oddness(SHAPE[::-1]) > torn  # upside down


def test_some_of_the_landmarks():
    model = PointDistribution.of(shapes())
    np.testing.assert_allclose(
        model.subset(np.array([0, 2])).covariance, PointDistribution.of(shapes()[:, [0, 2]]).covariance
    )
    assert model.subset(np.array([2])).oddness(SHAPE[[2]]) < 0.01
