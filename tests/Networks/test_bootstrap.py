"""The bootstrap's keypoints, with a network that answers by hand."""

import numpy as np
import pytest
import torch

from Networks import bootstrap
from Networks.bootstrap import ZOOMS, generic_keypoints, store_generic_keypoints
from tests.tiny import TinyDatabase, tiny_options
from Utils.assignment import assign
from Utils.descriptors import DescriptorStore
from Utils.storage.experiment import Experiment


class Bright(torch.nn.Module):
    """Answers a keypoint wherever a pixel is bright; descriptors tell the cell."""

    def forward(self, gray):
        cells = torch.nn.functional.pixel_unshuffle(gray, 8)
        logits = torch.cat([20 * (cells - 0.6), torch.zeros_like(cells[:, :1])], dim=1)
        batch, _, height, width = cells.shape
        descriptors = torch.zeros(batch, 256, height, width)
        descriptors[:, 0] = torch.arange(width)
        descriptors[:, 1] = torch.arange(height)[:, None]
        descriptors[:, 2] = 1
        return logits, descriptors


def pictures_with(points, size=64) -> torch.Tensor:
    """(1, 3, size, size): a bright pixel at each (zoom, x, y), black elsewhere."""
    pictures = torch.zeros(1, len(ZOOMS), size, size, dtype=torch.uint8)
    for zoom, x, y in points:
        pictures[0, zoom, y, x] = 255
    return pictures


def test_points_are_pixel_centres():
    found = generic_keypoints(Bright(), pictures_with([(0, 10, 20)]), 0.1, 6)
    assert found.points.tolist() == [[10.5, 20.5]]
    assert found.pictures.tolist() == [0]


def test_points_of_zooms_are_mapped_back():
    # Zoom 1.6 about (32, 32): the centre of pixel (48, 16) is 16.5, -15.5 from there, a 1.6th of that at zoom 1.
    found = generic_keypoints(Bright(), pictures_with([(2, 48, 16)]), 0.1, 6)
    np.testing.assert_allclose(found.points, [[32 + 16.5 / 1.6, 32 - 15.5 / 1.6]], rtol=1e-5)


def test_points_of_all_zooms_are_suppressed_together():
    """A point found again at zoom 1.3 is one point; another far away stays."""
    again = round(32 + (20.5 - 32) * 1.3 - 0.5)
    found = generic_keypoints(Bright(), pictures_with([(0, 20, 20), (1, again, again), (1, 60, 60)]), 0.1, 6)
    assert len(found.points) == 2


def test_large_pictures_pass_one_by_one(monkeypatch):
    pictures = torch.cat([pictures_with([(0, 27, 43), (2, 5, 5)]), pictures_with([(1, 40, 8)])])
    network, sizes = Bright(), []
    network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    together = generic_keypoints(network, pictures, 0.1, 6)
    monkeypatch.setitem(bootstrap.PIXELS_PER_PASS, "cpu", 2 * 64 * 64 + 1)
    in_turn = generic_keypoints(network, pictures, 0.1, 6)
    assert sizes == [6, 2, 2, 2]
    for name, values in vars(together).items():
        assert len(values) == 3
        assert torch.equal(values, getattr(in_turn, name))


def test_descriptors_are_samples_of_zoom_one():
    found = generic_keypoints(Bright(), pictures_with([(0, 27, 43)]), 0.1, 6)
    # Pixel (27, 43) lies 23.5 / 8 cells right of the first cell's centre and 39.5 / 8 below it.
    expected = np.array([23.5 / 8, 39.5 / 8, 1])
    np.testing.assert_allclose(found.descriptors[0, :3], expected / np.linalg.norm(expected), rtol=1e-5)
    assert float(found.descriptors[0].norm()) == pytest.approx(1)


class BrightPictures(TinyDatabase):
    """Black pictures with three bright pixels; the box holds two of them."""

    def __init__(self, background: bool) -> None:
        super().__init__(4, 2)
        self.constant_background = background
        self.training.boxes[:] = [0, 0, 40, 64]

    def read(self, images, i):
        picture = np.zeros((64, 64, 3), np.uint8)
        for x, y in ((10, 12), (30, 50), (55, 30)):
            picture[y, x] = 255
        return picture


