"""Pickles of strangers, read as data: no name that a file asks for is ever looked up in Python.

A pickle is a program for a small machine that can call what Python can import. Here the machine knows a few names,
which make plain containers, arrays or numbers. It sets no attributes. A hostile file can still fill the memory or
nest too deeply; it cannot run code.
"""

import collections
import io
import math
import pickle
import re
from typing import Any, ClassVar

import numpy as np


class RefusedError(Exception):
    """The file asks for something that is not data."""


def _bytes(text: str = "", _: str = "latin1") -> bytes:
    return text.encode("latin1")


def _dtype(text: str, *_: Any) -> np.dtype:
    if not re.fullmatch(r"[biuf]\d{1,2}|c\d{1,2}|[SU]\d{1,6}|O8?|[?bhilqBHILQefd]", text):
        raise RefusedError(f"it has an array of {text[:20]}, which is not data")
    return np.dtype(text, copy=True)


def _set_order(dtype: np.dtype, state: Any) -> None:
    """`numpy.dtype.__setstate__` for the order of the bytes alone: it would also take fields and flags."""
    if state[1] not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
        raise RefusedError("it has an array with fields, which is not data")
    own = (dtype.itemsize, dtype.alignment, dtype.flags)
    dtype.__setstate__((3, state[1], None, None, None, *own))  # type: ignore[attr-defined]


def _checked(content: Any, dtype: Any, shape: Any) -> Any:
    """The elements of an array: bytes, or a list of objects. ValueError if they do not fit, which numpy accepts."""
    if not isinstance(dtype, np.dtype) or not isinstance(shape, tuple) or min(shape, default=0) < 0:
        raise ValueError("an array has no shape or type")
    if isinstance(content, str):  # of Python 2
        content = content.encode("latin1")
    count = math.prod(shape) * (1 if dtype.hasobject else dtype.itemsize)
    if type(content) not in ((list,) if dtype.hasobject else (bytes, bytearray)) or len(content) != count:
        raise ValueError("the elements of an array do not fit its shape")
    return content


def _fill(array: np.ndarray, state: Any) -> None:
    """`numpy.ndarray.__setstate__` with checks."""
    if array.size:
        raise ValueError("an array is filled twice")
    _, shape, dtype, fortran, content = state
    content = _checked(content, dtype, shape)
    array.__setstate__((1, shape, dtype, np.bool_(fortran), content))


def _array_of_buffer(content: Any, dtype: Any, shape: Any, order: str = "C") -> np.ndarray:
    elements = np.frombuffer(_checked(content, dtype, shape), dtype)
    return elements.reshape(shape, order=order).copy("K")  # type: ignore[call-overload]


NAMES: dict[tuple[str, str], Any] = {
    ("builtins", "bytes"): _bytes,
    ("__builtin__", "bytes"): _bytes,
    ("_codecs", "encode"): _bytes,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "Counter"): collections.Counter,
    ("numpy", "ndarray"): None,  # only an argument of _reconstruct
    ("numpy", "dtype"): _dtype,
}
for _core in ("numpy.core", "numpy._core"):
    NAMES[f"{_core}.multiarray", "_reconstruct"] = lambda *_: np.zeros(0, np.int8)  # `_fill` comes later
    NAMES[f"{_core}.multiarray", "scalar"] = lambda dtype, content: _array_of_buffer(content, dtype, ())[()]
    NAMES[f"{_core}.numeric", "_frombuffer"] = _array_of_buffer


class DataUnpickler(pickle._Unpickler):
    """Python's own unpickler, which here finds `names` alone and sets no attributes."""

    names: ClassVar[dict[tuple[str, str], Any]] = NAMES
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="latin1")  # as arrays of Python 2 need it

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            raise RefusedError(f"it asks for {module}.{name}, which is not data")
        return self.names[module, name]

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, np.dtype):
            _set_order(target, state)
        elif type(target) is np.ndarray:
            _fill(target, state)
        elif type(target) is not collections.OrderedDict:  # torch's state_dict has _metadata, which nobody needs
            raise RefusedError(f"it sets attributes of a {type(target).__name__}, which is not data")

    dispatch |= {pickle.BUILD[0]: load_build}


def unpickle(content: bytes) -> Any:
    """The arrays and plain containers of a pickle.

    Raises RefusedError if it asks for more, and errors of nearly any other kind if it is damaged.
    """
    return DataUnpickler(io.BytesIO(content)).load()
