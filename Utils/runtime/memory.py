"""Reuse of freed memory.

By default the C library returns large blocks to the system at once, which then maps and zeroes the next tensor page
by page. On a CPU that takes up to half of a network's time.
"""

import ctypes
import platform

# From glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Keep large freed blocks for the next tensors. Returns whether this C library can."""
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
