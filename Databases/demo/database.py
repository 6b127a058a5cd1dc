"""The Demo data set."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, Field

from Databases.database import FACE_CROP, Database
from Databases.demo.archive import COUNTS, unpack
from Databases.demo.scene import SPLITS
from Databases.normalisers import root_of_extent
from Utils.crops import face_crop
from Utils.hyperparameters import FREE_AFTER_TRAINING

REGRESSION = 500  # pictures, so that the evaluation is short


class DemoSettings(BaseModel):
    """Each description is the field's line in docs/training.md."""

    demo_training: Annotated[int, FREE_AFTER_TRAINING] = Field(
        COUNTS["train"], ge=1, le=COUNTS["train"], description="training pictures, the first of 1000"
    )
    demo_test: Annotated[int, FREE_AFTER_TRAINING] = Field(
        COUNTS["test"], ge=1, le=COUNTS["test"], description="test pictures, the first of 200"
    )


class Demo(Database):
    """Rendered animal heads, unpacked below the log path on first use."""

    name = "Demo"
    crop_rule = FACE_CROP
    settings: ClassVar[type[BaseModel]] = DemoSettings
    defaults: ClassVar[dict[str, Any]] = {"recipe": "consensus", "preset": "brief", "min_cluster_points": 150}

    @classmethod
    def open(cls, options: Any) -> "Demo":
        hyper: DemoSettings = options.hyper
        counts = {"train": hyper.demo_training, "test": hyper.demo_test}
        folder = Path(options.log_path) / "DemoData"
        database = cls()
        database.training, database.test = (unpack(folder, split, counts[split]) for split in SPLITS)
        some = np.arange(min(REGRESSION, len(database.training)))
        database.regression = database.training.subset(some)
        return database

    def crop(self, box: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
        return face_crop(box, width, height, size)

    def normalisers(self, groundtruth: np.ndarray) -> np.ndarray:
        """sqrt(w h) of the landmarks' extent: the distance of the eyes vanishes in profile."""
        return root_of_extent(groundtruth)
