from pathlib import Path

import numpy as np
import pytest

from Databases import DATABASES
from Databases.database import Database, ImageSet
from Databases.normalisers import distance, root_of_extent
from Databases.tables import bad_boxes, load_table, rows_of
from Utils.crops import zoom_crop
from Utils.runtime.errors import UserError
from Utils.storage.files import dump_pickle
from Utils.storage.pictures import write_jpeg


class Small(Database):
    name = "Small"

    def __init__(self, images: ImageSet) -> None:
        self.training = self.regression = self.test = images

    @classmethod
    def open(cls, options):
        raise NotImplementedError

    def crop(self, box, width, height, size):
        return zoom_crop(width, height, size, 1.0)

    def normalisers(self, groundtruth):
        return root_of_extent(groundtruth)


def images_of(root: Path, names: list[str], boxes=None, **more) -> ImageSet:
    boxes = np.tile(np.float32([0, 0, 10, 10]), (len(names), 1)) if boxes is None else np.float32(boxes)
    return ImageSet(root, np.array(names), boxes, None, **more)


def test_every_data_set_is_registered_under_its_name():
    assert list(DATABASES) == ["CelebA", "CelebAWild", "CUB", "LS3D", "Human3.6", "Demo", "Custom"]
    assert all(name == database.name for name, database in DATABASES.items())


def test_paths_and_subsets():
    images = ImageSet(
        Path("/data"),
        np.array(["/a/0", "/a/1", "/a/2"]),
        np.eye(3, 4, dtype=np.float32),
        None,
        np.array(["x", "y", "z"]),
    )
    chosen = images.subset(np.array([2, 0]))
    assert [str(chosen.path(i)) for i in range(len(chosen))] == ["/data/z", "/data/x"]
    assert chosen.names.tolist() == ["/a/2", "/a/0"]
    assert chosen.boxes.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert chosen.landmarks is None
    assert images_of(Path("/data"), ["/train/7.jpg"]).path(0) == Path("/data/train/7.jpg")


def test_missing_pictures(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").touch()
    images = images_of(tmp_path, ["a/0.jpg", "/a/1.jpg", "b/1.jpg"])
    assert images.missing().tolist() == [0, 2]
    with pytest.raises(UserError, match=r"2 pictures of the training list of Small missing, first .*a/0\.jpg"):
        Small(images).check_cheaply()


def test_empty_splits_are_named(tmp_path):
    with pytest.raises(UserError, match="Small has no training pictures"):
        Small(ImageSet(tmp_path, np.zeros(0, str), np.zeros((0, 4)), None)).check_cheaply()


def test_bad_boxes_by_hand():
    boxes = [[0, 0, 10, 10], [5, 5, 5, 9], [np.nan, 0, 1, 1], [200, 0, 220, 20], [-10, -10, 10, 10], [-5, 0, 15, 30]]
    assert bad_boxes(np.array(boxes)).tolist() == [1, 2]
    # a quarter of the fifth box is inside, three quarters of the last
    assert bad_boxes(np.array(boxes), (100, 100)).tolist() == [1, 2, 3, 4]


def test_a_bad_box_is_named(tmp_path):
    (tmp_path / "0.jpg").touch()
    with pytest.raises(UserError, match=r"1 box of the training pictures .*first 0\.jpg: 500, 500, 600, 600"):
        Small(images_of(tmp_path, ["0.jpg"], [[500, 500, 600, 600]], size=(178, 218))).check_cheaply()


def test_a_picture_of_another_size_is_named(tmp_path):
    write_jpeg(np.zeros((20, 30, 3), np.uint8), tmp_path / "0.jpg")
    small = Small(images_of(tmp_path, ["0.jpg"]))
    assert small.read(small.training, 0).shape == (20, 30, 3)
    with pytest.raises(UserError, match=r"0\.jpg has 30x20 pixels, Small has 178x218"):
        small.read(images_of(tmp_path, ["0.jpg"], size=(178, 218)), 0)


def test_rows_of_a_dictionary():
    table = {"a": [1, 2], "b": np.array([3.0, 4.0]), "c": (5, 6, 7)}
    rows = rows_of(table, ["b", "a"], (2,), "box", "f.pickle", "mend it")
    assert rows.dtype == np.float32
    assert rows.tolist() == [[3, 4], [1, 2]]
    points = {"a": np.array([[1.0, 2], [3, 4]]), "b": np.array([5.0, 6, 7, 8])}
    assert rows_of(points, ["a", "b"], (2, 2), "joints", "f.pickle", "mend it").tolist() == [
        [[1, 2], [3, 4]],
        [[5, 6], [7, 8]],
    ]
    assert rows_of(table, [], (2,), "box", "f.pickle", "mend it").shape == (0, 2)
    with pytest.raises(UserError, match=r"f\.pickle has no box for 2 pictures, first x; mend it"):
        rows_of(table, ["a", "x", "y"], (2,), "box", "f.pickle", "mend it")
    with pytest.raises(UserError, match=r"f\.pickle: the box of c is not 2 numbers; mend it"):
        rows_of(table, ["a", "c"], (2,), "box", "f.pickle", "mend it")


def test_normalisers_by_hand():
    points = np.array([[[0.0, 0], [3, 4], [np.nan, np.nan]], [[1, 1], [1, 1], [5, 10]]])
    assert distance(points, 0, 1).tolist() == [5, 0]
    assert np.allclose(root_of_extent(points), [np.sqrt(12), 6])
    assert np.isnan(root_of_extent(np.full((1, 3, 2), np.nan))).all()


@pytest.mark.parametrize("table", [[1, 2], None, {1: "a"}, {"a": 1, 2: "b"}])
def test_what_is_no_dictionary_of_pictures_is_named(table, tmp_path):
    dump_pickle(table, tmp_path / "boxes.pickle")
    with pytest.raises(UserError, match="boxes.pickle is not a dictionary of picture names"):
        load_table(tmp_path / "boxes.pickle", "make it again")
