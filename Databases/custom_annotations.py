"""What may lie beside a user's own pictures: boxes.csv, landmarks.csv, split.csv, or annotations.json (COCO)."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from Databases.tables import FARTHEST
from Utils.runtime.errors import UserError, one_line

SPLITS = ("train", "regression", "test")
BOX_COLUMNS = ["x1", "y1", "x2", "y2"]


@dataclass
class Annotations:
    """One row per object, in order of file; coordinates in pixels of the pictures as they lie in the folder."""

    files: np.ndarray  # (n,) str, relative to the folder
    names: np.ndarray  # (n,) str: the file, with #0, #1 ... where a picture shows several objects
    boxes: np.ndarray  # (n, 4) float64, NaN: the whole picture
    landmarks: np.ndarray | None  # (n, G, 2) float64, NaN: unknown
    splits: np.ndarray | None  # (n,) str of SPLITS, "" for pictures that are left out


def read_annotations(folder: Path, files: list[str]) -> Annotations:
    """The annotations of the pictures `files` of a folder, as far as there are any.

    Raises UserError where a file is malformed, names a picture that does not exist, or has a picture twice.
    """
    splits = _read_splits(folder / "split.csv", files)
    if (folder / "annotations.json").is_file():
        extra = [name for name in ("boxes.csv", "landmarks.csv") if (folder / name).is_file()]
        if extra:
            raise UserError(f"{folder} has both annotations.json and {extra[0]}; keep one of them")
        annotations = read_coco(folder / "annotations.json", files)
        if splits is not None:
            table = dict(zip(files, splits))
            annotations.splits = np.array([table[file] for file in annotations.files.tolist()])
        return annotations
    names = np.array(files)
    boxes = _read_boxes(folder / "boxes.csv", files)
    return Annotations(names, names, boxes, _read_landmarks(folder / "landmarks.csv", files), splits)


def read_boxes_of_objects(path: Path, files: list[str]) -> dict[str, np.ndarray]:
    """File -> boxes (k, 4) of a table like boxes.csv in which a picture with several objects has several rows.

    NaN: the whole picture. Raises UserError as `read_annotations` does.
    """
    table = _read_csv(path, files, several=True)
    if table is None:
        raise UserError(f"{path} does not exist; write file,x1,y1,x2,y2, a row for every picture")
    _require_all(path, table, files)
    boxes = _numbers(table, BOX_COLUMNS, path)
    return {str(file): rows.to_numpy() for file, rows in boxes.groupby(level=0)}


def _read_csv(path: Path, files: list[str], several: bool = False) -> pd.DataFrame | None:
    """A table with a row per file of `files` that it has, indexed by file; None where there is no such table.

    several: whether a file may have several rows.
    """
    if not path.is_file():
        return None
    try:
        table = pd.read_csv(path, dtype={"file": str}, encoding="utf-8-sig", skipinitialspace=True)
    except (ValueError, OSError) as error:
        raise UserError(
            f"{path} cannot be read as a table ({one_line(error)}); see docs/data.md for its form"
        ) from error
    if "file" not in table.columns:
        raise UserError(f"{path} has no column `file`; its first line names the columns")
    exact = table["file"].isin(files)
    table["file"] = table["file"].where(exact, table["file"].fillna("").str.replace("\\", "/").str.removeprefix("./"))
    unknown = table["file"][~table["file"].isin(files)]
    if len(unknown):
        raise UserError(
            f"{path} names {unknown.iloc[0]!r}, which is no picture of {path.parent} "
            f"({len(unknown)} such rows); correct the name or take the row out"
        )
    twice = table["file"][table["file"].duplicated()]
    if len(twice) and not several:
        raise UserError(f"{path} names {twice.iloc[0]} twice; use annotations.json for several objects in a picture")
    return table.set_index("file")


def _numbers(table: pd.DataFrame, columns: list[str], path: Path) -> pd.DataFrame:
    for column in columns:
        if column not in table.columns:
            raise UserError(f"{path} has no column `{column}`; see docs/data.md for its form")
    try:
        numbers = table[columns].astype(np.float64)
        far = numbers.abs().gt(FARTHEST).any(axis=1)
        if far.any():
            raise ValueError(f"{table.index[far.to_numpy().argmax()]} has a place beyond any picture")
        return numbers
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{path} has a cell that is no number ({one_line(error)}); correct it") from error


def _read_boxes(path: Path, files: list[str]) -> np.ndarray:
    """(n, 4), NaN throughout where there is no such file."""
    table = _read_csv(path, files)
    if table is None:
        return np.full((len(files), 4), np.nan)
    _require_all(path, table, files)
    return _numbers(table, BOX_COLUMNS, path).reindex(files).to_numpy()


def _require_all(path: Path, table: pd.DataFrame, files: list[str]) -> None:
    missing = sorted(set(files) - set(table.index))
    if missing:
        raise UserError(
            f"{path} has no box for {len(missing)} pictures, first {missing[0]}; "
            f"add the rows (with empty cells for the whole picture)"
        )


def _read_landmarks(path: Path, files: list[str]) -> np.ndarray | None:
    """(n, G, 2), None where there is no such file; pictures that it lacks have unknown landmarks."""
    table = _read_csv(path, files)
    if table is None:
        return None
    count, rest = divmod(len(table.columns), 2)
    if rest or not count:
        raise UserError(f"{path} has {len(table.columns)} columns beside `file`; write x0,y0,x1,y1,...")
    columns = [f"{axis}{i}" for i in range(count) for axis in "xy"]
    points = _numbers(table, columns, path).reindex(files).to_numpy().reshape(-1, count, 2)
    return _both_or_none(points)


def _both_or_none(points: np.ndarray) -> np.ndarray:
    """A point with one unknown coordinate is unknown."""
    return np.where(np.isfinite(points).all(-1, keepdims=True), points, np.nan)


def _read_splits(path: Path, files: list[str]) -> np.ndarray | None:
    """(n,) str, "" for pictures that the file does not name; None where there is no such file."""
    table = _read_csv(path, files)
    if table is None:
        return None
    if "split" not in table.columns:
        raise UserError(f"{path} has no column `split`; write lines of the form file,split")
    splits = table["split"].astype(str).str.strip()
    wrong = splits[~splits.isin(SPLITS)]
    if len(wrong):
        raise UserError(f"{path}: split {wrong.iloc[0]!r} of {wrong.index[0]}; use train, regression or test")
    return splits.reindex(files).fillna("").to_numpy(str)


def read_coco(path: Path, files: list[str]) -> Annotations:
    """A COCO keypoints file; one row per annotation that is no crowd. Pictures without any are left out.

    Raises UserError where it is no such file, names a picture that does not exist, or has categories with
    different numbers of keypoints.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        paths = {image["id"]: str(image["file_name"]) for image in content["images"]}
        rows = [row for row in content["annotations"] if not row.get("iscrowd")]
        rows = [(paths[row["image_id"]], row.get("bbox"), row.get("keypoints") or []) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        reason = f"missing key {error}" if isinstance(error, KeyError) else one_line(error)
        raise UserError(f"{path} is no COCO keypoints file ({reason}); see docs/data.md for its form") from error
    if not rows:
        raise UserError(f"{path} has no annotations; add some or take the file away")
    resolve = _resolver(path, files)
    found = np.array([resolve(file) for file, _, _ in rows])
    order = np.argsort(found, kind="stable")
    rows, found = [rows[i] for i in order], found[order]
    return Annotations(found, _object_names(found), _coco_boxes(rows, path), _coco_landmarks(rows, path), None)


def _resolver(path: Path, files: list[str]) -> Callable[[str], str]:
    """Function from a file name of COCO to one of `files`: the same path, else the only one of that name."""
    known = set(files)
    by_name: dict[str, list[str]] = {}
    for file in files:
        by_name.setdefault(file.rpartition("/")[2], []).append(file)

    def resolve(name: str) -> str:
        name = name.replace("\\", "/").removeprefix("./")
        if name in known:
            return name
        candidates = by_name.get(name.rpartition("/")[2], [])
        if len(candidates) != 1:
            problem = "is no picture" if not candidates else "could be several pictures"
            raise UserError(f"{path} names {name!r}, which {problem} of {path.parent}; correct file_name")
        return candidates[0]

    return resolve


def _object_names(files: np.ndarray) -> np.ndarray:
    """Sorted files (n,) -> the file, or file#0, file#1 ... where it occurs several times."""
    _, first, counts = np.unique(files, return_index=True, return_counts=True)
    rank = np.arange(len(files)) - np.repeat(first, counts)
    return np.where(np.repeat(counts, counts) > 1, np.char.add(np.char.add(files, "#"), rank.astype(str)), files)


def _coco_boxes(rows: list[tuple], path: Path) -> np.ndarray:
    """x, y, width, height -> x1, y1, x2, y2 (n, 4); NaN where an annotation has no box."""
    boxes = np.full((len(rows), 4), np.nan)
    for i, (file, box, _) in enumerate(rows):
        if box is not None:
            if not _are_places(box) or len(box) != 4:
                raise UserError(f"{path} has a bbox of {file} that is not four numbers; write [x, y, width, height]")
            boxes[i] = box
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _coco_landmarks(rows: list[tuple], path: Path) -> np.ndarray | None:
    """Triples x, y, visibility -> (n, G, 2), NaN where the visibility is 0; None where no row has any."""
    for file, _, keypoints in rows:
        if not _are_places(keypoints):
            raise UserError(f"{path} has keypoints of {file} that are no numbers; write [x, y, visibility, ...]")
    lengths = {len(keypoints) for _, _, keypoints in rows} - {0}
    if not lengths:
        return None
    if len(lengths) > 1 or next(iter(lengths)) % 3:
        raise UserError(f"{path} has keypoints of different numbers {sorted(lengths)}; use one category a file")
    unknown = [0.0] * next(iter(lengths))
    table = np.array([keypoints or unknown for _, _, keypoints in rows], np.float64).reshape(len(rows), -1, 3)
    return _both_or_none(np.where(table[..., 2:] > 0, table[..., :2], np.nan))


def _are_places(values: object) -> bool:
    """Whether it is a list of numbers that may be places in a picture."""
    return isinstance(values, list) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= FARTHEST for value in values
    )
