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
        names = _read(root / "images.txt", 1, 2, str)[:, 0, 1]
        labels, is_training, boxes, parts = (
            _read(root / f"{name}.txt", lines, columns, pictures=len(names))
            for name, lines, columns in (
                ("image_class_labels", 1, 2),
                ("train_test_split", 1, 2),
                ("bounding_boxes", 1, 5),
                ("parts/part_locs", LANDMARKS, 5),
            )
        )
        corners = boxes[:, 0, 1:] + np.pad(boxes[:, 0, 1:3], ((0, 0), (2, 0)))
        points = np.where(parts[..., 4:] > 0, parts[..., 2:4], np.nan).astype(np.float32)
        everything = ImageSet(root / "images", names, corners, points)
        chosen = np.isin(labels[:, 0, 1], options.hyper.cub_classes or labels)
        database = cls()
        database.training = everything.subset(chosen & (is_training[:, 0, 1] == 1))
        database.test = everything.subset(chosen & (is_training[:, 0, 1] == 0))
        most = REGRESSION_PICTURES if options.protocol == PAPER else len(names)
        database.regression = database.training.subset(evenly(np.arange(len(database.training)), most))
        return database

    def crop(self, box: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
        half, middle = max(box[2] - box[0], box[3] - box[1]) / 2, (box[:2] + box[2:]) / 2
        corners = np.clip(np.round([middle - half, middle + half]), 0, (width, height))
        return window_crop(corners.ravel(), size)

    def normalisers(self, groundtruth: np.ndarray) -> np.ndarray:
        return np.full(len(groundtruth), 256.0)  # the crop's side


def _read(file: Path, lines: int, columns: int, dtype: type = np.float64, pictures: int = -1) -> np.ndarray:
    """A list with so many lines and columns for each picture, in the order of images.txt: (n, lines, columns)."""
    try:
        rows: np.ndarray = np.loadtxt(file, dtype, ndmin=2)
        return rows.reshape(pictures, lines, columns)
    except (OSError, ValueError):
        raise UserError(
            f"{file} is missing, or has not {lines} x {columns} values for each picture of images.txt; "
            f"download CUB-200-2011 again"
        ) from None
