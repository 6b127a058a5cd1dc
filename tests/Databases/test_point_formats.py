"""Files of points of other tools, as their documentation shows them."""

import json
import sys
import zipfile

import numpy as np
import pytest
import yaml
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


def studio(kind, x, y, **more):
    """A region of Label Studio, in percent."""
    value = {"x": x, "y": y, **more.pop("value", {})}
    return {"type": kind, "from_name": kind, "to_name": "image", "value": value, **more}


TIP, BASE = {"keypointlabels": ["tip"]}, {"keypointlabels": ["base"]}
STUDIO = [
    {
        "data": {"image": "/data/upload/3/0a1b2c3d-a.png"},
        "annotations": [
            {"was_cancelled": True, "result": []},
            {
                "result": [
                    studio("rectanglelabels", 10, 0, id="r", value={"width": 50, "height": 100}),
                    studio("keypointlabels", 50, 10, id="t", value=TIP, parentID="r"),
                    studio("keypointlabels", 100, 100, id="b", value=BASE),
                    {"type": "relation", "from_id": "b", "to_id": "r", "direction": "right"},
                ]
            },
        ],
    },
    {
        "data": {"image": "/data/local-files/?d=shells/sub/b.png"},
        "annotations": [{"result": [studio("keypointlabels", 10, 50, id="x", value=BASE)]}],
    },
    {"data": {"image": "a.png"}, "annotations": []},
]


