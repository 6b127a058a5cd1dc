"""Groundtruth in crops, and how well labels follow it: for evaluation and for whoever watches a training."""

from dataclasses import replace

import numpy as np

from Databases.database import Database, ImageSet
from Databases.loading import crop_batches, workers_for
from Databases.samples import GRID
from Utils import crops
from Utils.keypoints import KeypointTable
from Utils.movement import FOLLOWS, Movement, explained_movement
from Utils.options import Options
from Utils.runtime.errors import UserError

PREDICTION_SIZE = 256  # predictions and groundtruth are in pixels of a crop of this side


def groundtruth_of(database: Database, images: ImageSet, maps: np.ndarray) -> np.ndarray:
    """Groundtruth (n, G, 2) in the crops that the maps (n, 2, 3) lead to; UserError where there is none."""
    if images.landmarks is None:
        raise UserError(f"{database.name} has no groundtruth landmarks under {images.root}; add them to evaluate")
    return database.order_landmarks(crops.apply(maps, images.landmarks.astype(np.float64)))


def crop_maps(database: Database, images: ImageSet, options: Options) -> np.ndarray:
    """The maps (n, 2, 3) from pictures to their 256x256 crops."""
    batches = crop_batches(database, images, PREDICTION_SIZE, 64, workers_for(options, len(images)), options.device)
    return np.concatenate([maps for _, maps, _ in batches])


class LabelQuality:
    """The groundtruth of those regression pictures that are training pictures too; read when it is first asked."""

    def __init__(self, database: Database, options: Options) -> None:
        self.database, self.options = database, options
        self._known: tuple[np.ndarray, np.ndarray] | None = None

    def of(self, labels: KeypointTable) -> Movement | None:
        """Of each cluster's keypoints in the labels of all training pictures; None without groundtruth."""
        if self._known is None:
            self._known = self._read()
        rows, groundtruth = self._known
        if len(rows) == 0:
            return None
        places = labels.align(self.database.training.names[rows]).places(len(labels.cluster_counts()))
        scale = GRID * PREDICTION_SIZE / self.options.hyper.image_size
        return explained_movement(scale * places, groundtruth)

    def _read(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows (n,) of the training pictures, their groundtruth (n, G, 2) in pixels of the 256x256 crop."""
        training, known = self.database.training, self.database.regression
        if known.landmarks is None:
            return np.zeros(0, np.int64), np.zeros((0, 0, 2))
        position = {name: i for i, name in enumerate(training.names.tolist())}
        pairs = [(position[name], i) for i, name in enumerate(known.names.tolist()) if name in position]
        if not pairs:
            return np.zeros(0, np.int64), np.zeros((0, 0, 2))
        rows, of_known = np.array(pairs, np.int64).T
        images = training.subset(rows)
        if images.landmarks is None:
            images = replace(images, landmarks=known.landmarks[of_known])
        return rows, groundtruth_of(self.database, images, crop_maps(self.database, images, self.options))


def movement_figures(movement: Movement | None) -> dict[str, float]:
    """For TensorBoard: residual, movement and R2 of the clusters, and how many follow their part."""
    if movement is None:
        return {}
    figures = {f"labels/{name}": value for name, value in movement.means().items() if not np.isnan(value)}
    return figures | {"labels/following": float(np.nansum(movement.r2 > FOLLOWS))}
