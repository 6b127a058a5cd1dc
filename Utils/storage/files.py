"""Files are written whole or not at all; reading a file never runs code in it."""

import contextlib
import csv
import errno
import fcntl
import io
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from Utils.runtime.errors import UserError, one_line
from Utils.storage.tensor_files import read_safetensors, read_torch_file, write_safetensors
from Utils.storage.unpickling import RefusedError, unpickle

SAFETENSORS = ".safetensors"
_UMASK = os.umask(0o077)  # the only way to read it is to set it
os.umask(_UMASK)
_NOT_OFFERED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # by file systems, such as network drives
_LONGEST_STEM = 180  # bytes; names of files end at 255


@contextlib.contextmanager
def writing(path: Path | str, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well, else remove it.

    The content reaches the disk before the rename, so that after a crash `path` is the old file or the whole new one.
    durable=False does not wait for the disk; it suits many small files that are easily made again.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, owned = _owned_temporary(path)
    try:
        yield temporary
        if durable:
            _synchronise(temporary)
        with contextlib.suppress(OSError):  # network drives may have no modes
            os.chmod(temporary, 0o666 & ~_UMASK)  # mkstemp makes private files
        os.replace(temporary, path)
    finally:
        try:
            temporary.unlink(missing_ok=True)
        finally:
            os.close(owned)


def _synchronise(path: Path) -> None:
    """Bring a file's content to the disk, if the file system can do that on request."""
    try:
        with open(path, "rb+") as written:
            os.fsync(written.fileno())
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise


def require_writable(folder: Path, remedy: str) -> None:
    """Make the folder if it is missing; UserError if no file can be written there. For the time before long work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{folder} is not writable ({error.strerror}); {remedy}") from error


def _owned_temporary(path: Path) -> tuple[Path, int]:
    """A new file beside `path` and the descriptor that holds its lock until this process ends."""
    stem = path.stem.encode()[:_LONGEST_STEM].decode(errors="ignore")
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{stem}.", suffix=f".part{path.suffix}", dir=path.parent)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            return Path(name), handle
        if os.fstat(handle).st_nlink:  # else removed as a left-over before it was locked
            return Path(name), handle
        os.close(handle)


def stamp(path: Path) -> tuple[int, int]:
    """Bytes and time of change of a file, by which a change of it shows; 0, -1 for one that is missing."""
    try:
        status = path.stat()
    except OSError:
        return 0, -1
    return status.st_size, status.st_mtime_ns


def remove_left_overs(*folders: Path) -> None:
    """Remove the temporary files of killed processes. Files that are still being written are locked and stay."""
    for folder in folders:
        for left_over in folder.glob(".*.part*"):
            try:
                handle = os.open(left_over, os.O_RDWR | os.O_NOFOLLOW)
            except OSError:
                continue
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left_over.unlink(missing_ok=True)
            except OSError:
                continue
            finally:
                os.close(handle)


@contextlib.contextmanager
def held(lock: Path, refusal: str = "") -> Iterator[None]:
    """Hold a file's lock until the block ends. Waits for another process, or with a `refusal` raises UserError.

    On a drive without locks this says so on stderr and holds nothing.
    """
    file_lock = FileLock(lock)
    try:
        file_lock.acquire(timeout=0 if refusal else -1)
    except Timeout:
        raise UserError(refusal) from None
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", errno.ENOSYS) not in _NOT_OFFERED:
            raise
        print(f"{lock.parent} is on a drive without locks: run only one process there at a time", file=sys.stderr)
    try:
        yield
    finally:
        file_lock.release()


def write_rows(rows: Iterable[Iterable[object]], path: Path | str) -> None:
    """Write a CSV file, whole or not at all."""
    with writing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


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
