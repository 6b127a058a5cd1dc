"""Landmarks of the evaluation images, with their groundtruth."""

import numpy as np

from Databases.database import Database
from Databases.groundtruth import PREDICTION_SIZE, groundtruth_of, protocol_maps
from Networks.inference.detector import LandmarkDetector
from Utils import crops
from Utils.evaluation import Errors, evaluate
from Utils.options import Options
from Utils.predictions import Predictions
from Utils.protocols import PAPER, measure


def landmarks_of(detector: LandmarkDetector) -> Predictions:
    """Landmarks of the regression and test images, one per active map.

    NaN if not found by the paper's protocol. By others every landmark counts, and left and right are as annotated.
    """
    database, scale = detector.database, PREDICTION_SIZE / detector.size
    found, groundtruth = [], []
    for images, description in ((database.regression, "Regression images"), (database.test, "Test images")):
        points, confidences, maps = detector.predict(images, description)
        if detector.options.protocol == PAPER:
            points[confidences < detector.threshold] = np.nan
            found.append(scale * points)
            groundtruth.append(groundtruth_of(database, images, scale * maps))
        else:
            to_protocol = protocol_maps(images, scale * maps)
            found.append(crops.apply(crops.compose(to_protocol, crops.invert(maps)), points))
            groundtruth.append(groundtruth_of(database, images, to_protocol, ordered=False))
    return join_splits(database, found, groundtruth)


def join_splits(database: Database, points: list[np.ndarray], groundtruth: list[np.ndarray]) -> Predictions:
    """Predictions of the regression images, then of the test images."""
    names = np.concatenate([database.regression.names, database.test.names])
    is_test = np.arange(len(names)) >= len(database.regression)
    return Predictions(names, np.concatenate(points), np.concatenate(groundtruth), is_test)


def errors_of(predictions: Predictions, database: Database, options: Options) -> Errors:
    """The errors by the protocol of the options."""
    if options.protocol != PAPER:
        return measure(predictions, options.protocol)
    normalisers = np.asarray(database.normalisers(predictions.groundtruth))
    return evaluate(predictions, normalisers, database.ridge_samples, options.hyper.seed)
