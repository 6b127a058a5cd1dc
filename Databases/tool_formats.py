"""Points of annotation tools that need more than one file of text: SLEAP, Label Studio, YOLO-pose."""

import json
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import yaml

from Databases.custom_annotations import find_picture, pictures_by_name
from Databases.point_table import PointTable, Sizes, coco_document
from Utils.runtime.errors import UserError
from Utils.runtime.packages import require
from Utils.storage.pictures import picture_size

CLASS = "object"
LOCAL = "/data/local-files/?d="  # in Label Studio, what is below LOCAL_FILES_DOCUMENT_ROOT
LARGEST_TEXT = 10_000_000  # bytes of a file in an archive


# SLEAP, through sleap-io


def read_sleap(path: Path, folder: Path, files: list[str]) -> PointTable:
    labels = require("sleap_io", "sleap-io").load_slp(str(path), open_videos=False)
    if len(labels.skeletons) != 1:
        raise ValueError(f"{len(labels.skeletons)} skeletons; keep one")
    by_name = pictures_by_name(files)
    found, points = [], []
    for frame in labels:
        pictures = (frame.video.source_video or frame.video).filename
        if not isinstance(pictures, list):
            raise ValueError(f"frames of the video {Path(pictures).name}; export them as pictures")
        for instance in frame.user_instances or frame.predicted_instances:
            found.append(find_picture(pictures[frame.frame_idx], by_name, path))
            points.append(instance.numpy()[:, :2])
    names = labels.skeletons[0].node_names
    return PointTable.of(found, np.array(points, np.float64).reshape(len(found), len(names), 2), names)


def write_sleap(table: PointTable, sizes: Sizes, folder: Path, path: Path) -> None:
    sleap_io = require("sleap_io", "sleap-io")
    with tempfile.TemporaryDirectory() as own:
        document = Path(own) / "points.json"
        document.write_text(json.dumps(coco_document(table, sizes)))
        labels = sleap_io.load_coco(str(document), dataset_root=str(folder.resolve()))
        labels.save(str(document.with_suffix(".slp")), embed=False, verbose=False)
        shutil.copyfile(document.with_suffix(".slp"), path)


# Label Studio: tasks with results in percent of the picture's sides


def read_label_studio(path: Path, folder: Path, files: list[str]) -> PointTable:
    by_name = pictures_by_name(files)
    found: list[str] = []
    boxes: list[list[float]] = []
    objects: list[dict[str, list[float]]] = []
    for task in json.loads(path.read_text(encoding="utf-8-sig")):
        made = task.get("annotations") or task.get("predictions") or []
        results = next((one["result"] for one in made if not one.get("was_cancelled")), None)
        if not results:
            continue
        file = find_picture(_picture_of(task["data"]), by_name, path)
        percent = np.array(picture_size(folder / file)) / 100
        parents = {one["from_id"]: one["to_id"] for one in results if one["type"] == "relation"}
        owners: dict[str | None, tuple[list[float], dict[str, list[float]]]] = {}
        for one in results:
            value = one.get("value", {})
            if one["type"] == "rectanglelabels":
                corner, extent = (value["x"], value["y"]), (value["width"], value["height"])
                owners[one["id"]] = [*(corner * percent), *((np.add(corner, extent)) * percent)], {}
        for one in results:
            if one["type"] == "keypointlabels":
                parent = one.get("parentID") or parents.get(one.get("id"))
                _, points = owners.setdefault(parent, ([np.nan] * 4, {}))
                name, value = one["value"]["keypointlabels"][0], one["value"]
                if name in points:
                    raise ValueError(f"two points {name} of one object in {file}; tie each to its rectangle")
                points[name] = list((value["x"], value["y"]) * percent)
        for box, points in owners.values():
            found.append(file)
            boxes.append(box)
            objects.append(points)
    names = list(dict.fromkeys(name for points in objects for name in points))
    table = [[own.get(name, [np.nan, np.nan]) for name in names] for own in objects]
    return PointTable.of(found, np.array(table, np.float64).reshape(len(found), len(names), 2), names, boxes)


def _picture_of(data: dict[str, Any]) -> str:
    """The file that a task's data name: local-files/?d=sub/a.png, upload/3/0a1b2c3d-a.png, or a path."""
    for address in data.values():
        if isinstance(address, str) and re.search(r"\.\w+$", address):
            name = unquote(address.rpartition("?d=")[2])
            return re.sub(r"^/data/upload/\d+/[0-9a-f]{8}-", "", name)
    raise ValueError("a task names no picture")


