"""The pictures and videos that `Predict.py --input` names."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from Databases.custom import list_files
from Utils.runtime.errors import UserError
from Utils.storage import pictures, videos

_ENDINGS = (*pictures.SUFFIXES, *videos.SUFFIXES)
_PICTURES = tuple(set(pictures.SUFFIXES) - set(videos.SUFFIXES))  # .gif, which is both, is a video here


@dataclass(frozen=True)
class Inputs:
    """Files, with names relative to `root`."""

    root: Path
    pictures: list[str]
    videos: list[str]


def find_inputs(words: Sequence[str], leave_out: Path) -> Inputs:
    """The pictures and videos of files, folder trees (except below `leave_out`) and globs.

    A file that is named itself may have any suffix; it counts as a video if the suffix is not a picture's. Raises
    UserError if a file does not exist, a folder or glob has no picture or video, or a folder is `leave_out` itself.
    """
    for word in words:
        if os.path.realpath(word) == os.path.realpath(leave_out):
            raise UserError(f"--output is the folder of the pictures, {word}; write results elsewhere")
    files = [file for word in words for file in _find(word, leave_out)]
    root = Path(words[0])
    if len(words) > 1 or not root.is_dir():
        files = list(dict.fromkeys(file.resolve() for file in files))
        root = Path(os.path.commonpath([file.parent for file in files]))
    names = [file.relative_to(root).as_posix() for file in files]
    found = [name for name in names if name.lower().endswith(_PICTURES)]
    return Inputs(root, found, [name for name in names if not name.lower().endswith(_PICTURES)])


def _find(word: str, leave_out: Path) -> list[Path]:
    if os.path.isdir(word):
        files, problem = list_files(Path(word), _ENDINGS, leave_out), "contains no pictures or videos"
        found = [Path(word) / file for file in files]
    elif os.path.exists(word):
        return [Path(word)]
    else:
        problem = "matches no pictures or videos" if glob.has_magic(word) else "does not exist"
        matches = [Path(file) for file in sorted(glob.glob(word, recursive=True))]
        found = [file for file in matches if file.is_file() and file.name.lower().endswith(_ENDINGS)]
    if not found:
        raise UserError(f"--input {word} {problem}; give a picture, a folder, a video or a glob in quotes")
    return found
