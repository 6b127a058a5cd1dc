"""Landmarks of the evaluation images after each stage of the method, to see what each stage gains."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from Databases.database import Database, ImageSet
from Databases.groundtruth import PREDICTION_SIZE, crop_maps, groundtruth_of
from Databases.samples import GRID, grid_side
from Networks.checkpoints import adopt_newest, clusters_from_state, load_clusters, load_fan, load_first_step
from Networks.generic_keypoints import store_generic_keypoints
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


def bootstrap_landmarks(database: Database, options: Options, experiment: Experiment) -> Predictions:
    """Each cluster of the bootstrap as a landmark."""
    adopt_newest(options, [experiment.newest_first_step()], load_first_step)
    superpoint = load_superpoint(options.paths.optional("path_to_superpoint_checkpoint"), options.device)
    content = load_clusters(experiment.bootstrap_clusters())
    fill = partial(store_generic_keypoints, superpoint, database, options=options)
    return _cluster_landmarks(database, options, content, experiment.bootstrap_keypoints(), fill)


def first_step_landmarks(database: Database, options: Options, experiment: Experiment, recipe: Recipe) -> Predictions:
    """Each cluster of step one's last round as a landmark."""
    iteration, path = experiment.newest_first_step()
    content = load_first_step(path)
    if content.get("threshold") is None:
        raise UserError(f"{path} has no clusters of its own; let step one end its round with --resume")
    network = load_fan(content, path, options)
    fill = partial(store_fan_keypoints, network, database, options=options, describe=recipe.describe)
    keypoints = experiment.find(experiment.updated_keypoints(iteration))
    return _cluster_landmarks(database, options, content, keypoints, fill)


def second_step_landmarks(database: Database, options: Options, experiment: Experiment) -> Predictions:
    """The landmarks of step two."""
    return landmarks_of(LandmarkDetector.from_experiment(experiment, options, database))


def _cluster_landmarks(
    database: Database, options: Options, content: Mapping[str, Any], keypoints_file: Path, fill: Callable[..., None]
) -> Predictions:
    """Landmarks from keypoints: the training's for its own pictures, else detected by fill(images, store=...)."""
    centroids, thresholds = clusters_from_state(content)
    assert centroids is not None
    known = KeypointTable.load(keypoints_file, grid_side(options.hyper), len(centroids))
    points, groundtruth = [], []
    for images in (database.regression, database.test):
        if _are_training_images(database, images):
            table = known.align(images.names)
        else:
            with DescriptorStore(keypoints_file.parent, centroids.shape[1]) as store:
                fill(images, store=store)
                clusters = assign(store, len(images), centroids, thresholds, store.column("flag"), options.device)
                table = keypoint_table(store, clusters, images.names)
        points.append(table.places(len(centroids)) * GRID * PREDICTION_SIZE / options.hyper.image_size)
        groundtruth.append(groundtruth_of(database, images, crop_maps(database, images, options)))
    return join_splits(database, points, groundtruth)


def _are_training_images(database: Database, images: ImageSet) -> bool:
    """Whether all images are training images with the same boxes, so that their keypoints are known."""
    position = {name: i for i, name in enumerate(database.training.names.tolist())}
    rows = [position.get(name, -1) for name in images.names.tolist()]
    return min(rows, default=-1) >= 0 and np.array_equal(database.training.boxes[rows], images.boxes)
