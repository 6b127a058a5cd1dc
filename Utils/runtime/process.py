"""What a process sets up before it computes."""

import signal

import numpy as np
import torch

from Utils.runtime.interruption import SIGNALS
from Utils.runtime.memory import keep_freed_memory


def set_up_process() -> None:
    """Keep freed memory for the next tensors (Utils/runtime/memory.py), and count subnormal numbers as 0.

    For the start of each script, before its first tensor operation.
    """
    keep_freed_memory()
    flush_subnormals()


def set_up_worker(_: int = 0) -> None:
    """The same for a worker process, which its parent ends: it ignores requests to end.

    A DataLoader passes the worker's number, which does not matter.
    """
    set_up_process()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def flush_subnormals() -> bool:
    """From now on count numbers below 1.2e-38 (float32) or 2.2e-308 (float64) as 0. Returns whether this CPU can.

    As the detector's sigmoid saturates, gradients fall that low, and an Intel core takes some hundred cycles for
    each such number: training took three times as long. The setting is one of the calling thread; threads that
    it starts from now on, and processes that it forks, inherit it. PyTorch starts its threads with the first
    operation that is large enough, hence the call before any. The threads of numpy's own matrix products start
    with the import of numpy and do not have it.
    """
    # numpy computes these limits when they are first asked for, and warns where the smallest subnormal is 0.
    for kind in (np.float16, np.float32, np.float64, np.longdouble):
        np.finfo(kind)
    return torch.set_flush_denormal(True)
