"""What every data set offers: pictures by index, crops, and the numbers of the evaluation."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from pydantic import BaseModel

from Utils import crops
from Utils.runtime.errors import UserError
from Utils.storage.pictures import read_picture

REGRESSION_PICTURES = 1000  # the paper's number of pictures with groundtruth to fit the regressors on
FARTHEST = 1e6  # pixels that a box or point may lie from a picture's corner
SMALLEST_INSIDE = 1 / 3  # a box with less of its area than this in the picture belongs to another picture
LARGEST_OBJECT = 450  # pixels of the longer side of a box, as in the largest pictures that are trained on


Images = TypeVar("Images", bound="ImageSet")
AnyDatabase = TypeVar("AnyDatabase", bound="Database")


@dataclass(frozen=True)
class ImageSet:
    """Pictures of one split, addressed by index; flat arrays, so that worker processes share them."""

    root: Path
    names: np.ndarray  # (n,) str: keys of the pseudo-groundtruth and of predictions
    boxes: np.ndarray  # (n, 4) float64: x1, y1, x2, y2 in picture pixels
    landmarks: np.ndarray | None  # (n, G, 2) float32 in picture pixels, NaN = unknown
    files: np.ndarray | None = None  # (n,) str: relative to root, where they differ from the names
    size: tuple[int, int] | None = None  # (width, height) where all pictures must have the same

    def __len__(self) -> int:
        return len(self.names)

    def file(self, i: int) -> str:
        """Name of picture i's file, relative to the root."""
        return str((self.names if self.files is None else self.files)[i]).lstrip("/")

    def path(self, i: int) -> Path:
        """File of picture i."""
        return self.root / self.file(i)

    def subset(self: Images, indices: np.ndarray) -> Images:
        """The pictures of an index or boolean array, in its order."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v[indices] for k, v in arrays.items() if isinstance(v, np.ndarray)})


def evenly(items: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the items, evenly from the whole list."""
    if len(items) <= most:
        return items
    return items[np.linspace(0, len(items) - 1, most).round().astype(int)]