@pytest.fixture
def folder(tmp_path):
    """a.png, sub/b.png and other/b.png, 60 x 50 pixels."""
    for file in ("a.png", "sub/b.png", "other/b.png"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
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


@pytest.mark.parametrize("target", ["q.tps", "q.xml", "q.csv", "q.json", "q.studio.json", "q.zip", "q.h5", "q.slp"])
def test_what_is_written_is_read_again(folder, target):
    needed = {"q.h5": "tables", "q.slp": "sleap_io"}.get(target)
    if needed:
        pytest.importorskip(needed)
    table = read(folder, "p.xml", IMGLAB)
    write_points(table, folder / target, folder)
    again = read_points(folder / target, folder, ["a.png", "sub/b.png", "other/b.png"])
    assert again.files == table.files
    np.testing.assert_allclose(again.points, table.points, atol=1e-4)
    if target in ("q.xml", "q.json", "q.studio.json", "q.zip"):
        np.testing.assert_allclose(again.boxes, table.boxes, atol=1e-4)
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


def test_label_studio(folder):
    table = read(folder, "project.json", json.dumps(STUDIO))
    assert (table.files, table.names) == (["a.png", "sub/b.png"], ["tip", "base"])
    np.testing.assert_array_equal(table.points, [[[30, 5], [60, 50]], [[np.nan, np.nan], [6, 25]]])
    np.testing.assert_array_equal(table.boxes, [[6, 0, 36, 50], [np.nan] * 4])
    STUDIO[1]["annotations"][0]["result"] *= 2
    with pytest.raises(UserError, match="two points base of one object in sub/b.png"):
        read(folder, "project.json", json.dumps(STUDIO))


def test_label_studio_opens_with_its_own_converter(folder):
    """To COCO, by the points' labelling interface that docs/other-tools.md shows."""
    converter = pytest.importorskip("label_studio_sdk.converter")
    write_points(read(folder, "p.xml", IMGLAB), folder / "q.studio.json", folder)
    interface = """<View><Image name="image" value="$image"/><RectangleLabels name="box" toName="image">
    <Label value="object"/></RectangleLabels><KeyPointLabels name="points" toName="image">
    <Label value="00" model_index="0"/><Label value="01" model_index="1"/></KeyPointLabels></View>"""
    converter.Converter(interface, str(folder), download_resources=False).convert_to_coco(
        str(folder / "q.studio.json"), str(folder / "coco"), output_image_dir=str(folder), is_dir=False
    )
    content = json.loads((folder / "coco" / "result.json").read_text())
    points = [entry["keypoints"] for entry in content["annotations"] if entry.get("keypoints")]
    np.testing.assert_allclose(points, [[10, 30, 2, 4, 5, 2], [0, 0, 0, 3, 4, 2]], atol=1e-6)


def test_yolo_pose_by_its_documented_rule(folder):
    """The labels lie where the pictures lie, with `labels` for `images`; numbers are shares, 0 if not visible."""
    table = read(folder, "p.xml", IMGLAB)
    table.points[1, 1] = (-3, 4)
    write_points(table, folder / "q.zip", folder)
    with zipfile.ZipFile(folder / "q.zip") as archive:
        settings = yaml.safe_load(archive.read("data.yaml"))
        pictures = [name for name in archive.namelist() if name.startswith(settings["train"])]
        labels = [name.replace("images/", "labels/").replace(".png", ".txt") for name in pictures]
        lines = [archive.read(name).decode().split() for name in labels]
        archive.extractall(folder / "unpacked")
    assert settings["kpt_shape"] == [2, 3]
    assert settings["names"] == {0: "object"}
    assert settings["kpt_names"] == {0: ["00", "01"]}
    expected = [[0, 11 / 60, 7 / 50, 20 / 60, 10 / 50, 10 / 60, 30 / 50, 2, 4 / 60, 5 / 50, 2]]
    expected += [[0, 0.25, 0.4, 0.5, 0.8, *[0] * 6]]
    np.testing.assert_allclose(np.array(lines, float), expected, atol=1e-6)
    again = read_points(folder / "unpacked" / "data.yaml", folder, ["a.png", "sub/b.png"])
    assert (again.files, again.names) == (table.files, table.names)
    with pytest.raises(UserError, match="written as an archive"):
        write_points(table, folder / "data.yaml", folder)


def test_yolo_pose_of_two_numbers_and_without_names(folder):
    (folder / "labels").mkdir()
    (folder / "labels" / "b.txt").write_text("0 0.5 0.5 1 1 0.1 0.2 0 0\n")
    table = read(folder, "data.yaml", "kpt_shape: [2, 2]\nnames: [shell]\n")
    assert (table.files, table.names) == (["sub/b.png"], ["point_0", "point_1"])
    np.testing.assert_allclose(table.points, [[[6, 10], [np.nan, np.nan]]])


def test_sleap_opens_with_its_own_reader(folder):
    sleap_io = pytest.importorskip("sleap_io")
    write_points(read(folder, "p.xml", IMGLAB), folder / "q.slp", folder)
    labels = sleap_io.load_slp(str(folder / "q.slp"))
    assert labels.skeleton.node_names == ["00", "01"]
    assert [frame.image.shape[:2] for frame in labels] == [(50, 60)] * 2  # the pictures are found
    np.testing.assert_array_equal(
        [frame.instances[0].numpy() for frame in labels], [[[10, 30], [4, 5]], [[np.nan, np.nan], [3, 4]]]
    )


def test_deeplabcut_h5_opens_with_pandas(folder):
    pytest.importorskip("tables")
    import pandas as pd

    write_points(read(folder, "p.xml", IMGLAB), folder / "q.h5", folder)
    table = pd.read_hdf(folder / "q.h5")
    assert table.columns.names == ["scorer", "bodyparts", "coords"]
    assert table.xs("x", level="coords", axis=1).loc["a.png"].tolist() == [10, 4]
    table.index = pd.MultiIndex.from_tuples([("labeled-data", "v", name.rpartition("/")[2]) for name in table.index])
    table.to_hdf(folder / "new.h5", key="keypoints")
    again = read_points(folder / "new.h5", folder, ["a.png", "sub/b.png"])
    assert (again.files, again.names) == (["a.png", "sub/b.png"], ["00", "01"])


def test_dlib_trains_on_imglab(folder):
    dlib = pytest.importorskip("dlib")
    table = read(folder, "p.xml", IMGLAB)
    table.points[1, 0] = (5, 5)
    write_points(table, folder / "q.xml", folder)
    options = dlib.shape_predictor_training_options()
    options.num_trees_per_cascade_level = options.cascade_depth = options.oversampling_amount = 1
    dlib.train_shape_predictor(str(folder / "q.xml"), str(folder / "q.dat"), options)
    found = dlib.shape_predictor(str(folder / "q.dat"))(np.zeros((50, 60), np.uint8), dlib.rectangle(1, 2, 21, 12))
    assert found.num_parts == 2


def test_tps_opens_with_ktch(folder):
    ktch = pytest.importorskip("ktch.io")
    write_points(read(folder, "p.tps", TPS.replace("-1 -1", "7 8")), folder / "q.tps", folder)
    read_by_ktch = ktch.read_tps(folder / "q.tps")
    assert [one.scale for one in read_by_ktch][0] == 0.05
    np.testing.assert_allclose([one.landmarks for one in read_by_ktch], [[[10.5, 20], [7, 8]], [[1, 2], [3, 4]]])


def test_an_optional_package_that_is_missing_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sleap_io", None)
    with pytest.raises(UserError, match="sleap_io is missing; pip install sleap-io"):
        read(folder, "p.slp", "")


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
        ("p.json", "[1]", "cannot be read"),
        ("p.json", '[{"data": {"text": "a b"}, "annotations": [{"result": [{"type": "x"}]}]}]', "names no picture"),
        ("data.yaml", "kpt_shape: 3", "cannot be read"),
        ("p.zip", "", "cannot be read"),
        ("p.h5", "", "cannot be read"),
        ("p.slp", "", "cannot be read|sleap_io is missing"),
        ("p.doc", "", "the ending tells the format"),
    ],
)
def test_broken_files_are_told_in_one_line(folder, name, text, said):
    with pytest.raises(UserError, match=said) as error:
        read(folder, name, text)
    assert "\n" not in str(error.value)
