"""Landmarks and boxes."""

import dataclasses

import numpy as np

from Databases.demo.mesh import annotate
from Databases.demo.scene import rotation
from Databases.demo.surface import LANDMARKS, object_landmarks
from tests.Databases.demo.frontal import frontal_scene


def test_landmarks_are_the_projected_points_of_the_head_hidden_ones_too():
    scene = frontal_scene()
    turned = dataclasses.replace(scene, yaw=np.deg2rad(60), roll=np.deg2rad(20))
    points = object_landmarks(scene.shape) @ rotation(turned.yaw, 0, turned.roll).T
    near = 7 / (7 - points[:, 2])
    expected = 128 * (0.5 + 0.25 * near[:, None] * points[:, :2] * [1, -1])
    landmarks, _ = annotate(turned, 128)
    assert landmarks.shape == (len(LANDMARKS), 2)
    assert len(LANDMARKS) >= 16
    np.testing.assert_allclose(landmarks, expected, atol=1e-4)


def test_landmarks_of_a_frontal_head_mirror_each_other():
    scene = frontal_scene()
    landmarks, _ = annotate(scene, 128)
    mirrored = landmarks * [-1, 1] + [128, 0]
    named = dict(zip(LANDMARKS, landmarks))
    for name, point in zip(LANDMARKS, mirrored):
        other = name.replace("left", "?").replace("right", "left").replace("?", "right")
        np.testing.assert_allclose(point, named[other], atol=1e-3, err_msg=name)
        if name.startswith("left"):
            assert named[name][0] < 64 < named[other][0]
    assert named["left ear tip"][1] < named["forehead"][1] < named["nose tip"][1] < named["chin"][1]


def test_landmarks_follow_pose_scale_and_shift():
    scene = frontal_scene()
    before, _ = annotate(scene, 128)
    moved, _ = annotate(dataclasses.replace(scene, centre=np.array([0.6, 0.4])), 128)
    np.testing.assert_allclose(moved - before, np.tile([12.8, -12.8], (len(before), 1)), atol=1e-3)
    smaller, _ = annotate(dataclasses.replace(scene, scale=0.125), 128)
    np.testing.assert_allclose(smaller - 64, (before - 64) / 2, atol=1e-3)
    rolled, _ = annotate(dataclasses.replace(scene, roll=np.pi / 2), 128)  # counter-clockwise
    np.testing.assert_allclose(rolled - 64, (before - 64)[:, ::-1] * [1, -1], atol=1e-3)
    right, _ = annotate(dataclasses.replace(scene, yaw=0.5), 128)
    nose, bridge = LANDMARKS.index("nose tip"), LANDMARKS.index("nose bridge")
    assert right[nose, 0] - before[nose, 0] > right[bridge, 0] - before[bridge, 0] > 5
    twice, _ = annotate(scene, 256)
    np.testing.assert_allclose(twice, 2 * before, atol=1e-3)
