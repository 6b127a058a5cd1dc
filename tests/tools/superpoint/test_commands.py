"""The workshop's commands, called as a user does, from another folder."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "tools" / "superpoint"


@pytest.mark.parametrize(
    "command, arguments, complaint",
    [
        ("train.py", ["--folder", "runs", "--plan", "paint:3"], "--plan has the unknown stage paint:3"),
        ("benchmark.py", ["."], ". holds no .jpg or .png picture"),
        ("benchmark_faces.py", ["."], "MaflGroundtruthLandmarks.pickle"),
    ],
)
def test_mistakes_are_one_line(launcher, tmp_path, command, arguments, complaint):
    outcome = launcher.run(tmp_path, [FOLDER / command, *arguments])
    assert outcome.code == 2, outcome
    assert outcome.errors.startswith("error: ")
    assert complaint in outcome.errors
    assert len(outcome.errors.splitlines()) == 1
