"""Landmarks of the evaluation images, with their groundtruth."""

import numpy as np

from Databases.database import Database
from Databases.groundtruth import PREDICTION_SIZE, groundtruth_of
from Networks.inference.detector import LandmarkDetector
from Utils.predictions import Predictions


def landmarks_of(detector: LandmarkDetector) -> Predictions:
    """Landmarks of the regression and test images, one per active map, NaN if not found."""
    database, scale = detector.database, PREDICTION_SIZE / detector.size
    found, groundtruth = [], []
    for images, description in ((database.regression, "Regression images"), (database.test, "Test images")):
        points, confidences, maps = detector.predict(images, description)
        points[confidences < detector.threshold] = np.nan
        found.append(scale * points)
        groundtruth.append(groundtruth_of(database, images, scale * maps))
    return join_splits(database, found, groundtruth)


def join_splits(database: Database, points: list[np.ndarray], groundtruth: list[np.ndarray]) -> Predictions:
    """Predictions of the regression images, then of the test images."""
    names = np.concatenate([database.regression.names, database.test.names])
    is_test = np.arange(len(names)) >= len(database.regression)
    return Predictions(names, np.concatenate(points), np.concatenate(groundtruth), is_test)
