from pathlib import Path

import pytest
import torch

from Networks.superpoint import SHIPPED_WEIGHTS, load_superpoint
from tools.superpoint.train import averaged, read_arguments, read_plan, run_plan
from tools.superpoint.weights import uncalibrated
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


def test_a_training_begins_with_an_exported_network(tmp_path, monkeypatch):
    """Its confidence as it was before the export; two iterations change little."""
    argv = ["train.py", "--folder", str(tmp_path), "--plan", "families:2", "--batch_size", "1"]
    argv += ["--start", str(SHIPPED_WEIGHTS), "--place", "0.25", "--odds", "0.25", "--bias", "-16"]
    monkeypatch.setattr("sys.argv", argv)
    run_plan(read_plan("families:2"), read_arguments())
    learned = averaged(tmp_path / "1_families.pth").eval()
    begun = uncalibrated(load_superpoint(), 0.25, 0.25, -16.0)
    picture = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, before = learned.encode(picture), begun.encode(picture)
        semi, semi_before = learned.detect(features), begun.detect(before)
    assert (features - before).norm() < 0.02 * before.norm()
    assert (semi.softmax(1) - semi_before.softmax(1)).abs().max() < 0.02


def test_one_training_at_a_time_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "--folder", str(tmp_path / "run"), "--plan", ""])
    arguments = read_arguments()
    run_plan([], arguments)  # makes the folder, and frees it
    with held(tmp_path / "run" / ".training.lock", ""), pytest.raises(UserError, match="another process"):
        run_plan([], arguments)
    run_plan([], arguments)
