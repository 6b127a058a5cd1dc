"""Files that are never half written, and files from strangers that never run code."""

import collections
import contextlib
import io
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import torch

from Utils.errors import UserError, one_line


@contextlib.contextmanager
def writing(path: Path | str, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well, else remove it.

    The file's content reaches the disk before the rename, so that after a crash `path` is either the old
    file or the whole new one. durable=False: without waiting for the disk, for many small files that are easily made
    again.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=f".part{path.suffix}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if durable:
            with open(temporary, "rb+") as written:
                os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes private files
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def dump_pickle(content: Any, path: Path | str) -> None:
    """Write `content` as a pickle, whole or not at all."""
    with writing(path) as temporary, open(temporary, "wb") as handle:
        pickle.dump(content, handle, protocol=4)


def save_checkpoint(content: dict[str, Any], path: Path | str) -> None:
    """Write a dictionary of tensors, arrays and plain containers with torch.save, whole or not at all."""
    # torch.save on a path says nothing of a full disk but "unexpected pos"; plain writing says it.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with writing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


# Everything that data needs and nothing that acts: containers, arrays, tensors.
_NUMPY_NAMES = {
    ("multiarray", "_reconstruct"),
    ("multiarray", "scalar"),
    ("numeric", "_frombuffer"),
}
_BUILTINS = "set frozenset complex slice bytearray bytes dict list tuple int float bool str"
_ALLOWED = {
    *(("builtins", name) for name in _BUILTINS.split(" ")),
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("collections", "Counter"),
    ("_codecs", "encode"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_parameter_with_state"),
    ("torch.nn.parameter", "Parameter"),
    ("torch.serialization", "_get_layout"),
    *((f"numpy.{core}.{module}", name) for core in ("core", "_core") for module, name in _NUMPY_NAMES),
}
_STORAGE_KINDS = (
    "Float Double Half BFloat16 Long Int Short Char Byte Bool ComplexFloat ComplexDouble Untyped"  # of torch
)
_TORCH_STORAGES = {f"{kind}Storage" for kind in _STORAGE_KINDS.split(" ")}
_ANCIENT_BUILTINS = "__builtin__"  # what Python 2 called builtins


def _is_allowed(module: str, name: str) -> bool:
    if module == _ANCIENT_BUILTINS:
        module = "builtins"
    if (module, name) in _ALLOWED:
        return True
    if module in ("torch", "torch.storage", "torch.cuda"):
        return name in _TORCH_STORAGES or (module == "torch.storage" and name == "TypedStorage")
    return module == "numpy.dtypes" and name.endswith("DType")


class _DataUnpickler(pickle.Unpickler):
    """An unpickler that builds arrays, tensors and plain containers and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name.startswith(("float", "int", "uint", "bfloat", "bool", "half")):
            dtype = getattr(torch, name, None)
            if isinstance(dtype, torch.dtype):
                return dtype
        if not _is_allowed(module, name):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not data")
        return super().find_class(module, name)


class _DataPickle:
    """Stands in for the module `pickle` in torch.load."""

    Unpickler = _DataUnpickler
    UnpicklingError = pickle.UnpicklingError

    @staticmethod
    def load(file: IO[bytes], **options: Any) -> Any:
        return _DataUnpickler(file, **options).load()

    @staticmethod
    def loads(content: bytes, **options: Any) -> Any:
        return _DataUnpickler(io.BytesIO(content), **options).load()


def _require_file(path: Path, remedy: str) -> None:
    if not path.is_file():
        raise UserError(f"{path} does not exist; {remedy}")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty; {remedy}")


def load_pickle(path: Path | str, remedy: str = "make or download it again") -> Any:
    """Read a pickle of arrays and plain containers.

    Raises UserError where the file is missing, empty or cut off, and where it holds anything that is not
    data: such a file could run code, so it is refused before anything in it runs.
    """
    path = Path(path)
    _require_file(path, remedy)
    with open(path, "rb") as handle:
        return _load(path, remedy, lambda: _DataUnpickler(handle, encoding="latin1").load())


def load_checkpoint(path: Path | str, remedy: str = "make or download it again") -> dict[str, Any]:
    """Read what torch.save wrote, onto the CPU, under the same rules as `load_pickle`; a dictionary."""
    path = Path(path)
    _require_file(path, remedy)
    content = _load(
        path,
        remedy,
        lambda: torch.load(path, map_location="cpu", weights_only=False, pickle_module=_DataPickle),
    )
    if not isinstance(content, collections.abc.Mapping):
        raise UserError(f"{path} holds a {type(content).__name__} and no dictionary; {remedy}")
    return dict(content)


def _load(path: Path, remedy: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except pickle.UnpicklingError as error:
        if "which is not data" in str(error):
            raise UserError(f"{path} is refused: {one_line(error)}; get the file from a source you trust") from error
        raise UserError(f"{path} cannot be read ({one_line(error)}); {remedy}") from error
    except Exception as error:  # a damaged file can make the unpickler raise nearly anything
        raise UserError(f"{path} cannot be read, it may be cut off ({one_line(error)}); {remedy}") from error
