"""Tensors in the binary files of Torch7 (.t7)."""

import io
import struct

import numpy as np
import torch

_OBJECT = 4  # Torch7's number for objects
_KINDS = {"Float": "f", "Double": "d", "Long": "q", "Int": "i", "Short": "h", "Char": "b", "Byte": "B"}  # of struct


def read_tensor(content: bytes) -> np.ndarray:
    """The tensor in a file. ValueError if the file holds anything else, or the tensor exceeds its storage."""
    file = io.BytesIO(content)
    kind = _kind(file, "Tensor")
    (dimensions,) = _numbers(file, "i")
    if dimensions < 1:
        raise ValueError("its tensor has no dimension")
    shape, strides = _numbers(file, f"{dimensions}q"), _numbers(file, f"{dimensions}q")
    (first,) = _numbers(file, "q")  # counted from 1
    if _kind(file, "Storage") != kind:
        raise ValueError("its storage is of another kind")
    (count,) = _numbers(file, "q")
    storage = np.array(_numbers(file, f"{count}{_KINDS[kind]}"), _KINDS[kind])
    try:
        return torch.from_numpy(storage).as_strided(shape, strides, first - 1).contiguous().numpy()
    except RuntimeError as error:
        raise ValueError(f"its tensor exceeds its storage ({error})") from error


def _numbers(file: io.BytesIO, kinds: str) -> tuple[int, ...]:
    """The next numbers; kinds: of struct."""
    try:
        return struct.unpack(f"<{kinds}", file.read(struct.calcsize(f"<{kinds}")))
    except struct.error:
        raise ValueError("it is cut off") from None


def _text(file: io.BytesIO) -> str:
    return file.read(*_numbers(file, "i")).decode("latin1")


def _kind(file: io.BytesIO, ending: str) -> str:
    """The kind of numbers, e.g. Float, of an object torch.Float<ending>."""
    if _numbers(file, "ii")[0] != _OBJECT:  # the second is the object's number
        raise ValueError(f"it does not hold a {ending.lower()}")
    name = _text(file)
    if name.startswith("V "):  # a version goes before the name
        name = _text(file)
    kind = name.removeprefix("torch.").removesuffix(ending)
    if kind not in _KINDS or name != f"torch.{kind}{ending}":
        raise ValueError(f"it holds {name[:40]!r}, not a {ending.lower()} of numbers")
    return kind
