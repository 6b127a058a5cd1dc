"""Pickles of strangers, read as data: no name that a file asks for is ever looked up in Python.

A pickle is a program for a small machine that can call what Python can import. Here the machine knows a few names,
each of a function below that makes plain containers, arrays or numbers, and no instruction that sets attributes.
"""

import collections
import io
import math
import pickle
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

PLAIN = (type(None), bool, int, float, str, bytes, np.generic)
KEYS = (type(None), bool, int, float, str, bytes, np.generic)  # of dictionaries
DEEPEST = 50  # containers within containers
SPARE_PARTS = 10_000  # that a content may have more than its file has bytes


class RefusedError(Exception):
    """The file asks for something that is not data."""


class Name:
    """What stands for a name that a pickle may ask for: a function to call, or nothing that can be called."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any] | None = None) -> None:
        self.make = make


class DataUnpickler(pickle._Unpickler):
    """Python's own unpickler without the instructions that import, build objects or set their attributes.

    names: (module, name) -> what stands for it.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    append: Callable[[Any], None]  # to the stack
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, file: io.BytesIO, names: Mapping[tuple[str, str], Name] | None = None) -> None:
        super().__init__(file, encoding="latin1")  # as arrays of Python 2 need it
        self.names = NAMES if names is None else names

    def find_class(self, module: str, name: str) -> Name:
        known = self.names.get((module, name))
        if known is None:
            raise RefusedError(f"it asks for {module}.{name}, which is not data")
        return known

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack[-1]
        if not isinstance(function, Name) or function.make is None or not isinstance(arguments, tuple):
            raise RefusedError("it calls what is no function, which is not data")
        self.stack[-1] = function.make(*arguments)

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Kind):
            target.set_order(state)
        elif type(target) is np.ndarray:
            _fill(target, state)
        elif type(target) is not collections.OrderedDict:  # whose attributes, such as _metadata, nobody needs
            raise RefusedError(f"it sets attributes of a {type(target).__name__}, which is not data")

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _set_items(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        _set_items(self.stack[-1], items)

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(_set_items({}, items))

    def load_append(self) -> None:
        value = self.stack.pop()
        _extend(self.stack[-1], [value])

    def load_appends(self) -> None:
        items = self.pop_mark()
        _extend(self.stack[-1], items)

    def append_text(self, text: str) -> None:
        """Equal texts become one, as those of a program are: so a resumed training's files are equal in each byte."""
        self.append(sys.intern(text))

    def load_short_binunicode(self) -> None:
        self.append_text(str(self.read(self.read(1)[0]), "utf-8", "surrogatepass"))

    def load_binunicode(self) -> None:
        self.append_text(str(self.read(int.from_bytes(self.read(4), "little")), "utf-8", "surrogatepass"))

    def load_bytearray8(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(length)))  # at most as many as there are, whatever the file claims

    def refuse(self) -> None:
        raise RefusedError("it makes objects or sets, which are not read")

    for _instruction, _method in {
        pickle.REDUCE: load_reduce,
        pickle.BUILD: load_build,
        pickle.SETITEM: load_setitem,
        pickle.SETITEMS: load_setitems,
        pickle.DICT: load_dict,
        pickle.APPEND: load_append,
        pickle.APPENDS: load_appends,
        pickle.BYTEARRAY8: load_bytearray8,
        pickle.SHORT_BINUNICODE: load_short_binunicode,
        pickle.BINUNICODE: load_binunicode,
        **dict.fromkeys((pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET), refuse),
        **dict.fromkeys((pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX), refuse),
        **dict.fromkeys((pickle.EXT1, pickle.EXT2, pickle.EXT4), refuse),
        **dict.fromkeys((pickle.NEXT_BUFFER, pickle.READONLY_BUFFER), refuse),
    }.items():
        dispatch[_instruction[0]] = _method


def unpickle(content: bytes) -> Any:
    """The arrays and plain containers of a pickle.

    Raises RefusedError where it asks for more, and errors of nearly any other kind where it is damaged.
    """
    data = DataUnpickler(io.BytesIO(content)).load()
    require_data(data, len(content))
    return data


def require_data(content: Any, size: int, leaves: tuple[type, ...] = ()) -> None:
    """RefusedError where a content read from `size` bytes holds more than plain containers, arrays and `leaves`.

    A container that is used again and again, so that the whole would fill any memory, is refused too.
    """
    known = (*PLAIN, *leaves)
    left = size + SPARE_PARTS
    waiting = [iter((content,))]
    while waiting:
        for part in waiting[-1]:
            left -= 1
            if left < 0 or len(waiting) > DEEPEST:
                raise RefusedError("it repeats or nests its parts without end, which is not data")
            inner = None if isinstance(part, known) else _parts(part)
            if inner is not None:
                waiting.append(inner)
                break
        else:
            waiting.pop()


def _parts(part: Any) -> Iterator[Any] | None:
    """What a container holds; None for an array of numbers or texts."""
    if isinstance(part, dict):
        return iter(part.values())
    if isinstance(part, (list, tuple)):
        return iter(part)
    if type(part) is np.ndarray:
        return iter(part.ravel().tolist()) if part.dtype.hasobject else None
    raise RefusedError(f"it holds a {type(part).__name__}, which is not data")


