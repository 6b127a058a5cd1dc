"""Files of tensors, read without running what may be in them: what torch.save wrote, now and of old, and safetensors.

A torch file is a pickle whose tensors lie beside it. torch.load(weights_only=True) is no help: checkpoints hold numpy
arrays, and with numpy's names allowed a file of 200 bytes makes it read beyond an array (torch 2.14: segmentation
fault). Older versions also give archives of TorchScript to another reader, which runs code.
"""

import io
import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from Utils.storage.unpickling import NAMES, DataUnpickler, Name, RefusedError, require_data

LEAVES = (torch.Tensor,)  # what a content may hold beside arrays and plain containers
_OLD_MAGIC, _OLD_VERSION = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}
# Where a safetensors file keeps the rest of a checkpoint: numbers and names as JSON, and these arrays.
_REST = "checkpoint"
_ARRAYS = ("active_channels", "centroid", "threshold")


def read_torch_file(path: Path) -> Any:
    """What torch.save wrote, on the CPU. Raises RefusedError for what is not data, nearly anything for damage."""
    with open(path, "rb") as file:
        if file.read(2) == b"PK":
            return _read_archive(path)
        file.seek(0)
        return _read_old(file.read())


# The archive of torch 1.6 and later


def _read_archive(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
            raise RefusedError("it is a TorchScript archive, which is not data but a program")
        if len(roots) != 1 or len(set(names)) != len(names):
            raise ValueError("it is no archive of torch.save")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("torch.save does not compress")
        if f"{roots[0]}byteorder" in names and archive.read(f"{roots[0]}byteorder") != b"little":
            raise ValueError("it is of a machine with another order of bytes")
        storages: dict[str, torch.Tensor] = {}

        def storage(dtype: torch.dtype, key: str, count: int) -> torch.Tensor:
            if key not in storages:
                storages[key] = _elements(bytearray(archive.read(f"{roots[0]}data/{key}")), torch.uint8)
            content = storages[key]
            if len(content) != count * dtype.itemsize:
                raise ValueError("a tensor has not as many bytes as its shape says")
            return content.view(dtype)

        content = archive.read(f"{roots[0]}data.pkl")
        data = _TensorUnpickler(io.BytesIO(content), storage).load()
    require_data(data, len(content), LEAVES)
    return data


# The file of torch before 1.6


def _read_old(content: bytes) -> Any:
    """Magic number, version, the machine's sizes, the pickle, the keys of the storages, and these, one by one."""
    file = io.BytesIO(content)
    if [DataUnpickler(file).load() for _ in range(2)] != [_OLD_MAGIC, _OLD_VERSION]:
        raise ValueError("torch.save did not write it")
    machine = DataUnpickler(file).load()
    if not isinstance(machine, dict) or machine.get("little_endian", True) is not True:
        raise ValueError("it is of a machine with another order of bytes")
    storages: dict[str, torch.Tensor] = {}
    claimed = 0

    def storage(dtype: torch.dtype, key: str, count: int) -> torch.Tensor:
        nonlocal claimed
        if key not in storages:
            claimed += count * dtype.itemsize
            if claimed > len(content):
                raise ValueError("its tensors are longer than the file")
            storages[key] = torch.zeros(count, dtype=dtype)
        if storages[key].dtype != dtype or len(storages[key]) != count:
            raise ValueError("its storages contradict each other")
        return storages[key]

    start = file.tell()
    data = _TensorUnpickler(file, storage).load()
    pickled = file.tell() - start
    keys = DataUnpickler(file).load()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise ValueError("its list of storages is not that of its tensors")
    for key in keys:
        target = storages[key]
        count = int.from_bytes(file.read(8), "little")
        raw = file.read(len(target) * target.element_size())
        if count != len(target) or len(raw) != len(target) * target.element_size():
            raise ValueError("it is cut off within a tensor")
        if count:
            target.copy_(_elements(bytearray(raw), target.dtype))
    require_data(data, pickled, LEAVES)
    return data


# The pickles of both


def _elements(content: bytearray, dtype: torch.dtype) -> torch.Tensor:
    return torch.frombuffer(content, dtype=dtype) if content else torch.zeros(0, dtype=dtype)


class _TensorUnpickler(DataUnpickler):
    """An unpickler that knows the names of tensors too; storage: (dtype, key, count) -> its elements (count,)."""

    def __init__(self, file: io.BytesIO, storage: Callable[[torch.dtype, str, int], torch.Tensor]) -> None:
        super().__init__(file, _NAMES)
        self.storage = storage

    def persistent_load(self, name: Any) -> "_Storage":
        if not isinstance(name, tuple) or len(name) not in (5, 6) or name[0] != "storage":
            raise RefusedError("it refers to something beside it, which is not data")
        _, kind, key, _, count, *view = name
        if not isinstance(kind, _StorageKind) or not isinstance(key, str) or type(count) is not int or count < 0:
            raise RefusedError("it has a storage of an unknown kind, which is not data")
        if view not in ([], [None]):
            raise RefusedError("it has a part of a storage, as no torch since 0.4 writes")
        return _Storage(self.storage(kind.dtype, key, count))


class _StorageKind(Name):
    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype


class _Storage:
    """The elements (n,) that tensors are views of."""

    __slots__ = ("elements",)

    def __init__(self, elements: torch.Tensor) -> None:
        self.elements = elements


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    if not isinstance(storage, _Storage):
        raise RefusedError("it has a tensor without a storage, which is not data")
    return _strided(storage.elements, offset, size, stride)


def _strided(elements: torch.Tensor, offset: Any, size: Any, stride: Any) -> torch.Tensor:
    """A view of elements (n,); ValueError where it would reach beyond them or have more than they are."""
    if not isinstance(size, tuple) or not isinstance(stride, tuple) or len(size) != len(stride):
        raise ValueError("a tensor has no shape")
    if not all(type(number) is int and number >= 0 for number in (offset, *size, *stride)):
        raise ValueError("a tensor has a shape of no whole numbers")
    count = math.prod(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride)) if count else offset
    if count > len(elements) or last >= max(len(elements), 1):
        raise ValueError("a tensor is larger than its storage")
    return elements.as_strided(size, stride, offset)