def write_label_studio(table: PointTable, sizes: Sizes, folder: Path, path: Path) -> None:
    """A task per picture; each object is a rectangle that its points name as their parent."""
    tasks: dict[str, dict[str, Any]] = {}
    for i, (file, (width, height)) in enumerate(zip(table.files, sizes, strict=True)):
        task: dict[str, Any] = {
            "id": len(tasks) + 1,
            "data": {"image": f"{LOCAL}{file}"},
            "annotations": [{"result": []}],
        }
        task = tasks.setdefault(file, task)
        percent = 100 / np.array((width, height))
        common = {"to_name": "image", "original_width": width, "original_height": height, "image_rotation": 0}
        x1, y1, x2, y2 = (table.box(i, (width, height)).reshape(2, 2) * percent).ravel().tolist()
        sides = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0}
        results = task["annotations"][0]["result"]
        box = {"id": f"object_{i}", "type": "rectanglelabels", "from_name": "box"}
        results.append({**box, **common, "value": {**sides, "rectanglelabels": [CLASS]}})
        for p, (x, y) in enumerate((table.points[i] * percent).tolist()):
            if not np.isnan(x):
                value = {"x": x, "y": y, "width": 0.5, "keypointlabels": [table.names[p]]}
                point = {"id": f"object_{i}_{p}", "type": "keypointlabels", "from_name": "points"}
                results.append({**point, "parentID": f"object_{i}", **common, "value": value})
    path.write_text(json.dumps(list(tasks.values()), indent=1), encoding="utf-8")


# YOLO-pose: class, box and points of an object per line, as shares of the picture's sides


def read_yolo(path: Path, folder: Path, files: list[str]) -> PointTable:
    """An archive, or the data.yaml of a folder: labels/<picture>.txt at any depth."""
    texts = _texts(path)
    settings = yaml.safe_load(next(text for name, text in texts.items() if name.endswith(".yaml")))
    count, values = (int(number) for number in settings["kpt_shape"])
    named = settings.get("kpt_names")  # of each class
    names = settings.get("node_names") or (next(iter(named.values())) if named else None)
    names = [str(name) for name in names] if names else [f"point_{k}" for k in range(count)]
    if len(names) != count:
        raise ValueError(f"{len(names)} names for {count} points")
    by_stem = pictures_by_name([file.rpartition(".")[0] for file in files])
    file_of = {file.rpartition(".")[0]: file for file in files}
    found, rows = [], []
    for name, text in sorted(texts.items()):
        lines = [line.split() for line in text.splitlines() if line.strip()]
        if name.endswith(".txt") and lines:
            stem = find_picture(name.rpartition("labels/")[2].removesuffix(".txt"), by_stem, path)
            found += [file_of[stem]] * len(lines)
            rows += lines
    table = np.array(rows, np.float64).reshape(len(rows), 5 + values * count)
    if len(np.unique(table[:, 0])) > 1:
        raise ValueError("several classes; keep one kind of object")
    sizes = np.array([picture_size(folder / file) for file in found], np.float64).reshape(-1, 1, 2)
    centre, extent = table[:, None, 1:3], table[:, None, 3:5]
    boxes = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1) * sizes
    shares = table[:, 5:].reshape(len(rows), count, values)
    missing = (shares[..., :2] == 0).all(axis=2) | (shares[..., 2:] == 0).any(axis=2)
    points = np.where(missing[..., None], np.nan, shares[..., :2] * sizes)
    return PointTable.of(found, points, names, boxes.reshape(-1, 4))


def _texts(path: Path) -> dict[str, str]:
    """The settings and labels of an archive, or of the folder of a data.yaml, by their names."""
    if path.suffix == ".yaml":
        labels = [own for own in sorted(path.parent.rglob("*.txt")) if "labels" in own.parts]
        return {own.relative_to(path.parent).as_posix(): own.read_text() for own in [path, *labels]}
    with zipfile.ZipFile(path) as archive:
        wanted = [
            info
            for info in archive.infolist()
            if info.filename.endswith(".yaml") or ("labels/" in info.filename and info.filename.endswith(".txt"))
        ]
        if any(info.file_size > LARGEST_TEXT for info in wanted):
            raise ValueError("a label file is too large")
        return {info.filename: archive.read(info).decode() for info in wanted}


def write_yolo(table: PointTable, sizes: Sizes, folder: Path, path: Path) -> None:
    """An archive with data.yaml, images/train and labels/train, which `yolo pose train data=<file>` takes."""
    lines: dict[str, list[str]] = {}
    for i, (file, size) in enumerate(zip(table.files, sizes, strict=True)):
        x1, y1, x2, y2 = (np.clip(table.box(i, size).reshape(2, 2), 0, size) / size).ravel()
        points = table.points[i] / size
        seen = ((points >= 0) & (points <= 1)).all(axis=1)  # with others the picture would be left out
        rows = np.where(seen[:, None], np.column_stack([points, np.full(len(points), 2)]), 0).ravel()
        numbers = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, *rows]
        lines.setdefault(file, []).append(" ".join(["0", *(f"{number:.6f}" for number in numbers)]))
    stems = [file.rpartition(".")[0] for file in lines]
    if len(set(stems)) < len(stems):
        raise UserError("two pictures differ in their ending alone, which YOLO-pose cannot tell apart; rename one")
    settings = {"train": "images/train", "val": "images/train", "names": {0: CLASS}}
    settings |= {"kpt_shape": [len(table.names), 3], "kpt_names": {0: table.names}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
        for stem, (file, own) in zip(stems, lines.items(), strict=True):
            archive.write(folder / file, f"images/train/{file}")
            archive.writestr(f"labels/train/{stem}.txt", "\n".join(own) + "\n")
