"""tools/name_points.py with a detector that reads the landmarks out of the pictures; no network."""

import csv

import numpy as np
import pytest
from PIL import Image

from Databases.custom import list_pictures
from Networks.inference.detector import Landmarks
from tools.name_points import boxes_of, check_names, choose, copy_pictures, learn, read_table
from Utils.named_points import load_regressor
from Utils.runtime.errors import UserError
from Utils.storage.experiment import Experiment
from Utils.storage.pictures import read_picture

LANDMARKS = np.array([(10, 10), (50, 10), (50, 40), (10, 40)], np.float64)


class Shifted:
    """Landmarks of a rectangle, shifted to the right by the picture's brightness."""

    active = np.arange(4)
    iteration = 3

    def cut(self, picture, box):
        return np.zeros((90, 90, 3), np.uint8), np.eye(2, 3), box

    def __call__(self, pictures, boxes):
        assert all(box is None for box in boxes)
        shifts = np.array([float(read_picture(path).mean()) for path in pictures])
        points = LANDMARKS + shifts[:, None, None] * (1.0, 0.0)
        to_crops = np.tile(np.eye(2, 3) / 90, (len(points), 1, 1))
        return Landmarks(
            points, np.ones(points.shape[:2], np.float32), np.zeros((len(points), 4)), to_crops, list("abcd")
        )


@pytest.fixture
def folder(tmp_path):
    """Ten pictures; the point "tip" of the first three is annotated, right between the upper landmarks."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for i in range(10):
        Image.new("RGB", (90, 60), (i, i, i)).save(folder / "sub" / f"{i}.png")
    rows = [f"sub/{i}.png,{30 + i},10" for i in range(3)]
    (folder / "landmarks.csv").write_text("\n".join(["file,tip_x,tip_y", *rows, "sub/5.png,,"]))
    return folder


def test_points_are_learned_and_kept_with_their_errors(folder, tmp_path, capsys):
    files = list_pictures(folder)
    table = read_table(folder, files, None, [])
    assert (table.names, table.files) == (["tip"], ["sub/0.png", "sub/1.png", "sub/2.png"])
    experiment = Experiment(tmp_path / "Logs", "e")
    experiment.open()
    learn(Shifted(), experiment, folder, table, boxes_of(folder, files))
    regressor = load_regressor(experiment.named_points(3), 4)
    found, _ = regressor.predict(LANDMARKS[None] + 7, np.eye(2, 3)[None] / 90)
    np.testing.assert_allclose(found, [[[37, 17]]], atol=1e-3)
    with (experiment.logs / "NamedPoints.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["point"] for row in rows] == ["tip", "all"]
    assert (rows[0]["pictures"], float(rows[0]["error_pixels"])) == ("3", 0.0)
    assert "learned from 3 objects" in capsys.readouterr().out


def test_chosen_pictures_are_copied_with_a_table_to_fill(folder, tmp_path):
    chosen = choose(Shifted(), folder, boxes_of(folder, list_pictures(folder)), 4)
    assert len(set(chosen)) == 4
    output = tmp_path / "new" / "to_annotate"
    copy_pictures(folder, chosen, output, ["tip", "base"])
    assert sorted(list_pictures(output)) == sorted(chosen)
    header, *rows = (output / "landmarks.csv").read_text().splitlines()
    assert header == "file,tip_x,tip_y,base_x,base_y"
    assert rows == [f"{file},,,," for file in chosen]
    with pytest.raises(UserError, match="not an empty folder"):
        copy_pictures(folder, chosen, output, [])
    with pytest.raises(UserError, match="has only 10 pictures"):
        choose(Shifted(), folder, boxes_of(folder, list_pictures(folder)), 11)


@pytest.mark.parametrize(
    "text, said",
    [
        ("file,tip_x,tip_y\nsub/0.png,120,5\n", "point tip of sub/0.png lies outside its 90x60 pixels"),
        ("file,tip_x,tip_y,end_x,end_y\nsub/0.png,1,2,,\n", "point end is annotated in no picture"),
        ("file,tip_x,tip_y\n", "has no objects"),
    ],
)
def test_wrong_annotations_are_one_line(folder, text, said):
    (folder / "landmarks.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        read_table(folder, list_pictures(folder), None, [])


def test_names_are_checked(folder):
    for names, said in ((["a"], "1 names for 2 points"), (["a", "a"], "two points are named a"), (["", "b"], "''")):
        with pytest.raises(UserError, match=said):
            check_names(names, 2)
    (folder / "landmarks.csv").unlink()
    with pytest.raises(UserError, match="annotate some pictures"):
        read_table(folder, list_pictures(folder), None, [])
