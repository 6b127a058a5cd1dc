"""Files beside a user's own pictures: boxes.csv, landmarks.csv, split.csv, or annotations.json (COCO)."""

import codecs
import os
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from Utils.hyperparameters import explained
from Utils.runtime.errors import UserError, one_line
from Utils.storage.pictures import is_utf8

if TYPE_CHECKING:
    import pandas as pd  # slow to import

SPLITS = ("train", "regression", "test")
BOX_COLUMNS = ["x1", "y1", "x2", "y2"]
PERCENT_OBJECTS, PERCENT_SIDE = 5, 200  # so many objects in the first 100 pixels of larger pictures are in percent


@dataclass
class Annotations:
    """One row per object, in order of file; coordinates in pixels of the pictures as `read_picture` turns them."""

    files: np.ndarray  # (n,) str, relative to the folder
    names: np.ndarray  # (n,) str: the file, with #0, #1 ... if a picture shows several objects
    boxes: np.ndarray  # (n, 4) float64, NaN: the whole picture
    landmarks: np.ndarray | None  # (n, G, 2) float64, NaN: unknown
    splits: np.ndarray | None  # (n,) str of SPLITS, "" for pictures that are left out
    sizes: np.ndarray | None = None  # (n, 2) float64: width, height of the pictures that were annotated, NaN: unknown

    def subset(self, chosen: np.ndarray) -> "Annotations":
        """The objects with these indices, in their order."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: array[chosen] for name, array in arrays.items() if array is not None})

    def check_units(self, folder: Path, sizes: np.ndarray) -> None:
        """UserError if the coordinates are not in pixels of the folder's pictures, whose sizes are (n, 2)."""
        stated = np.full(sizes.shape, np.nan) if self.sizes is None else self.sizes
        other = np.flatnonzero((np.isfinite(stated) & (stated != sizes)).any(axis=1))
        if len(other):
            i = other[0]
            (width, height), (w, h) = sizes[i], stated[i]
            raise UserError(
                f"picture {folder / self.files[i]} has {width}x{height} pixels, turned as its orientation says, but "
                f"was annotated with {w:g}x{h:g} ({len(other)} such objects); scale or turn its annotations"
            )
        for what, values in (("boxes", self.boxes), ("landmarks", self.landmarks)):
            known = np.zeros(0) if values is None else values[np.isfinite(values)]
            largest = known.max(initial=0)
            in_percent = largest <= 100 and len(sizes) >= PERCENT_OBJECTS and sizes.min() > PERCENT_SIDE
            if len(known) and (largest <= 1 or in_percent):
                unit = "shares of the sides" if largest <= 1 else "percent"
                raise UserError(
                    f"the {what} of the pictures in {folder} end at {largest:g} and seem to be {unit}; write pixels"
                )


def read_annotations(folder: Path, files: list[str]) -> Annotations:
    """The annotations of the pictures `files` of a folder; every annotation file is optional.

    Raises UserError if one is malformed, names a picture that does not exist, or has a picture twice.
    """

    def read(name: str, reader: Callable[[Path, list[str]], Any]) -> Any:
        return reader(folder / name, files) if os.path.lexists(folder / name) else None

    splits = read("split.csv", _read_splits)
    annotations = read("annotations.json", read_coco)
    if annotations is None:
        table, landmarks = read("boxes.csv", _read_boxes), read("landmarks.csv", read_landmark_table)
        boxes = np.full((len(files), 4), np.nan) if table is None else _in_order_of_files(table, files).to_numpy()
        names = np.array(files)
        return Annotations(names, names, boxes, landmarks and landmarks[0], splits)
    for extra in ("boxes.csv", "landmarks.csv"):
        if os.path.lexists(folder / extra):
            raise UserError(f"{folder} has both annotations.json and {extra}; keep one of them")
    if splits is not None:
        split_of = dict(zip(files, splits))
        annotations.splits = np.array([split_of[file] for file in annotations.files.tolist()])
    return annotations


# Tables


