"""CelebA in the wild: the unaligned pictures, of any size, with CelebA's own five points."""

from pathlib import Path
from typing import Any

import numpy as np

from Databases.celeba import DOWNLOAD, OWN_LANDMARKS, find_list, read_annotations, read_splits
from Databases.database import REGRESSION_PICTURES, Database, ImageSet
from Databases.normalisers import distance
from Databases.tables import rows_of
from Utils.crops import zoom_crop
from Utils.protocols import PAPER
from Utils.storage.pictures import picture_size

SMALLEST_FACE = 0.3  # share of the picture that the face's box covers
_PICTURE_FOLDERS = ("", "img_celeba", "Img/img_celeba", "Img/img_celeba.7z/img_celeba")


class CelebAWild(Database):
    """Pictures whose face covers at least 30%, each as a whole; boxes serve for nothing else."""

    name = "CelebAWild"
    crop_rule = "The whole picture, resized to a square."
    protocols = ("celeba-wild",)

    @classmethod
    def open(cls, options: Any) -> "CelebAWild":
        folder, lists = options.paths.folder("CelebAWild_datapath"), Path(options.data_path) / "CelebA"
        training, regression, test = read_splits(lists, folder)
        box_file, point_file = (find_list(f"list_{what}_celeba.txt", lists, folder) for what in ("bbox", "landmarks"))
        boxes, points = read_annotations(box_file), read_annotations(point_file)
        root = next((folder / inside for inside in _PICTURE_FOLDERS if any((folder / inside).glob("*.jpg"))), folder)

        def images(names: np.ndarray, most: int | None = None) -> ImageSet:
            sides = rows_of(boxes, names.tolist(), (4,), "box", box_file, DOWNLOAD, np.float64)[:, 2:]
            sizes = np.array([picture_size(root / name) for name in names], np.float64).reshape(-1, 2)
            names, sizes = (a[sides.prod(1) >= SMALLEST_FACE * sizes.prod(1)][:most] for a in (names, sizes))
            known = rows_of(points, names.tolist(), (OWN_LANDMARKS, 2), "points", point_file, DOWNLOAD)
            return ImageSet(root, names, np.column_stack([0 * sizes, sizes]), known)

        database = cls()
        database.training, database.test = images(training), images(test)
        database.regression = images(regression, REGRESSION_PICTURES if options.protocol == PAPER else None)
        return database

    def crop(self, box: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
        return zoom_crop(width, height, size, 1.0)

    def normalisers(self, groundtruth: np.ndarray) -> np.ndarray:
        return distance(groundtruth, 0, 1)
