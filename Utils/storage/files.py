"""Files are written whole or not at all; reading a file never runs code in it."""

import contextlib
import io
import os
import pickle
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from Utils.runtime.errors import UserError, one_line
from Utils.storage.tensor_files import read_safetensors, read_torch_file, write_safetensors
from Utils.storage.unpickling import RefusedError, unpickle

SAFETENSORS = ".safetensors"
_LEFT_OVER_AGE = 24 * 3600  # seconds; no file takes that long to write


@contextlib.contextmanager
def writing(path: Path | str, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well, else remove it.

    The content reaches the disk before the rename, so that after a crash `path` is the old file or the whole new one.
    durable=False does not wait for the disk; it suits many small files that are easily made again.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.part{path.suffix}")
    try:
        yield temporary
        if durable:
            with open(temporary, "rb+") as written:
                os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_left_overs(*folders: Path) -> None:
    """Remove the temporary files of processes that were killed a day ago or earlier."""
    for folder in folders:
        for left_over in folder.glob(".*.part*"):
            with contextlib.suppress(FileNotFoundError):  # another process renamed it
                if time.time() - left_over.stat().st_mtime > _LEFT_OVER_AGE:
                    left_over.unlink()


@contextlib.contextmanager
def held(lock: Path, refusal: str) -> Iterator[None]:
    """Hold a file's lock until this process ends; UserError with the refusal if another process holds it."""
    file_lock = FileLock(lock)
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        raise UserError(refusal) from None
    try:
        yield
    finally:
        file_lock.release()


def dump_pickle(content: Any, path: Path | str) -> None:
    """Write `content` as a pickle, whole or not at all."""
    with writing(path) as temporary, open(temporary, "wb") as handle:
        pickle.dump(content, handle, protocol=4)


def save_checkpoint(content: dict[str, Any], path: Path | str) -> None:
    """Write a dictionary of tensors, arrays and plain containers with torch.save, whole or not at all.

    A name that ends in .safetensors gets only the weights and their description, see `write_safetensors`.
    """
    path = Path(path)
    if path.suffix == SAFETENSORS:
        with writing(path) as temporary:
            write_safetensors(content, temporary)
        return
    # On a full disk torch.save says "unexpected pos"; plain writing says that the disk is full.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with writing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_pickle(path: Path | str, remedy: str = "make or download it again") -> Any:
    """Read a pickle of arrays and plain containers.

    Raises UserError if the file is missing, empty or cut off, or holds anything else: that could run code.
    """
    return _load(Path(path), remedy, lambda file: unpickle(file.read_bytes()))


def load_checkpoint(path: Path | str, remedy: str = "make or download it again") -> dict[str, Any]:
    """Read a dictionary, by the rules of `load_pickle`: a file of torch.save, onto the CPU, or of safetensors."""
    path = Path(path)
    content = _load(path, remedy, read_safetensors if path.suffix == SAFETENSORS else read_torch_file)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dictionary; {remedy}")
    return dict(content)


def _load(path: Path, remedy: str, read: Callable[[Path], Any]) -> Any:
    if not path.is_file():
        raise UserError(f"{path} does not exist; {remedy}")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty; {remedy}")
    try:
        return read(path)
    except RefusedError as error:
        raise UserError(f"{path} is refused: {one_line(error)}; get the file from a source you trust") from error
    except Exception as error:  # a damaged file can make a reader raise nearly anything
        raise UserError(f"{path} cannot be read and may be cut off ({one_line(error)}); {remedy}") from error
