"""Pose and camera by hand, and what scenes promise to vary."""

import numpy as np
import pytest

from Databases.demo.scene import project, rotation
from tests.Databases.demo.frontal import frontal_scene


def test_projection_by_hand():
    scene = frontal_scene()
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 2, 3.5]])
    # 0.25 picture widths of 80 pixels are 20; y points up; at half the camera's distance twice as large.
    expected = [[40, 40], [60, 40], [40, 20], [80, -40]]
    np.testing.assert_allclose(project(points, scene, 80), expected)


@pytest.mark.parametrize(
    "angles, nose, top",
    [
        ((0, 0, 0), (0, 0, 1), (0, 1, 0)),
        ((90, 0, 0), (1, 0, 0), (0, 1, 0)),  # looks to the right
        ((0, 90, 0), (0, 1, 0), (0, 0, -1)),  # looks up
        ((0, 0, 90), (0, 0, 1), (-1, 0, 0)),  # leans over to the left
        ((90, 0, 90), (0, 1, 0), (-1, 0, 0)),
    ],
)
def test_rotation_by_hand(angles, nose, top):
    turned = np.array([[0, 0, 1], [0, 1, 0]]) @ rotation(*np.deg2rad(angles)).T
    np.testing.assert_allclose(turned, [nose, top], atol=1e-12)
