"""Landmarks of the evaluation images: predictions beside groundtruth."""

import numpy as np

from Databases.database import Database
from Networks.fan import FAN
from Networks.groundtruth import PREDICTION_SIZE, groundtruth_of
from Networks.second_step import predict
from Networks.steadiness import CONFIDENT
from Utils.options import Options
from Utils.predictions import Predictions


def landmarks_of(network: FAN, active: np.ndarray, database: Database, options: Options) -> Predictions:
    """Landmarks of the regression and test images, one per active map, NaN where not detected."""
    scale = PREDICTION_SIZE / options.hyper.image_size
    splits = []
    for images, description in ((database.regression, "Regression images"), (database.test, "Test images")):
        points, confidences, maps = predict(network, database, images, options, description)
        points = scale * points[:, active].astype(np.float64)
        points[confidences[:, active] < CONFIDENT] = np.nan
        splits.append((points, groundtruth_of(database, images, scale * maps)))
    return join_splits(database, [points for points, _ in splits], [truth for _, truth in splits])


def join_splits(database: Database, points: list[np.ndarray], groundtruth: list[np.ndarray]) -> Predictions:
    """Predictions of the regression images, then of the test images."""
    names = np.concatenate([database.regression.names, database.test.names])
    is_test = np.arange(len(names)) >= len(database.regression)
    return Predictions(names, np.concatenate(points), np.concatenate(groundtruth), is_test)
