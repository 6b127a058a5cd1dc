import numpy as np
import pytest

from Utils.relations import Relations, mirror_images, telling_order
from Utils.runtime.errors import UserError


def test_the_most_telling_landmarks_by_hand():
    """0 and 1 move as one, 2 and 3 as another; 4 is noise, the widest of all; 5 is found too seldom."""
    rng = np.random.default_rng(0)
    one, other, noise = np.array([[[20]], [[20]], [[60]]]) * rng.standard_normal((3, 400, 2))
    points = np.stack([one, 1.5 * one, other, 1.2 * other, noise, one], axis=1)
    points += rng.standard_normal(points.shape)
    points[:100, 5] = np.nan
    order = telling_order(points).tolist()
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert {order[0] // 2, order[1] // 2} == {0, 1}
    assert telling_order(points[:, :0]).tolist() == []


def test_mirror_images_by_hand():
    """0 and 1 are a pair, 2 lies on the axis; 3 has none, and is seldom found. 1 votes for 0 more than for 4."""
    places = np.array([[10.0, 20], [90, 20], [50, 60], [30, 90], [12, 20]])
    points = places + np.random.default_rng(0).normal(0, 0.1, (50, 1, 2))
    mirrored = points[:, [1, 0, 2, 3, 1]] + np.array([[0, 0], [0, 0], [0, 0], [39, 0], [0, 0]])
    mirrored[:15, 1, 0] += 1.5
    mirrored[10:, 3] = np.nan
    assert mirror_images(points, mirrored).tolist() == [1, 0, 2, -1, -1]
    assert mirror_images(np.full((2, 3, 2), np.nan), mirrored[:2, :3]).tolist() == [-1] * 3


def test_a_file_of_relations(tmp_path):
    relations, path = Relations(telling=[4, 2, 9], mirror=[(2, 9), (4, 4)]), tmp_path / "relations.json"
    relations.save(path)
    assert Relations.load(path, np.array([2, 4, 9])) == relations
    assert relations.counterparts(np.array([2, 4, 9])).tolist() == [2, 1, 0]
    assert relations.counterparts(np.array([2, 4])).tolist() == [-1, 1]
    with pytest.raises(UserError, match=r"relations\.json is damaged or of another network; remove it"):
        Relations.load(path, np.array([2, 4]))
    path.write_text('{"telling": [0')
    with pytest.raises(UserError, match=r"relations\.json is damaged or of another network; remove it"):
        Relations.load(path, np.array([2, 4, 9]))
