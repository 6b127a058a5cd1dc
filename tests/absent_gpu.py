"""A CUDA device for tests on machines that have none.

Inside `with AbsentGpu() as gpu`, tensors that are moved to or made on "cuda" say that they are there; their numbers
stay in host memory and are computed by the CPU, so that results can be compared with those of the CPU. As on a GPU,

- an operation on tensors of both devices raises, and so does `numpy` of a tensor that is not on the host;
- what makes the host wait for the device is noted in `gpu.notes`, as (what, function of the project): a copy
  to the host, a copy to the device that is not a non-blocking one from pinned memory, and operations whose
  result's shape depends on the values (`nonzero`, a mask as an index, ...);
- so are the functions that hold float64 on the device, where it is slow.

What it cannot see: kernels that CUDA lacks, that round otherwise, or that wait for themselves; time; memory. Under
mixed precision the CPU's autocast stands in for CUDA's, whose list of operations is nearly the same.
"""

import contextlib
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).parents[1]
GPU = torch.device("cuda", 0)
HOST = torch.device("cpu")
# Where a tensor is. What C++ makes without saying where ("anywhere") goes with whatever it meets.
ON_GPU, ON_HOST, PINNED, ANYWHERE = "gpu", "host", "pinned", "anywhere"
# Operations after which the host knows values of the device, or the shape of the result.
WAITING = {
    "aten::_local_scalar_dense",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::bincount",
    "torchvision::nms",
}
# Beside the pointwise ones, operations that take a single number from the host along.
TAKING_A_NUMBER = {"aten::fill", "aten::fill_", "aten::masked_fill", "aten::masked_fill_"}
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}


class AbsentGpu(contextlib.ExitStack):
    """The context; see the module. `notes` counts (what, function)."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: Counter[tuple[str, str]] = Counter()
        # By the storage's address, which stays taken as long as there is a weak reference to it.
        self._places: dict[int, tuple[StorageWeakRef, str]] = {}

    def __enter__(self) -> "AbsentGpu":
        super().__enter__()
        autocast = torch.autocast
        self.enter_context(
            mock.patch("torch.autocast", lambda device_type, *args, **more: autocast("cpu", *args, **more))
        )
        self.enter_context(_Operations(self))
        self.enter_context(_Functions(self))
        return self

    def note(self, what: str) -> None:
        self.notes[what, _function_of_project()] += 1

    def place(self, tensor: Tensor) -> str:
        known = self._places.get(tensor.untyped_storage()._cdata)
        return known[1] if known else ON_HOST

    def put(self, tensor: Tensor, place: str) -> Tensor:
        storage = tensor.untyped_storage()
        self._places[storage._cdata] = (StorageWeakRef(storage), place)
        return tensor

    def is_there(self, tensor: Tensor) -> bool:
        return self.place(tensor) == ON_GPU

    def move(self, tensor: Tensor, to_gpu: bool, non_blocking: bool, **more: Any) -> Tensor:
        """A copy on the other device; called with the modes off."""
        self.note_copy(tensor, to_gpu, non_blocking)
        return self.put(tensor.to(copy=True, **more), ON_GPU if to_gpu else ON_HOST)

    def note_copy(self, source: Tensor, to_gpu: bool, non_blocking: bool) -> None:
        if not to_gpu:
            self.note("copy to host")
        elif not (non_blocking and self.place(source) == PINNED):
            self.note("blocking copy to device")


def _function_of_project() -> str:
    """The innermost function of the project that is running; tests, and functions without a name, are left out."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        ours = path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] not in ("tests", ".venv")
        if ours and not frame.f_code.co_name.startswith("<"):
            return frame.f_code.co_name
        frame = frame.f_back
    return "test"


