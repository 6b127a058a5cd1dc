"""How this process treats the memory that it has freed.

By default the C library gives large blocks back to the system at once, and the next tensor of the same size is
mapped and zeroed again, page by page. On a CPU that takes up to half of a network's time.
"""

import ctypes
import platform

# Of glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """From now on keep large freed blocks for the next tensors. Returns whether this C library can."""
    library = _glibc()
    if library is None:
        return False
    # No block has a mapping of its own, and the heap is not cut at its end.
    return bool(library.mallopt(_MMAP_MAX, 0) and library.mallopt(_TRIM_THRESHOLD, -1))


def release_freed_memory() -> None:
    """Give back what is kept, as before a fork: a child would hold the pages that the parent then writes to."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
