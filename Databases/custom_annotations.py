"""Files beside a user's own pictures: boxes.csv, landmarks.csv, split.csv, or annotations.json (COCO)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from Utils.hyperparameters import explained
from Utils.runtime.errors import UserError, one_line

if TYPE_CHECKING:
    import pandas as pd  # slow to import

SPLITS = ("train", "regression", "test")
BOX_COLUMNS = ["x1", "y1", "x2", "y2"]


@dataclass
class Annotations:
    """One row per object, in order of file; coordinates in pixels of the pictures in the folder."""

    files: np.ndarray  # (n,) str, relative to the folder
    names: np.ndarray  # (n,) str: the file, with #0, #1 ... if a picture shows several objects
    boxes: np.ndarray  # (n, 4) float64, NaN: the whole picture
    landmarks: np.ndarray | None  # (n, G, 2) float64, NaN: unknown
    splits: np.ndarray | None  # (n,) str of SPLITS, "" for pictures that are left out


def read_annotations(folder: Path, files: list[str]) -> Annotations:
    """The annotations of the pictures `files` of a folder; every annotation file is optional.

    Raises UserError if one is malformed, names a picture that does not exist, or has a picture twice.
    """

    def read(name: str, reader: Callable[[Path, list[str]], Any]) -> Any:
        return reader(folder / name, files) if (folder / name).is_file() else None

    splits = read("split.csv", _read_splits)
    if not (folder / "annotations.json").is_file():
        table, landmarks = read("boxes.csv", _read_boxes), read("landmarks.csv", _read_landmarks)
        boxes = np.full((len(files), 4), np.nan) if table is None else table.reindex(files).to_numpy()
        names = np.array(files)
        return Annotations(names, names, boxes, landmarks, splits)
    for extra in ("boxes.csv", "landmarks.csv"):
        if (folder / extra).is_file():
            raise UserError(f"{folder} has both annotations.json and {extra}; keep one of them")
    annotations = read_coco(folder / "annotations.json", files)
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
        raise UserError(f"{path} does not exist; write file,x1,y1,x2,y2, a row for every picture")
    boxes = _read_boxes(path, files, several=True)
    return {str(file): rows.to_numpy() for file, rows in boxes.groupby(level=0)}


def _read_csv(path: Path, files: list[str], several: bool = False) -> "pd.DataFrame":
    """A table indexed by file; several: whether a file may have several rows."""
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype={"file": str}, encoding="utf-8-sig", skipinitialspace=True)
    except (ValueError, OSError) as error:
        raise UserError(
            f"{path} cannot be read as a table ({one_line(error)}); its form is in docs/data.md"
        ) from error
    names = _columns(table, ["file"], path)["file"].fillna("")
    table["file"] = names.where(names.isin(files), names.str.replace("\\", "/").str.removeprefix("./"))
    unknown = table["file"][~table["file"].isin(files)]
    if len(unknown):
        raise UserError(
            f"{path} names {unknown.iloc[0]!r}, which is not a picture in {path.parent} "
            f"({len(unknown)} such rows); correct the name or delete the row"
        )
    twice = table["file"][table["file"].duplicated()]
    if len(twice) and not several:
        raise UserError(f"{path} names {twice.iloc[0]} twice; use annotations.json for several objects in a picture")
    return table.set_index("file")


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
    missing = sorted(set(files) - set(table.index))
    if missing:
        raise UserError(
            f"{path} has no box for {len(missing)} pictures, first {missing[0]}; "
            f"add the rows (with empty cells for the whole picture)"
        )
    return _numbers(table, BOX_COLUMNS, path)


def _read_landmarks(path: Path, files: list[str]) -> np.ndarray:
    """(n, G, 2), NaN for pictures that the file does not name."""
    table = _read_csv(path, files)
    count, rest = divmod(len(table.columns), 2)
    if rest or not count:
        raise UserError(f"{path} has {len(table.columns)} columns beside `file`; write x0,y0,x1,y1,...")
    names = _named_columns(table.columns)
    columns = [f"{name}_{axis}" for name in names for axis in "xy"]
    if not names:
        columns = [f"{axis}{i}" for i in range(count) for axis in "xy"]
    return _both_or_none(_numbers(table, columns, path).reindex(files).to_numpy().reshape(-1, count, 2))


def _named_columns(columns: Iterable[str]) -> list[str]:
    """Names of the points of columns <name>_x, <name>_y; none of columns x0, y0, ..."""
    return [column.removesuffix("_x") for column in columns if column.endswith("_x")]


def read_landmark_table(path: Path, files: list[str]) -> tuple[np.ndarray, list[str]]:
    """The landmarks (n, G, 2) of the pictures `files`, NaN where unknown, and names: point_<k> of x0, y0, ..."""
    landmarks = _read_landmarks(path, files)
    names = _named_columns(_read_csv(path, files).columns)
    return landmarks, names or [f"point_{k}" for k in range(landmarks.shape[1])]


def _both_or_none(points: np.ndarray) -> np.ndarray:
    """A point with one unknown coordinate is unknown."""
    return np.where(np.isfinite(points).all(-1, keepdims=True), points, np.nan)


def _read_splits(path: Path, files: list[str]) -> np.ndarray:
    """(n,) str, "" for pictures that the file does not name."""
    splits = _columns(_read_csv(path, files), ["split"], path)["split"].astype(str).str.strip()
    wrong = splits[~splits.isin(SPLITS)]
    if len(wrong):
        raise UserError(f"{path}: split {wrong.iloc[0]!r} of {wrong.index[0]}; use train, regression or test")
    return splits.reindex(files).fillna("").to_numpy(str)


# COCO

Coordinate = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _CocoImage(BaseModel):
    id: int | str
    file_name: str


class _CocoObject(BaseModel):
    image_id: int | str
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
        content = _CocoFile.model_validate_json(path.read_bytes())
        names = {image.id: image.file_name for image in content.images}
        objects = [(names[entry.image_id], entry) for entry in content.annotations if not entry.iscrowd]
    except ValidationError as error:
        reason = explained(error)[:200]
        raise UserError(f"{path} is not a COCO keypoints file ({reason}); its form is in docs/data.md") from error
    except KeyError as error:
        raise UserError(f"{path} has an annotation of image {error}, which its images lack; correct it") from error
    if not objects:
        raise UserError(f"{path} has no annotations; add some or remove the file")
    by_name = pictures_by_name(files)
    found = [(find_picture(name, by_name, path), entry) for name, entry in objects]
    found.sort(key=lambda pair: pair[0])
    sources, entries = np.array([file for file, _ in found]), [entry for _, entry in found]
    boxes = np.array([entry.bbox or (np.nan,) * 4 for entry in entries], np.float64)
    boxes[:, 2:] += boxes[:, :2]
    return Annotations(sources, _object_names(sources), boxes, _coco_landmarks(entries, path), None)


def read_coco_names(path: Path, count: int) -> list[str]:
    """Names of the `count` keypoints of a file that `read_coco` has read; point_<k> if it names others."""
    content = _CocoFile.model_validate_json(path.read_bytes())
    names = content.categories[0].keypoints if content.categories else []
    return names if len(names) == count else [f"point_{k}" for k in range(count)]


def pictures_by_name(files: list[str]) -> dict[str, list[str]]:
    """Files by their names without folders, for `find_picture`."""
    by_name: dict[str, list[str]] = {}
    for file in files:
        by_name.setdefault(file.rpartition("/")[2], []).append(file)
    return by_name


def find_picture(name: str, by_name: dict[str, list[str]], path: Path) -> str:
    """The picture with the same path, else the only one with the same name in any folder."""
    name = name.replace("\\", "/").removeprefix("./")
    matches = by_name.get(name.rpartition("/")[2], [])
    if name in matches:
        return name
    if len(matches) != 1:
        problem = "could be several pictures" if matches else "is not a picture"
        raise UserError(f"{path} names {name!r}, which {problem} in {path.parent}; correct file_name")
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
