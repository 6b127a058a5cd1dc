"""Subnormal numbers count as 0 wherever the programs compute, and freed memory is kept. About 10 s."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.tiny import TinyDatabase
from Utils.runtime.parallel import parallel_map
from Utils.runtime.process import keep_freed_memory, release_freed_memory

ROOT = Path(__file__).parents[3]
OF_A_PROCESS = """
import warnings
import numpy
import torch
from Utils.runtime.process import set_up_process
with warnings.catch_warnings():  # NumPy's, of limits that nothing has asked for before, as most imports do
    warnings.simplefilter("error", UserWarning)
    set_up_process()
    for kind in "efdgFDG":
        str(numpy.finfo(kind))
from tests.Utils.runtime.test_process import survivors
torch.set_num_threads(2)
found = [survivors(), survivors(1 << 20)]  # PyTorch divides so many numbers among its threads
x = torch.full((1 << 20,), 1e-19, requires_grad=True)
y = x * 1e-20
y.register_hook(lambda gradient: found.append(survivors()))
(y * 1e-19).sum().backward()
found.append(int((x.grad.view(torch.int32) != 0).sum()))
print(found)
"""


def survivors(count: int = 4) -> int:
    """How many of `count` numbers 1e-39 are not 0 as a result, or count as more than 0 as an argument."""
    product = torch.full((count,), 1e-20) * 1e-19
    made = int((product.view(torch.int32) != 0).sum())  # looks at the bits: an argument may count as 0 too
    given = torch.full((count,), 713_624, dtype=torch.int32).view(torch.float32)
    return made + int(((given * 1e30).view(torch.int32) != 0).sum())


def survivors_of(_: TinyDatabase, __: int) -> int:
    return survivors()


def python(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def flushing():
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush subnormal numbers (torch.set_flush_denormal gives False)")
    torch.set_flush_denormal(False)
    assert survivors() == 8


def test_the_threads_of_a_process(flushing):
    """The main one, PyTorch's, and autograd's; NumPy warns of nothing that it computes later."""
    done = python("-c", OF_A_PROCESS)
    assert done.stdout == "[0, 0, 0, 0]\n", done.stderr
    assert "subnormal" not in done.stderr


def test_worker_processes(flushing):
    assert [found for _, found in parallel_map(survivors_of, TinyDatabase(), range(4), 2)] == [0] * 4


def test_every_script_sets_its_process_up():
    scripts = [
        path
        for path in ROOT.rglob("*.py")
        if not str(path.relative_to(ROOT)).startswith((".", "tests")) and '__name__ == "__main__"' in path.read_text()
    ]
    assert len(scripts) > 20
    for path in scripts:
        assert "    set_up_process()\n" in path.read_text(), path


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
