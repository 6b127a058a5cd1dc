"""Tensors in the binary files of Torch7 (.t7)."""

import math
import struct

import numpy as np

_OBJECT = 4  # of Torch7's kinds of values
_KINDS = {"Float": "<f4", "Double": "<f8", "Long": "<i8", "Int": "<i4", "Short": "<i2", "Char": "i1", "Byte": "u1"}
MOST_DIMENSIONS = 8


class _Reader:
    """The file's content, read on and on; ValueError where it ends too early."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 0

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.content) - self.place:
            raise ValueError("it is cut off")
        self.place += count
        return self.content[self.place - count : self.place]

    def number(self, kind: str) -> int:
        return struct.unpack(kind, self.take(struct.calcsize(kind)))[0]

    def numbers(self, count: int) -> list[int]:
        return [self.number("<q") for _ in range(count)]

    def text(self) -> str:
        return self.take(self.number("<i")).decode("latin1")

    def kind(self, ending: str) -> str:
        """Such as Float, where an object torch.Float<ending> follows."""
        if self.number("<i") != _OBJECT:
            raise ValueError(f"it holds no {ending.lower()}")
        self.number("<i")  # the object's number
        name = self.text()
        if name.startswith("V "):  # a version goes before the name
            name = self.text()
        kind = name.removeprefix("torch.").removesuffix(ending)
        if kind not in _KINDS or name != f"torch.{kind}{ending}":
            raise ValueError(f"it holds a {name[:40]} and no {ending.lower()} of numbers")
        return kind


def read_tensor(content: bytes) -> np.ndarray:
    """The tensor that a file consists of; ValueError where it is none, or reaches beyond its storage or the file."""
    reader = _Reader(content)
    kind = reader.kind("Tensor")
    dimensions = reader.number("<i")
    if not 0 <= dimensions <= MOST_DIMENSIONS:
        raise ValueError(f"its tensor has {dimensions} dimensions")
    shape, strides = reader.numbers(dimensions), reader.numbers(dimensions)
    first = reader.number("<q") - 1  # counted from 1
    if reader.kind("Storage") != kind:
        raise ValueError("its storage is of another kind")
    dtype = np.dtype(_KINDS[kind])
    count = reader.number("<q")
    storage = np.frombuffer(reader.take(count * dtype.itemsize), dtype)
    if not dimensions or min(shape) < 0 or min(strides) < 0 or first < 0 or math.prod(shape) > count:
        raise ValueError("its tensor has no shape")
    if math.prod(shape) and first + sum((n - 1) * stride for n, stride in zip(shape, strides)) >= count:
        raise ValueError("its tensor reaches beyond its storage")
    steps = [stride * dtype.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[first:], shape, steps).copy()
