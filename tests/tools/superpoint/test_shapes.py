import numpy as np
import pytest

from tools.superpoint import shapes
from tools.superpoint.shapes import other_gray, render_shapes


def test_polygon_labels_are_where_the_gray_changes(monkeypatch):
    # With background and finish left out only the polygon is not black, and its extent is that of the labels.
    for seed in range(20):
        rng = np.random.default_rng(seed)
        picture, points = shapes.polygon(rng, np.zeros((128, 128), np.uint8))
        if (points < 1).any() or (points > 126).any():
            continue
        rows, columns = np.nonzero(picture > picture.max() // 2)
        np.testing.assert_allclose(points.min(0), [columns.min(), rows.min()], atol=1.5)
        np.testing.assert_allclose(points.max(0), [columns.max(), rows.max()], atol=1.5)


@pytest.mark.parametrize("draw", [shapes.ellipses, shapes.noise])
def test_negatives_have_no_keypoint(draw):
    picture, points = draw(np.random.default_rng(0), np.full((64, 64), 128, np.uint8))
    assert points.shape == (0, 2)
    assert picture.std() > 1


def test_rendered_pictures_are_reproducible_and_labelled_inside():
    for seed in range(30):
        picture, points = render_shapes(np.random.default_rng(seed), 96)
        again, _ = render_shapes(np.random.default_rng(seed), 96)
        np.testing.assert_array_equal(picture, again)
        assert picture.shape == (96, 96)
        assert picture.dtype == np.uint8
        assert ((points >= 0) & (points <= 95)).all()


def test_other_gray_keeps_its_distance():
    rng = np.random.default_rng(0)
    for gray in (0, 20, 128, 255):
        assert all(abs(other_gray(rng, gray, 40) - gray) >= 39 for _ in range(50))
