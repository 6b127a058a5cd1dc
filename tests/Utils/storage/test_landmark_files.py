"""landmarks.csv and landmarks.json, by hand."""

import csv
import json
from fractions import Fraction

import numpy as np
import pytest

from Utils.storage.landmark_files import LandmarkFiles

NAN = float("nan")


def write(folder, fail: bool = False) -> None:
    with LandmarkFiles(folder, ["landmark_2", "landmark_5"]) as files:
        boxes = np.array([[1.0, 2.0, 11.5, 22.0]])
        points = np.array([[[3.12345, 4.0], [NAN, NAN]]])
        files.add("a/b.jpg", None, None, (40, 30), boxes, points, np.float32([[0.75, 0.1]]))
        files.add(
            "c.mp4", 7, Fraction(7, 30), (64, 48), np.tile(boxes, (2, 1)), np.tile(points, (2, 1, 1)), np.ones((2, 2))
        )
        if fail:
            raise KeyError


def test_both_files_by_hand(tmp_path):
    write(tmp_path)
    with (tmp_path / "landmarks.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header[:7] == ["file", "frame", "seconds", "box_x1", "box_y1", "box_x2", "box_y2"]
    assert header[7:10] == ["landmark_2_x", "landmark_2_y", "landmark_2_confidence"]
    assert rows[0] == ["a/b.jpg", "", "", "1.0", "2.0", "11.5", "22.0", "3.123", "4.0", "0.75", "", "", ""]
    assert [row[:3] for row in rows[1:]] == [["c.mp4", "7", "0.233333"]] * 2
    content = json.loads((tmp_path / "landmarks.json").read_text())
    assert content["categories"][0]["keypoints"] == ["landmark_2", "landmark_5"]
    assert content["images"] == [
        {"id": 1, "file_name": "a/b.jpg", "width": 40, "height": 30},
        {"id": 2, "file_name": "c.mp4", "width": 64, "height": 48, "frame": 7, "seconds": 0.233333},
    ]
    first = content["annotations"][0]
    assert first["keypoints"] == [3.123, 4, 2, 0, 0, 0]
    assert (first["num_keypoints"], first["bbox"], first["score"]) == (1, [1, 2, 10.5, 20], 0.75)
    assert [row["image_id"] for row in content["annotations"]] == [1, 2, 2]


def test_neither_is_left_half_written(tmp_path):
    (tmp_path / "landmarks.csv").write_text("before")
    with pytest.raises(KeyError):
        write(tmp_path, fail=True)
    assert [path.name for path in tmp_path.iterdir()] == ["landmarks.csv"]
    assert (tmp_path / "landmarks.csv").read_text() == "before"