def read_boxes_of_objects(path: Path, files: list[str]) -> dict[str, np.ndarray]:
    """File -> boxes (k, 4) of a table like boxes.csv with a row per object; NaN: the whole picture.

    Raises UserError as `read_annotations` does.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file; write file,x1,y1,x2,y2, a row for every picture")
    boxes = _read_boxes(path, files, several=True)
    return {str(file): rows.to_numpy() for file, rows in boxes.groupby(level=0)}


def _read_csv(path: Path, files: list[str], several: bool = False) -> "pd.DataFrame":
    """A table indexed by file; several: whether a file may have several rows."""
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig") as file:
            separator = max(",;\t", key=file.readline().count)
        decimal = "," if separator == ";" else "."  # as spreadsheets write in much of Europe
        table = pd.read_csv(
            path, sep=separator, decimal=decimal, dtype={"file": str}, encoding="utf-8-sig", skipinitialspace=True
        )
    except (ValueError, OSError) as error:
        raise UserError(
            f"{path} cannot be read as a table ({one_line(error)}); its form is in docs/data.md"
        ) from error
    table = table.rename(columns=str.strip).dropna(how="all")
    table = table.loc[:, ~table.columns.str.startswith("Unnamed:")]  # spreadsheets leave empty rows and columns
    by_name, names = pictures_by_name(files), _columns(table, ["file"], path)["file"].fillna("")
    table["file"] = [find_picture(name, by_name, path) for name in names]
    twice = table["file"][table["file"].duplicated()]
    if len(twice) and not several:
        raise UserError(f"{path} names {twice.iloc[0]} twice; use annotations.json for several objects in a picture")
    return table.set_index("file")


def _plain(name: str) -> str:
    """A file's name as tables and folders share it: with /, and composed letters, which a Mac decomposes."""
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/").removeprefix("./"))


def _columns(table: "pd.DataFrame", columns: list[str], path: Path) -> "pd.DataFrame":
    for column in columns:
        if column not in table.columns:
            raise UserError(f"{path} has no column `{column}`; its form is in docs/data.md")
    return table[columns]


