"""Errors of named points by the number of annotated pictures, from the predictions that Test.py saves.

    python benchmarks/named_points.py Logs/mine/CheckPoints/EvaluateStep2Keypoints<iteration>.pickle

Learns from n random pictures and tests on all others, against the mean shape of the same pictures; mean and standard
deviation over draws, in percent of sqrt(w h) of the groundtruth's extent. Then it compares random pictures of one
half with those that `tools/name_points.py --choose` takes from it, tested on the other half.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Databases.normalisers import root_of_extent
from Utils.evaluation import known_mean, normalised_errors
from Utils.named_points import common_frame, fit, most_telling
from Utils.predictions import load_predictions
from Utils.runtime.process import set_up_process


def percent(predicted: np.ndarray, truth: np.ndarray, normalisers: np.ndarray) -> float:
    """Mean over the points of their mean errors; the normalisers (n,) are those of all points of a picture."""
    return 100 * float(np.nanmean(known_mean(normalised_errors(predicted, truth, normalisers))))


def main() -> None:
    set_up_process()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--pictures", type=int, nargs="+", default=[1, 3, 5, 10, 20, 50, 150])
    given = parser.parse_args()
    predictions = load_predictions(given.predictions)
    landmarks, truth = predictions.points, predictions.groundtruth
    normalisers = root_of_extent(truth)
    normalisers[normalisers == 0] = np.nan  # of a picture that shows one point
    frame = common_frame(landmarks)

    def error(rows: np.ndarray, tested: np.ndarray) -> tuple[float, float]:
        known = (~np.isnan(truth[rows]).any(axis=2)).any(axis=0)
        regressor, _, _ = fit(frame, landmarks[rows], truth[rows][:, known], [str(k) for k in np.flatnonzero(known)])
        there = truth[tested][:, known]
        shape = np.broadcast_to(known_mean(truth[rows][:, known]), there.shape)
        found, _ = regressor.predict(landmarks[tested])
        return percent(shape, there, normalisers[tested]), percent(found, there, normalisers[tested])

    orders = [np.random.default_rng(seed).permutation(len(truth)) for seed in range(given.draws)]
    print(f"{'pictures':>8}{'mean shape':>12}{'named points':>14}{'+-':>6}")
    for count in given.pictures:
        shape, named = np.array([error(order[:count], order[count:]) for order in orders]).T
        print(f"{count:>8}{shape.mean():>12.2f}{named.mean():>14.2f}{named.std():>6.2f}", flush=True)
    half = len(truth) // 2
    for count in (5, 10, 20):
        random = [error(order[:count], order[half:])[1] for order in orders]
        telling = [order[most_telling(frame, landmarks[order[:half]], count)] for order in orders]
        chosen = [error(rows, order[half:])[1] for rows, order in zip(telling, orders, strict=True)]
        print(f"{count} random pictures of one half: {np.mean(random):.2f}, chosen ones: {np.mean(chosen):.2f}")


if __name__ == "__main__":
    main()
