"""The workshop's commands, called as a user does, from another folder. Half a minute."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "tools" / "superpoint"


@pytest.mark.parametrize(
    "command, arguments, complaint",
    [
        ("train.py", ["--folder", "runs", "--plan", "paint:3"], "--plan has the unknown stage paint:3"),
        ("train.py", ["--folder", "runs", "--export", "weights.pth"], "runs holds no trained network yet"),
        ("benchmark.py", ["."], ". holds no .jpg or .png picture"),
        ("benchmark_faces.py", ["."], "MaflGroundtruthLandmarks.pickle"),
    ],
)
def test_mistakes_are_one_line(tmp_path, command, arguments, complaint):
    done = subprocess.run(
        [sys.executable, str(FOLDER / command), *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1
