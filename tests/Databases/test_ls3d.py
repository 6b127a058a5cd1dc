import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io

from Databases.ls3d import LS3D, boxes_of_points
from Utils.crops import apply, invert
from Utils.options import Paths
from Utils.runtime.errors import UserError
from Utils.storage.files import dump_pickle
from Utils.storage.pictures import write_jpeg


def write_t7(path: Path, points: np.ndarray, kind: str = "Float") -> None:
    """A contiguous 2-D tensor in Torch7's binary serialisation."""

    def name(text: str) -> bytes:
        return struct.pack("<i", len(text)) + text.encode()

    rows, columns = points.shape
    tensor = struct.pack("<ii", 4, 1) + name("V 1") + name(f"torch.{kind}Tensor")
    tensor += struct.pack("<i2q2qq", 2, rows, columns, columns, 1, 1)
    storage = struct.pack("<ii", 4, 2) + name("V 1") + name(f"torch.{kind}Storage") + struct.pack("<q", points.size)
    path.write_bytes(tensor + storage + points.astype({"Float": "<f4", "Double": "<f8"}[kind]).tobytes())


def points_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(100, 300, (68, 2))


@pytest.fixture
def tree(tmp_path):
    train, test, lists = tmp_path / "300W_LP", tmp_path / "LS3D-balanced", tmp_path / "data" / "LS3D"
    for folder in (train / "AFW", train / "landmarks" / "AFW", test / "b", test / "a", lists):
        folder.mkdir(parents=True)
    names = ["AFW/AFW_2_1_0.jpg", "AFW/AFW_1_1_0.jpg"]  # the order of the pickle counts
    for i, name in enumerate(names):
        write_jpeg(np.zeros((450, 450, 3), np.uint8), train / name)
        file = train / "landmarks" / name.replace(".jpg", "_pts.mat")
        scipy.io.savemat(file, {"pts_2d": np.zeros((68, 2)), "pts_3d": points_of(i)})
    dump_pickle({name: [10, 20, 400, 410] for name in names}, lists / "300W_LPBoundingBoxes.pickle")
    for i, name in enumerate(("b/0.jpg", "a/1.jpg", "a/0.jpg")):
        write_jpeg(np.zeros((300 + i, 400, 3), np.uint8), test / name)
        write_t7((test / name).with_suffix(".t7"), points_of(10 + i), "Double" if i else "Float")
    (tmp_path / "main.yaml").write_text(f"300WLP_datapath: {train}\nLS3Dbalanced_datapath: {test}\n")
    return tmp_path


def open_tree(tree) -> LS3D:
    return LS3D.open(SimpleNamespace(paths=Paths(tree / "main.yaml"), data_path=tree / "data"))


def test_splits_boxes_and_points(tree):
    database = open_tree(tree)
    database.check_cheaply()
    assert database.training.names.tolist() == ["AFW/AFW_2_1_0.jpg", "AFW/AFW_1_1_0.jpg"]
    assert database.training.boxes.tolist() == [[10, 20, 400, 410]] * 2
    assert np.allclose(database.regression.landmarks[1], points_of(1), atol=1e-4)
    assert database.test.names.tolist() == ["a/0.jpg", "a/1.jpg", "b/0.jpg"]
    assert np.allclose(database.test.landmarks, [points_of(12), points_of(11), points_of(10)], atol=1e-4)
    assert database.read(database.test, 0).shape == (302, 400, 3)
    assert database.read(database.training, 0).shape == (450, 450, 3)


def test_boxes_of_points_by_hand():
    points = np.zeros((1, 68, 2))
    points[:] = [[[100.9, 120.9]]]
    points[0, 0], points[0, 1] = (50.7, 90.2), (170.9, 240.99)
    # extent in whole pixels 50, 90, 170, 240; a third of the height 150 is 50
    assert boxes_of_points(points).tolist() == [[50, 40, 170, 240]]