class Database(ABC):
    """One data set. Subclasses live in one file each and are registered in `Databases.DATABASES`.

    `rules` gives one that only knows how pictures are cut and errors divided, `open` one that has its pictures too.
    """

    name: ClassVar[str]  # as in --dataset_name
    settings: ClassVar[type[BaseModel]] = BaseModel  # the hyperparameters that only this data set has
    defaults: ClassVar[dict[str, Any]] = {}  # other defaults of the hyperparameters that all data sets have
    ridge_samples: int = 300  # N of the evaluation: regression pictures per regressor
    constant_background: bool = False  # whether the bootstrap drops points like those outside the boxes

    training: ImageSet
    regression: ImageSet  # at most 1000, with groundtruth, for the regressors of the evaluation
    test: ImageSet

    @classmethod
    def rules(cls: type[AnyDatabase], hyper: Any) -> AnyDatabase:
        """The data set without its pictures; hyper: the hyperparameters, on which rules of its own may depend."""
        return cls()

    @classmethod
    @abstractmethod
    def open(cls, options: Any) -> "Database":
        """Read lists, boxes and groundtruth, no pictures. Raises UserError where the data set is incomplete."""

    @abstractmethod
    def crop(self, box: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
        """The point map (2, 3) from a picture of width x height pixels to its size x size crop."""

    def view(self, box: np.ndarray, width: int, height: int) -> tuple[np.ndarray, tuple[int, int]]:
        """How a picture of any kind is brought to what the data set's own pictures are like, before it is cropped.

        box (4,): x1, y1, x2, y2 in pixels of that picture. Returns the point map (2, 3) to what is seen of it and
        the size (width, height) of that: the whole, shrunk where the object is larger than in any of the set.
        """
        longest = max(float(box[2] - box[0]), float(box[3] - box[1]), 1.0)
        shrink = min(1.0, LARGEST_OBJECT / longest)
        size = (max(1, round(shrink * width)), max(1, round(shrink * height)))
        return np.diag([size[0] / width, size[1] / height, 1.0])[:2], size

    def find_box(self, picture: np.ndarray) -> np.ndarray | None:
        """The box (4,) of the object in a picture (H, W, 3), where the data set has a finder and that finds it."""
        return None

    @abstractmethod
    def normalisers(self, groundtruth: np.ndarray) -> np.ndarray:
        """Groundtruth (n, G, 2) in pixels of the 256x256 crop -> (n,) lengths by which errors are divided."""

    def order_landmarks(self, groundtruth: np.ndarray) -> np.ndarray:
        """Groundtruth (n, G, 2) in picture order; the same where nothing is to be exchanged."""
        return groundtruth

    def read(self, images: ImageSet, i: int) -> np.ndarray:
        """Picture i as RGB uint8 (H, W, 3), with which the set's boxes and landmarks agree.

        Raises UserError where the file is missing, unreadable or of another size than the set's.
        """
        picture = read_picture(images.path(i))
        if images.size is not None and picture.shape[1::-1] != tuple(images.size):
            raise UserError(
                f"picture {images.path(i)} has {picture.shape[1]}x{picture.shape[0]} pixels, "
                f"{self.name} has {images.size[0]}x{images.size[1]}; use the pictures as downloaded"
            )
        return picture

    def splits(self) -> dict[str, ImageSet]:
        """The three image sets by name."""
        return {"training": self.training, "regression": self.regression, "test": self.test}

    def check_cheaply(self) -> None:
        """What can be told without reading pictures; the scripts call it before hours of work.

        Raises UserError where a split is empty, a listed picture does not exist, or a box is empty or lies
        outside its picture.
        """
        for split, images in self.splits().items():
            if not len(images):
                raise UserError(f"{self.name} has no {split} pictures under {images.root}; check the path and lists")
            missing = missing_pictures(images)
            if len(missing):
                raise UserError(
                    f"{_count(missing, 'picture')} of the {split} list of {self.name} missing, "
                    f"first {images.path(missing[0])}; complete the download or correct the path"
                )
            bad = bad_boxes(images.boxes, images.size)
            if len(bad):
                i = bad[0]
                raise UserError(
                    f"{_count(bad, 'box', 'boxes')} of the {split} pictures of {self.name} empty or outside the "
                    f"picture, first {images.names[i]}: {_numbers(images.boxes[i])}; make the boxes again"
                )


def crop_picture(
    database: Database, picture: np.ndarray, box: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The crop (size, size, 3) of a picture of the data set, and the point map (2, 3) from the picture to it."""
    height, width = picture.shape[:2]
    to_crop = database.crop(box, width, height, size)
    return crops.warp(picture, to_crop, size), to_crop


def crop_any_picture(
    database: Database, picture: np.ndarray, box: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """`crop_picture` of a picture from elsewhere, brought to what the data set's are like first."""
    height, width = picture.shape[:2]
    to_view, view_size = database.view(box, width, height)
    seen = crops.look(picture, to_view, view_size)
    crop, to_crop = crop_picture(database, seen, crops.apply(to_view, box.reshape(2, 2)).reshape(4), size)
    return crop, crops.compose(to_crop, to_view)


def missing_pictures(images: ImageSet) -> np.ndarray:
    """Indices of the pictures whose files do not exist; lists each folder once, opens nothing."""
    listings: dict[str, set[str]] = {}
    missing = []
    for i in range(len(images)):
        folder, _, file = images.file(i).rpartition("/")
        if folder not in listings:
            listings[folder] = _listing(images.root / folder)
        if file not in listings[folder]:
            missing.append(i)
    return np.array(missing, np.int64)


def _listing(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def bad_boxes(boxes: np.ndarray, size: np.ndarray | tuple[int, int] | None = None) -> np.ndarray:
    """Indices of boxes (n, 4) that are empty, unknown, or, where the sizes ((2,) or (n, 2)) are known,
    mostly outside the picture. Boxes of detectors may reach out of the picture a little."""
    boxes = np.asarray(boxes, np.float64)
    extent = boxes[:, 2:] - boxes[:, :2]
    good = np.isfinite(boxes).all(1) & (extent > 0).all(1)
    if size is not None:
        inside = np.minimum(boxes[:, 2:], np.asarray(size)) - np.maximum(boxes[:, :2], 0)
        with np.errstate(invalid="ignore"):
            good &= (inside > 0).all(1) & (inside.prod(1) >= SMALLEST_INSIDE * extent.prod(1))
    return np.flatnonzero(~good)


def rows_of(
    table: Any,
    names: Sequence[str],
    shape: tuple[int, ...],
    what: str,
    file: Path | str,
    remedy: str,
    dtype: type = np.float32,
) -> np.ndarray:
    """The rows of a dictionary name -> numbers that belong to `names`, (n, *shape) of the dtype.

    Raises UserError naming `file` where it is no dictionary, lacks a name, or a row has another shape.
    """
    require_dictionary(table, file)
    missing = [name for name in names if name not in table]
    if missing:
        raise UserError(f"{file} has no {what} for {_count(missing, 'picture')}, first {missing[0]}; {remedy}")
    rows = [table[name] for name in names]
    if not rows:
        return np.zeros((0, *shape), dtype)
    if isinstance(rows[0], np.ndarray):  # of one shape or of several with the same numbers
        rows = [np.ravel(row) for row in rows]
    try:
        with np.errstate(over="ignore"):
            array: np.ndarray = np.asarray(rows, dtype)
        if array.size == len(rows) * np.prod(shape) and array.shape[0] == len(rows):
            require_places(array.reshape(len(rows), *shape), names, what, file, remedy)
            return array.reshape(len(rows), *shape)
    except (TypeError, ValueError, OverflowError):
        pass
    wrong = next((n for n, row in zip(names, rows) if _size(row) != np.prod(shape)), names[0])
    expected = "x".join(map(str, shape))
    raise UserError(f"{file}: the {what} of {wrong} is not {expected} numbers; {remedy}")


def require_places(array: np.ndarray, names: Sequence[str], what: str, file: Path | str, remedy: str) -> None:
    """UserError where the numbers (n, ...) of one of the names are no places in a picture; NaN is unknown."""
    far = np.flatnonzero((np.abs(array) > FARTHEST).reshape(len(array), -1).any(axis=1))
    if len(far):
        raise UserError(f"{file}: the {what} of {names[far[0]]} lies beyond any picture; {remedy}")


def require_dictionary(table: Any, file: Path | str) -> None:
    """Raise UserError where what a pickle holds is no dictionary of picture names."""
    if not isinstance(table, Mapping) or not all(isinstance(name, str) for name in table):
        raise UserError(f"{file} is no dictionary of picture names; make or download it again")


def _size(row: Any) -> int:
    try:
        return np.asarray(row, np.float32).size
    except (TypeError, ValueError, OverflowError):
        return -1


def distance(points: np.ndarray, a: int, b: int) -> np.ndarray:
    """Distance of points a and b: (n, G, 2) -> (n,); UserError where there are fewer points."""
    if points.shape[1] <= max(a, b):
        raise UserError(
            f"the groundtruth has {points.shape[1]} points, but errors are divided by the distance of points "
            f"{a} and {b}; give the data set's own groundtruth"
        )
    return np.linalg.norm(points[:, a] - points[:, b], axis=-1)


def root_of_extent(points: np.ndarray) -> np.ndarray:
    """sqrt(w h) of the extent of the known points: (n, G, 2) -> (n,), NaN where none is known."""
    low = np.where(np.isnan(points), np.inf, points).min(1)
    high = np.where(np.isnan(points), -np.inf, points).max(1)
    extent = np.where(np.isfinite(low), high - low, np.nan)
    return np.sqrt(extent.prod(-1))


def find_folder(candidates: Collection[Path], accept: Callable[[Path], bool]) -> Path | None:
    """The first candidate that is a folder and that `accept` takes."""
    return next((folder for folder in candidates if folder.is_dir() and accept(folder)), None)


def _count(items: Collection, one: str, many: str = "") -> str:
    """Such as `3 pictures`."""
    return f"{len(items)} {one if len(items) == 1 else many or one + 's'}"


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{v:g}" for v in values)
