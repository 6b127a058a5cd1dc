"""Landmarks in files that other tools read: a table, and COCO keypoints."""

import csv
import json
import shutil
import tempfile
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from Utils.storage.files import writing

DECIMALS, CONFIDENCE_DECIMALS, SECONDS_DECIMALS = 3, 4, 6  # of pixels, confidences and times, in both files
BOX_COLUMNS = ("box_x1", "box_y1", "box_x2", "box_y2")
_SEEN = 2  # COCO's visibility of a keypoint that was found; the others have x, y and visibility 0


class LandmarkFiles:
    """A context manager that writes landmarks.csv and landmarks.json as results come, both whole or not at all.

    names: (L,) of the landmarks; mirror: pairs of names that are each other's mirror image, None if not known;
    stem: of the files' names.
    """

    def __init__(
        self,
        folder: Path,
        names: list[str],
        mirror: list[tuple[str, str]] | None = None,
        stem: str = "landmarks",
    ) -> None:
        self.names, self.mirror = names, mirror
        self._open = ExitStack()
        self._csv_path, self._json_path = folder / f"{stem}.csv", folder / f"{stem}.json"
        self.pictures = self.objects = 0

    def __enter__(self) -> "LandmarkFiles":
        table = self._open.enter_context(writing(self._csv_path))
        self._rows = csv.writer(self._open.enter_context(table.open("w", newline="", encoding="utf-8")))
        columns = [f"{name}_{what}" for name in self.names for what in ("x", "y", "confidence")]
        self._rows.writerow(["file", "frame", "seconds", *BOX_COLUMNS, *columns])
        document = self._open.enter_context(writing(self._json_path))
        self._json: IO[str] = self._open.enter_context(document.open("w", encoding="utf-8"))
        category: dict[str, Any] = {"id": 1, "name": "object", "supercategory": "object", "keypoints": self.names}
        category |= {"skeleton": []} | ({} if self.mirror is None else {"mirror": self.mirror})
        self._json.write(f'{{"categories": {json.dumps([category])},\n"images": [')
        # In the file annotations follow the images; until then they wait here.
        self._annotations: IO[str] = self._open.enter_context(
            tempfile.TemporaryFile("w+", encoding="utf-8", dir=document.parent)
        )
        return self

    def add(
        self,
        file: str,
        frame: int | None,
        seconds: Fraction | None,
        size: tuple[int, int],
        boxes: np.ndarray,
        points: np.ndarray,
        confidence: np.ndarray,
    ) -> None:
        """Write the k objects of a picture, or of a frame of a video.

        seconds: of the frame, from the first one; size: width, height; boxes (k, 4); points (k, L, 2) in pixels of
        the picture, NaN where not found; confidence (k, L).
        """
        self.pictures += 1
        image: dict[str, Any] = {"id": self.pictures, "file_name": file, "width": size[0], "height": size[1]}
        time = None if seconds is None else round(float(seconds), SECONDS_DECIMALS)
        if frame is not None:
            image |= {"frame": frame, "seconds": time}
        self._json.write(("\n" if self.pictures == 1 else ",\n") + json.dumps(image))
        for box, found, heights in zip(
            boxes.round(DECIMALS), points.round(DECIMALS), confidence.astype(float).round(CONFIDENCE_DECIMALS)
        ):
            self.objects += 1
            cells: list[Any] = [file, frame, time, *box.tolist()]  # csv writes None as an empty cell
            for (x, y), height in zip(found.tolist(), heights.tolist()):
                cells += [None] * 3 if np.isnan(x) else [x, y, height]
            self._rows.writerow(cells)
            self._annotations.write(("\n" if self.objects == 1 else ",\n") + self._annotation(box, found, heights))

    def _annotation(self, box: np.ndarray, points: np.ndarray, confidence: np.ndarray) -> str:
        seen = ~np.isnan(points).any(axis=1)
        keypoints = np.where(seen[:, None], np.column_stack([points, np.full(len(points), _SEEN)]), 0.0)
        x1, y1, x2, y2 = box.tolist()
        width, height = round(x2 - x1, DECIMALS), round(y2 - y1, DECIMALS)
        return json.dumps(
            {
                "id": self.objects,
                "image_id": self.pictures,
                "category_id": 1,
                "keypoints": [int(v) if v == int(v) else v for v in keypoints.ravel().tolist()],
                "num_keypoints": int(seen.sum()),
                "confidence": confidence.tolist(),
                "score": round(float(confidence[seen].mean()), CONFIDENCE_DECIMALS) if seen.any() else 0.0,
                "bbox": [x1, y1, width, height],
                "area": round(width * height, DECIMALS),
                "iscrowd": 0,
            }
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._json.write('],\n"annotations": [')
            self._annotations.seek(0)
            shutil.copyfileobj(self._annotations, self._json)
            self._json.write("]}\n")
        self._open.__exit__(kind, error, trace)
