"""The head's chart."""

import numpy as np

from Databases.demo.surface import chart_directions


def test_chart_directions_by_hand():
    tilt = np.deg2rad(15)  # the muzzle points downwards by this
    directions = chart_directions(np.array([[0, 0], [np.pi / 2, 0], [0, tilt], [0, np.pi]]))
    expected = [[0, -np.sin(tilt), np.cos(tilt)], [1, 0, 0], [0, 0, 1], [0, np.sin(tilt), -np.cos(tilt)]]
    np.testing.assert_allclose(directions, expected, atol=1e-12)
