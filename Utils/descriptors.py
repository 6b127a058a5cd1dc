"""Descriptors of a whole data set: on disk in large chunks, in memory a piece at a time."""

import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tables

from Utils.runtime import distributed
from Utils.runtime.errors import UserError

_CHUNK_BYTES = 1 << 20  # of one HDF5 chunk; much smaller ones cost bookkeeping, much larger ones miss the cache
_BUFFER_ROWS = 8192  # written together


class DescriptorStore:
    """Append-only rows of (descriptor, point, image, flag) in a temporary PyTables file, in the order of images.

    The file loses its name as soon as it is open, so it ends with the process. Memory: one buffer of `_BUFFER_ROWS`
    rows. folder: of the file, made if missing; dimension: of a descriptor.
    """

    def __init__(self, folder: Path | str, dimension: int = 256) -> None:
        self.dimension = dimension
        self._folder = Path(folder)
        self._columns = {
            "descriptor": (np.dtype(np.float32), (dimension,)),
            "point": (np.dtype(np.float32), (2,)),
            "image": (np.dtype(np.int32), ()),
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
        handle, name = tempfile.mkstemp(prefix=".descriptors", suffix=".h5", dir=self._folder)
        os.close(handle)
        file = tables.open_file(name, "w")
        os.unlink(name)
        self._finalizer = weakref.finalize(self, _close, file)
        return file

    def _create(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> tables.EArray:
        row_bytes = dtype.itemsize * int(np.prod(shape, dtype=int))
        atom = tables.Atom.from_dtype(dtype)
        chunk = (max(1, min(_CHUNK_BYTES // row_bytes, 65_536)), *shape)
        return self._file.create_earray("/", name, atom, (0, *shape), chunkshape=chunk)

    def append(
        self, descriptors: np.ndarray, points: np.ndarray, images: np.ndarray, flags: np.ndarray | None = None
    ) -> None:
        """Add n rows: descriptors (n, dimension), points (n, 2), images (n,) int, flags (n,) bool, true by default.

        Image numbers never decrease, also from one call to the next. Raises UserError if the disk is full.
        """
        count = len(descriptors)
        if count == 0:
            return
        flags = np.ones(count, bool) if flags is None else flags
        values = zip(self._columns.values(), (descriptors, points, images, flags), strict=True)
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
        """Write the rows that are still in memory."""
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
        """A whole small column, (len, ...): point (float32 x, y), image (int32), flag (bool)."""
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

        At most max_rows of them. among: (len,) bool, the rows to choose from.
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
        return np.concatenate([[0], np.cumsum(np.bincount(self.column("image"), minlength=number_of_images))])

    def close(self) -> None:
        """Close the file, which deletes it."""
        self._buffer, self._buffered = [], 0
        self._finalizer()

    def __enter__(self) -> "DescriptorStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def collect_rows(store: DescriptorStore) -> None:
    """Move the rows of all processes into the main one's store, in order of rank, a piece at a time."""
    for sender in range(1, distributed.world()):
        if distributed.rank() == sender:
            columns = [store.column(name) for name in ("point", "image", "flag")]
            for start, descriptors in store.chunks():
                rows = slice(start, start + len(descriptors))
                distributed.send_to_main((descriptors, *(column[rows] for column in columns)))
            distributed.send_to_main(None)
        elif distributed.is_main():
            while (received := distributed.receive(sender)) is not None:
                store.append(*received)


def _close(file: tables.File) -> None:
    if file.isopen:
        with contextlib.suppress(tables.HDF5ExtError, OSError):
            file.close()
