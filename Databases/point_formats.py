"""Files of points: .tps (tpsDig, geomorph), imglab's XML (dlib, ml-morph), DeepLabCut's CSV, COCO, landmarks.csv.

A point is NaN where it is not annotated. All coordinates are in pixels of the pictures, y from above.
"""

import csv
import io
import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from Databases.custom_annotations import (
    find_picture,
    pictures_by_name,
    read_coco,
    read_coco_names,
    read_landmark_table,
)
from Databases.tables import bad_boxes
from Utils.runtime.errors import UserError, one_line
from Utils.storage.files import writing
from Utils.storage.pictures import picture_size

SCORER = "landmarks"  # who annotated, in a file of DeepLabCut
TPS_KEPT = ("ID", "SCALE")  # lines of a .tps that are carried through
MISSING = -1.0  # both coordinates of a point that is not annotated, in a .tps


@dataclass(frozen=True)
class PointTable:
    """One row per object: files (n,) relative to the folder of pictures, boxes (n, 4), points (n, P, 2).

    attributes: (n,) what a file says of an object beyond that, such as its SCALE.
    """

    files: list[str]
    boxes: np.ndarray
    points: np.ndarray
    names: list[str]
    attributes: list[dict[str, str]]

    def subset(self, rows: np.ndarray) -> "PointTable":
        """These objects, in their order."""
        files, attributes = [self.files[i] for i in rows], [self.attributes[i] for i in rows]
        return PointTable(files, self.boxes[rows], self.points[rows], self.names, attributes)

    def box(self, i: int, size: tuple[int, int]) -> np.ndarray:
        """The box (4,) of object i; without one, the whole picture."""
        return np.array([0, 0, *size], np.float64) if len(bad_boxes(self.boxes[[i]])) else self.boxes[i]


def read_points(path: Path, folder: Path, files: list[str]) -> PointTable:
    """The points of a file, by its ending; files: the pictures of the folder.

    Raises UserError if the file is malformed, names a picture that is not in the folder, or has objects with
    different points.
    """
    reader, _ = _format(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist; give a file of points")
    try:
        table = reader(path, folder, files)
    except (ValueError, KeyError, IndexError, csv.Error, ElementTree.ParseError, OSError) as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}); docs/other-tools.md shows its form") from error
    if not table.files:
        raise UserError(f"{path} has no objects; annotate some")
    return table


def write_points(table: PointTable, path: Path, folder: Path) -> None:
    """Write a file of points, by its ending. Raises UserError if a format cannot hold them."""
    _, writer = _format(path)
    sizes = [picture_size(folder / file) for file in table.files]
    content = writer(table, sizes)
    with writing(path) as temporary:
        temporary.write_text(content, encoding="utf-8", newline="")


# .tps: y from below


def _read_tps(path: Path, folder: Path, files: list[str]) -> PointTable:
    by_name = pictures_by_name(files)
    rows: list[tuple[str, list[list[float]], dict[str, str]]] = []
    points: list[list[float]] = []
    left, kept = 0, dict[str, str]()
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        key, equals, value = line.strip().partition("=")
        if left:
            points.append([float(number) for number in line.split()])
            left -= 1
        elif equals and key.upper() in ("LM", "LM3"):
            if key.upper() == "LM3":
                raise ValueError("LM3: three coordinates per point")
            left, points, kept = int(value), [], {}
        elif equals and key.upper() in TPS_KEPT:
            kept[key.upper()] = value.strip()
            if rows and rows[-1][1] is points:
                rows[-1][2].update(kept)
        elif equals and key.upper() == "IMAGE":
            rows.append((find_picture(PureWindowsPath(value.strip()).as_posix(), by_name, path), points, dict(kept)))
    if left:
        raise ValueError(f"ends {left} points too early")
    count = _same_count([len(points) for _, points, _ in rows])
    table = np.array([points for _, points, _ in rows], np.float64).reshape(len(rows), count, 2)
    table[(table < 0).any(axis=2)] = np.nan
    heights = [picture_size(folder / file)[1] for file, _, _ in rows]
    table[..., 1] = np.array(heights, np.float64).reshape(-1, 1) - table[..., 1]
    names = [f"point_{k}" for k in range(count)]
    return PointTable(
        [row[0] for row in rows], np.full((len(rows), 4), np.nan), table, names, [row[2] for row in rows]
    )


def _tps(table: PointTable, sizes: list[tuple[int, int]]) -> str:
    lines = []
    for i, (file, points, (_, height)) in enumerate(zip(table.files, table.points, sizes, strict=True)):
        lines.append(f"LM={len(points)}")
        flipped = np.where(np.isnan(points), MISSING, points * (1, -1) + (0, height))
        lines += [f"{x:.5f} {y:.5f}" for x, y in flipped.tolist()]
        kept = {"ID": str(i)} | table.attributes[i]
        lines += [f"IMAGE={file}", *(f"{key}={kept[key]}" for key in TPS_KEPT if key in kept)]
    return "\n".join(lines) + "\n"


# imglab's XML