def _parameter(tensor: Any, *_: Any) -> torch.Tensor:
    if not isinstance(tensor, torch.Tensor):
        raise RefusedError("it has a parameter that is no tensor, which is not data")
    return tensor


_NAMES = {
    **NAMES,
    **{("torch", f"{name}Storage"): _StorageKind(dtype) for name, dtype in _STORAGES.items()},
    ("torch._utils", "_rebuild_tensor"): Name(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Name(_tensor),
    ("torch._utils", "_rebuild_parameter"): Name(_parameter),
}


# Safetensors, which hold nothing but tensors and text


def read_safetensors(path: Path) -> dict[str, Any]:
    """A dictionary of tensors; of a checkpoint that `write_safetensors` wrote, what it held."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
        rest = (file.metadata() or {}).get(_REST)
    if rest is None:
        return tensors
    content = json.loads(rest)
    if not isinstance(content, dict):
        raise ValueError("its metadata are no checkpoint's")
    arrays = {name: tensors.pop(name) for name in _ARRAYS if name in tensors}
    return {**content, **arrays, "state_dict": tensors}


def write_safetensors(content: dict[str, Any], path: Path) -> None:
    """Write the weights of a checkpoint, or a dictionary of tensors, with what else tells what they are.

    What only resuming needs, such as the optimiser's state, is left out.
    """
    from safetensors.torch import save_file

    if "state_dict" not in content:
        save_file({name: tensor.contiguous() for name, tensor in content.items()}, path)
        return
    tensors = {name: tensor.contiguous() for name, tensor in content["state_dict"].items()}
    arrays = {name: content[name] for name in _ARRAYS if content.get(name) is not None}
    tensors |= {name: torch.as_tensor(np.asarray(array)).contiguous() for name, array in arrays.items()}
    left_out = {"state_dict", "training_state_dict", "optimizer", "schedualer", *_ARRAYS}
    rest = {name: value for name, value in content.items() if name not in left_out}
    save_file(tensors, path, {_REST: json.dumps(rest)})
