import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from Databases import check
from Databases.check import check_set, describe
from Databases.database import Database, ImageSet
from tests.tiny import TinyDatabase

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(12):
        Image.fromarray(np.full((40, 60, 3), 9 * i, np.uint8)).save(folder / f"{i:02d}.png")
    (tmp_path / "main.yaml").write_text(f"Custom_datapath: {folder}\nlog_path: {tmp_path / 'Logs'}\n")
    return folder


def run(folder, capsys, workers: int = 2) -> tuple[int, str, str]:
    paths = str(folder.parent / "main.yaml")
    with pytest.raises(SystemExit) as ended:
        check.main(["--dataset_name", "Custom", "--paths", paths, "--num_workers", str(workers), "--device", "cpu"])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def test_a_complete_data_set(folder, capsys):
    rows = [f"{i:02d}.png,1,2,{30 + i},20" for i in range(12)]
    (folder / "landmarks.csv").write_text("file,x0,y0,x1,y1\n" + "\n".join(rows))
    code, out, _ = run(folder, capsys)
    assert code == 0
    assert "training: " in out
    assert "2 points each" in out
    assert out.endswith("complete\n")
    assert len(out.splitlines()) < 24  # one screen


def test_points_outside_are_a_note(folder, capsys):
    (folder / "landmarks.csv").write_text("file,x0,y0,x1,y1\n00.png,1,2,90,20\n01.png,1,2,9,20\n")
    (folder / "split.csv").write_text("file,split\n00.png,train\n01.png,test\n")
    code, out, _ = run(folder, capsys, workers=1)
    assert code == 0
    assert "note: 1 picture with points outside\n      00.png" in out


def test_an_unreadable_picture_is_an_error(tmp_path):
    Image.effect_noise((40, 60), 99).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:-900])  # its header is whole, so that only reading it tells
    images = ImageSet(tmp_path, np.array(["a.png"]), np.array([[0, 0, 40, 60.0]]), None)
    errors, _ = check_set(TinyFiles(), "training", images, 1)
    [said] = errors["pictures unreadable"]
    assert "a.png is cut off" in said


class TinyFiles(TinyDatabase):
    """Reads files, unlike the tiny data set."""

    read = Database.read


def test_a_picture_that_is_left_out_is_an_error(folder, capsys):
    (folder / "zz.png").write_bytes((folder / "03.png").read_bytes()[:60])
    code, out, err = run(folder, capsys)
    assert code == 2
    assert "    ERROR: 1 picture left out\n      picture " in out
    assert "zz.png is cut off" in out
    assert err.splitlines()[-1].startswith("error: ")
    assert "complete\n" not in out.splitlines()[-1:]


def test_a_root_that_is_read_only(folder):
    """As in a container where nothing but the log folder can be written. About 5 s."""
    logs = folder.parent / "Logs"
    logs.mkdir()
    sealed = f"mount --bind {logs} {logs} && mount -o remount,bind,ro / && ! touch {folder}/x"
    private = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*private, sealed], capture_output=True).returncode:
        pytest.skip("this machine lets no process have a root of its own")
    words = ["-m", "Databases.check", "--dataset_name", "Custom", "--paths", folder.parent / "main.yaml"]
    command = [*private, f'{sealed} && exec "$0" "$@"', sys.executable, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("complete\n")


def test_what_cannot_be_opened_is_one_line(folder, capsys):
    (folder / "boxes.csv").write_text("file,x1\n")
    code, _, err = run(folder, capsys)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "boxes.csv has no box for 12 pictures" in err


def test_boxes_of_unknown_numbers_are_described_without_a_warning():
    boxes = np.full((2, 4), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "median box 0x0" in describe(ImageSet(Path("/p"), np.array(["a", "b"]), boxes, None))
        boxes[0] = [1, 2, 4, 9]
        assert "median box 3x7" in describe(ImageSet(Path("/p"), np.array(["a", "b"]), boxes, None))
