"""Annotated points of pictures, whatever file they come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from Databases.tables import bad_boxes

Sizes = list[tuple[int, int]]  # width, height of each object's picture


@dataclass(frozen=True)
class PointTable:
    """One row per object: files (n,) relative to the folder of pictures, boxes (n, 4), points (n, P, 2).

    A point is NaN where it is not annotated. attributes: (n,) what a file says of an object beyond that, such as its
    SCALE.
    """

    files: list[str]
    boxes: np.ndarray
    points: np.ndarray
    names: list[str]
    attributes: list[dict[str, str]]

    @classmethod
    def of(
        cls, files: list[str], points: np.ndarray, names: list[str], boxes: Sequence | np.ndarray | None = None
    ) -> "PointTable":
        """Without attributes; without boxes, these are unknown."""
        table = np.full((len(files), 4), np.nan) if boxes is None else np.array(boxes, np.float64).reshape(-1, 4)
        return cls(files, table, points, names, [{} for _ in files])

    def subset(self, rows: np.ndarray) -> "PointTable":
        """These objects, in their order."""
        files, attributes = [self.files[i] for i in rows], [self.attributes[i] for i in rows]
        return PointTable(files, self.boxes[rows], self.points[rows], self.names, attributes)

    def box(self, i: int, size: tuple[int, int]) -> np.ndarray:
        """The box (4,) of object i; without one, the whole picture."""
        return np.array([0, 0, *size], np.float64) if len(bad_boxes(self.boxes[[i]])) else self.boxes[i]


def coco_document(table: PointTable, sizes: Sizes) -> dict[str, Any]:
    """The content of a COCO keypoints file."""
    number = {file: k for k, file in enumerate(dict.fromkeys(table.files), 1)}
    size = dict(zip(table.files, sizes, strict=True))
    images = [
        {"id": k, "file_name": file, "width": size[file][0], "height": size[file][1]} for file, k in number.items()
    ]
    objects: list[dict[str, Any]] = []
    for i, file in enumerate(table.files):
        x1, y1, x2, y2 = table.box(i, sizes[i]).tolist()
        seen = ~np.isnan(table.points[i]).any(axis=1)
        keypoints = np.where(seen[:, None], np.column_stack([table.points[i], np.full(len(seen), 2.0)]), 0.0)
        objects.append(
            {
                "id": i + 1,
                "image_id": number[file],
                "category_id": 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                "keypoints": [round(value, 5) for value in keypoints.ravel().tolist()],
                "num_keypoints": int(seen.sum()),
                **({"attributes": table.attributes[i]} if table.attributes[i] else {}),
            }
        )
    category = {"id": 1, "name": "object", "supercategory": "object", "keypoints": table.names, "skeleton": []}
    return {"categories": [category], "images": images, "annotations": objects}
