"""CUB-200-2011: pictures of birds of any size, with boxes and 15 points that may be hidden."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, Field, PositiveInt

from Databases.database import REGRESSION_PICTURES, Database, ImageSet, evenly
from Utils.crops import window_crop
from Utils.hyperparameters import FREE_AFTER_TRAINING, comma_separated
from Utils.protocols import PAPER
from Utils.runtime.errors import UserError

LANDMARKS = 15
SIDE = 256  # of the crop that errors are measured in


class CUBSettings(BaseModel):
    """Each description is the field's line in docs/training.md."""

    cub_classes: Annotated[tuple[PositiveInt, ...], BeforeValidator(comma_separated), FREE_AFTER_TRAINING] = Field(
        (), description="classes by their numbers, like 1,2,3; empty: all"
    )


class CUB(Database):
    """The official split. A crop is the bird's box made square, as far as it lies in the picture."""

    name = "CUB"
    crop_rule = "The box made square by its longer side, about its middle, cut off at the picture, resized."
    settings = CUBSettings
    protocols = ("cub",)

    @classmethod
    def open(cls, options: Any) -> "CUB":
        root = options.paths.folder("CUB_datapath")
        pictures = _read(root / "images.txt", 1, 2, str)[:, 0]
        ids, names = pictures[:, 0].astype(np.float64), pictures[:, 1]
        labels, is_training = (
            _read(root / f"{name}.txt", 1, 2, ids=ids)[:, 0, 1] for name in ("image_class_labels", "train_test_split")
        )
        boxes = _read(root / "bounding_boxes.txt", 1, 5, ids=ids)[:, 0, 1:]
        boxes[:, 2:] += boxes[:, :2]
        parts = _read(root / "parts" / "part_locs.txt", LANDMARKS, 5, ids=ids)[..., 2:]
        parts[parts[..., 2] == 0] = np.nan
        everything = ImageSet(root / "images", names, boxes, parts[..., :2].astype(np.float32))
        chosen = np.isin(labels, options.hyper.cub_classes or labels)
        database = cls()
        database.training = everything.subset(chosen & (is_training == 1))
        database.test = everything.subset(chosen & (is_training == 0))
        some = np.arange(len(database.training))
        database.regression = database.training.subset(
            evenly(some, REGRESSION_PICTURES) if options.protocol == PAPER else some
        )
        return database

    def crop(self, box: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
        half = max(box[2] - box[0], box[3] - box[1]) / 2
        middle = (box[:2] + box[2:]) / 2
        corners = np.clip(np.round([middle - half, middle + half]), 0, (width, height))
        return window_crop(corners.ravel(), size)

    def normalisers(self, groundtruth: np.ndarray) -> np.ndarray:
        return np.full(len(groundtruth), float(SIDE))


def _read(
    file: Path, lines: int, columns: int, dtype: type = np.float64, ids: np.ndarray | None = None
) -> np.ndarray:
    """A list with `lines` lines of so many columns for each picture, (n, lines, columns); the first is the ids'."""
    try:
        rows: np.ndarray = np.loadtxt(file, dtype, ndmin=2).reshape(-1, lines, columns)
        if ids is None or np.array_equal(rows[..., 0], np.repeat(ids[:, None], lines, axis=1)):
            return rows
    except (OSError, ValueError):
        pass
    raise UserError(
        f"{file} is missing, or does not have {lines} x {columns} values for each picture of images.txt; "
        f"download CUB-200-2011 again"
    )
