"""The memory that a process keeps when tensors are freed."""

import sys

import pytest
import torch

from Utils.runtime.memory import keep_freed_memory, release_freed_memory


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
