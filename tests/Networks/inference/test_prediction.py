"""The files of a prediction with named points, of a detector that is not a network."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from Databases.inputs import Inputs
from Networks.inference.detector import Landmarks, NamedPoints
from Networks.inference.prediction import Prediction
from Utils.runtime.errors import UserError
from Utils.storage.pictures import read_picture


class Still:
    """Two landmarks, and a point between them, always at the same position."""

    names = ("landmark_0", "landmark_4")
    mirror = None
    regressor = SimpleNamespace(names=["tip"])

    def __call__(self, pictures, boxes):
        count = len(pictures)
        named = NamedPoints(np.tile([[[20.0, 25.5]]], (count, 1, 1)), np.full((count, 1), 0.625, np.float32), ["tip"])
        points = np.tile([[[10.0, 5.0], [30.0, 46.0]]], (count, 1, 1))
        box = np.tile([[0.0, 0, 60, 50]], (count, 1))
        return Landmarks(
            points,
            np.ones((count, 2), np.float32),
            box,
            np.tile(np.eye(2, 3), (count, 1, 1)),
            list(self.names),
            named,
        )


def test_named_points_have_files_and_copies_of_their_own(tmp_path):
    for name in "ab":
        Image.new("RGB", (60, 50)).save(tmp_path / f"{name}.png")
    prediction = Prediction(Still(), Inputs(tmp_path, ["a.png", "b.png"], []), tmp_path / "out")
    assert prediction.run() == (2, 2)
    with (tmp_path / "out/points.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["a.png", "b.png"]
    assert [rows[1][f"tip_{what}"] for what in ("x", "y", "confidence")] == ["20.0", "25.5", "0.625"]
    content = json.loads((tmp_path / "out/points.json").read_text())
    assert content["categories"][0]["keypoints"] == ["tip"]
    assert content["annotations"][0]["keypoints"] == [20, 25.5, 2]
    landmarks = json.loads((tmp_path / "out/landmarks.json").read_text())
    assert landmarks["annotations"][0]["keypoints"] == [10, 5, 2, 30, 46, 2]
    drawn = read_picture(tmp_path / "out/pictures/a.png")
    assert drawn[25, 20].any()
    assert not drawn[5, 10].any()


def test_points_for_other_tools(tmp_path):
    Image.new("RGB", (60, 50)).save(tmp_path / "a.png")
    inputs = Inputs(tmp_path, ["a.png"], [])
    prediction = Prediction(Still(), inputs, tmp_path / "out", formats=[".tps", ".csv"])
    prediction.run()
    assert prediction.exported == ["points.tps", "CollectedData_landmarks.csv"]
    assert (tmp_path / "out/points.tps").read_text().splitlines()[1] == "20.00000 24.50000"
    assert "tip_confidence" in (tmp_path / "out/points.csv").read_text()
    videos = Inputs(tmp_path, ["a.png"], ["b.mp4"])
    with pytest.raises(UserError, match="leave out the videos"):
        Prediction(Still(), videos, tmp_path / "out", formats=[".tps"]).run()
