"""Pose and camera by hand, and what scenes promise to vary."""

import numpy as np
import pytest

from Databases.demo.scene import project, rotation, sample_scene
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


def test_scenes_vary_as_promised():
    scenes = [sample_scene(0, "train", i) for i in range(300)]
    yaw = np.rad2deg([s.yaw for s in scenes])
    assert np.abs(yaw).max() <= 60
    assert min(yaw.max(), -yaw.min()) > 45
    assert yaw.std() > 20
    assert np.rad2deg([s.pitch for s in scenes]).std() > 6
    assert np.rad2deg([s.roll for s in scenes]).std() > 11
    assert len({s.palette.tobytes() for s in scenes}) == 300
