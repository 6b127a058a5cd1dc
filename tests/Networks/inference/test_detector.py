"""LandmarkDetector: pictures in, points in their pixels out, whatever their size and where the object is."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from Databases import DATABASES
from Networks.inference.detector import LandmarkDetector
from Utils import crops
from Utils.named_points import common_frame, fit
from Utils.options import default_options
from Utils.point_distribution import PointDistribution
from Utils.runtime.errors import UserError
from Utils.storage.experiment import Experiment
from Utils.storage.files import save_checkpoint
from Utils.storage.pictures import write_jpeg


class Brightness(torch.nn.Module):
    """The first and the last map are the picture's brightness, the second is nowhere high."""

    l1 = torch.nn.Conv2d(32, 3, 1)

    def forward_heatmaps(self, pictures):
        bright = torch.nn.functional.avg_pool2d(pictures.mean(dim=1, keepdim=True), 4)
        return torch.cat([bright, 0.1 * bright, bright], dim=1)


class UprightOnly(torch.nn.Module):
    """Both maps are the brightness, and high only where that is above the middle and right of it."""

    def forward_heatmaps(self, pictures):
        bright = torch.nn.functional.avg_pool2d(pictures.mean(dim=1, keepdim=True), 4)
        bright[:, :, 8:] *= 0.5
        bright[:, :, :, :8] *= 0.5
        return torch.cat([bright, bright], dim=1)


def detector_of(dataset_name: str, *settings: str, network: torch.nn.Module | None = None) -> LandmarkDetector:
    options = default_options(dataset_name, DATABASES, ["readout=centroid", "image_size=64", *settings], "cpu")
    rules = DATABASES[dataset_name].rules(options.hyper)
    return LandmarkDetector(network or Brightness(), rules, options, np.array([0, 1]))


