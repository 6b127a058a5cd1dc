"""Evaluate the landmarks of step two: forward and backward error, their curves, and the predictions file."""

import numpy as np

from Databases import DATABASES
from Networks.inference.detector import LandmarkDetector
from Networks.inference.landmarks import errors_of, landmarks_of
from Networks.inference.steadiness import steadiness
from Networks.recipes import RECIPES
from Utils.drawing.reports import TRAIN_LONGER, report_errors, report_failure, report_landmarks, report_steadiness
from Utils.evaluation import missing_share
from Utils.movement import explained_by_the_others, explained_movement
from Utils.options import parse
from Utils.predictions import load_predictions, save_predictions
from Utils.runtime.errors import exit_cleanly
from Utils.runtime.process import set_up_process
from Utils.storage.experiment import Experiment

FLAGS = ("experiment", "predictions", "protocol", "landmarks", "mirror")
CHECK_PREDICTIONS = "check the file, where NaN means that a landmark was not found"


@exit_cleanly
def main(argv: list[str] | None = None) -> int:
    set_up_process()
    options = parse(argv, __doc__, DATABASES, RECIPES, FLAGS)
    experiment = Experiment(options.log_path, options.experiment_name, options.variant)
    if options.predictions:
        database = DATABASES[options.dataset_name].rules(options.hyper)
        predictions = load_predictions(options.predictions)
        landmarks, figures, steady = np.arange(predictions.points.shape[1]), None, None
        experiment.open()
    else:
        detector = LandmarkDetector.from_experiment(experiment, options)
        database = detector.open_data_set()
        experiment.open()
        experiment.describe_run(options.facts())
        landmarks, measured = detector.active, steadiness(detector, database.test)
        steady = measured.steady()
        others_r2 = explained_by_the_others(measured.points).r2
        figures = (measured.error, measured.r2, others_r2)
        if database.test.landmarks is None:
            report_steadiness(experiment, measured.found, steady, measured.error)
            report_landmarks(experiment, landmarks, measured.found, steadiness=figures)
            return int(report_failure(experiment, measured.found, steady))
        predictions = landmarks_of(detector)
        save_predictions(predictions, experiment.predictions(detector.iteration))

    errors = errors_of(predictions, database, options)
    report_errors(experiment, errors, options.hyper.seed)
    movement = explained_movement(predictions.points, predictions.groundtruth)
    found = 1 - missing_share(predictions.points)
    report_landmarks(experiment, landmarks, found, movement, errors, figures)
    remedy = CHECK_PREDICTIONS if options.predictions else TRAIN_LONGER
    return int(report_failure(experiment, found, steady, remedy))


if __name__ == "__main__":
    main()
