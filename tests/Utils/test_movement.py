import numpy as np
import pytest

from Utils.movement import explained_by_the_others, explained_movement


def scene(count=400, seed=0):
    """Groundtruth (n, 2, 2) of a pair of points that moves as a whole by 20 pixels in x and in y."""
    rng = np.random.default_rng(seed)
    shift = rng.normal(0, 20, (count, 1, 2))
    return rng, shift + np.array([[100.0, 100.0], [150.0, 120.0]])


def test_a_landmark_on_its_part_has_no_residual():
    _, truth = scene()
    found = explained_movement(truth[:, :1] + (5, 7), truth)
    assert found.found[0] == 1
    assert found.movement[0] == pytest.approx(20 * 2**0.5, rel=0.1)
    assert found.residual[0] < 0.5  # the ridge shrinks a little
    assert found.r2[0] > 0.99
    assert found.following().tolist() == [True]


def test_a_landmark_painted_on_the_crop_is_not_explained():
    rng, truth = scene()
    painted = np.array([128.0, 128.0]) + rng.normal(0, 3, (len(truth), 1, 2))
    found = explained_movement(painted, truth)
    assert found.movement[0] == pytest.approx(3 * 2**0.5, rel=0.1)
    assert abs(found.r2[0]) < 0.1
    assert found.following().tolist() == [False]


def test_noise_on_a_landmark_is_its_residual():
    rng, truth = scene(4000)
    noisy = truth[:, :1] + rng.normal(0, 10, (len(truth), 1, 2))
    found = explained_movement(noisy, truth)
    assert found.residual[0] == pytest.approx(10 * 2**0.5, rel=0.05)
    assert found.r2[0] == pytest.approx(1 - 200 / 1000, abs=0.03)


def test_a_landmark_that_never_moves_has_no_r2():
    _, truth = scene()
    found = explained_movement(np.full((len(truth), 1, 2), 77.0), truth)
    assert found.movement[0] == 0
    assert found.r2[0] == 0


def test_too_few_pictures_say_nothing_and_the_seldom_found_do_not_count():
    _, truth = scene()
    points = np.repeat(truth[:, :1], 3, axis=1)
    points[30:, 1] = np.nan  # 30 pictures: fewer than 20 in one of the halves
    points[200:, 2] = np.nan  # half of the pictures
    found = explained_movement(points, truth)
    assert np.isnan(found.r2[1])
    assert found.found.tolist() == [1, 30 / 400, 0.5]
    assert found.following().tolist() == [True, False, False]
    assert len(found.often_found().r2) == 1
    assert found.means()["r2"] == pytest.approx((found.r2[0] + found.r2[2]) / 2)


def test_pictures_without_groundtruth_take_no_part():
    _, truth = scene()
    points = truth[:, :1].copy()
    truth[:100] = np.nan
    points[:100] = 0
    assert explained_movement(points, truth).r2[0] > 0.99


def test_landmarks_that_move_together_explain_each_other_and_not_the_odd_one():
    rng, truth = scene()
    together = truth[:, :1] + rng.normal(0, 30, (1, 6, 2)) + rng.normal(0, 1, (len(truth), 6, 2))
    odd = truth[:, :1] + rng.normal(0, 30, (len(truth), 1, 2))
    painted = np.full((len(truth), 1, 2), 60.0) + rng.normal(0, 3, (len(truth), 1, 2))
    points = np.concatenate([together, odd, painted], axis=1)
    points[::3, 0] = np.nan  # found too seldom to explain others, and explained where it is found
    points[::9, 1] = np.nan
    found = explained_by_the_others(points)
    assert (found.r2[:6] > 0.95).all()
    assert found.r2[6] < 0.6
    assert abs(found.r2[7]) < 0.1
    assert found.found[:3].tolist() == pytest.approx([2 / 3, 8 / 9, 1], abs=0.01)


def test_a_landmark_alone_is_explained_by_nothing():
    _, truth = scene()
    assert np.isnan(explained_by_the_others(truth[:, :1]).r2).all()
    assert len(explained_by_the_others(truth[:, :0]).r2) == 0
