"""Torch7 files, byte by byte."""

import struct

import numpy as np
import pytest

from Utils.storage.torch7 import read_tensor


def text(value: str) -> bytes:
    return struct.pack("<i", len(value)) + value.encode()


def tensor(values: np.ndarray, kind: str = "Float", shape=None, strides=None, first: int = 1) -> bytes:
    shape = values.shape if shape is None else shape
    strides = [n // values.itemsize for n in values.strides] if strides is None else strides
    numbers = struct.pack(f"<i{len(shape)}q{len(strides)}qq", len(shape), *shape, *strides, first)
    head = struct.pack("<ii", 4, 1) + text("V 1") + text(f"torch.{kind}Tensor") + numbers
    storage = struct.pack("<ii", 4, 2) + text("V 1") + text(f"torch.{kind}Storage")
    return head + storage + struct.pack("<q", values.size) + values.tobytes()


VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize(("kind", "dtype"), [("Float", "f4"), ("Double", "f8"), ("Long", "i8"), ("Byte", "u1")])
def test_tensors_come_back(kind, dtype):
    np.testing.assert_array_equal(read_tensor(tensor(VALUES.astype(dtype), kind)), VALUES)


def test_views_of_a_storage():
    np.testing.assert_array_equal(read_tensor(tensor(VALUES, shape=(3, 4), strides=(1, 3))), VALUES.T)
    np.testing.assert_array_equal(read_tensor(tensor(VALUES, shape=(2, 3), first=4, strides=(3, 1))), VALUES[1:3])


def test_every_cut_is_seen():
    whole = tensor(VALUES)
    for length in range(len(whole)):
        with pytest.raises(ValueError):
            read_tensor(whole[:length])


@pytest.mark.parametrize(
    "content",
    [
        tensor(VALUES, shape=(5, 3), strides=(3, 1)),
        tensor(VALUES, first=2),
        tensor(VALUES, first=0),
        tensor(VALUES, shape=(4, 3), strides=(-3, 1)),
        tensor(VALUES, shape=(-4, 3), strides=(3, 1)),
        tensor(VALUES, shape=(), strides=()),
        tensor(VALUES, "Cuda"),
        struct.pack("<i", 2) + text("a text"),
        b"\x89PNG" * 20,
    ],
)
def test_what_is_no_tensor(content):
    with pytest.raises(ValueError):
        read_tensor(content)
