"""Settings of a process before it computes."""

import ctypes
import platform
import signal
import warnings
from pathlib import Path

import numpy as np
import PIL
import torch

from Utils.runtime.interruption import SIGNALS

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # from glibc's malloc.h


def set_up_process() -> None:
    """Keep freed memory for the next tensors and count subnormal numbers as 0; before the first tensor operation.

    Also silence Pillow.
    """
    keep_freed_memory()
    flush_subnormals()
    silence_pillow()


def set_up_worker(_: int = 0) -> None:
    """The same for a worker process (DataLoader passes its number). It ignores signals: its parent ends it."""
    set_up_process()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def silence_pillow() -> None:
    """Keep Pillow and its libtiff from telling stderr of odd and damaged files, whose names they leave out."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    for library in Path(PIL.__file__).parents[1].glob("pillow.libs/libtiff*"):
        ctypes.CDLL(str(library)).TIFFSetErrorHandler(None)


def flush_subnormals() -> bool:
    """Count numbers below 1.2e-38 (float32) or 2.2e-308 (float64) as 0 from now on. Returns whether this CPU can.

    When the detector's sigmoid saturates, gradients get that small. An Intel core takes a hundred cycles for each, so
    that training took three times as long. Threads and processes that this thread starts inherit the setting, hence
    the call before PyTorch starts its threads. The threads of numpy's matrix products start earlier and lack it.
    """
    # numpy computes these limits on first use, and would warn that the smallest subnormal is 0.
    for kind in (np.float16, np.float32, np.float64, np.longdouble):
        np.finfo(kind)
    return torch.set_flush_denormal(True)


def keep_freed_memory() -> bool:
    """Keep large freed blocks for the next tensors. Returns whether this C library can.

    By default it returns them to the system at once, which then maps and zeroes the next tensor page by page. On a
    CPU that takes up to half of a network's time.
    """
    library = _glibc()
    if library is None:
        return False
    return bool(library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, -1))


def release_freed_memory() -> None:
    """Return the kept blocks to the system, for example before a fork, which would copy them."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
