import numpy as np

from Utils.relations import mirror_images, most_telling


def test_the_most_telling_landmarks_by_hand():
    """0 and 1 move as one, 2 and 3 as another; 4 is noise, the widest of all; 5 is found too seldom."""
    rng = np.random.default_rng(0)
    one, other, noise = np.array([[[20]], [[20]], [[60]]]) * rng.standard_normal((3, 400, 2))
    points = np.stack([one, 1.5 * one, other, 1.2 * other, noise, one], axis=1)
    points += rng.standard_normal(points.shape)
    points[:100, 5] = np.nan
    order = most_telling(points).tolist()
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert {order[0] // 2, order[1] // 2} == {0, 1}
    assert most_telling(points[:, :0]).tolist() == []


def test_mirror_images_by_hand():
    """0 and 1 are a pair, 2 lies on the axis; 3 has no counterpart, and is seldom found."""
    points = np.array([[10.0, 20], [90, 20], [50, 60], [30, 90]]) + np.random.default_rng(0).normal(0, 1, (50, 1, 2))
    mirrored = points[:, [1, 0, 2, 3]] + np.array([[0, 0], [0, 0], [0, 0], [39, 0]])
    mirrored[10:, 3] = np.nan
    assert mirror_images(points, mirrored).tolist() == [1, 0, 2, -1]
    assert mirror_images(np.full((2, 3, 2), np.nan), mirrored[:2, :3]).tolist() == [-1] * 3


def test_images_are_one_to_one():
    """Two landmarks at one place share a counterpart: only the one with more votes gets it."""
    points = np.array([[[10.0, 0], [11, 0], [90, 0]]] * 10)
    mirrored = np.array([[[90.0, 0], [90, 0], [10.4, 0]]] * 8 + [[[90.0, 0], [90, 0], [10.6, 0]]] * 2)
    assert mirror_images(points, mirrored).tolist() == [2, -1, 0]
