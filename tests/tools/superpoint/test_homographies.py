import numpy as np

from tools.superpoint.homographies import (
    HomographyRange,
    inside,
    map_points,
    random_homography,
    translation,
)


def test_translation_and_perspective_division():
    moved = map_points(translation(np.array([2.0, -1.0])), np.array([[0.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(moved, [[2, -1], [5, 3]])
    halved = map_points(np.diag([1.0, 1.0, 2.0]), np.array([[4.0, 6.0]]))
    np.testing.assert_allclose(halved, [[2, 3]])


def test_centre_stays_without_shift():
    reach = HomographyRange(shift=0)
    for seed in range(5):
        matrix = random_homography(np.random.default_rng(seed), 65, 33, reach)
        np.testing.assert_allclose(map_points(matrix, np.array([[32.0, 16.0]])), [[32, 16]], atol=1e-9)


def test_inside():
    points = np.array([[0.0, 0.0], [9.0, 4.0], [9.1, 4.0], [-0.1, 2.0]])
    assert inside(points, 10, 5).tolist() == [True, True, False, False]
    assert inside(points, 10, 5, margin=1).tolist() == [False, False, False, False]