class _Functions(TorchFunctionMode):
    """What Python sees of a tensor's device, and what it asks for."""

    def __init__(self, gpu: AbsentGpu) -> None:
        super().__init__()
        self.gpu = gpu
        self.own = {
            Tensor.device.__get__: lambda tensor: GPU if gpu.is_there(tensor) else HOST,
            Tensor.is_cuda.__get__: gpu.is_there,
            Tensor.is_cpu.__get__: lambda tensor: not gpu.is_there(tensor),
            Tensor.is_pinned: lambda tensor, *_: gpu.place(tensor) == PINNED,
            Tensor.pin_memory: lambda tensor, *_: gpu.put(tensor.clone(), PINNED),
            torch._C._nn._parse_to: torch._C._nn._parse_to,  # of a module's `to`, whose tensors come next
            Tensor.to: self._to,
            Tensor.cpu: lambda tensor, **more: self._to(tensor, HOST, **more),
            Tensor.cuda: lambda tensor, _=None, **more: self._to(tensor, GPU, **more),
            Tensor.numpy: self._numpy,
            Tensor.__array__: self._array,
            Tensor.tolist: self._tolist,
        }

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        own = self.own.get(func)
        if own is not None:
            return own(*args, **kwargs)
        device = kwargs.pop("device", None)
        result = func(*args, **kwargs)
        givers = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not isinstance(result, Tensor) or (device is None and givers):
            return result
        to_gpu = device is not None and torch.device(device).type == "cuda"
        if func in (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor):
            there = bool(givers) and self.gpu.is_there(givers[0])
            if to_gpu != there:
                return self.gpu.move(result, to_gpu, non_blocking=False)
        return self.gpu.put(result, ON_GPU if to_gpu else ON_HOST)

    def _to(self, tensor: Tensor, *args, non_blocking: bool = False, **more) -> Tensor:
        given = [*args, more.pop("other", None)]
        other = next((value for value in given if isinstance(value, Tensor)), None)
        if other is not None:
            to_gpu, changes = self.gpu.is_there(other), {"dtype": other.dtype}
        else:
            copy = more.pop("copy", False)
            device, dtype, waits_not, memory_format = torch._C._nn._parse_to(*args, **more)
            non_blocking = non_blocking or waits_not
            to_gpu = self.gpu.is_there(tensor) if device is None else device.type == "cuda"
            changes = {"dtype": dtype or tensor.dtype, "copy": copy}
            if memory_format is not None:
                changes["memory_format"] = memory_format
        if to_gpu == self.gpu.is_there(tensor):
            return tensor.to(**changes)
        changes.pop("copy", None)
        return self.gpu.move(tensor, to_gpu, non_blocking, **changes)

    def _numpy(self, tensor: Tensor, *args, **more):
        self._on_host(tensor)
        return tensor.numpy(*args, **more)

    def _array(self, tensor: Tensor, *args, **more):
        self._on_host(tensor)
        return tensor.__array__(*args, **more)

    def _on_host(self, tensor: Tensor) -> None:
        if self.gpu.is_there(tensor):
            raise TypeError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu() first")

    def _tolist(self, tensor: Tensor) -> Any:
        if self.gpu.is_there(tensor):
            self.gpu.note("copy to host")
        return tensor.tolist()


class _Operations(TorchDispatchMode):
    """Every operation, those of the backward pass included: where its arguments are, and so its results."""

    def __init__(self, gpu: AbsentGpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:  # its parts are looked at
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        name = func._schema.name
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        places = [self.gpu.place(tensor) for tensor in given]
        if ON_GPU in places:
            self._check(func, name, args, given, places)
            if name in WAITING or (name == "aten::repeat_interleave" and kwargs.get("output_size") is None):
                self.gpu.note(name.partition("::")[2].strip("_"))
        if name == "aten::copy_":
            self._copy(*args, **kwargs)
            return func(*args, **kwargs)
        result = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        where = next((place for place in (ON_GPU, ON_HOST) if place in places), None)
        where = where or (ON_HOST if PINNED in places else ANYWHERE)
        storages = {tensor.untyped_storage()._cdata: place for tensor, place in zip(given, places, strict=True)}
        for tensor in made:
            if storages.get(tensor.untyped_storage()._cdata, ANYWHERE) == ANYWHERE:  # else it is one of the given
                self.gpu.put(tensor, where)
            if where == ON_GPU and tensor.dtype == torch.float64:
                self.gpu.note("float64")
        return result

    def _check(self, func, name: str, args, given: list[Tensor], places: list[str]) -> None:
        """Raise where devices meet that must not; note the indices that wait."""
        hosted = [tensor for tensor, place in zip(given, places, strict=True) if place in (ON_HOST, PINNED)]
        if name in INDEXING:
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                self.gpu.note("mask as an index")
            if self.gpu.is_there(args[0]) and all(any(h is i for i in indices) or h.ndim == 0 for h in hosted):
                if hosted:
                    self.gpu.note("blocking copy to device")
                return
        takes_numbers = torch.Tag.pointwise in func.tags or name in TAKING_A_NUMBER
        if name == "aten::copy_" or (takes_numbers and all(tensor.ndim == 0 for tensor in hosted)):
            return
        if hosted:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu: "
                f"{name} in {_function_of_project()}"
            )

    def _copy(self, target: Tensor, source: Tensor, non_blocking: bool = False) -> None:
        there, here = self.gpu.is_there(target), self.gpu.is_there(source)
        if ANYWHERE in (self.gpu.place(target), self.gpu.place(source)):
            if here:
                self.gpu.put(target, ON_GPU)
        elif there != here:
            self.gpu.note_copy(source, there, non_blocking)
