"""Generic keypoints, with a network that answers by hand and with the one that ships."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from Databases.loading import zoom_about_centre
from Networks import generic_keypoints as module
from Networks.generic_keypoints import PIXELS_PER_PASS, generic_keypoints, reach, store_generic_keypoints
from Networks.superpoint import load_superpoint
from tests.tiny import TinyDatabase, tiny_options
from Utils.crops import warp
from Utils.descriptors import DescriptorStore
from Utils.hyperparameters import Hyperparameters
from Utils.storage.files import dump_pickle

HYPER = Hyperparameters(confidence_superpoint=0.1, nms_superpoint=6)


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
    pictures = torch.zeros(1, 3, size, size, dtype=torch.uint8)
    for zoom, x, y in points:
        pictures[0, zoom, y, x] = 255
    return pictures


def test_points_are_pixel_centres():
    points, _, owners = generic_keypoints(Bright(), pictures_with([(0, 10, 20)]), HYPER)
    assert points.tolist() == [[10.5, 20.5]]
    assert owners.tolist() == [0]


def test_points_of_zooms_are_mapped_back():
    # Zoom 1.6 about (32, 32): the centre of pixel (48, 16) is 16.5, -15.5 from there, a 1.6th of that at zoom 1.
    points, *_ = generic_keypoints(Bright(), pictures_with([(2, 48, 16)]), HYPER)
    np.testing.assert_allclose(points, [[32 + 16.5 / 1.6, 32 - 15.5 / 1.6]], rtol=1e-5)


def test_points_of_all_zooms_are_suppressed_together():
    """A point found again at zoom 1.3 is one point; another far away stays."""
    again = round(32 + (20.5 - 32) * 1.3 - 0.5)
    points, *_ = generic_keypoints(Bright(), pictures_with([(0, 20, 20), (1, again, again), (1, 60, 60)]), HYPER)
    assert len(points) == 2


def test_large_pictures_pass_one_by_one(monkeypatch):
    pictures = torch.cat([pictures_with([(0, 27, 43), (2, 5, 5)]), pictures_with([(1, 40, 8)])])
    network, sizes = Bright(), []
    network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    together = generic_keypoints(network, pictures, HYPER)
    monkeypatch.setitem(PIXELS_PER_PASS, "cpu", 2 * 64 * 64 + 1)
    in_turn = generic_keypoints(network, pictures, HYPER)
    assert sizes == [6, 2, 2, 2]
    for values, same in zip(together, in_turn, strict=True):
        assert len(values) == 3
        assert torch.equal(values, same)


def test_descriptors_are_samples_of_zoom_one():
    _, descriptors, _ = generic_keypoints(Bright(), pictures_with([(0, 27, 43)]), HYPER)
    # Pixel (27, 43) lies 23.5 / 8 cells right of the first cell's centre and 39.5 / 8 below it.
    expected = np.array([23.5 / 8, 39.5 / 8, 1])
    np.testing.assert_allclose(descriptors[0, :3], expected / np.linalg.norm(expected), rtol=1e-5)
    assert float(descriptors[0].norm()) == pytest.approx(1)


def picture_of_triangles(size: int) -> np.ndarray:
    """(size, size) uint8: triangles on each other, with corners everywhere."""
    rng = np.random.default_rng(3)
    picture = np.full((size, size), 128, np.uint8)
    for _ in range(600):
        corners = rng.integers(0, size, 2) + rng.integers(-25, 25, (3, 2))
        cv2.fillConvexPoly(picture, corners.astype(np.int32), int(rng.integers(256)))
    return picture


@pytest.mark.parametrize("box", [(130, 140, 190, 210), (0, 30, 70, 90), (220, 200, 287, 290)])
def test_keypoints_in_a_box_are_those_of_the_whole_picture(box):
    """Of a picture of 300x293, whose last pixels the network leaves out."""
    network, zooms = load_superpoint(), (1.0, 1.3, 1.6)
    hyper = Hyperparameters(zooms_superpoint=zooms, confidence_superpoint=0.01)
    gray = picture_of_triangles(300)[:293]
    views = np.stack([warp(gray, zoom_about_centre(300, 293, zoom), (300, 293)) for zoom in zooms])
    pictures = torch.from_numpy(views)[None]
    ((x1, y1, x2, y2),) = reach(np.float64([box]), 300, 293, hyper).tolist()
    assert (x2 - x1) * (y2 - y1) < 0.8 * 300 * 293
    found = []
    for window in (None, (x1, y1, x2, y2)):
        points, descriptors, _ = generic_keypoints(network, pictures, hyper, window)
        inside = ((points >= torch.tensor(box[:2])) & (points <= torch.tensor(box[2:]))).all(1)
        order = np.lexsort(points[inside].T.numpy())
        found.append((points[inside][order], descriptors[inside][order]))
    assert len(found[0][0]) > 8
    torch.testing.assert_close(found[1][0], found[0][0], atol=1e-3, rtol=0)
    torch.testing.assert_close(found[1][1], found[0][1], atol=1e-4, rtol=0)


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


# The file that keeps them


class Pictures(TinyDatabase):
    """Its pictures are files, which nothing reads."""

    def __init__(self, folder) -> None:
        super().__init__(4, 2)
        for i in range(len(self.training)):
            (folder / self.training.file(i)).write_bytes(b"")
        self.training = replace(self.training, root=folder)


def rows_of(database, options) -> list[np.ndarray]:
    with DescriptorStore(options.log_path) as store:
        store_generic_keypoints(load_superpoint(), database, database.training, options, store)
        return [store.read(0, len(store)), *(store.column(name) for name in ("point", "image", "flag"))]


@pytest.fixture
def detections(monkeypatch) -> list:
    """Grows with each detection."""
    calls, detect = [], module.detect_generic_keypoints

    def counted(*arguments):
        calls.append(arguments)
        detect(*arguments)

    monkeypatch.setattr(module, "detect_generic_keypoints", counted)
    return calls


SETTINGS = ("confidence_superpoint=0.01", "nms_superpoint=4")


def test_keypoints_are_kept_for_another_experiment(tmp_path, detections):
    database, options = Pictures(tmp_path), tiny_options(tmp_path / "Logs", *SETTINGS)
    first, second = rows_of(database, options), rows_of(database, options)
    assert len(detections) == 1
    assert len(first[0]) > 20
    for rows, same in zip(first, second, strict=True):
        np.testing.assert_array_equal(rows, same, strict=True)
    assert len(list((tmp_path / "Logs/Keypoints").iterdir())) == 1


def test_what_decides_keypoints_has_them_detected_again(tmp_path, detections, monkeypatch):
    database = Pictures(tmp_path)
    rows_of(database, tiny_options(tmp_path, *SETTINGS))
    rows_of(database, tiny_options(tmp_path, *SETTINGS, "seed=5", "learning_rate=1"))
    assert len(detections) == 1
    for setting in ("confidence_superpoint=0.02", "nms_superpoint=5", "image_size=128", "precision=bfloat16"):
        rows_of(database, tiny_options(tmp_path, *SETTINGS, setting))
    rows_of(database, tiny_options(tmp_path, *SETTINGS, "zooms_superpoint=1,1.3"))
    assert len(detections) == 6
    (tmp_path / database.training.file(1)).write_bytes(b"other")
    rows_of(database, tiny_options(tmp_path, *SETTINGS))
    database.training.boxes[0] -= 1
    rows_of(database, tiny_options(tmp_path, *SETTINGS))
    monkeypatch.setattr(database, "constant_background", True, raising=False)
    rows_of(database, tiny_options(tmp_path, *SETTINGS))
    assert len(detections) == 9


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied", "replaced"])
def test_a_damaged_file_is_made_again(tmp_path, detections, damage):
    database, options = Pictures(tmp_path), tiny_options(tmp_path / "Logs", *SETTINGS)
    first = rows_of(database, options)
    (file,) = (tmp_path / "Logs/Keypoints").iterdir()
    whole = file.read_bytes()
    middle = len(whole) // 2
    if damage == "replaced":
        dump_pickle({"descriptors": 3}, file)
    else:
        content = {"cut": whole[:middle], "changed": whole[:middle] + b"x" + whole[middle + 1 :], "emptied": b""}
        file.write_bytes(content[damage])
    for rows, same in zip(first, rows_of(database, options), strict=True):
        np.testing.assert_array_equal(rows, same)
    assert len(detections) == 2
    assert file.read_bytes() == whole


def test_many_keypoints_are_not_kept(tmp_path, detections, monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", 20)
    rows_of(Pictures(tmp_path), tiny_options(tmp_path / "Logs", *SETTINGS))
    assert not (tmp_path / "Logs/Keypoints").exists()