def spot(x: int, y: int, width: int, height: int, radius: int = 3) -> np.ndarray:
    """A black picture with a white square around x, y."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[y - radius : y + radius, x - radius : x + radius] = 255
    return picture


@pytest.mark.parametrize("dataset_name", list(DATABASES))
def test_points_come_back_in_pixels_of_the_picture(dataset_name):
    """A bright spot in a box, in pictures of two sizes; to a cell of the grid, 1/16 of the crop."""
    detector = detector_of(dataset_name)
    for scale in (1, 7):
        picture = spot(90 * scale, 70 * scale, 200 * scale, 150 * scale, 4 * scale)
        box = np.array([50, 30, 130, 110]) * scale
        found = detector(picture, box)
        assert found.points.shape == (1, 2, 2)
        assert np.abs(found.points[0, 0] - np.array([90, 70]) * scale).max() < 6 * scale
        assert np.isnan(found.points[0, 1]).all()
        assert found.boxes.tolist() == [box.tolist()]
        assert found.names == ["landmark_0", "landmark_1"]
        assert found.confidence[0, 0] > 0.2


@pytest.mark.parametrize(
    ("poses", "place", "found"),
    [
        ("any", (60, 125), True),  # left, below the middle
        ("mirrored", (50, 40), True),  # left, above
        ("mirrored", (90, 170), False),  # below
        ("one", (50, 40), False),
    ],
)
def test_objects_are_found_in_the_poses_that_the_data_set_has(poses, place, found):
    detector = detector_of("Custom", f"poses={poses}", network=UprightOnly())
    landmarks = detector(spot(*place, 200, 200, 12), np.array([40, 40, 160, 160]))
    assert np.abs(landmarks.points[0, 0] - place).max() < 11  # a cell
    assert (landmarks.confidence[0, 0] > 0.7) == found


@pytest.mark.parametrize("usual", [(0.3, 0.5), (0.7, 0.5), (0.5, 0.3), (0.5, 0.7)])
def test_of_poses_that_look_alike_the_one_with_the_usual_shape_counts(usual):
    """A spot to the left is found in all poses; in its own, it lies where the training pictures have it."""
    detector = detector_of("Custom", "poses=any")
    places = np.array(usual) + np.random.default_rng(0).normal(0, 0.02, (50, 2, 2))
    detector.shape = PointDistribution.of(places)
    bright = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    bright[:, :, 28:36, 16:24] = 255
    posed = []
    read = detector.read
    detector.read = lambda maps: posed.append(read(maps)[0]) or (posed[-1], np.ones((1, 2), np.float32))
    points, _ = detector.run_once(bright)
    errors = [np.abs(points_of - 64 * np.array(usual)).max() for points_of in posed]
    chosen = int(np.argmin(errors))
    np.testing.assert_allclose(
        points, crops.apply(crops.invert(detector.database.poses[chosen] * (1, 1, 64)), posed[chosen])
    )
    assert errors[chosen] < 6


def test_one_picture_a_list_and_files(tmp_path):
    detector = detector_of("Custom")
    pictures = [spot(20 + i, 30, 64, 48) for i in range(20)]  # more than a batch
    write_jpeg(pictures[3], tmp_path / "a.jpg", 100)
    together = detector(pictures)
    assert together.points.shape == (20, 2, 2)
    np.testing.assert_array_equal(detector(pictures[3]).points[0], together.points[3])
    np.testing.assert_allclose(detector(tmp_path / "a.jpg").points, detector(str(tmp_path / "a.jpg")).points)
    np.testing.assert_allclose(detector([tmp_path / "a.jpg"]).points[0], together.points[3], atol=0.2)
    assert together.boxes[0].tolist() == [0, 0, 64, 48]
    mixed = detector(pictures[:2], [None, np.array([4, 4, 60, 44])])
    assert mixed.boxes.tolist() == [[0, 0, 64, 48], [4, 4, 60, 44]]
    assert detector([]).points.shape == (0, 2, 2)


def test_a_large_picture_is_shrunk_before_it_is_cropped():
    """Stripes of single pixels become gray, as for the eye, not a pattern."""
    detector = detector_of("Custom")
    picture = np.zeros((1800, 1800, 3), np.uint8)
    picture[:, ::2] = 200
    crop, _, _ = detector.cut(picture, None)
    assert np.abs(crop.astype(int) - 100).max() <= 2
    assert np.abs(detector_of("LS3D").cut(picture, np.array([0, 0, 1800, 1800]))[0].astype(int) - 100).max() <= 8


@pytest.mark.parametrize(
    ("pictures", "box", "message"),
    [
        (np.zeros((4, 4, 1), np.uint8), None, r"a picture is uint8 \(4, 4, 1\); give RGB uint8"),
        (np.zeros((8, 8, 3)), None, "a picture is float64"),
        ([7], None, "a picture is int"),
        ("nowhere.jpg", None, "nowhere.jpg does not exist"),
        ([np.zeros((8, 8, 3), np.uint8)], [], "0 boxes for 1 pictures"),
        (np.zeros((8, 8, 3), np.uint8), [50, 50, 60, 60], "a box lies outside its picture"),
    ],
)
def test_wrong_input_is_said(pictures, box, message):
    with pytest.raises(UserError, match=message):
        detector_of("Custom")(pictures, box)


def test_checkpoints_are_loaded_by_folder_or_file(make_demo, tmp_path):
    folder = make_demo.folder / "Logs/demo"
    detector = LandmarkDetector.load(folder)
    (path,) = sorted((folder / "CheckPoints").glob("demoSecondStepEpoch*.pth"))[-1:]
    assert (detector.size, detector.database.name, detector.options.hyper.readout) == (64, "Demo", "centroid")
    picture = make_demo.folder / "Logs/DemoData/test/000001.jpg"
    ours, theirs = detector(picture), LandmarkDetector.load(path, readout="cell")(picture)
    np.testing.assert_array_equal(ours.confidence, theirs.confidence)
    assert ours.names == theirs.names
    with pytest.raises(UserError, match="was made with --dataset_name Demo"):
        LandmarkDetector.load(path, dataset_name="CelebA")


def test_published_checkpoints_need_the_name_of_their_data_set(make_demo, tmp_path):
    """They hold a network and active_channels alone."""
    detector = LandmarkDetector.load(make_demo.folder / "Logs/demo")
    path = tmp_path / "published.pth"
    content = {"state_dict": detector.network.state_dict(), "active_channels": detector.active}
    save_checkpoint(content, path)
    with pytest.raises(UserError, match="does not say its data set; give dataset_name, one of CelebA"):
        LandmarkDetector.load(path)
    published = LandmarkDetector.load(path, dataset_name="Human3.6", readout="cell")
    assert published.size == 256
    found = published(np.zeros((450, 450, 3), np.uint8))
    assert found.points.shape == (1, len(detector.active), 2)
    first = next((make_demo.folder / "Logs/demo/CheckPoints").glob("demoFirstStep*.pth"))
    with pytest.raises(UserError, match="not a checkpoint of step two"):
        LandmarkDetector.load(Path(first))


def test_faces_are_found_where_the_data_set_is_one_of_faces():
    face = pytest.importorskip("skimage.data").astronaut()
    detector = detector_of("CelebA")
    x1, y1, x2, y2 = detector(face).boxes[0]
    assert 150 < x1 < 220 < x2 < 300  # the astronaut's face is at about 180 to 265, 70 to 180
    assert 20 < y1 < 100 < y2 < 230
    assert detector(cv2.flip(np.zeros_like(face), 0)).boxes[0].tolist() == [0, 0, 512, 512]


def test_named_points_come_with_the_landmarks_of_their_checkpoint(tmp_path):
    """A point right between two landmarks; another checkpoint's regressor is refused."""
    experiment = Experiment(tmp_path, "e")
    detector = detector_of("Custom", network=UprightOnly())
    detector.learn_names(experiment)
    assert detector(spot(30, 40, 64, 64)).named is None

    shown = np.array([[[0.0, 0.0], [10.0, 0.0]], [[5.0, 5.0], [5.0, 25.0]]])
    whole = np.tile(np.eye(2, 3), (2, 1, 1))
    regressor, _, _ = fit(common_frame(shown, whole), shown, whole, shown.mean(axis=1, keepdims=True), ["middle"])
    regressor.save(experiment.named_points(7))
    with pytest.raises(UserError, match="belongs to another checkpoint; run tools/name_points.py again"):
        detector.learn_names(experiment)
    detector.iteration = 7
    detector.learn_names(experiment)
    detector.run = lambda crops: (np.array([[[10.0, 20.0], [30.0, 20.0]]]), np.ones((1, 2), np.float32))
    found = detector(spot(30, 40, 64, 64), np.array([0, 0, 64, 64]))
    assert found.named.names == ["middle"]
    np.testing.assert_allclose(found.named.points[0, 0], found.points[0].mean(axis=0), atol=1e-6)
    assert found.named.confidence.shape == (1, 1)