@pytest.mark.parametrize("background", [False, True])
def test_store_has_the_points_of_the_boxes_on_the_grid(tmp_path, background):
    database, options = BrightPictures(background), tiny_options(tmp_path)
    with DescriptorStore(tmp_path) as store:
        store_generic_keypoints(Bright(), database, database.training, options, store)
        inside = store.column("flag")
        points, images = store.column("point"), store.column("image")
    # 64 pixels are 16 cells: (10.5, 12.5) -> (3, 3), (30.5, 50.5) -> (8, 13).
    assert inside.sum() == 8
    assert {tuple(point) for point in points[inside]} == {(3, 3), (8, 13)}
    assert images[inside].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    # The third lies outside of the box, and is kept where such points tell the background.
    assert (~inside).sum() == (4 if background else 0)


def symmetric_store(folder, pictures: int, missing: int = 0) -> tuple[DescriptorStore, np.ndarray]:
    """Eight marks of each picture, shifted as a whole; those of a mirrored pair look nearly alike.

    Of two marks alike, the wrong one looks a little more like the centroid in every third picture. Picture `missing`
    has no keypoint, and what lies outside the boxes in every picture looks just like mark 0.
    """
    rng = np.random.default_rng(2)
    marks = np.array([(4, 4), (12, 4), (3, 8), (13, 8), (6, 11), (10, 11), (8, 2), (8, 14)], float)
    looks = np.repeat(np.eye(256, dtype=np.float32)[:4], 2, axis=0)
    looks[[0, 2, 4, 6], 8] = looks[[1, 3, 5, 7], 9] = 0.3  # left and right
    centroids = looks / np.linalg.norm(looks, axis=1, keepdims=True)
    store = DescriptorStore(folder)
    for picture in range(pictures):
        if picture == missing:
            continue
        seen = looks.copy()
        if picture % 3 == 1:
            seen[:6, [8, 9]] = seen[:6, [9, 8]]
        seen = np.concatenate([seen, looks[:1]])
        seen /= np.linalg.norm(seen, axis=1, keepdims=True)
        points = np.concatenate([marks + rng.integers(-1, 2, 2), [[15.0, 15.0]]])
        store.append(seen, points, np.full(9, picture), flags=np.arange(9) < 8)
    return store, centroids.astype(np.float32)


def test_clusters_agree_on_generic_keypoints(tmp_path):
    """Where left and right look swapped, the picture's other clusters tell them apart."""
    names = np.array([f"{i:02d}.png" for i in range(30)])
    hyper = tiny_options(tmp_path, "recipe=consensus", "bootstrap_match_fraction=0.9").hyper
    store, centroids = symmetric_store(tmp_path, 30)
    with store:
        inside = store.column("flag")
        table = bootstrap.matched_generic_keypoints(store, names, centroids, inside, hyper)
        by_looks = assign(store, 30, centroids, np.ones(8), among=inside)
    left, right = (table.places(8)[:, column, 0] for column in (0, 1))
    both = ~np.isnan(left) & ~np.isnan(right)
    assert both.sum() >= 25
    assert (left[both] < right[both]).all()
    assert len(table.of(0)) == 0  # no keypoint comes from nothing
    assert not (table.points[:, :2] == 15).all(axis=1).any()
    swapped = by_looks.labels.reshape(-1, 9)[:, 0] == 1
    assert swapped.sum() == 10  # by looks alone


def test_the_recipe_matches_and_the_paper_assigns(tmp_path, monkeypatch):
    database = TinyDatabase(40)
    tables = {}
    for recipe in ("paper", "consensus"):
        options = tiny_options(tmp_path, f"recipe={recipe}", "number_of_clusters=8")
        experiment = Experiment(tmp_path, recipe)
        experiment.open()
        tables[recipe] = bootstrap.bootstrap(database, options, experiment)
        stored = bootstrap.bootstrap(
            database, tiny_options(tmp_path, f"recipe={recipe}", "number_of_clusters=8", resume=True), experiment
        )
        np.testing.assert_array_equal(stored.points, tables[recipe].points)
    counts = tables["consensus"].cluster_counts()
    assert counts.max() <= 20  # 0.4 of 40, and pictures that are as sure as the last of these
    assert tables["paper"].cluster_counts().max() > counts.max()
