import cv2
import numpy as np
import torch

from tools.superpoint.homographies import inside, map_points
from tools.superpoint.samples import LabelledPicture, PairSource, cell_centres, cell_targets


def test_a_point_goes_to_its_pixel_of_its_cell():
    target = cell_targets(np.array([[10.0, 21.0]]), np.array([0.75]), 32)
    assert target.shape == (65, 4, 4)
    assert target[5 * 8 + 2, 2, 1] == 0.75  # row 21 = 2 * 8 + 5, column 10 = 1 * 8 + 2
    assert target[64, 2, 1] == 0.25
    assert target[64].sum() == 15.25


def test_a_crowded_cell_adds_up_to_one():
    target = cell_targets(np.array([[0.0, 0.0], [7.0, 7.0]]), np.array([1.0, 0.5]), 8)
    np.testing.assert_allclose(target[[0, 63, 64], 0, 0], [2 / 3, 1 / 3, 0], atol=1e-6)


def test_points_outside_are_left_out():
    target = cell_targets(np.array([[-1.0, 3.0], [16.0, 3.0]]), np.ones(2), 16)
    assert target[64].min() == 1


def test_cell_centres():
    np.testing.assert_array_equal(cell_centres(16), [[3.5, 3.5], [11.5, 3.5], [3.5, 11.5], [11.5, 11.5]])


def dotted() -> LabelledPicture:
    """White dots of 3x3 pixels on black, far from each other, labelled at their centres."""
    picture = np.zeros((160, 160), np.uint8)
    axis = np.arange(16, 160, 24)
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2).astype(float)
    for x, y in points.astype(int):
        picture[y - 1 : y + 2, x - 1 : x + 2] = 255
    return LabelledPicture(picture, points, np.ones(len(points)))


def test_labels_follow_the_warp(monkeypatch):
    monkeypatch.setattr("tools.superpoint.samples.degrade", lambda gray, rng: gray)
    source = PairSource([dotted()], 96, share_of_shapes=0.0)
    for seed in range(4):
        pictures, targets, known, followed, places = source.pair(np.random.default_rng(seed))
        for picture, target, shown in zip(pictures, targets, known):
            assert target.shape == (65, 12, 12)
            channel, row, column = np.nonzero(target[:64] > 0.9)
            x, y = column * 8 + channel % 8, row * 8 + channel // 8
            safe = inside(np.stack([x, y], 1), 96, 96, margin=2)
            assert safe.sum() >= 3
            assert (picture[y[safe], x[safe]] > 60).all()
            assert shown.mean() > 0.4
        np.testing.assert_array_equal(followed, known)
        assert places.shape == (2, 144, 2)


def test_places_join_the_labels_of_both_views(monkeypatch):
    monkeypatch.setattr("tools.superpoint.samples.degrade", lambda gray, rng: gray)
    _, targets, _, _, places = PairSource([dotted()], 96, 0.0).pair(np.random.default_rng(5))
    between, _ = cv2.findHomography(cell_centres(96), places[0])
    back, _ = cv2.findHomography(cell_centres(96), places[1])
    np.testing.assert_allclose(between @ back / (between @ back)[2, 2], np.eye(3), atol=1e-4)
    points = []
    for target in targets:
        channel, row, column = np.nonzero(target[:64] > 0.9)
        points.append(np.stack([column * 8 + channel % 8, row * 8 + channel // 8], 1))
    moved = map_points(between, points[0])
    moved = moved[inside(moved, 96, 96, margin=2)]
    assert len(moved) >= 3
    assert np.linalg.norm(moved[:, None] - points[1][None], axis=-1).min(1).max() < 2.5


def test_batches_are_functions_of_seed_and_iteration():
    source = PairSource([dotted()], 64, share_of_shapes=0.5)
    first, again, other = source.batch(2, 1, 2, 3), source.batch(2, 1, 2, 3), source.batch(2, 1, 2, 4)
    assert first.pictures.shape == (4, 1, 64, 64)
    assert first.target.shape == (4, 65, 8, 8)
    assert first.known.shape == (4, 8, 8)
    assert first.followed.shape == (4, 8, 8)
    assert first.places.shape == (4, 64, 2)
    torch.testing.assert_close(first.pictures, again.pictures)
    assert not torch.equal(first.pictures, other.pictures)
    torch.testing.assert_close(first.target.sum(1), torch.ones(4, 8, 8))


def test_members_of_a_family_teach_descriptors_alone(monkeypatch):
    monkeypatch.setattr("tools.superpoint.samples.degrade", lambda gray, rng: gray)
    source = PairSource([dotted()], 96, share_of_shapes=0.5, share_of_families=1.0)
    batch = source.batch(6, 1, 2, 3)
    assert not batch.known.any()
    assert 0.05 < batch.followed.float().mean() < 0.95
    torch.testing.assert_close(batch.target[:, -1], torch.ones(12, 12, 12))
    # There and back again, where the place in between is a cell of the other view that is on the object too.
    there, back = batch.places.double().chunk(2)
    for pair in range(6):
        column, row = ((there[pair] - 3.5) / 8).round().long().unbind(1)
        inside = (column >= 0) & (row >= 0) & (column < 12) & (row < 12) & batch.followed[pair].flatten()
        cells = (row * 12 + column)[inside]
        both = batch.followed[6 + pair].flatten()[cells]
        gaps = (back[pair][cells[both]] - torch.from_numpy(cell_centres(96))[inside][both]).norm(dim=1)
        assert len(gaps) == 0 or gaps.median() < 8