def test_points_just_below_a_whole_pixel_are_cut_off_there(tree):
    """In single precision 139.99999999 is 140, and the crop begins a pixel further down."""
    points = points_of(0).clip(150, 290)
    points[0], points[1] = (106.5, 139.99999999), (343.5, 330.5)
    file = tree / "300W_LP" / "landmarks" / "AFW" / "AFW_2_1_0_pts.mat"
    scipy.io.savemat(file, {"pts_3d": points})
    database = open_tree(tree)
    box = database.regression.boxes[0]
    assert box.tolist() == [106, 139 - (330 - 139) / 3, 343, 330]
    corner = apply(invert(database.crop(box, 450, 450, 256)), np.zeros((1, 2)))[0]
    assert corner == pytest.approx((71, 40))


def test_crop_by_hand(tree):
    database = open_tree(tree)
    # d = ((1.2 * 400 - 10) + (2 * 410 - 20)) / 2 = 635: margin 50; window 0, 0 to 449, 449
    m = database.crop(database.training.boxes[0], 450, 450, 256)
    assert np.allclose(m, [[256 / 449, 0, 0], [0, 256 / 449, 0]])


def test_normaliser_is_the_extent(tree):
    points = np.full((1, 68, 2), 50.0)
    points[0, 0], points[0, 1] = (10, 20), (110, 45)
    assert open_tree(tree).normalisers(points).tolist() == [np.sqrt(100 * 30)]


@pytest.mark.parametrize("content", [b"", b"\x04\x00\x00\x00half", None])
def test_a_broken_or_missing_t7_is_named(tree, content):
    file = tree / "LS3D-balanced" / "a" / "1.t7"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"a/1\.t7 (does not exist|cannot be read)"):
        open_tree(tree)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_points_that_are_not_finite_are_named(tree, value):
    points = points_of(3)
    points[5, 1] = value
    write_t7(tree / "LS3D-balanced" / "a" / "1.t7", points)
    with pytest.raises(UserError, match=r"a/1\.t7 contains NaN or infinity"):
        open_tree(tree)


def test_boxes_beyond_any_picture_are_named(tree):
    dump_pickle({"AFW/AFW_1_1_0.jpg": [1, 2, 1e30, 4]}, tree / "data" / "LS3D" / "300W_LPBoundingBoxes.pickle")
    with pytest.raises(UserError, match=r"empty or outside the picture, first AFW/AFW_1_1_0\.jpg"):
        open_tree(tree).check_cheaply()


def test_points_of_another_shape_are_named(tree):
    write_t7(tree / "LS3D-balanced" / "b" / "0.t7", np.zeros((21, 2)))
    with pytest.raises(UserError, match=r"b/0\.t7 holds 21 points, not 68"):
        open_tree(tree)


def test_mat_files_that_are_missing_broken_or_without_points_are_named(tree):
    file = tree / "300W_LP" / "landmarks" / "AFW" / "AFW_1_1_0_pts.mat"
    scipy.io.savemat(file, {"pts_2d": points_of(0)})
    with pytest.raises(UserError, match=r"AFW_1_1_0_pts\.mat cannot be read \(it has no key 'pts_3d'\)"):
        open_tree(tree)
    file.write_bytes(b"MATLAB 5.0 MAT-file cut off")
    with pytest.raises(UserError, match=r"AFW_1_1_0_pts\.mat cannot be read"):
        open_tree(tree)
    file.unlink()
    with pytest.raises(UserError, match=r"AFW_1_1_0_pts\.mat does not exist"):
        open_tree(tree)


def test_missing_pictures_and_boxes_are_named(tree):
    (tree / "300W_LP" / "AFW" / "AFW_1_1_0.jpg").unlink()
    with pytest.raises(UserError, match=r"missing, first .*AFW_1_1_0\.jpg"):
        open_tree(tree).check_cheaply()
    (tree / "data" / "LS3D" / "300W_LPBoundingBoxes.pickle").unlink()
    with pytest.raises(UserError, match=r"300W_LPBoundingBoxes\.pickle does not exist"):
        open_tree(tree)
