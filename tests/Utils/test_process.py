"""Subnormal numbers count as 0 wherever the programs compute; seen in fresh processes. About a minute."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CAN_FLUSH = "import sys, torch; sys.exit(not torch.set_flush_denormal(True))"


@pytest.fixture(scope="module", autouse=True)
def _cpu_that_flushes():
    if subprocess.run([sys.executable, "-c", CAN_FLUSH], check=False).returncode:
        pytest.skip("this CPU cannot flush subnormal numbers (torch.set_flush_denormal gives False)")


def probe(*arguments: str, launcher: tuple[str, ...] = ()) -> list[dict]:
    """The lines of JSON of a probe of process_probe.py; what it says on stderr holds no word of subnormals."""
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "tests.Utils.process_probe", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "2"},  # a thread beside the main one, also on one core
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "subnormal" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_the_threads_of_a_process():
    """The main one, PyTorch's, and one that autograd takes for a backward pass deep in others."""
    (found,) = probe("threads")
    assert found.pop("started") >= 1  # else no thread beside the main one was seen
    assert found.pop("same thread") == 0
    assert set(found) == {"main", "pool", "warnings", "hook", "gradient", "function"}
    assert set(found.values()) == {0}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes(method, tmp_path):
    """Of which those that are started anew inherit nothing."""
    (found,) = probe("workers", method, str(tmp_path))
    assert found.keys() == {"loading", "rendering", "mapping"}
    for name, places in found.items():
        assert places["processes"] >= 1, name
        assert places["in processes"] == 0, name


def test_the_processes_of_torchrun():
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    found = probe("processes", launcher=launcher)
    assert {result.pop("rank") for result in found} == {0, 1}
    for result in found:
        assert set(result) == {"main", "pool", "warnings", "hook", "gradient", "function", "sum"}
        assert set(result.values()) == {0}


def test_every_script_sets_its_process_up_before_its_first_operation():
    (found,) = probe("scripts")
    assert {
        "Train_Firststep.py",
        "PrePreprocessHuman.py",
        "tools/find_boxes.py",
        "Databases/check.py",
    } <= found.keys()
    del found["tools/torchrun.py"]  # computes nothing: its processes are scripts
    for name, places in found.items():
        assert places.pop("started", 0) >= 1, name
        assert places == {"main": 0, "pool": 0, "warnings": 0, "code": 0}, name


def test_numpy_warns_of_nothing_that_it_computes_later():
    """Where nothing else has asked for the limits before, as most imports do."""
    code = "import numpy; from Utils.process import flush_subnormals; assert flush_subnormals()"
    code += "\nfor kind in 'efdgFDG': str(numpy.finfo(kind))"
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
