"""torchrun's end as that of one process. About 10 s: one process is really started."""

import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from tools import torchrun

ROOT = Path(__file__).parents[2]


def failed(exit_code: int) -> ChildFailedError:
    failure = ProcessFailure(0, 7, exit_code, "none")
    failure.timestamp = int(time.time())
    return ChildFailedError("Train_Firststep.py", {0: failure})


@pytest.mark.parametrize(
    ("end", "code"), [(None, 0), (failed(2), 2), (failed(-9), 137), (SignalException("asked", 15), 143)]
)
def test_exit_codes_are_those_of_the_processes(monkeypatch, end, code):
    def run(arguments: list[str]) -> None:
        if end is not None:
            raise end

    monkeypatch.setattr(torchrun, "torchrun", run)
    monkeypatch.setattr("logging.disable", lambda level: None)
    assert torchrun.main() == code


def test_a_mistake_is_the_training_s_own_line(launcher):
    words = [
        "--standalone",
        "--nproc_per_node=1",
        "Train_Firststep.py",
        "--dataset_name",
        "Demo",
        "--set",
        "width=31",
    ]
    command = ["tools/torchrun.py", *words, "--experiment_name", "e", "--paths", "paths/demo.yaml"]
    outcome = launcher.run(ROOT, command)
    assert outcome.code == 2, outcome
    assert outcome.errors == "error: --set width=31: the value must be at least 32\n"
