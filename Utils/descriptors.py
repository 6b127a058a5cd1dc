"""Descriptors of a whole data set: on disk, in memory a piece at a time."""

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from Utils.runtime import distributed
from Utils.runtime.errors import UserError
from Utils.storage.files import writing


class DescriptorStore:
    """Append-only rows of (descriptor, point, image, flag), in the order of their images.

    The descriptors are in a temporary file without a name, which ends with the process; the rest, 13 bytes a row, is
    in memory. folder: of the file, made if missing; dimension: of a descriptor.
    """

    def __init__(self, folder: Path | str, dimension: int = 256) -> None:
        self.dimension = dimension
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (`close` closes it)
        self._columns: dict[str, list[np.ndarray]] = {
            "point": [np.zeros((0, 2), np.float32)],
            "image": [np.zeros(0, np.int32)],
            "flag": [np.zeros(0, bool)],
        }
        self._length, self._last_image = 0, -1

    def append(
        self, descriptors: np.ndarray, points: np.ndarray, images: np.ndarray, flags: np.ndarray | None = None
    ) -> None:
        """Add n rows: descriptors (n, dimension), points (n, 2), images (n,) int, flags (n,) bool, true by default.

        Image numbers never decrease, also from one call to the next. Raises UserError if the disk is full.
        """
        if len(descriptors) == 0:
            return
        if images[0] < self._last_image or (np.diff(images) < 0).any():
            raise ValueError("rows must come in the order of their images")
        try:
            self._file.write(np.ascontiguousarray(descriptors, np.float32).data)
            self._file.flush()
        except OSError as error:
            free = shutil.disk_usage(self._folder).free >> 20
            raise UserError(
                f"{self._folder}: cannot write descriptors ({free} MiB free); free some space and run again"
            ) from error
        self._length += len(descriptors)
        self._last_image = int(images[-1])
        flags = np.ones(len(descriptors), bool) if flags is None else flags
        for name, values in (("point", points), ("image", images), ("flag", flags)):
            pieces = self._columns[name]
            pieces.append(np.array(values, pieces[0].dtype))

    def __len__(self) -> int:
        return self._length

    def column(self, name: str) -> np.ndarray:
        """A whole small column, (len, ...): point (float32 x, y), image (int32), flag (bool)."""
        return np.concatenate(self._columns[name])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Descriptors (stop - start, dimension) float32 of consecutive rows."""
        if start == stop:
            return np.zeros((0, self.dimension), np.float32)
        rows = np.memmap(self._file, np.float32, "r", shape=(self._length, self.dimension))
        return np.array(rows[start:stop])

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

    def save(self, path: Path) -> None:
        """Write all rows to a file that `load` reads."""
        columns = {name: self.column(name) for name in self._columns}
        with writing(path) as temporary:
            np.savez(temporary, descriptors=self.read(0, len(self)), **columns)  # type: ignore[arg-type]

    def load(self, path: Path) -> bool:
        """Add the rows of a file that `save` wrote; False, and no rows, if it is missing or damaged."""
        try:
            with np.load(path) as content:
                descriptors, *columns = (content[name] for name in ("descriptors", *self._columns))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return False
        self.append(descriptors, *columns)
        return True

    def close(self) -> None:
        """Close the file, which deletes it."""
        self._file.close()

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
