"""Files of points, by their ending: .tps, imglab's XML, DeepLabCut, COCO, landmarks.csv, and those of tool_formats.

A point is NaN where it is not annotated. All coordinates are in pixels of the pictures, y from above.
"""

import csv
import io
import json
import math
import shutil
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path, PureWindowsPath

import h5py
import numpy as np

from Databases.custom_annotations import (
    find_picture,
    pictures_by_name,
    read_coco,
    read_coco_names,
    read_landmark_table,
)
from Databases.point_table import PointTable, Sizes, coco_document
from Databases.tool_formats import (
    read_label_studio,
    read_sleap,
    read_yolo,
    write_label_studio,
    write_sleap,
    write_yolo,
)
from Utils.runtime.errors import UserError, one_line
from Utils.runtime.packages import require
from Utils.storage.files import writing
from Utils.storage.pictures import picture_size

HEADER = ("scorer", "bodyparts", "coords")
SCORER = "landmarks"  # who annotated, in a file of DeepLabCut
TPS_KEPT = ("ID", "SCALE")  # lines of a .tps that are carried through
MISSING = -1.0  # both coordinates of a point that is not annotated, in a .tps


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
    except UserError:
        raise
    except Exception as error:  # a malformed file can make other projects' readers raise nearly anything
        raise UserError(f"{path} cannot be read ({one_line(error)}); docs/other-tools.md shows its form") from error
    if not table.files:
        raise UserError(f"{path} has no objects; annotate some")
    return table


def write_points(table: PointTable, path: Path, folder: Path) -> None:
    """Write a file of points, by its ending. Raises UserError if a format cannot hold them."""
    _, write = _format(path)
    sizes = [picture_size(folder / file) for file in table.files]
    with writing(path) as temporary:
        write(table, sizes, folder, temporary)


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
    counts = sorted({len(points) for _, points, _ in rows})
    if len(counts) > 1:
        raise ValueError(f"objects have {counts} points; give all the same")
    count = counts[0] if counts else 0
    table = np.array([points for _, points, _ in rows], np.float64).reshape(len(rows), count, 2)
    table[(table < 0).any(axis=2)] = np.nan
    heights = [picture_size(folder / file)[1] for file, _, _ in rows]
    table[..., 1] = np.array(heights, np.float64).reshape(-1, 1) - table[..., 1]
    names = [f"point_{k}" for k in range(count)]
    return PointTable(
        [row[0] for row in rows], np.full((len(rows), 4), np.nan), table, names, [row[2] for row in rows]
    )


def _tps(table: PointTable, sizes: Sizes) -> str:
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
    table = np.array(points, np.float64).reshape(len(found), len(names), 2)
    return PointTable.of([file for file, _, _ in found], table, names, [box for _, box, _ in found])


def _imglab(table: PointTable, sizes: Sizes) -> str:
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
    return _deeplabcut_table(path, path.read_text(encoding="utf-8-sig"), files)


def _read_deeplabcut_h5(path: Path, folder: Path, files: list[str]) -> PointTable:
    """What pandas' to_hdf writes. pandas itself would unpickle what it finds in a file."""
    import pandas as pd

    def axis(group: h5py.Group, name: str) -> list[tuple[str, ...]]:
        levels = [key for key in sorted(group) if key.startswith(f"{name}_level")]
        columns = [group[key][:][group[key.replace("level", "label")][:]] for key in levels] or [group[name][:]]
        return list(zip(*(np.char.decode(column, "utf-8").tolist() for column in columns), strict=True))

    with h5py.File(path) as file:
        group = next(iter(file.values()))
        blocks = [key.removesuffix("_values") for key in group if key.endswith("_values")]
        columns = [column for block in blocks for column in axis(group, f"{block}_items")]
        values = np.concatenate([group[f"{block}_values"][:] for block in blocks], axis=1)
        names = ("scorer", "individuals", "bodyparts", "coords") if len(columns[0]) == 4 else HEADER
        header = pd.MultiIndex.from_tuples(columns, names=names)
        rows = ["/".join(row) for row in axis(group, "axis1")]
    return _deeplabcut_table(path, pd.DataFrame(values, rows, header).to_csv(), files)


