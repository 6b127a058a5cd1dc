"""Pickles of strangers, read as data: no name that a file asks for is ever looked up in Python.

A pickle is a program for a small machine that can call what Python can import. Here the machine knows a few names.
Each stands for a function below that makes plain containers, arrays or numbers. It sets no attributes.
"""

import collections
import io
import math
import pickle
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

PLAIN = (type(None), bool, int, float, str, bytes, np.generic)
DEEPEST = 50  # containers within containers
SPARE_PARTS = 10_000  # parts that a content may have beyond the bytes of its file


class RefusedError(Exception):
    """The file asks for something that is not data."""


def _bytes(text: str = "", _: str = "latin1") -> bytes:
    return text.encode("latin1")


def _pairs(items: Any = ()) -> list[tuple[Any, Any]]:
    """The items of a dictionary, or of a list of pairs."""
    pairs = list(items.items() if isinstance(items, dict) else items)
    _keys([key for key, _ in pairs])
    return pairs


def _keys(keys: list[Any]) -> list[Any]:
    """The keys of a dictionary. Containers are refused: the hash of a deep tuple overflows the stack."""
    for key in keys:
        if not isinstance(key, PLAIN):
            raise RefusedError(f"it has a key that is a {type(key).__name__}, which is not data")
    return keys


def _dtype(text: str, *_: Any) -> np.dtype:
    if not re.fullmatch(r"[biuf]\d{1,2}|c\d{1,2}|[SU]\d{1,6}|O8?|[?bhilqBHILQefd]", text):
        raise RefusedError(f"it has an array of {text[:20]}, which is not data")
    return np.dtype(text, copy=True)


def _copied(dtype: np.dtype) -> np.dtype:
    """A dtype of its own for an array, because the file may change the original's order of bytes later."""
    return np.dtype(dtype.str)


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
    if dtype.kind == "U" and dtype.itemsize and np.frombuffer(content, dtype.str[0] + "u4").max(initial=0) > 0x10FFFF:
        raise ValueError("an array of texts has characters that do not exist")
    return content


def _fill(array: np.ndarray, state: Any) -> None:
    """`numpy.ndarray.__setstate__` with checks."""
    if array.size:
        raise ValueError("an array is filled twice")
    _, shape, dtype, fortran, content = state
    content = _checked(content, dtype, shape)
    array.__setstate__((1, shape, _copied(dtype), np.bool_(fortran), content))


def _array_of_buffer(content: Any, dtype: Any, shape: Any, order: str = "C") -> np.ndarray:
    elements = np.frombuffer(_checked(content, dtype, shape), _copied(dtype))
    return elements.reshape(shape, order=order).copy("K")  # type: ignore[call-overload]


NAMES: dict[tuple[str, str], Any] = {
    ("builtins", "bytes"): _bytes,
    ("__builtin__", "bytes"): _bytes,
    ("_codecs", "encode"): _bytes,
    ("collections", "OrderedDict"): lambda items=(): collections.OrderedDict(_pairs(items)),
    ("collections", "Counter"): lambda items=(): collections.Counter(dict(_pairs(items))),
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
    append: Callable[[Any], None]  # to the stack
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

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

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1].update(zip(_keys([key]), [value]))

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self.stack[-1].update(zip(_keys(items[::2]), items[1::2], strict=True))

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(dict(zip(_keys(items[::2]), items[1::2], strict=True)))

    def load_short_binunicode(self) -> None:
        self.append_text(self.read(self.read(1)[0]))

    def load_binunicode(self) -> None:
        self.append_text(self.read(int.from_bytes(self.read(4), "little")))

    def append_text(self, content: bytes) -> None:
        """Equal texts become one object, as in a running program: a resumed training then writes the same bytes."""
        self.append(sys.intern(str(content, "utf-8", "surrogatepass")))

    def load_bytearray8(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(length)))  # Python's own would fill the memory before it reads

    def refuse(self) -> None:
        raise RefusedError("it has a set, which is not data")

    dispatch |= {
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.SHORT_BINUNICODE[0]: load_short_binunicode,
        pickle.BINUNICODE[0]: load_binunicode,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.ADDITEMS[0]: refuse,
        pickle.FROZENSET[0]: refuse,
    }


def unpickle(content: bytes) -> Any:
    """The arrays and plain containers of a pickle.

    Raises RefusedError if it asks for more, and errors of nearly any other kind if it is damaged.
    """
    data = DataUnpickler(io.BytesIO(content)).load()
    require_data(data, len(content))
    return data


def require_data(content: Any, size: int, leaf: type = bytes) -> None:
    """RefusedError if a content read from `size` bytes has more than plain containers, arrays and objects of `leaf`.

    Containers that repeat each other, so that the whole would fill any memory, are refused too.
    """
    left = size + SPARE_PARTS

    def visit(part: Any, depth: int) -> None:
        nonlocal left
        left -= 1
        if left < 0 or depth > DEEPEST:
            raise RefusedError("it repeats or nests its parts without end, which is not data")
        if not isinstance(part, (*PLAIN, leaf)):
            for inner in _parts(part):
                visit(inner, depth + 1)

    visit(content, 0)


def _parts(part: Any) -> Iterable[Any]:
    """The contents of a container; an array of numbers or texts has none to visit."""
    if isinstance(part, dict):
        return part.values()
    if isinstance(part, (list, tuple)):
        return part
    if type(part) is np.ndarray:
        return part.ravel().tolist() if part.dtype.hasobject else ()
    raise RefusedError(f"it holds a {type(part).__name__}, which is not data")
