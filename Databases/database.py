"""What every data set offers: pictures by index, crops, and the numbers of the evaluation."""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import cv2
import numpy as np
from pydantic import BaseModel

from Databases.tables import bad_boxes, counted
from Utils import crops
from Utils.runtime import distributed
from Utils.runtime.errors import UserError
from Utils.storage.pictures import read_picture

REGRESSION_PICTURES = 1000  # the paper's number of pictures with groundtruth to fit the regressors on
JUDGED = 500  # training pictures by which landmarks are judged
LEFT_OUT_SHOWN = 10  # lines
LARGEST_OBJECT = 450  # pixels of the longer side of a box, as in the largest pictures that are trained on
FACE_CROP = (
    "The box grown on each side by int(8 d / 100) pixels, d = ((1.2 x2 - x1) + (2 y2 - y1)) / 2 (by 8 if d < 20), "
    "cut off at the picture's last row and column, resized to a square."
)

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

    def missing(self) -> np.ndarray:
        """Indices of the pictures whose files do not exist; lists each folder once, opens nothing."""
        paths = [self.path(i) for i in range(len(self))]
        there = {folder: set(os.listdir(folder)) for folder in {path.parent for path in paths} if folder.is_dir()}
        return np.flatnonzero([path.name not in there.get(path.parent, ()) for path in paths])

    def subset(self: Images, indices: np.ndarray) -> Images:
        """The pictures of an index or boolean array, in its order."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v[indices] for k, v in arrays.items() if isinstance(v, np.ndarray)})


def evenly(items: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the items, evenly from the whole list."""
    if len(items) <= most:
        return items
    return items[np.linspace(0, len(items) - 1, most).round().astype(int)]


def inside(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Which points (m, 2) lie in boxes (m, 4) of their own, (m,) bool."""
    return np.all((points >= boxes[:, :2]) & (points <= boxes[:, 2:]), axis=1)


class Database(ABC):
    """One data set. Subclasses live in one file each and are registered in `Databases.DATABASES`.

    `rules` gives one that only knows how pictures are cut and errors divided, `open` one that has its pictures too.
    """

    name: ClassVar[str]  # as in --dataset_name
    settings: ClassVar[type[BaseModel]] = BaseModel  # the hyperparameters that only this data set has
    defaults: ClassVar[dict[str, Any]] = {}  # other defaults of the hyperparameters that all data sets have
    protocols: ClassVar[tuple[str, ...]] = ()  # of --protocol, beside the paper's
    ridge_samples: int = 300  # N of the evaluation: regression pictures per regressor
    crop_rule: ClassVar[str] = ""  # what `crop` does, for programs that have nothing but an exported network
    constant_background: bool = False  # whether the bootstrap drops points like those outside the boxes
    border: int = cv2.BORDER_CONSTANT  # what a crop shows beyond the picture
    poses: np.ndarray = np.eye(2, 3)[None]  # (P, 2, 3): maps of a crop of side 1; an object may stand in any of them
    left_out: Sequence[str] = ()  # unreadable pictures, in one line each

    training: ImageSet
    regression: ImageSet  # with groundtruth, for the regressors of the evaluation; at most 1000 for the paper's
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

    def some_training(self) -> ImageSet:
        """At most `JUDGED` training pictures, evenly from all; fewer if objects stand in several poses."""
        most = JUDGED // min(len(self.poses), 5)
        return self.training.subset(evenly(np.arange(len(self.training)), most))

    def surround(self, box: np.ndarray) -> np.ndarray:
        """What a box (4,) of a picture from elsewhere becomes before the picture is viewed and cropped by it."""
        return box

    def in_box(self, images: ImageSet, numbers: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Which points (m, 2) lie in the boxes of the pictures that they belong to, numbers (m,); (m,) bool."""
        return inside(points, images.boxes[numbers])

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

        Names the pictures that are left out on stderr. Raises UserError where a split is empty, a listed picture does
        not exist, or a box is empty or lies outside its picture.
        """
        if self.left_out and distributed.is_main():
            shown = self.left_out[:LEFT_OUT_SHOWN]
            print(*shown, f"{counted(self.left_out, 'picture')} left out", sep="\n", file=sys.stderr)
        for split, images in self.splits().items():
            if not len(images):
                raise UserError(f"{self.name} has no {split} pictures under {images.root}; check the path and lists")
            missing = images.missing()
            if len(missing):
                raise UserError(
                    f"{counted(missing, 'picture')} of the {split} list of {self.name} missing, "
                    f"first {images.path(missing[0])}; complete the download or correct the path"
                )
            bad = bad_boxes(images.boxes, images.size)
            if len(bad):
                i = bad[0]
                box = ", ".join(f"{value:g}" for value in images.boxes[i])
                raise UserError(
                    f"{counted(bad, 'box', 'boxes')} of the {split} pictures of {self.name} empty or outside the "
                    f"picture, first {images.names[i]}: {box}; make the boxes again"
                )


def crop_picture(
    database: Database, picture: np.ndarray, box: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The crop (size, size, 3) of a picture of the data set, and the point map (2, 3) from the picture to it."""
    height, width = picture.shape[:2]
    to_crop = database.crop(box, width, height, size)
    return crops.warp(picture, to_crop, size, database.border), to_crop


def crop_any_picture(
    database: Database, picture: np.ndarray, box: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """`crop_picture` of a picture from elsewhere, brought to what the data set's are like first."""
    height, width = picture.shape[:2]
    box = database.surround(box)
    to_view, view_size = database.view(box, width, height)
    seen = crops.warp(picture, to_view, view_size, averages=True)
    crop, to_crop = crop_picture(database, seen, crops.apply(to_view, box.reshape(2, 2)).reshape(4), size)
    return crop, crops.compose(to_crop, to_view)
