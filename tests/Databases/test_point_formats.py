"""Files of points of other tools, as their documentation shows them."""

import json

import numpy as np
import pytest
from PIL import Image

from Databases.point_formats import read_points, write_points
from Utils.runtime.errors import UserError

TPS = """LM=2
10.5 20
-1 -1
IMAGE=C:\\shells\\a.png
ID=0
SCALE=0.05
LM=2
1 2
3 4
IMAGE=b.png
ID=1
"""
IMGLAB = """<?xml version='1.0' encoding='ISO-8859-1'?>
<dataset><name>shells</name><images>
  <image file='a.png'>
    <box top='2' left='1' width='20' height='10'><part name='00' x='10' y='30'/><part name='01' x='4' y='5'/></box>
    <box top='2' left='1' width='20' height='10' ignore='1'/>
  </image>
  <image file='sub/b.png'><box top='0' left='0' width='30' height='40'><part name='01' x='3' y='4'/></box></image>
</images></dataset>
"""
DEEPLABCUT = """scorer,,,me,me,me,me
bodyparts,,,snout,snout,tail,tail
coords,,,x,y,x,y
labeled-data,video,a.png,10.5,20.25,,
labeled-data,video,b.png,1,2,3,4
"""


@pytest.fixture
def folder(tmp_path):
    """a.png and sub/b.png, 60 x 50 pixels."""
    (tmp_path / "sub").mkdir()
    for file in ("a.png", "sub/b.png"):
        Image.new("RGB", (60, 50)).save(tmp_path / file)
    return tmp_path


def read(folder, name, text):
    (folder / name).write_text(text)
    return read_points(folder / name, folder, ["a.png", "sub/b.png"])


def test_tps_counts_y_from_below_and_keeps_its_scale(folder):
    table = read(folder, "p.tps", TPS)
    assert table.files == ["a.png", "sub/b.png"]
    np.testing.assert_array_equal(table.points, [[[10.5, 30], [np.nan, np.nan]], [[1, 48], [3, 46]]])
    assert table.attributes == [{"ID": "0", "SCALE": "0.05"}, {"ID": "1"}]


def test_imglab(folder):
    table = read(folder, "p.xml", IMGLAB)
    assert (table.files, table.names) == (["a.png", "sub/b.png"], ["00", "01"])
    np.testing.assert_array_equal(table.points, [[[10, 30], [4, 5]], [[np.nan, np.nan], [3, 4]]])
    np.testing.assert_array_equal(table.boxes, [[1, 2, 21, 12], [0, 0, 30, 40]])


def test_deeplabcut(folder):
    table = read(folder, "CollectedData_me.csv", DEEPLABCUT)
    assert (table.files, table.names) == (["a.png", "sub/b.png"], ["snout", "tail"])
    np.testing.assert_array_equal(table.points, [[[10.5, 20.25], [np.nan, np.nan]], [[1, 2], [3, 4]]])


def test_landmarks_of_custom_with_names(folder):
    table = read(folder, "landmarks.csv", "file,tip_x,tip_y,base_x,base_y\nsub/b.png,1,2,,\n")
    assert (table.files, table.names) == (["sub/b.png"], ["tip", "base"])
    np.testing.assert_array_equal(table.points, [[[1, 2], [np.nan, np.nan]]])


@pytest.mark.parametrize("target", ["q.tps", "q.xml", "q.csv", "q.json"])
def test_what_is_written_is_read_again(folder, target):
    table = read(folder, "p.xml", IMGLAB)
    write_points(table, folder / target, folder)
    again = read_points(folder / target, folder, ["a.png", "sub/b.png"])
    assert again.files == table.files
    np.testing.assert_allclose(again.points, table.points, atol=1e-4)
    if target in ("q.xml", "q.json"):
        np.testing.assert_array_equal(again.boxes, table.boxes)
    if target != "q.tps":
        assert again.names == table.names


def test_deeplabcut_opens_with_pandas(folder):
    import pandas as pd

    write_points(read(folder, "p.xml", IMGLAB), folder / "q.csv", folder)
    table = pd.read_csv(folder / "q.csv", header=[0, 1, 2], index_col=0)
    assert table.columns.names == ["scorer", "bodyparts", "coords"]
    assert table.xs("x", level="coords", axis=1).loc["a.png"].tolist() == [10, 4]


def test_coco_has_names_and_the_attributes_of_a_tps(folder):
    write_points(read(folder, "p.tps", TPS), folder / "q.json", folder)
    content = json.loads((folder / "q.json").read_text())
    assert content["categories"][0]["keypoints"] == ["point_0", "point_1"]
    assert content["annotations"][0]["attributes"] == {"ID": "0", "SCALE": "0.05"}
    assert content["annotations"][0]["keypoints"] == [10.5, 30, 2, 0, 0, 0]


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("p.tps", "LM=2\n1 2\n", "ends 1 points too early"),
        ("p.tps", TPS.replace("LM=2\n1 2\n", "LM=1\n"), r"objects have \[1, 2\] points"),
        ("p.tps", TPS.replace("b.png", "c.png"), "names 'c.png', which is not among the pictures"),
        ("p.tps", "", "has no objects"),
        ("p.xml", "<dataset>", "cannot be read"),
        ("p.csv", DEEPLABCUT.replace("10.5", "ten"), "cannot be read"),
        ("p.csv", DEEPLABCUT.replace("bodyparts", "individuals"), "several animals"),
        ("p.slp", "", "the ending tells the format"),
    ],
)
def test_broken_files_are_told_in_one_line(folder, name, text, said):
    with pytest.raises(UserError, match=said) as error:
        read(folder, name, text)
    assert "\n" not in str(error.value)
