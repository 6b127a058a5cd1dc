"""The Demo data set."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, Field

from Databases.database import FACE_CROP, REGRESSION_PICTURES, Database
from Databases.demo.cache import render_split
from Databases.demo.render import RENDERER_VERSION
from Databases.demo.scene import SPLITS
from Databases.normalisers import root_of_extent
from Utils.crops import face_crop
from Utils.hyperparameters import FREE_AFTER_TRAINING


class DemoSettings(BaseModel):
    """Each description is the field's line in docs/training.md."""

    demo_training: Annotated[int, FREE_AFTER_TRAINING] = Field(1000, ge=1, description="training pictures")
    demo_test: Annotated[int, FREE_AFTER_TRAINING] = Field(200, ge=1, description="test pictures")
    demo_picture_size: int = Field(128, ge=32, description="side of a picture in pixels")
    demo_seed: int = Field(0, ge=0, lt=2**63, description="of the pictures; `seed` is the training's")


class Demo(Database):
    """Animal heads, rendered below the log path on first use."""

    name = "Demo"
    crop_rule = FACE_CROP
    settings: ClassVar[type[BaseModel]] = DemoSettings
    defaults: ClassVar[dict[str, Any]] = {"recipe": "consensus", "preset": "brief", "min_cluster_points": 150}

    @classmethod
    def open(cls, options: Any) -> "Demo":
        hyper: DemoSettings = options.hyper
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
        """The folder of the pictures, `train/000000.png` ..."""
        seed, size = options.hyper.demo_seed, options.hyper.demo_picture_size
        return Path(options.log_path) / "DemoData" / f"renderer{RENDERER_VERSION}_seed{seed}_size{size}"

    def crop(self, box: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
        return face_crop(box, width, height, size)

    def normalisers(self, groundtruth: np.ndarray) -> np.ndarray:
        """sqrt(w h) of the landmarks' extent: the distance of the eyes vanishes in profile."""
        return root_of_extent(groundtruth)
