"""Descriptors of a whole data set: on disk in large chunks, in memory only a piece at a time."""

import contextlib
import os
import shutil
import socket
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tables

from Utils.runtime import distributed
from Utils.runtime.errors import UserError

_PREFIX = ".descriptors"
_CHUNK_BYTES = 1 << 20  # of one HDF5 chunk; far below it HDF5's own bookkeeping shows, far above it the cache suffers
_BUFFER_ROWS = 8192  # rows that wait in memory before they are written together


class DescriptorStore:
    """Append-only rows of (descriptor, point, image, score, flag) in a temporary PyTables file.

    The file is unlinked as soon as it is open, so it is gone when this process is, however that ends. Where
    the system does not let go of an open file's name, it is removed by `close`, at exit, or by the next store
    made in the same folder.

    Rows come in the order of their image index. Memory: one buffer of `_BUFFER_ROWS` rows.
    """

    def __init__(self, folder: Path | str, dimension: int = 256) -> None:
        """folder: where the file goes, made if missing; dimension: of a descriptor."""
        self.dimension = dimension
        self._folder = Path(folder)
        self._columns = {
            "descriptor": (np.dtype(np.float32), (dimension,)),
            "point": (np.dtype(np.float32), (2,)),
            "image": (np.dtype(np.int32), ()),
            "score": (np.dtype(np.float32), ()),
            "flag": (np.dtype(np.bool_), ()),
        }
        self._buffer: list[tuple[np.ndarray, ...]] = []
        self._buffered = 0
        self._length = 0
        self._last_image = -1
        self._file = self._open()
        self._arrays = {name: self._create(name, *kind) for name, kind in self._columns.items()}

    def _open(self) -> tables.File:
        self._folder.mkdir(parents=True, exist_ok=True)
        sweep(self._folder)
        prefix = f"{_PREFIX}-{socket.gethostname()}-{os.getpid()}-"
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=".h5", dir=self._folder)
        os.close(handle)
        file = tables.open_file(name, "w")
        with contextlib.suppress(OSError):
            os.unlink(name)
        self._finalizer = weakref.finalize(self, _remove, file, name)
        return file

    def _create(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> tables.EArray:
        row_bytes = dtype.itemsize * int(np.prod(shape, dtype=int))
        atom = tables.Atom.from_dtype(dtype)
        chunk = (max(1, min(_CHUNK_BYTES // row_bytes, 65_536)), *shape)
        return self._file.create_earray("/", name, atom, (0, *shape), chunkshape=chunk)

    def append(
        self,
        descriptors: np.ndarray,
        points: np.ndarray,
        images: np.ndarray,
        scores: np.ndarray | None = None,
        flags: np.ndarray | None = None,
    ) -> None:
        """Add n rows: descriptors (n, dimension), points (n, 2), images (n,) int, scores (n,), flags (n,) bool.

        Images must not go down, neither here nor from one call to the next. Missing scores are 1, missing
        flags true. Raises UserError where the disk has no room.
        """
        count = len(descriptors)
        if count == 0:
            return
        scores = np.ones(count) if scores is None else scores
        flags = np.ones(count, bool) if flags is None else flags
        values = zip(self._columns.values(), (descriptors, points, images, scores, flags), strict=True)
        row = tuple(np.array(value, dtype).reshape(count, *shape) for (dtype, shape), value in values)
        numbers = row[2]
        if numbers[0] < self._last_image or (np.diff(numbers) < 0).any():
            raise ValueError("rows must come in the order of their images")
        self._last_image = int(numbers[-1])
        self._buffer.append(row)
        self._buffered += count
        self._length += count
        if self._buffered >= _BUFFER_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what waits in memory."""
        if not self._buffer:
            return
        try:
            for (name, _), pieces in zip(self._columns.items(), zip(*self._buffer), strict=True):
                self._arrays[name].append(np.concatenate(pieces))
        except (tables.HDF5ExtError, OSError) as error:
            free = shutil.disk_usage(self._folder).free >> 20
            raise UserError(
                f"{self._folder}: cannot write descriptors ({free} MiB free); free some space and run again"
            ) from error
        self._buffer, self._buffered = [], 0

    def __len__(self) -> int:
        return self._length

    def column(self, name: str) -> np.ndarray:
        """A whole small column, (len, ...): point (float32 x, y), image (int32), score (float32), flag (bool)."""
        self.flush()
        return self._arrays[name][:]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Descriptors (stop - start, dimension) float32 of consecutive rows."""
        self.flush()
        return self._arrays["descriptor"][start:stop]

    def chunks(self, rows: int = 32_768) -> Iterator[tuple[int, np.ndarray]]:
        """All descriptors in pieces: (first row, (n, dimension) float32) with n <= rows."""
        for start in range(0, self._length, rows):
            yield start, self.read(start, min(start + rows, self._length))

    def sample(
        self, max_rows: int = 500_000, seed: int = 0, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A random subset that depends on the seed alone: ascending rows (m,), descriptors (m, dimension) float32.

        All rows where there are at most max_rows. among: (len,) bool, the rows to choose from.
        """
        rows = np.arange(self._length) if among is None else np.flatnonzero(among)
        if len(rows) > max_rows:
            rng = np.random.default_rng(seed)
            rows = np.sort(rng.choice(rows, max_rows, replace=False, shuffle=False))
        descriptors = np.empty((len(rows), self.dimension), np.float32)
        for start, chunk in self.chunks():
            first, last = np.searchsorted(rows, [start, start + len(chunk)])
            descriptors[first:last] = chunk[rows[first:last] - start]
        return rows, descriptors

    def image_offsets(self, number_of_images: int) -> np.ndarray:
        """Offsets (number_of_images + 1,) int64: the rows of image i are offsets[i]:offsets[i + 1]."""
        counts = np.bincount(self.column("image"), minlength=number_of_images)
        if len(counts) > number_of_images:
            raise ValueError(f"rows of image {len(counts) - 1}, but only {number_of_images} images")
        return np.concatenate([[0], np.cumsum(counts)])

    def close(self) -> None:
        """Let go of the file."""
        self._buffer, self._buffered = [], 0
        self._finalizer()

    def __enter__(self) -> "DescriptorStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def collect_rows(store: DescriptorStore) -> None:
    """Move the rows of all processes' stores into the main one's, in order of rank; bounded memory."""
    for sender in range(1, distributed.world()):
        if distributed.rank() == sender:
            columns = [store.column(name) for name in ("point", "image", "score", "flag")]
            for start, descriptors in store.chunks():
                rows = slice(start, start + len(descriptors))
                distributed.send_to_main((descriptors, *(column[rows] for column in columns)))
            distributed.send_to_main(None)
        elif distributed.is_main():
            while (received := distributed.receive(sender)) is not None:
                store.append(*received)


def sweep(folder: Path | str) -> None:
    """Remove files of stores in `folder` whose process on this machine has ended."""
    for path in Path(folder).glob(f"{_PREFIX}-{socket.gethostname()}-*-*.h5"):
        number = path.name.removeprefix(f"{_PREFIX}-{socket.gethostname()}-").split("-")[0]
        if number.isdigit() and not _is_running(int(number)):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _remove(file: tables.File, name: str) -> None:
    if file.isopen:
        with contextlib.suppress(tables.HDF5ExtError, OSError):
            file.close()
    with contextlib.suppress(OSError):
        os.unlink(name)
