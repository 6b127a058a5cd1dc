"""Time of the evaluation: 1000 regression and 10,000 test pictures, 68 points, 50 landmarks.

    python benchmarks/evaluation.py

The floor is the bare arithmetic: a Gram matrix and its solution for each of 10 regressors and for each landmark, and
the products with all test pictures. `completion` is the extra cost of missing landmarks.
"""

import argparse
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from Utils.evaluation import evaluate, fit_ridge
from Utils.predictions import Predictions
from Utils.runtime.process import set_up_process


def made(train: int, test: int, landmarks: int, points: int, missing: float) -> tuple[Predictions, np.ndarray]:
    """Points that follow a hidden shape and pose, with noise; a share of the landmarks is missing."""
    rng = np.random.default_rng(0)
    count = train + test
    hidden = rng.standard_normal((count, 8))
    found = (128 + 10 * hidden @ rng.standard_normal((8, 2 * landmarks))).reshape(count, landmarks, 2)
    truth = (128 + 10 * hidden @ rng.standard_normal((8, 2 * points))).reshape(count, points, 2)
    found += 2 * rng.standard_normal(found.shape)
    found[rng.random((count, landmarks)) < missing] = np.nan
    names = np.array([f"{i}.jpg" for i in range(count)])
    return Predictions(names, found, truth, np.arange(count) >= train), rng.uniform(50, 100, count)


def floor(predictions: Predictions, samples: int) -> None:
    points = np.nan_to_num(predictions.points, nan=128.0).reshape(len(predictions.names), -1)
    truth = predictions.groundtruth.reshape(len(points), -1)
    first = int(predictions.is_test.argmax())
    for _ in range(10):
        weights, offset = fit_ridge(points[:samples], truth[:samples])
        _ = points[first:] @ weights.T + offset
    fits = [fit_ridge(truth[:samples], points[:samples, i : i + 2])[0] for i in range(0, points.shape[1], 2)]
    _ = truth[first:] @ np.concatenate(fits).T


def timed(function, repeats: int) -> list[float]:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    set_up_process()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--regression", type=int, default=1000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=68)
    parser.add_argument("--landmarks", type=int, default=50)
    parser.add_argument("--samples", type=int, default=300, help="training pictures of a regressor")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    counts = (arguments.regression, arguments.test, arguments.landmarks, arguments.points)
    complete, normalisers = made(*counts, missing=0)
    incomplete, _ = made(*counts, missing=0.1)

    def run(predictions: Predictions) -> None:
        evaluate(predictions, normalisers, arguments.samples)

    rows = {
        "evaluation without completion": timed(lambda: run(complete), arguments.repeats),
        "evaluation with completion": timed(lambda: run(incomplete), 3),
        "floor": timed(lambda: floor(complete, arguments.samples), arguments.repeats),
    }
    print(f"{arguments.regression:,} regression and {arguments.test:,} test pictures, ", end="")
    print(f"{arguments.points} points, {arguments.landmarks} landmarks, {arguments.samples} samples")
    print(f"{'stage':34}{'median s':>10}{'min':>9}{'max':>9}")
    for stage, values in rows.items():
        print(f"{stage:34}{statistics.median(values):10.3f}{min(values):9.3f}{max(values):9.3f}")
    ratio = statistics.median(rows["evaluation without completion"]) / statistics.median(rows["floor"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"without completion / floor: {ratio:.2f}; peak memory of the process: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
