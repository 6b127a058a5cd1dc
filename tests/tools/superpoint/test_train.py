from pathlib import Path

import pytest

from tools.superpoint.train import read_plan
from Utils.errors import UserError


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
