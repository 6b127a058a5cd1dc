import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from Databases.custom import list_pictures
from Databases.custom_annotations import read_annotations
from Utils.storage.files import load_pickle

TOOL = Path(__file__).resolve().parents[2] / "tools" / "find_boxes.py"


@pytest.fixture
def run(launcher, tmp_path):
    """Run the tool from a folder that is not the project's."""
    return lambda *arguments, workers=1: launcher.run(tmp_path, [TOOL, *arguments, "--num_workers", workers])


def test_pictures_without_faces_are_counted_and_have_the_whole_picture(run, tmp_path):
    (tmp_path / "p" / "a").mkdir(parents=True)
    for name, size in (("a/0.png", (60, 50)), ("1.png", (40, 70))):
        Image.fromarray(np.full((size[1], size[0], 3), 99, np.uint8)).save(tmp_path / "p" / name)
    done = run(tmp_path / "p", "--output", tmp_path / "boxes.pickle")
    assert done.code == 0, done
    assert "2 pictures, faces found in 0, none in 2 (100.0%)" in done.output
    boxes = load_pickle(tmp_path / "boxes.pickle")
    assert {name: box.tolist() for name, box in boxes.items()} == {"1.png": [0, 0, 40, 70], "a/0.png": [0, 0, 60, 50]}


def test_unreadable_pictures_are_named_and_passed_over(run, tmp_path):
    folder = tmp_path / "p"
    folder.mkdir()
    for name in ("a.png", "c.png", os.fsdecode(b"\xff.png")):
        Image.fromarray(np.full((50, 60, 3), 99, np.uint8)).save(folder / name)
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:-30])
    done = run(folder)
    assert done.code == 1, done
    assert "b.png is cut off" in done.errors or "b.png cannot be read" in done.errors
    assert "is not in UTF-8; rename the file" in done.errors
    assert "4 pictures, faces found in 0, none in 2" in done.output
    assert read_annotations(folder, list_pictures(folder)).files.tolist()[:3] == ["a.png", "b.png", "c.png"]
    assert run(folder, "--output", tmp_path / "boxes.pickle").code == 1
    assert list(load_pickle(tmp_path / "boxes.pickle")) == ["a.png", "c.png"]


def test_where_nothing_can_be_written_is_told_before_the_search(run, tmp_path):
    Image.fromarray(np.full((50, 60, 3), 99, np.uint8)).save(tmp_path / "a.png")
    done = run(tmp_path, "--output", "/proc/none/boxes.csv")
    assert (done.code, len(done.errors.splitlines())) == (2, 1), done
    assert "/proc/none is not writable (No such file or directory); give --output in another folder" in done.errors


def test_mistakes_are_one_line(run, tmp_path):
    done = run(tmp_path, "--output", tmp_path / "boxes.txt")
    assert done.code == 2
    assert done.errors.startswith("error: --output")
    assert len(done.errors.splitlines()) == 1


def test_its_own_table_is_read_whatever_the_names_are(run, tmp_path):
    """Names may begin with blanks, hold commas, quotes and backslashes."""
    names = [" a.png", "b,c.png", 'd"e.png', "f\\g.png", "h.png"]
    for name in names:
        Image.fromarray(np.full((50, 60, 3), 99, np.uint8)).save(tmp_path / name)
    done = run(tmp_path)
    assert done.code == 0, done
    annotations = read_annotations(tmp_path, list_pictures(tmp_path))
    assert sorted(annotations.files.tolist()) == sorted(names)
