"""Human3.6M as `PrePreprocessHuman.py` extracts it: 450x450 pictures of one person, 32 joints."""

from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, Field

from Databases.database import REGRESSION_PICTURES, Database, ImageSet
from Databases.normalisers import distance
from Databases.tables import load_table, rows_of
from Utils.crops import zoom_crop
from Utils.hyperparameters import FREE_AFTER_TRAINING
from Utils.protocols import PAPER

SIZE = (450, 450)
JOINTS = 32
SCALE = 1.5  # an extracted picture is as high as 1.5 boxes
ZOOM = 1.4  # about the picture's centre, where the person is
NORMALISER = (25, 17)  # the shoulders

# The first pair of a group decides whether all its pairs are swapped.
_BODY = np.array([(1, 6), (25, 17), (18, 26), (27, 19), (20, 28), (29, 21), (30, 22), (31, 23)])
_LEGS = np.array([(2, 7), (3, 8), (4, 9), (5, 10)])
_REMEDY = "run PrePreprocessHuman.py and point Human_datapath to what it extracts"


class Human36Settings(BaseModel):
    """Each description is the field's line in docs/training.md."""

    regression_step: Annotated[int, FREE_AFTER_TRAINING] = Field(
        50,
        ge=1,
        description="every 50th training picture is a regression picture; fewer pictures want a smaller step",
    )


class Human36(Database):
    """The paper's Human3.6 protocol; its background is constant."""

    name = "Human3.6"
    crop_rule = "The extracted picture, zoomed by 1.4 about its centre."
    settings = Human36Settings
    defaults: ClassVar[dict[str, Any]] = {"number_of_clusters": 250}
    ridge_samples = 800
    constant_background = True
    protocols = ("human-simplified",)

    @classmethod
    def open(cls, options: Any) -> "Human36":
        hyper: Human36Settings = options.hyper
        root = options.paths.folder("Human_datapath")
        box_file, joint_file = root / "HumanBoundingBoxes.pickle", root / "GroundtruthKeypoints.pickle"
        boxes, joints = load_table(box_file, _REMEDY), load_table(joint_file, _REMEDY)

        def images(split: str) -> ImageSet:
            names = sorted(name for name in boxes if name.startswith(f"/{split}/"))
            rows = rows_of(boxes, names, (4,), "box", box_file, _REMEDY, np.float64)
            points = rows_of(joints, names, (JOINTS, 2), "joints", joint_file, _REMEDY)
            return ImageSet(root / "images", np.array(names, str), rows, points, size=SIZE)

        database = cls()
        database.training, database.test = images("train"), images("test")
        step, most = (hyper.regression_step, REGRESSION_PICTURES) if options.protocol == PAPER else (1, None)
        database.regression = database.training.subset(np.arange(len(database.training))[::step][:most])
        return database

    def crop(self, box: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
        return zoom_crop(width, height, size, ZOOM)

    def view(self, box: np.ndarray, width: int, height: int) -> tuple[np.ndarray, tuple[int, int]]:
        """What the extraction makes of a person's box; without a box, the picture counts as extracted already."""
        if np.array_equal(box, (0, 0, width, height)):
            return zoom_crop(width, height, SIZE[0], 1.0), SIZE
        return crop_of_box(box), SIZE

    def normalisers(self, groundtruth: np.ndarray) -> np.ndarray:
        return distance(groundtruth, *NORMALISER)

    def order_landmarks(self, groundtruth: np.ndarray) -> np.ndarray:
        """Make left the left of the picture: (n, 32, 2) -> the same shape.

        If joint 1 is right of joint 6, the pairs of the body are swapped; if joint 2 is right of joint 7, the legs'.
        """
        ordered = groundtruth.copy()
        for pairs in (_BODY, _LEGS):
            left, right = pairs[0]
            rows = np.flatnonzero(groundtruth[:, left, 0] > groundtruth[:, right, 0])[:, None]
            ordered[rows, pairs.ravel()] = groundtruth[rows, pairs[:, ::-1].ravel()]
        return ordered


def crop_of_box(box: np.ndarray) -> np.ndarray:
    """The map (..., 2, 3) from video to picture, which is centred on the box (..., 4) and 1.5 times as high."""
    box = np.asarray(box, np.float64)
    scale = SIZE[1] / (SCALE * (box[..., 3] - box[..., 1]))
    centre = (box[..., :2] + box[..., 2:]) / 2
    m = np.zeros((*box.shape[:-1], 2, 3))
    m[..., 0, 0] = m[..., 1, 1] = scale
    m[..., 2] = np.array(SIZE) / 2 - scale[..., None] * centre
    return m
