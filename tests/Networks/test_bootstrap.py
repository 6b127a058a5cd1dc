"""The bootstrap's keypoints, with a network that answers by hand."""

import numpy as np
import pytest
import torch

from Networks import bootstrap
from Networks.bootstrap import ZOOMS, generic_keypoints, store_generic_keypoints
from Networks.recipes import recipe_of
from tests.tiny import TinyDatabase, tiny_options
from Utils.descriptors import DescriptorStore
from Utils.runtime.errors import UserError
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
    points, _, owners = generic_keypoints(Bright(), pictures_with([(0, 10, 20)]), 0.1, 6)
    assert points.tolist() == [[10.5, 20.5]]
    assert owners.tolist() == [0]


def test_points_of_zooms_are_mapped_back():
    # Zoom 1.6 about (32, 32): the centre of pixel (48, 16) is 16.5, -15.5 from there, a 1.6th of that at zoom 1.
    points, *_ = generic_keypoints(Bright(), pictures_with([(2, 48, 16)]), 0.1, 6)
    np.testing.assert_allclose(points, [[32 + 16.5 / 1.6, 32 - 15.5 / 1.6]], rtol=1e-5)


def test_points_of_all_zooms_are_suppressed_together():
    """A point found again at zoom 1.3 is one point; another far away stays."""
    again = round(32 + (20.5 - 32) * 1.3 - 0.5)
    points, *_ = generic_keypoints(Bright(), pictures_with([(0, 20, 20), (1, again, again), (1, 60, 60)]), 0.1, 6)
    assert len(points) == 2


def test_large_pictures_pass_one_by_one(monkeypatch):
    pictures = torch.cat([pictures_with([(0, 27, 43), (2, 5, 5)]), pictures_with([(1, 40, 8)])])
    network, sizes = Bright(), []
    network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    together = generic_keypoints(network, pictures, 0.1, 6)
    monkeypatch.setitem(bootstrap.PIXELS_PER_PASS, "cpu", 2 * 64 * 64 + 1)
    in_turn = generic_keypoints(network, pictures, 0.1, 6)
    assert sizes == [6, 2, 2, 2]
    for values, same in zip(together, in_turn, strict=True):
        assert len(values) == 3
        assert torch.equal(values, same)


def test_descriptors_are_samples_of_zoom_one():
    _, descriptors, _ = generic_keypoints(Bright(), pictures_with([(0, 27, 43)]), 0.1, 6)
    # Pixel (27, 43) lies 23.5 / 8 cells right of the first cell's centre and 39.5 / 8 below it.
    expected = np.array([23.5 / 8, 39.5 / 8, 1])
    np.testing.assert_allclose(descriptors[0, :3], expected / np.linalg.norm(expected), rtol=1e-5)
    assert float(descriptors[0].norm()) == pytest.approx(1)


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


def test_pictures_without_keypoints_are_counted_and_one_is_named(tmp_path):
    database, options = BrightPictures(False), tiny_options(tmp_path)
    database.training.boxes[2:] = [0, 0, 5, 5]
    experiment = Experiment(tmp_path, "e")
    experiment.open()
    with DescriptorStore(tmp_path) as store:
        store_generic_keypoints(Bright(), database, database.training, options, store)
        bootstrap.report_empty_pictures(store, database.training, 4, experiment)
        said = "2 of 4 pictures have no keypoint in their box, first /nowhere/002.png"
        assert said in (experiment.logs / "e.txt").read_text()
        with pytest.raises(UserError, match=f"{said}; look whether they are black"):
            bootstrap.report_empty_pictures(store, database.training, 5, experiment)


def test_the_recipe_matches_and_the_paper_assigns(tmp_path, monkeypatch):
    database = TinyDatabase(40)
    tables = {}
    for recipe in ("paper", "consensus"):
        options = tiny_options(tmp_path, f"recipe={recipe}", "number_of_clusters=8")
        experiment = Experiment(tmp_path, recipe)
        experiment.open()
        tables[recipe] = bootstrap.bootstrap(database, options, experiment, recipe_of(options.hyper))
        options.resume = True
        stored = bootstrap.bootstrap(database, options, experiment)
        np.testing.assert_array_equal(stored.points, tables[recipe].points)
    counts = tables["consensus"].cluster_counts()
    assert counts.max() <= 20  # 0.4 of 40, and pictures that are as sure as the last of these
    assert tables["paper"].cluster_counts().max() > counts.max()
