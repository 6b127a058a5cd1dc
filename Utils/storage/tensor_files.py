"""Files of tensors, read without running code in them: torch.save's formats, new and old, and safetensors.

A torch file is a pickle with its tensors beside it. torch.load(weights_only=True) is not enough: checkpoints hold
numpy arrays, and if it may use numpy's names, a file of 200 bytes makes it read beyond an array (torch 2.14:
segmentation fault). Older versions also pass TorchScript archives to another reader, which runs code.
"""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from Utils.storage.unpickling import NAMES, DataUnpickler, RefusedError, require_data

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
# The rest of a checkpoint in a safetensors file: JSON under this name, and these arrays.
_REST = "checkpoint"
_ARRAYS = ("active_channels", "centroid", "threshold")


def read_torch_file(path: Path) -> Any:
    """The content of a file of torch.save, on the CPU. Raises RefusedError for code, nearly any error for damage."""
    return _read_archive(path) if zipfile.is_zipfile(path) else _read_old(path.read_bytes())


class _TensorUnpickler(DataUnpickler):
    """An unpickler that knows tensors too; storage: (dtype, key, count) -> the elements (count,) of a storage."""

    def __init__(self, file: io.BytesIO, storage: Callable[[torch.dtype, str, int], torch.Tensor]) -> None:
        super().__init__(file)
        self.storage = storage

    def persistent_load(self, name: Any) -> torch.Tensor:
        kind, dtype, key, _, count, *view = name
        if kind != "storage" or not isinstance(dtype, torch.dtype) or view not in ([], [None]):
            raise RefusedError("it has a storage of an unknown kind, which is not data")
        return self.storage(dtype, str(key), count)


def _tensor(elements: torch.Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> torch.Tensor:
    tensor = elements.as_strided(size, stride, offset)  # raises RuntimeError beyond the storage
    if tensor.numel() > len(elements):
        raise ValueError("a tensor is larger than its storage")
    return tensor


_TensorUnpickler.names = NAMES | {
    **{("torch", f"{name}Storage"): dtype for name, dtype in _STORAGES.items()},
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
}


def _elements(content: bytes, dtype: torch.dtype) -> torch.Tensor:
    return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.zeros(0, dtype=dtype)


def _read_archive(path: Path) -> Any:
    """The zip archive of torch 1.6 and later: the pickle, and one file per storage."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed, and torch.save does not compress")
        root = archive.namelist()[0].partition("/")[0]
        pickled = archive.read(f"{root}/data.pkl")
        storages: dict[str, torch.Tensor] = {}

        def storage(dtype: torch.dtype, key: str, count: int) -> torch.Tensor:
            if key not in storages:
                storages[key] = _elements(archive.read(f"{root}/data/{key}"), torch.uint8)
            if len(storages[key]) != count * dtype.itemsize:
                raise ValueError("a storage does not have the bytes that the file claims")
            return storages[key].view(dtype)

        data = _TensorUnpickler(io.BytesIO(pickled), storage).load()
    require_data(data, len(pickled), torch.Tensor)
    return data


def _read_old(content: bytes) -> Any:
    """The file of torch before 1.6.

    Magic number, version, sizes of the machine, the pickle, the keys of the storages, and the storages one by one.
    """
    file = io.BytesIO(content)
    magic, version, _ = (DataUnpickler(file).load() for _ in range(3))
    if (magic, version) != (_OLD_MAGIC, _OLD_VERSION):
        raise ValueError("torch.save did not write it")
    storages: dict[str, torch.Tensor] = {}

    def storage(dtype: torch.dtype, key: str, count: int) -> torch.Tensor:
        if key not in storages:
            if sum(known.nbytes for known in storages.values()) + count * dtype.itemsize > len(content):
                raise ValueError("its tensors are longer than the file")
            storages[key] = torch.zeros(count, dtype=dtype)
        return storages[key]

    start = file.tell()
    data = _TensorUnpickler(file, storage).load()
    require_data(data, file.tell() - start, torch.Tensor)
    keys = list(map(str, DataUnpickler(file).load()))
    if sorted(keys) != sorted(storages):
        raise ValueError("its list of storages is not that of its tensors")
    for target in map(storages.__getitem__, keys):
        count = int.from_bytes(file.read(8), "little")
        raw = file.read(target.nbytes)
        if count != len(target) or len(raw) != target.nbytes:
            raise ValueError("it is cut off within a tensor")
        target.copy_(_elements(raw, target.dtype))
    return data


# Safetensors, which hold only tensors and text


def read_safetensors(path: Path) -> dict[str, Any]:
    """A dictionary of tensors, or a checkpoint of `write_safetensors`."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
        rest = (file.metadata() or {}).get(_REST)
    if rest is None:
        return tensors
    arrays = {name: tensors.pop(name) for name in _ARRAYS if name in tensors}
    return {**json.loads(rest), **arrays, "state_dict": tensors}


def write_safetensors(content: dict[str, Any], path: Path) -> None:
    """Write a dictionary of tensors, or a checkpoint without the parts that only resuming needs (the optimiser's)."""
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