def _deeplabcut_table(path: Path, text: str, files: list[str]) -> PointTable:
    rows = list(csv.reader(io.StringIO(text)))
    header = {row[0]: row for row in rows[:4] if row}
    if "scorer" not in header:  # a table like Custom's landmarks.csv
        table, names = read_landmark_table(path, files)
        return PointTable.of(files, table, names).subset(np.flatnonzero(~np.isnan(table).all(axis=(1, 2))))
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
    return PointTable.of(found, np.array(points).reshape(len(body), len(names), 2), names)


def _deeplabcut(table: PointTable, sizes: Sizes) -> str:
    if len(set(table.files)) < len(table.files):
        raise UserError("a picture shows several objects, which CollectedData_*.csv cannot hold; use another format")
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    twice = [name for name in table.names for _ in "xy"]
    columns = ([SCORER] * len(twice), twice, ["x", "y"] * len(table.names))
    rows.writerows([name, *cells] for name, cells in zip(HEADER, columns, strict=True))
    for file, points in zip(table.files, table.points, strict=True):
        rows.writerow([file, *("" if math.isnan(value) else value for value in points.ravel().tolist())])
    return text.getvalue()


def _write_deeplabcut_h5(table: PointTable, sizes: Sizes, folder: Path, path: Path) -> None:
    require("tables")
    import pandas as pd

    frame = pd.read_csv(io.StringIO(_deeplabcut(table, sizes)), header=[0, 1, 2], index_col=0)
    with tempfile.TemporaryDirectory() as own:  # HDF5 would wait for the lock on `path`
        frame.astype(float).to_hdf(Path(own) / path.name, key="df_with_missing", mode="w")
        shutil.copyfile(Path(own) / path.name, path)


# COCO keypoints


def _read_coco(path: Path, folder: Path, files: list[str]) -> PointTable:
    if path.read_bytes()[:100].lstrip().startswith(b"["):  # a list of tasks
        return read_label_studio(path, folder, files)
    annotations = read_coco(path, files)
    if annotations.landmarks is None:
        raise ValueError("no object has keypoints")
    names = read_coco_names(path, annotations.landmarks.shape[1])
    return PointTable.of(annotations.files.tolist(), annotations.landmarks, names, annotations.boxes)


Reader = Callable[[Path, Path, list[str]], PointTable]
Writer = Callable[[PointTable, Sizes, Path, Path], None]  # with the folder of the pictures, and the file to write


def _text(content: Callable[[PointTable, Sizes], str]) -> Writer:
    """The writer of a format that is text."""

    def write(table: PointTable, sizes: Sizes, folder: Path, path: Path) -> None:
        path.write_text(content(table, sizes), encoding="utf-8", newline="")

    return write


def _unwritten(table: PointTable, sizes: Sizes, folder: Path, path: Path) -> None:
    raise UserError("YOLO-pose is written as an archive; give a file that ends in .zip")


FORMATS: dict[str, tuple[Reader, Writer]] = {  # the first that the file's name ends with
    ".tps": (_read_tps, _text(_tps)),
    ".xml": (_read_imglab, _text(_imglab)),
    ".csv": (_read_deeplabcut, _text(_deeplabcut)),
    ".h5": (_read_deeplabcut_h5, _write_deeplabcut_h5),
    ".slp": (read_sleap, write_sleap),
    ".studio.json": (read_label_studio, write_label_studio),
    ".json": (_read_coco, _text(lambda table, sizes: json.dumps(coco_document(table, sizes), indent=1))),
    ".zip": (read_yolo, write_yolo),
    ".yaml": (read_yolo, _unwritten),
}


EXPORTED = [ending for ending in FORMATS if ending not in (".json", ".yaml")]  # what `export_points` writes


def export_points(source: Path, ending: str, folder: Path, files: list[str]) -> str:
    """Write the points of a COCO file beside it in another format; returns the name of the new file."""
    stem = f"CollectedData_{SCORER}" if ending in (".csv", ".h5") else source.stem  # as DeepLabCut expects
    write_points(read_points(source, folder, files), source.with_name(stem + ending), folder)
    return stem + ending


def _format(path: Path) -> tuple[Reader, Writer]:
    ending = next((ending for ending in FORMATS if path.name.lower().endswith(ending)), None)
    if ending is None:
        raise UserError(f"{path}: the ending tells the format; give one of {', '.join(FORMATS)}")
    return FORMATS[ending]
