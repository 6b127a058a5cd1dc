"""CelebA, aligned: 178x218 pictures of faces; MAFL with 68 points, or CelebA's own five, for the evaluation."""

from pathlib import Path
from typing import Any

import numpy as np

from Databases.database import REGRESSION_PICTURES, ImageSet
from Databases.faces import FaceDatabase
from Databases.normalisers import distance
from Databases.tables import load_table, rows_of
from Utils.protocols import PAPER
from Utils.runtime.errors import UserError

SIZE = (178, 218)  # width, height
LANDMARKS, OWN_LANDMARKS = 68, 5
_PUBLISHED = "get the file from the published code's data/CelebA"
NORMALISER = (41, 46)  # the outer of two points on the lower lid, of either eye

_PICTURE_FOLDERS = ("", "img_align_celeba_hq", "img_align_celeba", "Img/img_align_celeba_hq", "Img/img_align_celeba")
# Name of each list in data/CelebA -> where the download has it
LISTS = {
    "list_eval_partition.txt": "Eval/list_eval_partition.txt",
    "mafl_training.txt": "MAFL/training.txt",
    "mafl_testing.txt": "MAFL/testing.txt",
}
OWN_POINTS = "list_landmarks_align_celeba.txt"
DOWNLOAD = "download it again"


class CelebA(FaceDatabase):
    """The paper's CelebA protocol: training on partition 0 without MAFL's test pictures."""

    name = "CelebA"
    protocols = ("mafl5", "mafl5-tpami")

    @classmethod
    def open(cls, options: Any) -> "CelebA":
        folder = options.paths.folder("CelebA_datapath")
        lists = Path(options.data_path) / "CelebA"
        training_names, regression_names, test_names = read_splits(lists, folder)
        root = next((folder / inside for inside in _PICTURE_FOLDERS if any((folder / inside).glob("*.jpg"))), None)
        if root is None:
            raise UserError(f"no pictures (*.jpg) in {folder} or its img_align_celeba_hq; correct CelebA_datapath")
        box_file, point_file = lists / "CelebABoundingBoxes.pickle", lists / "MaflGroundtruthLandmarks.pickle"
        make = f"make them with `python tools/find_boxes.py {root} --aligned --output {box_file}`"
        boxes = load_table(box_file, f"{_PUBLISHED} or {make}")
        shape, remedy = (LANDMARKS, 2), _PUBLISHED
        if options.protocol == PAPER:
            landmarks = load_table(point_file, remedy) if point_file.exists() else None  # training needs none
            regression_names = regression_names[:REGRESSION_PICTURES]
        else:
            shape, remedy, point_file = (OWN_LANDMARKS, 2), DOWNLOAD, find_list(OWN_POINTS, lists, folder)
            landmarks = read_annotations(point_file)

        def images(names: np.ndarray, landmarks: dict[str, Any] | None = None) -> ImageSet:
            points = None
            if landmarks is not None:
                points = rows_of(landmarks, names.tolist(), shape, "landmarks", point_file, remedy)
            rows = rows_of(boxes, names.tolist(), (4,), "box", box_file, make, np.float64)
            return ImageSet(root, names, rows, points, size=SIZE)

        database = cls()
        database.training = images(training_names)
        database.regression, database.test = images(regression_names, landmarks), images(test_names, landmarks)
        return database

    def normalisers(self, groundtruth: np.ndarray) -> np.ndarray:
        return distance(groundtruth, *NORMALISER)


def read_splits(lists: Path, download: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names (n,) str of the training pictures (partition 0 without MAFL's test), and of MAFL's training and test."""
    partition, mafl_training, mafl_testing = (find_list(name, lists, download) for name in LISTS)
    words = _read_names(partition)
    names, parts = words[::2], words[1::2]
    if len(words) % 2 or not set(parts.tolist()) <= {"0", "1", "2"}:
        raise UserError(f"{partition} does not consist of lines like `000001.jpg 0`; download it again")
    test = _read_names(mafl_testing)
    return names[(parts == "0") & ~np.isin(names, test)], _read_names(mafl_training), test


def find_list(name: str, lists: Path, download: Path) -> Path:
    """The list in data/CelebA, else in the download; `download` may be its root or a folder inside."""
    roots, inside = (download, *download.resolve().parents[:2]), LISTS.get(name, f"Anno/{name}")
    for candidate in (lists / name, *(root / inside for root in roots)):
        if candidate.is_file():
            return candidate
    raise UserError(f"{lists / name} does not exist, nor {inside} in {download}; copy it there")


def read_annotations(file: Path) -> dict[str, list[str]]:
    """Picture name -> its values, of a list like CelebA's: a count, a line of columns, a line for each picture."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = {name: values for name, *values in map(str.split, filter(str.strip, lines[2:]))}
    if not rows or not lines[0].strip().isdigit():
        raise UserError(
            f"{file} is not a list of CelebA's, which begins with a count and a line of columns; {DOWNLOAD}"
        )
    return rows


def _read_names(file: Path) -> np.ndarray:
    """The words of a list, (n,) str."""
    words = file.read_text(encoding="utf-8-sig", errors="replace").split()
    if not words:
        raise UserError(f"{file} is empty; download it again")
    return np.array(words)
