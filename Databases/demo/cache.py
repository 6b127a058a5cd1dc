"""The pictures as files: rendered once, in worker processes, and again if a file is damaged."""

import os
from pathlib import Path

import cv2
import numpy as np

from Databases.database import ImageSet
from Databases.demo.mesh import annotate
from Databases.demo.render import render_scene
from Databases.demo.scene import sample_scene
from Databases.demo.surface import LANDMARKS
from Utils.runtime.errors import UserError
from Utils.runtime.parallel import parallel_map
from Utils.runtime.progress import progress
from Utils.storage.files import dump_pickle, load_pickle, remove_left_overs, writing


def _rendered(shared: tuple[int, str, int], item: tuple[int, bool]) -> tuple[bytes, np.ndarray, np.ndarray]:
    """A picture as the bytes of a PNG file, empty unless it is missing; its landmarks and its box.

    shared: seed, split, size; item: the picture's index and whether its file is missing.
    """
    (seed, split, size), (index, is_missing) = shared, item
    scene = sample_scene(seed, split, index)
    content = b""
    if is_missing:
        content = cv2.imencode(".png", render_scene(scene, size)[..., ::-1])[1].tobytes()
    return content, *annotate(scene, size)


def render_split(folder: Path, seed: int, split: str, count: int, size: int, num_workers: int) -> ImageSet:
    """The first `count` pictures of a split, `<split>/000000.png` ... below `folder`. Renders those that are missing.

    A picture's file is written whole, and the split's list, `<split>.pickle`, after the last picture. So a killed
    rendering resumes, and two processes at once only do the same work twice.
    """
    remove_left_overs(folder, folder / split)
    names = np.array([f"{split}/{i:06d}.png" for i in range(count)])
    list_file = folder / f"{split}.pickle"
    known = _read_list(list_file)
    listed = min(count, len(known["bytes"]))
    lengths = _file_lengths(folder / split, count)
    missing = lengths == 0
    missing[:listed] |= lengths[:listed] != known["bytes"][:listed]
    wanted = np.flatnonzero(missing | (np.arange(count) >= listed))
    if len(wanted):
        known = {name: _lengthened(rows, count) for name, rows in known.items()}
        items = [(int(i), bool(missing[i])) for i in wanted]
        workers = num_workers if missing.sum() > num_workers else 0
        results = parallel_map(_rendered, (seed, split, size), items, workers)
        for k, result in progress(results, f"Rendering the Demo set, {split}", len(wanted)):
            content, i = result[0], wanted[k]
            if content:
                with writing(folder / names[i]) as temporary:
                    temporary.write_bytes(content)
            known["bytes"][i] = len(content) or lengths[i]
            known["landmarks"][i], known["boxes"][i] = result[1:]
        dump_pickle(known, list_file)
    return ImageSet(folder, names, known["boxes"][:count], known["landmarks"][:count], size=(size, size))


def _lengthened(rows: np.ndarray, count: int) -> np.ndarray:
    """A copy with at least `count` rows."""
    return np.concatenate([rows, np.zeros((max(count - len(rows), 0), *rows.shape[1:]), rows.dtype)])


def _read_list(file: Path) -> dict[str, np.ndarray]:
    """Landmarks, boxes and file lengths of the finished pictures; empty if the list is missing or damaged."""
    empty: dict[str, np.ndarray] = {
        "landmarks": np.zeros((0, len(LANDMARKS), 2), np.float32),
        "boxes": np.zeros((0, 4), np.float32),
        "bytes": np.zeros(0, np.int64),
    }
    try:
        known = load_pickle(file)
        count = len(known["bytes"])
        sound = all(known[name].shape == (count, *rows.shape[1:]) for name, rows in empty.items())
    except (UserError, KeyError, TypeError, AttributeError):
        sound = False
    return {name: known[name] for name in empty} if sound else empty


def _file_lengths(folder: Path, count: int) -> np.ndarray:
    """Bytes of the files 000000.png ... of a folder; 0 for a missing one."""
    lengths = np.zeros(count, np.int64)
    if folder.is_dir():
        for entry in os.scandir(folder):
            stem, _, suffix = entry.name.partition(".")
            if suffix == "png" and stem.isdecimal() and int(stem) < count:
                lengths[int(stem)] = entry.stat().st_size
    return lengths
