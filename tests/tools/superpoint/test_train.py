from pathlib import Path

import pytest

from tools.superpoint.train import read_arguments, read_plan, run_plan
from Utils.runtime.errors import UserError
from Utils.storage.files import held


def test_plan():
    stages = read_plan("corners detector:40 joint:7")
    assert [(stage.number, stage.kind, stage.iterations) for stage in stages] == [
        (1, "corners", 0),
        (2, "detector", 40),
        (3, "joint", 7),
    ]
    assert stages[1].file(Path("runs")).name == "2_detector.pth"
    assert stages[0].file(Path("runs")).name == "1_corners.pickle"


@pytest.mark.parametrize("plan", ["paint:3", "joint", "corners:5", "joint:many"])
def test_wrong_plans_are_refused(plan):
    with pytest.raises(UserError, match="--plan"):
        read_plan(plan)


def test_one_training_at_a_time_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "--folder", str(tmp_path / "run"), "--plan", ""])
    arguments = read_arguments()
    run_plan([], arguments)  # makes the folder, and frees it
    with held(tmp_path / "run" / ".training.lock", ""), pytest.raises(UserError, match="another process"):
        run_plan([], arguments)
    run_plan([], arguments)
