"""The pictures as files: rendered once, in worker processes, and mended where they are damaged."""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch.utils.data

from Databases.database import ImageSet
from Databases.demo.mesh import annotate
from Databases.demo.render import render_scene
from Databases.demo.scene import sample_scene
from Databases.demo.surface import LANDMARKS
from Utils.runtime.errors import UserError
from Utils.runtime.process import set_up_worker
from Utils.runtime.progress import progress
from Utils.storage.files import dump_pickle, load_pickle, remove_left_overs, writing


class Renderings(torch.utils.data.Dataset):
    """Pictures to be rendered in worker processes: index, PNG file's bytes, landmarks and box of each."""

    def __init__(self, seed: int, split: str, size: int, indices: np.ndarray, missing: np.ndarray) -> None:
        """`missing` (n,) tells for which of the indices (n,) the file is wanted; else its bytes are empty."""
        self.seed, self.split, self.size = seed, split, size
        self.indices, self.missing = indices, missing

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> tuple[int, torch.Tensor, np.ndarray, np.ndarray]:
        scene = sample_scene(self.seed, self.split, int(self.indices[i]))
        # A tensor travels in shared memory: bytes would fill the pipe, and a worker whose parent is killed
        # would wait for ever to get rid of them.
        content = torch.zeros(0, dtype=torch.uint8)
        if self.missing[i]:
            content = torch.from_numpy(cv2.imencode(".png", render_scene(scene, self.size)[..., ::-1])[1])
        return int(self.indices[i]), content, *annotate(scene, self.size)


def render_split(folder: Path, seed: int, split: str, count: int, size: int, num_workers: int) -> ImageSet:
    """The first `count` pictures of a split as files `<split>/000000.png` ... below `folder`, rendered where missing.

    A picture's file appears whole or not at all, and the split's list, `<split>.pickle`, after its last
    picture; so a rendering that was killed goes on where it ended, and two at once only do the same work twice.
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
        renderings = Renderings(seed, split, size, wanted, missing[wanted])
        loader = torch.utils.data.DataLoader(
            renderings,
            batch_size=None,
            collate_fn=_as_is,
            num_workers=num_workers if missing.sum() > num_workers else 0,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # leaves the global random state alone
        )
        for i, content, landmarks, box in progress(loader, f"Rendering the Demo set, {split}", len(wanted)):
            if len(content):
                with writing(folder / names[i]) as temporary:
                    temporary.write_bytes(content.numpy().tobytes())
            known["landmarks"][i], known["boxes"][i] = landmarks, box
            known["bytes"][i] = len(content) or lengths[i]
        dump_pickle(known, list_file)
    return ImageSet(folder, names, known["boxes"][:count], known["landmarks"][:count], size=(size, size))


def _lengthened(rows: np.ndarray, count: int) -> np.ndarray:
    """A copy with at least `count` rows."""
    return np.concatenate([rows, np.zeros((max(count - len(rows), 0), *rows.shape[1:]), rows.dtype)])


def _as_is(item: Any) -> Any:
    return item


def _start_worker(_: int) -> None:
    set_up_worker()
    cv2.setNumThreads(0)


def _read_list(file: Path) -> dict[str, np.ndarray]:
    """Landmarks, boxes and file lengths of the pictures that are done; empty where there is no sound list."""
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
        sound = False  # it is made again
    return {name: known[name] for name in empty} if sound else empty


def _file_lengths(folder: Path, count: int) -> np.ndarray:
    """Bytes of the files 000000.png ... of a folder, 0 where one does not exist."""
    lengths = np.zeros(count, np.int64)
    if folder.is_dir():
        for entry in os.scandir(folder):
            stem, _, suffix = entry.name.partition(".")
            if suffix == "png" and stem.isdecimal() and int(stem) < count:
                lengths[int(stem)] = entry.stat().st_size
    return lengths
