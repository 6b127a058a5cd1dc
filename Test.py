"""Evaluate the landmarks of step two: forward and backward error, their curves, and the predictions file."""

import numpy as np

from Databases import DATABASES
from Networks.landmarks import landmarks_of, steadiness
from Networks.second_step import load_landmark_network
from Utils.errors import exit_cleanly
from Utils.evaluation import evaluate
from Utils.experiment import Experiment
from Utils.options import parse
from Utils.predictions import load_predictions, save_predictions
from Utils.process import set_up_process
from Utils.reports import report_errors, report_steadiness


@exit_cleanly
def main(argv: list[str] | None = None) -> None:
    set_up_process()
    options = parse(argv, __doc__, DATABASES, flags=("experiment", "predictions"))
    database = DATABASES[options.dataset_name].open(options)
    experiment = Experiment(options.log_path, options.experiment_name)

    if options.predictions:
        predictions = load_predictions(options.predictions)
        experiment.open()
    else:
        database.check_cheaply()
        network, active, iteration = load_landmark_network(experiment, options)
        experiment.open()
        experiment.describe_run(options)
        if database.test.landmarks is None:
            steady = steadiness(network, active, database, database.test, options)
            report_steadiness(experiment, steady.found, steady.error, active)
            return
        predictions = landmarks_of(network, active, database, options)
        save_predictions(predictions, experiment.predictions(iteration))

    normalisers = np.asarray(database.normalisers(predictions.groundtruth))
    report_errors(experiment, evaluate(predictions, normalisers, database.ridge_samples, options.hyper.seed))


if __name__ == "__main__":
    main()
