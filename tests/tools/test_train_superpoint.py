import importlib.util
from pathlib import Path

import pytest

from Utils.errors import UserError

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "train_superpoint.py"


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("train_superpoint", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_plan(script):
    stages = script.read_plan("corners detector:40 joint:7")
    assert [(stage.number, stage.kind, stage.iterations) for stage in stages] == [
        (1, "corners", 0),
        (2, "detector", 40),
        (3, "joint", 7),
    ]
    assert stages[1].file(Path("runs")).name == "2_detector.pth"
    assert stages[0].file(Path("runs")).name == "1_corners.pickle"


@pytest.mark.parametrize("plan", ["paint:3", "joint", "corners:5", "joint:many"])
def test_wrong_plans_are_refused(script, plan):
    with pytest.raises(UserError, match="--plan"):
        script.read_plan(plan)
