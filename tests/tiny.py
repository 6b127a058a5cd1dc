"""Small things for tests: settings at which the scripts take seconds, and a data set in memory.

Its pictures are gray-blue, with one bright corner-like mark per landmark.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from Databases.database import Database, ImageSet
from Databases.normalisers import root_of_extent
from Networks.first_step import FirstStep
from Networks.recipes import RECIPES, recipe_of
from Networks.second_step import SecondStep
from Utils import crops
from Utils.hyperparameters import hyperparameters
from Utils.keypoints import KeypointTable

# Of the scripts; two epochs of step two with a merge between, on the pictures of Demo.
SETTINGS = {
    "image_size": 64,
    "width": 32,
    "number_of_clusters": 16,
    "iterations_first": 6,
    "clustering_rounds": 1,
    "iterations_per_scheduler_step": 1,
    "batch_size": 8,
    "gradient_accumulation": 1,
    "total_iterations": 12,
    "iterations_before_merging": 2,
    "learning_rate_steps": "8,10",
    "min_cluster_points": 1,
    "confidence_superpoint": 0.01,
    "nms_superpoint": 4,
    "confidence_fan": 0.02,
}
CONSENSUS_SETTINGS = {"least_steadiness": 0.0}  # so short a training leaves nothing that is steady
DEMO_SETTINGS = {"demo_training": 40, "demo_test": 12}

SIZE = 64
# Where the marks of every picture are, before its own shift: (12, 2) pixels.
MARKS = np.array([(x, y) for y in (16, 28, 40) for x in (16, 26, 36, 46)], np.float64)


class TinyDatabase(Database):
    """Pictures of 64x64 pixels with 12 marks of different colours, shifted as a whole."""

    name = "Tiny"
    ridge_samples = 10

    def __init__(self, training: int = 24, test: int = 8) -> None:
        total = training + test
        self.shifts = np.random.default_rng(5).integers(-4, 5, size=(total, 2))
        self.colours = np.random.default_rng(6).integers(80, 256, size=(len(MARKS), 3)).astype(np.uint8)
        points = (MARKS[None] + self.shifts[:, None]).astype(np.float32)
        names = np.array([f"{i:03d}.png" for i in range(total)])
        boxes = np.tile(np.float32([0, 0, SIZE, SIZE]), (total, 1))
        everything = ImageSet(Path("/nowhere"), names, boxes, points)
        self.training = everything.subset(np.arange(training))
        self.regression = self.training
        self.test = everything.subset(np.arange(training, total))

    @classmethod
    def open(cls, options) -> "TinyDatabase":
        return cls()

    def read(self, images: ImageSet, i: int) -> np.ndarray:
        number = int(str(images.names[i])[:3])
        picture = np.full((SIZE, SIZE, 3), (60, 70, 90), np.uint8)
        for (x, y), colour in zip((MARKS + self.shifts[number]).astype(int), self.colours):
            picture[y - 2 : y + 3, x - 2 : x + 3] = colour
        return picture

    def crop(self, box, width, height, size) -> np.ndarray:
        return crops.zoom_crop(width, height, size, 1.0)

    def normalisers(self, groundtruth) -> np.ndarray:
        return root_of_extent(groundtruth)

    def keypoints(self) -> KeypointTable:
        """The marks as pseudo-groundtruth on the 16x16 grid of a 64-pixel crop."""
        cells = np.rint(self.training.landmarks / 4)
        clusters = np.arange(len(MARKS), dtype=np.float32)[:, None]
        lists = [np.hstack([points, clusters]) for points in cells]
        return KeypointTable.from_dict(dict(zip(self.training.names, lists, strict=True)))


def tiny_options(tmp_path: Path, *settings: str, **changes):
    """Options as the scripts make them, small."""
    small = ("image_size=64", "width=32", "number_of_clusters=12", "iterations_first=4", "clustering_rounds=1")
    small += ("iterations_per_scheduler_step=1", "batch_size=4", "total_iterations=8", "min_cluster_points=2")
    values = {
        "dataset_name": "Tiny",
        "experiment_name": "tiny",
        "num_workers": 0,
        "resume": False,
        "log_path": tmp_path,
        "device": torch.device("cpu"),
        "hyper": hyperparameters([*small, *settings], RECIPES),
        "paths": SimpleNamespace(optional=lambda key: ""),
        "protocol": "paper",
        "landmarks": 0,
        "mirror": False,
        **changes,
    }
    return SimpleNamespace(**values)


def first_step(database: Database, options, experiment) -> FirstStep:
    """As Train_Firststep.py makes it, before `run`."""
    step = FirstStep(database, options, experiment, recipe_of(options.hyper))
    if options.resume:
        step.resume()
    return step


def second_step(database: Database, options, experiment) -> SecondStep:
    """As Train_Secondstep.py makes it, before `run`."""
    step = SecondStep.from_first_step(database, options, experiment, recipe_of(options.hyper))
    if options.resume:
        step.resume()
    return step