def _numbers(table: "pd.DataFrame", columns: list[str], path: Path) -> "pd.DataFrame":
    try:
        return _columns(table, columns, path).astype(np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{path} has a cell that is not a number ({one_line(error)}); correct it") from error


def _read_boxes(path: Path, files: list[str], several: bool = False) -> "pd.DataFrame":
    """The box columns as numbers, indexed by file."""
    table = _read_csv(path, files, several)
    missing = sorted(filter(is_utf8, set(files) - set(table.index)))
    if missing:
        raise UserError(
            f"{path} has no box for {len(missing)} pictures, first {missing[0]}; "
            f"add the rows (with empty cells for the whole picture)"
        )
    return _numbers(table, BOX_COLUMNS, path)


def read_landmark_table(path: Path, files: list[str]) -> tuple[np.ndarray, list[str]]:
    """The landmarks (n, G, 2) of the pictures `files`, NaN where unknown, and names: point_<k> of x0, y0, ..."""
    table = _read_csv(path, files)
    names = [column.removesuffix("_x") for column in table.columns if column.endswith("_x")]
    count, rest = (len(names), 0) if names else divmod(len(table.columns), 2)
    if rest or not count:
        raise UserError(f"{path} has {len(table.columns)} columns beside `file`; write x0,y0,x1,y1,...")
    columns = [f"{name}_{axis}" for name in names for axis in "xy"] or [f"{a}{i}" for i in range(count) for a in "xy"]
    landmarks = _in_order_of_files(_numbers(table, columns, path), files).to_numpy().reshape(-1, count, 2)
    return _both_or_none(landmarks), names or [f"point_{k}" for k in range(count)]


def _in_order_of_files(table: Any, files: list[str]) -> Any:
    """The rows of the files, in their order; NaN for a file that the table does not name."""
    import pandas as pd

    return table.reindex(pd.Index(files, dtype=object))  # pandas' own strings may refuse a name that is not UTF-8


def _both_or_none(points: np.ndarray) -> np.ndarray:
    """A point with one unknown coordinate is unknown."""
    return np.where(np.isfinite(points).all(-1, keepdims=True), points, np.nan)


def _read_splits(path: Path, files: list[str]) -> np.ndarray:
    """(n,) str, "" for pictures that the file does not name."""
    splits = _columns(_read_csv(path, files), ["split"], path)["split"].astype(str).str.strip()
    wrong = splits[~splits.isin(SPLITS)]
    if len(wrong):
        raise UserError(f"{path}: split {wrong.iloc[0]!r} of {wrong.index[0]}; use train, regression or test")
    return _in_order_of_files(splits, files).fillna("").to_numpy(str)


# COCO

Coordinate = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _CocoImage(BaseModel):
    id: int | str
    file_name: str
    width: Coordinate | None = None
    height: Coordinate | None = None


class _CocoObject(BaseModel):
    image_id: int | str
    category_id: int | str | None = None
    iscrowd: int | None = None
    bbox: tuple[Coordinate, Coordinate, Coordinate, Coordinate] | None = None  # x, y, width, height
    keypoints: list[Coordinate] | None = None  # x, y, visibility, x, y, ...


class _CocoCategory(BaseModel):
    keypoints: list[str] = []


class _CocoFile(BaseModel):
    categories: list[_CocoCategory] = []
    images: list[_CocoImage]
    annotations: list[_CocoObject]


def read_coco(path: Path, files: list[str]) -> Annotations:
    """A COCO keypoints file: a row per annotation that is not a crowd. Pictures without annotations are left out.

    Raises UserError if it is malformed, names a picture that does not exist, or its objects have different
    numbers of keypoints.
    """
    try:
        content = _CocoFile.model_validate_json(path.read_bytes().removeprefix(codecs.BOM_UTF8))
        images = {image.id: image for image in content.images}
        objects = [(images[entry.image_id], entry) for entry in content.annotations if not entry.iscrowd]
    except ValidationError as error:
        reason = explained(error)[:200]
        raise UserError(f"{path} is not a COCO keypoints file ({reason}); its form is in docs/data.md") from error
    except KeyError as error:
        raise UserError(f"{path} has an annotation of image {error}, which its images lack; correct it") from error
    if not objects:
        raise UserError(f"{path} has no annotations; add some or remove the file")
    categories = sorted({str(entry.category_id) for _, entry in objects})
    if len(categories) > 1:
        raise UserError(
            f"{path} has objects of the categories {', '.join(categories)[:80]}; keep one kind of object, "
            f"with all its keypoints in one annotation"
        )
    by_name = pictures_by_name(files)
    found = [(find_picture(image.file_name, by_name, path), image, entry) for image, entry in objects]
    found.sort(key=lambda row: row[0])
    sources, entries = np.array([file for file, _, _ in found]), [entry for _, _, entry in found]
    sizes = np.array([(image.width, image.height) for _, image, _ in found], np.float64)  # None becomes NaN
    boxes = np.array([entry.bbox or (np.nan,) * 4 for entry in entries], np.float64)
    boxes[:, 2:] += boxes[:, :2]
    return Annotations(sources, _object_names(sources), boxes, _coco_landmarks(entries, path), None, sizes)


def read_coco_names(path: Path, count: int) -> list[str]:
    """Names of the `count` keypoints of a file that `read_coco` has read; point_<k> if it names others."""
    content = _CocoFile.model_validate_json(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    named = [category.keypoints for category in content.categories if len(category.keypoints) == count]
    return named[0] if named else [f"point_{k}" for k in range(count)]


def pictures_by_name(files: list[str]) -> dict[str, list[str]]:
    """Files by their names without folders, for `find_picture`."""
    by_name: dict[str, list[str]] = {}
    for file in files:
        by_name.setdefault(_plain(file).rpartition("/")[2], []).append(file)
    return by_name


def find_picture(name: str, by_name: dict[str, list[str]], path: Path) -> str:
    """The picture with the same path, or the end of it, else the only one with the same name in any folder."""
    plain = _plain(name)
    namesakes = by_name.get(plain.rpartition("/")[2], [])
    same = [file for file in namesakes if _plain(file) == plain]
    ends = [file for file in namesakes if "/" in file and plain.endswith(f"/{_plain(file)}")]
    matches = [name] if name in same else same or ends or namesakes
    if len(matches) != 1:
        problem = "could be several pictures" if matches else "is not among the pictures"
        raise UserError(f"{path} names {name!r}, which {problem}; correct the name or delete the entry")
    return matches[0]


def _object_names(files: np.ndarray) -> np.ndarray:
    """Sorted files (n,) -> the file, or file#0, file#1 ... if it occurs several times."""
    _, first, counts = np.unique(files, return_index=True, return_counts=True)
    rank = np.arange(len(files)) - np.repeat(first, counts)
    return np.where(np.repeat(counts, counts) > 1, np.char.add(np.char.add(files, "#"), rank.astype(str)), files)


def _coco_landmarks(objects: list[_CocoObject], path: Path) -> np.ndarray | None:
    """(n, G, 2), NaN for visibility 0; None if no object has keypoints."""
    lengths = sorted({len(entry.keypoints) for entry in objects if entry.keypoints})
    if not lengths:
        return None
    if len(lengths) > 1 or lengths[0] % 3:
        raise UserError(
            f"{path} has objects with {lengths} numbers in `keypoints`; write 3 per keypoint, one category"
        )
    unknown = [0.0] * lengths[0]
    table = np.array([entry.keypoints or unknown for entry in objects], np.float64).reshape(len(objects), -1, 3)
    return _both_or_none(np.where(table[..., 2:] > 0, table[..., :2], np.nan))
