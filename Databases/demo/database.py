"""The data set."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from Databases.database import FACE_CROP, REGRESSION_PICTURES, Database
from Databases.demo.cache import render_split
from Databases.demo.render import RENDERER_VERSION
from Databases.demo.scene import SPLITS
from Databases.normalisers import root_of_extent
from Utils.crops import face_crop
from Utils.runtime.errors import UserError

LIMITS = {
    "demo_training": (1, 1_000_000),
    "demo_test": (1, 1_000_000),
    "demo_picture_size": (32, 2048),
    "demo_seed": (0, 2**63 - 1),
}


class Demo(Database):
    """Animal heads of our own making, rendered on first use below the log path."""

    name = "Demo"
    crop_rule = FACE_CROP
    settings: ClassVar[dict[str, Any]] = {
        "demo_training": 1000,  # pictures
        "demo_test": 200,
        "demo_picture_size": 128,  # pixels
        "demo_seed": 0,  # of the pictures, apart from the training's seed
        "recipe": "consensus",
        "preset": "brief",
        "min_cluster_points": 150,
    }
    free_settings: ClassVar[tuple[str, ...]] = ("demo_training", "demo_test")

    @classmethod
    def open(cls, options: Any) -> "Demo":
        hyper = options.hyper
        for name, (least, most) in LIMITS.items():
            if not least <= getattr(hyper, name) <= most:
                raise UserError(f"--set {name}={getattr(hyper, name)}: the value must be from {least} to {most}")
        folder, size, seed = cls.folder(options), hyper.demo_picture_size, hyper.demo_seed
        counts = {"train": hyper.demo_training, "test": hyper.demo_test}
        database = cls()
        database.training, database.test = (
            render_split(folder, seed, split, counts[split], size, options.num_workers) for split in SPLITS
        )
        some = np.arange(min(REGRESSION_PICTURES, len(database.training)))
        database.regression = database.training.subset(some)
        return database

    @staticmethod
    def folder(options: Any) -> Path:
        """Where the pictures are, `train/000000.png` and so on, or will be."""
        seed, size = options.hyper.demo_seed, options.hyper.demo_picture_size
        return Path(options.log_path) / "DemoData" / f"renderer{RENDERER_VERSION}_seed{seed}_size{size}"

    def crop(self, box: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
        return face_crop(box, width, height, size)

    def normalisers(self, groundtruth: np.ndarray) -> np.ndarray:
        """sqrt(w h) of the landmarks' extent: the eyes' distance would vanish at large yaw."""
        return root_of_extent(groundtruth)
