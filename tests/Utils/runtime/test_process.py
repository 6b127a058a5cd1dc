"""Subnormal numbers count as 0 wherever the programs compute; seen in processes of their own. Half a minute."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.sandbox import Outcome
from Utils.runtime.process import keep_freed_memory, release_freed_memory

ROOT = Path(__file__).parents[3]
CAN_FLUSH = "import sys, torch; sys.exit(not torch.set_flush_denormal(True))"


@pytest.fixture(scope="module", autouse=True)
def _cpu_that_flushes(launcher):
    if launcher.run(ROOT, ["-c", CAN_FLUSH]).code:
        pytest.skip("this CPU cannot flush subnormal numbers (torch.set_flush_denormal gives False)")


PROBE = ("-m", "tests.Utils.runtime.process_probe")
TWO_THREADS = {"OMP_NUM_THREADS": "2"}  # one beside the main one, also on one core


def probe(*arguments: str) -> list[dict]:
    """The lines of JSON of a probe of process_probe.py, in a fresh process."""
    done = subprocess.run(
        [sys.executable, *PROBE, *arguments],
        cwd=ROOT,
        env={**os.environ, **TWO_THREADS},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    return found_by(done.returncode, done.stdout, done.stderr)


def probe_of(outcome: Outcome) -> list[dict]:
    """The same of what the launcher ran."""
    return found_by(outcome.code, outcome.output, outcome.errors)


def found_by(code: int, output: str, errors: str) -> list[dict]:
    """What a probe says on stderr holds no word of subnormals."""
    assert code == 0, errors
    assert "subnormal" not in errors
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_the_threads_of_a_process():
    """The main one, PyTorch's, and one that autograd takes for a backward pass deep in others."""
    (found,) = probe("threads")
    assert found.pop("started") >= 1  # else no thread beside the main one was seen
    assert found.pop("same thread") == 0
    assert set(found) == {"main", "pool", "warnings", "hook", "gradient", "function"}
    assert set(found.values()) == {0}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes(launcher, method, tmp_path):
    """Of which those that are started anew inherit nothing."""
    (found,) = probe_of(launcher.run(ROOT, [*PROBE, "workers", method, tmp_path]))
    assert found.keys() == {"loading", "mapping"}
    for name, places in found.items():
        assert places["processes"] >= 1, name
        assert places["in processes"] == 0, name


def test_the_processes_of_torchrun(launcher):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *PROBE, "processes"]
    found = probe_of(launcher.run(ROOT, command, environment=TWO_THREADS))
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
    for name, places in found.items():
        assert places.pop("started", 0) >= 1, name
        assert places == {"main": 0, "pool": 0, "warnings": 0, "code": 0}, name


def test_numpy_warns_of_nothing_that_it_computes_later():
    """Where nothing else has asked for the limits before, as most imports do."""
    code = "import numpy; from Utils.runtime.process import flush_subnormals; assert flush_subnormals()"
    code += "\nfor kind in 'efdgFDG': str(numpy.finfo(kind))"
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_is_kept_and_released():
    assert keep_freed_memory()

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return 4096 * int(file.read().split()[1])

    block = torch.ones(2**26)  # 256 MiB, which would have a mapping of its own
    before = resident()
    del block
    assert resident() > before - 2**26
    release_freed_memory()
    assert resident() < before - 2**27
