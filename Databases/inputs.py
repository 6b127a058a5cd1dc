"""The pictures and videos that `Predict.py --input` names, and the boxes of the objects in them."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from Databases.custom import list_files
from Databases.custom_annotations import read_boxes_of_objects
from Databases.tables import bad_boxes
from Utils.runtime.errors import UserError
from Utils.storage import pictures, videos
from Utils.storage.pictures import picture_size

_ENDINGS = (*pictures.SUFFIXES, *videos.SUFFIXES)


@dataclass(frozen=True)
class Inputs:
    """Files, with names relative to `root`."""

    root: Path
    pictures: list[str]
    videos: list[str]


def find_inputs(words: Sequence[str], leave_out: Path) -> Inputs:
    """The pictures and videos of files, folder trees (except below `leave_out`) and globs.

    A file that is named itself may have any suffix; it counts as a video if the suffix is not a picture's. Raises
    UserError if a file does not exist, or a folder or glob has no picture or video.
    """
    if len(words) == 1 and os.path.isdir(words[0]):
        return _split(Path(words[0]), _in_folder(Path(words[0]), leave_out))
    files: list[Path] = []
    for word in words:
        if os.path.isdir(word):
            files += [Path(word) / file for file in _in_folder(Path(word), leave_out)]
        elif os.path.exists(word):
            files.append(Path(word))
        else:
            files += _of_glob(word)
    root = Path(os.path.commonpath([file.resolve().parent for file in files]))
    return _split(root, list(dict.fromkeys(file.resolve().relative_to(root).as_posix() for file in files)))


def _in_folder(folder: Path, leave_out: Path) -> list[str]:
    files = list_files(folder, _ENDINGS, leave_out)
    if not files:
        raise UserError(f"--input {folder} contains no pictures or videos; correct the path")
    return files


def _of_glob(word: str) -> list[Path]:
    found = [Path(file) for file in sorted(glob.glob(word, recursive=True)) if os.path.isfile(file)]
    if not found:
        problem = "matches no file" if glob.has_magic(word) else "does not exist"
        raise UserError(f"--input {word} {problem}; give a picture, a folder, a video or a glob in quotes")
    known = [file for file in found if file.name.lower().endswith(_ENDINGS)]
    if not known:
        raise UserError(f"--input {word} matches no pictures or videos; correct it")
    return known


def _split(root: Path, files: list[str]) -> Inputs:
    found = [file for file in files if file.lower().endswith(pictures.SUFFIXES)]
    return Inputs(root, found, [file for file in files if not file.lower().endswith(pictures.SUFFIXES)])


def boxes_of_inputs(path: Path | str, inputs: Inputs) -> dict[str, np.ndarray]:
    """File -> boxes (k, 4) of a table with a row per object; NaN: the whole picture. A video's hold for all frames.

    Raises UserError if a file has no box, or a box is empty or outside its picture.
    """
    boxes = read_boxes_of_objects(Path(path), [*inputs.pictures, *inputs.videos])
    for file in inputs.pictures:
        known = boxes[file][np.isfinite(boxes[file]).any(axis=1)]
        if not len(known):
            continue
        try:
            size = picture_size(inputs.root / file)
        except UserError:
            continue  # the prediction of this picture reports it
        if len(bad_boxes(known, np.array(size))):
            raise UserError(
                f"{path}: a box of {file} is empty, incomplete or outside the picture, which has "
                f"{size[0]}x{size[1]} pixels; correct it"
            )
    return boxes
