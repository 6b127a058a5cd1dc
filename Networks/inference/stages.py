"""Landmarks of the evaluation images at every stage of the method, to see what each stage gains."""

from collections.abc import Callable

import numpy as np

from Databases.database import Database, ImageSet
from Databases.groundtruth import PREDICTION_SIZE, crop_maps, groundtruth_of
from Databases.samples import GRID, grid_side
from Networks.bootstrap import store_generic_keypoints
from Networks.checkpoints import adopt_newest, clusters_from_state, load_clusters, load_fan, load_first_step
from Networks.inference.detector import LandmarkDetector
from Networks.inference.landmarks import join_splits, landmarks_of
from Networks.recipe import Recipe
from Networks.relabelling import store_fan_keypoints
from Networks.superpoint import load_superpoint
from Utils.assignment import assign, keypoint_table
from Utils.descriptors import DescriptorStore
from Utils.keypoints import KeypointTable
from Utils.options import Options
from Utils.predictions import Predictions
from Utils.runtime.errors import UserError
from Utils.storage.experiment import Experiment

Fill = Callable[[ImageSet, DescriptorStore], None]
# A cluster's keypoint is missing in many pictures, where a network's map answers in nearly all: landmarks that
# are missing in up to this share of the pictures count at the first stages, in 20% (the paper) at the last.
MISSING_LIMIT_OF_CLUSTERS = 0.8
MISSING_LIMIT = 0.2


def bootstrap_landmarks(database: Database, options: Options, experiment: Experiment) -> tuple[Predictions, float]:
    """Each cluster of the bootstrap as a landmark, and the share of pictures in which one may be missing."""
    adopt_newest(options, [experiment.newest_first_step()], load_first_step)
    superpoint = load_superpoint(options.paths.optional("path_to_superpoint_checkpoint"), options.device)
    path = experiment.bootstrap_clusters()
    centroids, thresholds = clusters_from_state(load_clusters(path))
    if centroids is None or thresholds is None:
        raise UserError(f"{path} has no centroid and threshold: it is no file of the bootstrap; run that again")

    def fill(images: ImageSet, store: DescriptorStore) -> None:
        store_generic_keypoints(superpoint, database, images, options, store)

    known = KeypointTable.load(experiment.bootstrap_keypoints(), grid_side(options.hyper), len(centroids))
    return _cluster_landmarks(database, options, experiment, centroids, thresholds, known, fill)


def first_step_landmarks(
    database: Database, options: Options, experiment: Experiment, recipe: Recipe
) -> tuple[Predictions, float]:
    """Each cluster of step one's last round as a landmark, and the share of pictures in which one may be missing."""
    iteration, path = experiment.newest_first_step()
    content = load_first_step(path)
    centroids, thresholds = clusters_from_state(content)
    if centroids is None or thresholds is None:
        raise UserError(f"{path} has no clusters of its own; let step one end its round with --resume")
    network = load_fan(content, path, options)

    def fill(images: ImageSet, store: DescriptorStore) -> None:
        store_fan_keypoints(network, database, images, options, store, describe=recipe.describe)

    known = KeypointTable.load(
        experiment.find(experiment.updated_keypoints(iteration)), grid_side(options.hyper), len(centroids)
    )
    return _cluster_landmarks(database, options, experiment, centroids, thresholds, known, fill)


def second_step_landmarks(database: Database, options: Options, experiment: Experiment) -> tuple[Predictions, float]:
    """The landmarks of step two, and the share of pictures in which one may be missing."""
    return landmarks_of(LandmarkDetector.of_experiment(experiment, options, database)), MISSING_LIMIT


def _cluster_landmarks(
    database: Database,
    options: Options,
    experiment: Experiment,
    centroids: np.ndarray,
    thresholds: np.ndarray,
    known: KeypointTable,
    fill: Fill,
) -> tuple[Predictions, float]:
    """Landmarks from keypoints: known ones of training images, else detected and assigned anew."""
    points, groundtruth = [], []
    for images in (database.regression, database.test):
        if _are_training_images(database, images):
            table = known.align(images.names)
        else:
            with DescriptorStore(experiment.checkpoints, centroids.shape[1]) as store:
                fill(images, store)
                clusters = assign(store, len(images), centroids, thresholds, store.column("flag"), options.device)
                table = keypoint_table(store, clusters, images.names)
        points.append(table.places(len(centroids)) * GRID * PREDICTION_SIZE / options.hyper.image_size)
        groundtruth.append(groundtruth_of(database, images, crop_maps(database, images, options)))
    return join_splits(database, points, groundtruth), MISSING_LIMIT_OF_CLUSTERS


def _are_training_images(database: Database, images: ImageSet) -> bool:
    """Whether all images are training images with the same boxes, so that their keypoints are known."""
    position = {name: i for i, name in enumerate(database.training.names.tolist())}
    rows = [position.get(name, -1) for name in images.names.tolist()]
    return min(rows, default=-1) >= 0 and np.array_equal(database.training.boxes[rows], images.boxes)
