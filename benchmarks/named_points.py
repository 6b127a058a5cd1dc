"""Errors of named points by the number of annotated pictures, on the annotated pictures of an experiment's data set.

    python benchmarks/named_points.py --dataset_name Custom --images pictures --experiment_name mine --dlib

Learns from n random pictures and tests on all others, against the mean shape of the same pictures, without the
refinement in the pictures, and with --dlib against dlib's shape predictor, learned from the same pictures; mean and
standard deviation over draws, in percent of sqrt(w h) of the groundtruth's extent. Then it compares random pictures
of one half with those that `tools/name_points.py --choose` takes from it, tested on the other half, and measures the
time per picture.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Databases import DATABASES
from Databases.database import crop_picture
from Databases.groundtruth import PREDICTION_SIZE
from Databases.normalisers import root_of_extent
from Networks.inference.detector import LandmarkDetector
from Networks.inference.landmarks import landmarks_of
from Networks.recipes import RECIPES
from Utils.crops import apply, invert
from Utils.evaluation import known_mean, normalised_errors
from Utils.named_points import common_frame, fit, most_telling
from Utils.options import parse
from Utils.runtime.arguments import whole
from Utils.runtime.packages import require
from Utils.runtime.process import set_up_process
from Utils.storage.experiment import Experiment

CHOSEN = (5, 10, 20)  # numbers of chosen pictures


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--draws", type=whole(1), default=10)
    parser.add_argument("--pictures", type=whole(1), nargs="+", default=[1, 3, 5, 10, 20, 50, 150])
    parser.add_argument("--dlib", action="store_true", help="with dlib's shape predictor; minutes for each number")


def percent(predicted: np.ndarray, truth: np.ndarray, normalisers: np.ndarray) -> float:
    """Mean over the points of their mean errors; the normalisers (n,) are those of all points of a picture."""
    return 100 * float(np.nanmean(known_mean(normalised_errors(predicted, truth, normalisers))))


def shape_predictor(
    crops: np.ndarray, boxes: np.ndarray, rows: np.ndarray, truth: np.ndarray, tested: np.ndarray
) -> np.ndarray:
    """The points (t, P, 2) that dlib finds with ml-morph's default settings.

    crops: (n, S, S, 3), with their objects' boxes (n, 4); rows: (m,) those to learn from, with their points, truth
    (m, P, 2), of which those that lack a point are left out; tested: (t,) others.
    """
    dlib = require("dlib", "dlib-bin")
    box = [dlib.rectangle(*own) for own in np.rint(boxes).astype(int).tolist()]
    complete = ~np.isnan(truth).any(axis=(1, 2))
    parts = [[dlib.point(x, y) for x, y in np.rint(own - 0.5).astype(int).tolist()] for own in truth[complete]]
    rows = rows[complete]
    known = [[dlib.full_object_detection(box[i], own)] for i, own in zip(rows, parts, strict=True)]
    settings = dlib.shape_predictor_training_options()
    settings.cascade_depth, settings.oversampling_amount, settings.feature_pool_size = 15, 10, 500
    predictor = dlib.train_shape_predictor(list(crops[rows]), known, settings)
    found = [[(part.x, part.y) for part in predictor(crops[i], box[i]).parts()] for i in tested]
    return np.array(found, np.float64) + 0.5


def main() -> None:
    set_up_process()
    options = parse(
        None, __doc__.splitlines()[0], DATABASES, RECIPES, ("experiment",), flags, settings=["readout=centroid"]
    )
    detector = LandmarkDetector.from_experiment(Experiment(options.log_path, options.experiment_name), options)
    database = detector.open_data_set()
    predictions = landmarks_of(detector)
    cuts = [
        (*crop_picture(database, database.read(images, i), images.boxes[i], PREDICTION_SIZE), images.boxes[i])
        for images in (database.regression, database.test)
        for i in range(len(images))
    ]
    crops, maps, boxes = (np.stack(column) for column in zip(*cuts, strict=True))
    boxes = apply(maps, boxes.reshape(-1, 2, 2)).reshape(-1, 4)
    truth, to_crops = predictions.groundtruth, maps / PREDICTION_SIZE  # errors are measured in the crops
    landmarks, annotated = (apply(invert(maps), own) for own in (predictions.points, truth))
    normalisers = root_of_extent(truth)
    normalisers[normalisers == 0] = np.nan  # of a picture that shows one point
    frame = common_frame(landmarks, to_crops)

    def error(rows: np.ndarray, tested: np.ndarray, peer: bool = False) -> tuple[float, ...]:
        """Of the mean shape, of named points without refinement, with it, and of dlib."""
        known = (~np.isnan(truth[rows]).any(axis=2)).any(axis=0)
        names = [str(k) for k in np.flatnonzero(known)]
        regressor, _, _ = fit(frame, landmarks[rows], to_crops[rows], annotated[rows][:, known], names, crops[rows])
        there = truth[tested][:, known]
        shape = np.broadcast_to(known_mean(truth[rows][:, known]), there.shape)
        plain, _ = regressor.predict(landmarks[tested], to_crops[tested])
        refined, _ = regressor.predict(landmarks[tested], to_crops[tested], crops[tested])
        found = [shape, apply(maps[tested], plain), apply(maps[tested], refined)]
        if peer:
            found.append(shape_predictor(crops, boxes, rows, truth[rows][:, known], tested))
        return tuple(percent(own, there, normalisers[tested]) for own in found)

    orders = [np.random.default_rng(seed).permutation(len(truth)) for seed in range(options.own.draws)]
    print(
        f"{'pictures':>8}{'mean shape':>13}{'landmarks alone':>18}{'named points':>15}{'dlib' * options.own.dlib:>13}"
    )
    for count in options.own.pictures:
        peer = options.own.dlib and count > 1  # it cannot learn from one
        errors = np.array([error(order[:count], order[count:], peer) for order in orders])
        means, spreads = errors.mean(axis=0), errors.std(axis=0)
        row = "".join(f"{mean:>8.2f} +- {spread:.2f}" for mean, spread in zip(means, spreads, strict=True))
        print(f"{count:>8}{row}", flush=True)
    half = len(truth) // 2
    for count in CHOSEN:
        random = [error(order[:count], order[half:])[2] for order in orders]
        seen = [(landmarks[order[:half]], to_crops[order[:half]]) for order in orders]
        telling = [order[most_telling(frame, *own, count)] for own, order in zip(seen, orders, strict=True)]
        chosen = [error(rows, order[half:])[2] for rows, order in zip(telling, orders, strict=True)]
        print(f"{count} random pictures of one half: {np.mean(random):.2f}, chosen ones: {np.mean(chosen):.2f}")
    rows = orders[0][:half]
    names = [str(k) for k in range(truth.shape[1])]
    regressor, _, _ = fit(frame, landmarks[rows], to_crops[rows], annotated[rows], names, crops[rows])
    start = time.perf_counter()
    regressor.predict(landmarks, to_crops, crops)
    print(f"{1000 * (time.perf_counter() - start) / len(crops):.1f} ms per picture for {len(names)} points")


if __name__ == "__main__":
    main()