def _keys(items: Any) -> Any:
    for item in items:
        if not isinstance(item, KEYS):
            raise RefusedError(f"it has a key that is a {type(item).__name__}, which is not data")
    return items


def _set_items(target: Any, items: list[Any]) -> Any:
    if not isinstance(target, dict):
        raise RefusedError(f"it sets items of a {type(target).__name__}, which is not data")
    target.update(zip(_keys(items[::2]), items[1::2], strict=True))
    return target


def _extend(target: Any, items: list[Any]) -> None:
    if type(target) is not list:
        raise RefusedError(f"it appends to a {type(target).__name__}, which is not data")
    target.extend(items)


# What the names make: containers


def _pairs(items: Any = ()) -> Any:
    """The items of a dictionary, given as one or as pairs."""
    items = list(items.items() if isinstance(items, dict) else items)
    _keys([key for key, _ in items])
    return items


def _bytes(content: Any = b"", encoding: str = "latin1") -> bytes:
    if isinstance(content, str) and encoding in ("latin1", "latin-1"):
        return content.encode("latin1")
    if not isinstance(content, (bytes, bytearray, list)):
        raise RefusedError(f"it makes bytes of a {type(content).__name__}, which is not data")
    return bytes(content)


# Arrays and numbers


class _Kind:
    """The kind of an array's elements, as a pickle describes it in two goes."""

    __slots__ = ("dtype",)

    def __init__(self, text: Any, *_: Any) -> None:
        if not isinstance(text, str) or not re.fullmatch(
            r"[biuf]\d{1,2}|c\d{1,2}|[SU]\d{1,6}|O8?|[?bhilqBHILQefd]", text
        ):
            raise RefusedError(f"it asks for elements of the kind {str(text)[:20]}, which is not data")
        self.dtype = np.dtype(text)

    def set_order(self, state: Any) -> None:
        """Take over the order of the bytes; kinds with fields are refused."""
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise RefusedError("it asks for elements with fields, which is not data")
        if state[1] not in ("<", ">", "|", "="):
            raise RefusedError("it asks for an unknown order of bytes, which is not data")
        self.dtype = self.dtype.newbyteorder(state[1])


def _kind(kind: Any) -> np.dtype:
    if not isinstance(kind, _Kind):
        raise RefusedError("it has an array without a kind of elements, which is not data")
    return kind.dtype


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise RefusedError("it has an array without a shape, which is not data")
    return shape


def _empty_array(*_: Any) -> np.ndarray:
    """What `numpy.ndarray.__reduce__` begins with."""
    return np.zeros(0, np.int8)


def _fill(array: np.ndarray, state: Any) -> None:
    """What `numpy.ndarray.__setstate__` does, whose own checks are too few for the files of strangers."""
    if not isinstance(state, tuple) or len(state) != 5 or array.shape != (0,):
        raise RefusedError("it fills an array in an unknown way, which is not data")
    shape, dtype, fortran, content = _shape(state[1]), _kind(state[2]), np.bool_(bool(state[3])), state[4]
    if isinstance(content, str):  # of Python 2
        content = content.encode("latin1")
    count = math.prod(shape)
    if dtype.hasobject:
        if type(content) is not list or len(content) != count:
            raise ValueError("an array has not as many elements as its shape says")
    else:
        _checked(content, dtype, count)
    array.__setstate__((1, shape, dtype, fortran, content))


def _checked(content: Any, dtype: np.dtype, count: int) -> Any:
    """The bytes of `count` elements; ValueError where they are not as many, or texts that are none."""
    if not isinstance(content, (bytes, bytearray)) or len(content) != count * dtype.itemsize or dtype.hasobject:
        raise ValueError("an array has not as many bytes as its shape says")
    if dtype.kind == "U" and dtype.itemsize and np.frombuffer(content, dtype.str[0] + "u4").max(initial=0) > 0x10FFFF:
        raise ValueError("an array of texts has characters that do not exist")
    return content


def _scalar(kind: Any, content: Any = b"") -> Any:
    if isinstance(content, str):
        content = content.encode("latin1")
    dtype = _kind(kind)
    return np.frombuffer(_checked(content, dtype, 1), dtype)[0]


def _array_of_buffer(content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    dtype = _kind(kind)
    count = math.prod(_shape(shape))
    return (
        np.frombuffer(_checked(content, dtype, count), dtype)
        .reshape(shape, order="F" if order == "F" else "C")
        .copy("K")
    )


NAMES = {
    ("builtins", "bytes"): Name(_bytes),
    ("builtins", "bytearray"): Name(lambda *arguments: bytearray(_bytes(*arguments))),
    ("collections", "OrderedDict"): Name(lambda items=(): collections.OrderedDict(_pairs(items))),
    ("collections", "Counter"): Name(lambda items=(): collections.Counter(dict(_pairs(items)))),
    ("_codecs", "encode"): Name(_bytes),
    ("numpy", "ndarray"): Name(),
    ("numpy", "dtype"): Name(_Kind),
}
for _core in ("numpy.core", "numpy._core"):
    NAMES[f"{_core}.multiarray", "_reconstruct"] = Name(_empty_array)
    NAMES[f"{_core}.multiarray", "scalar"] = Name(_scalar)
    NAMES[f"{_core}.numeric", "_frombuffer"] = Name(_array_of_buffer)
NAMES |= {("__builtin__", name): known for (module, name), known in NAMES.items() if module == "builtins"}
