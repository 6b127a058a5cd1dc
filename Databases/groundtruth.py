"""Groundtruth in crops, and how well labels follow it."""

from dataclasses import replace
from functools import cached_property

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


def groundtruth_of(database: Database, images: ImageSet, maps: np.ndarray, ordered: bool = True) -> np.ndarray:
    """Groundtruth (n, G, 2) in the crops of the maps (n, 2, 3); UserError if the pictures have no landmarks.

    ordered: in picture order, as the paper measures; else as annotated.
    """
    if images.landmarks is None:
        raise UserError(f"{database.name} has no groundtruth landmarks under {images.root}; add them to evaluate")
    points = crops.apply(maps, images.landmarks.astype(np.float64))
    return database.order_landmarks(points) if ordered else points


def protocol_maps(images: ImageSet, maps: np.ndarray) -> np.ndarray:
    """The maps (n, 2, 3) from pictures to what protocols other than the paper's measure in.

    That is the whole picture resized to 256x256 where all have one size, else the crop, to which `maps` lead.
    """
    if images.size is None:
        return maps
    width, height = images.size
    whole = crops.window_crop((0, 0, width, height), PREDICTION_SIZE)
    return np.broadcast_to(whole, maps.shape)


def crop_maps(database: Database, images: ImageSet, options: Options) -> np.ndarray:
    """The maps (n, 2, 3) from pictures to their 256x256 crops."""
    batches = crop_batches(database, images, PREDICTION_SIZE, 64, workers_for(options, len(images)), options.device)
    return np.concatenate([maps for _, maps, _ in batches])


class LabelQuality:
    """How well labels follow the groundtruth of the regression pictures that are training pictures too."""

    def __init__(self, database: Database, options: Options) -> None:
        self.database, self.options = database, options

    def of(self, labels: KeypointTable) -> Movement | None:
        """Of each cluster's keypoints in the labels of all training pictures; None without groundtruth."""
        if self._known is None:
            return None
        names, groundtruth = self._known
        places = labels.align(names).places(len(labels.cluster_counts()))
        scale = GRID * PREDICTION_SIZE / self.options.hyper.image_size
        return explained_movement(scale * places, groundtruth)

    @cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Names (n,) of the pictures and their groundtruth (n, G, 2) in pixels of the 256x256 crop."""
        training, known = self.database.training, self.database.regression
        names, rows, known_rows = np.intersect1d(training.names, known.names, return_indices=True)
        if known.landmarks is None or len(names) == 0:
            return None
        images = training.subset(rows)
        if images.landmarks is None:
            images = replace(images, landmarks=known.landmarks[known_rows])
        return names, groundtruth_of(self.database, images, crop_maps(self.database, images, self.options))


def movement_figures(movement: Movement | None) -> dict[str, float]:
    """For TensorBoard: mean residual, movement and R2 of the clusters, and how many of them follow their part."""
    if movement is None:
        return {}
    figures = {f"labels/{name}": value for name, value in movement.means().items() if not np.isnan(value)}
    return figures | {"labels/following": float(np.nansum(movement.r2 > FOLLOWS))}