def _read_imglab(path: Path, folder: Path, files: list[str]) -> PointTable:
    by_name = pictures_by_name(files)
    found: list[tuple[str, list[float], dict[str, tuple[float, float]]]] = []
    for image in ElementTree.fromstring(path.read_bytes()).iter("image"):
        for box in image.iter("box"):
            if box.get("ignore") == "1":
                continue
            left, top, width, height = (float(box.attrib[key]) for key in ("left", "top", "width", "height"))
            parts = {
                part.attrib["name"]: (float(part.attrib["x"]), float(part.attrib["y"])) for part in box.iter("part")
            }
            file = find_picture(image.attrib["file"], by_name, path)
            found.append((file, [left, top, left + width, top + height], parts))
    names = sorted({name for _, _, parts in found for name in parts})
    points = [[parts.get(name, (np.nan, np.nan)) for name in names] for _, _, parts in found]
    return PointTable(
        [file for file, _, _ in found],
        np.array([box for _, box, _ in found], np.float64).reshape(-1, 4),
        np.array(points, np.float64).reshape(len(found), len(names), 2),
        names,
        [{} for _ in found],
    )


def _imglab(table: PointTable, sizes: list[tuple[int, int]]) -> str:
    root = ElementTree.Element("dataset")
    images = ElementTree.SubElement(root, "images")
    image = None
    for i, file in enumerate(table.files):
        if image is None or image.get("file") != file:
            width, height = sizes[i]
            image = ElementTree.SubElement(images, "image", file=file, width=str(width), height=str(height))
        x1, y1, x2, y2 = np.rint(table.box(i, sizes[i])).astype(int).tolist()
        sides = {"top": y1, "left": x1, "width": x2 - x1, "height": y2 - y1}
        box = ElementTree.SubElement(image, "box", {key: str(value) for key, value in sides.items()})
        for name, (x, y) in zip(table.names, table.points[i].tolist(), strict=True):
            if not math.isnan(x):  # dlib reads whole pixels
                ElementTree.SubElement(box, "part", name=name, x=str(round(x)), y=str(round(y)))
    ElementTree.indent(root)
    return f"<?xml version='1.0' encoding='UTF-8'?>\n{ElementTree.tostring(root, encoding='unicode')}\n"


# DeepLabCut: rows of header scorer, bodyparts, coords; then a picture per row


def _read_deeplabcut(path: Path, folder: Path, files: list[str]) -> PointTable:
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    header = {row[0]: row for row in rows[:4] if row}
    if "scorer" not in header:
        return _read_table(path, files)
    if "individuals" in header:
        raise ValueError("several animals; export one animal")
    first = next(k for k, cell in enumerate(header["scorer"]) if k and cell)  # columns before it name the picture
    parts, coordinates = header["bodyparts"], header["coords"]
    names = list(dict.fromkeys(parts[first:]))
    column = {(parts[k], coordinates[k]): k for k in range(first, len(parts))}
    by_name = pictures_by_name(files)
    body = [row for row in rows[rows.index(coordinates) + 1 :] if row]
    points = [[[float(row[column[name, axis]] or "nan") for axis in "xy"] for name in names] for row in body]
    found = [find_picture("/".join(cell for cell in row[:first] if cell), by_name, path) for row in body]
    boxes = np.full((len(body), 4), np.nan)
    return PointTable(found, boxes, np.array(points).reshape(len(body), len(names), 2), names, [{} for _ in body])


def _read_table(path: Path, files: list[str]) -> PointTable:
    """A table like Custom's landmarks.csv."""
    points, names = read_landmark_table(path, files)
    rows = np.flatnonzero(~np.isnan(points).all(axis=(1, 2)))
    return PointTable(files, np.full((len(files), 4), np.nan), points, names, [{} for _ in files]).subset(rows)


def _deeplabcut(table: PointTable, sizes: list[tuple[int, int]]) -> str:
    if len(set(table.files)) < len(table.files):
        raise UserError("a picture shows several objects, which CollectedData_*.csv cannot hold; use another format")
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    twice = [name for name in table.names for _ in "xy"]
    rows.writerow(["scorer", *[SCORER] * len(twice)])
    rows.writerow(["bodyparts", *twice])
    rows.writerow(["coords", *["x", "y"] * len(table.names)])
    for file, points in zip(table.files, table.points, strict=True):
        rows.writerow([file, *("" if math.isnan(value) else value for value in points.ravel().tolist())])
    return text.getvalue()


# COCO keypoints


def _read_coco(path: Path, folder: Path, files: list[str]) -> PointTable:
    annotations = read_coco(path, files)
    if annotations.landmarks is None:
        raise ValueError("no object has keypoints")
    names = read_coco_names(path, annotations.landmarks.shape[1])
    found = annotations.files.tolist()
    return PointTable(found, annotations.boxes, annotations.landmarks, names, [{} for _ in found])


def _coco(table: PointTable, sizes: list[tuple[int, int]]) -> str:
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
    return json.dumps({"categories": [category], "images": images, "annotations": objects}, indent=1)


Reader = Callable[[Path, Path, list[str]], PointTable]
Writer = Callable[[PointTable, list[tuple[int, int]]], str]
FORMATS: dict[str, tuple[Reader, Writer]] = {
    ".tps": (_read_tps, _tps),
    ".xml": (_read_imglab, _imglab),
    ".csv": (_read_deeplabcut, _deeplabcut),
    ".json": (_read_coco, _coco),
}


def _format(path: Path) -> tuple[Reader, Writer]:
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path}: the ending tells the format; give one of {', '.join(FORMATS)}")
    return FORMATS[path.suffix.lower()]


def _same_count(counts: list[int]) -> int:
    if len(set(counts)) > 1:
        raise ValueError(f"objects have {sorted(set(counts))} points; give all the same")
    return counts[0] if counts else 0
