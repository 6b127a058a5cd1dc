"""How other methods' tables measure landmarks: each protocol is a pure function of points.

Points are shares of the sides of the picture that a protocol measures in; NaN is unknown. A `Fit` learns groundtruth
y (n, G, 2) from landmarks x (n, L, 2) of annotated pictures and returns its distances (m, G) in tested pictures.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from Utils.evaluation import CROP, Errors, fill_by_means, known_mean, regress, with_groundtruth
from Utils.predictions import Predictions
from Utils.runtime.errors import UserError

Fit = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # x, y, tested x, tested y

COUNTS = (1, 2, 5, 10, 20, 50, 100, 500, 1000, 5000)  # annotated pictures, beside all of them
DRAWS = 10
FEW_CHANGES, MOST_PASSES = 10, 100  # pictures that exchange sides in the last pass; and passes, if it never comes
FARTHEST = 3  # standard deviations beyond which a training picture is left out
# Exchanged all at once, as in AutoLink's evaluation. 28 stands there twice, for 28 and 29.
_LEFT = [1, 2, 3, 4, 5, 17, 18, 19, 20, 21, 22, 23]
_RIGHT = [6, 7, 8, 9, 10, 25, 26, 27, 28, 28, 30, 31]


def least_squares(x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> np.ndarray:
    """A `Fit`: linear, without intercept or penalty; each point learns from the pictures in which it is known."""
    return _distances(_linear(x, y, test_x), test_y)


def ridge(x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, penalty: float) -> np.ndarray:
    """A `Fit`: `Utils.evaluation.regress`."""
    return _distances(regress(x, y, test_x, penalty), test_y)


def exchanging_sides(x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> np.ndarray:
    """A `Fit` of 32 joints: `least_squares`, where left and right are what the regressor takes for them.

    Training pictures that are then far off are left out of a last fit.
    """
    y, predicted = _exchanged(y, lambda known: _linear(x, known, x))
    far = _distances(predicted, y).mean(axis=1)
    near = far <= far.mean() + FARTHEST * far.std(ddof=min(1, len(far) - 1))
    predicted = _linear(x[near], y[near], test_x)
    return _distances(predicted, _exchanged(test_y, lambda _: predicted)[0])


def _exchanged(joints: np.ndarray, predict: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Joints (n, 32, 2), exchanged where that is nearer to the prediction, until few are; and the last prediction."""
    order = np.arange(joints.shape[1])
    order[_LEFT + _RIGHT] = _RIGHT + _LEFT
    for _ in range(MOST_PASSES):
        predicted, other = predict(joints), joints[:, order]
        nearer = _distances(predicted, other).mean(axis=1) < _distances(predicted, joints).mean(axis=1)
        joints = np.where(nearer[:, None, None], other, joints)
        if nearer.sum() <= FEW_CHANGES:
            break
    return joints, predicted


def _linear(x: np.ndarray, y: np.ndarray, test_x: np.ndarray) -> np.ndarray:
    """Predicted points (m, G, 2), NaN for a point that no picture has."""
    inputs, tests = x.reshape(len(x), -1), test_x.reshape(len(test_x), -1)
    predicted = np.full((len(tests), *y.shape[1:]), np.nan)
    known = ~np.isnan(y).any(axis=2)
    for rows in np.unique(known[:, known.any(axis=0)], axis=1).T:
        points = (known == rows[:, None]).all(axis=0)  # those that the same pictures have share one regression
        targets = y[np.ix_(rows, points)].reshape(rows.sum(), -1)
        weights = np.linalg.lstsq(inputs[rows], targets, rcond=None)[0]
        predicted[:, points] = (tests @ weights).reshape(len(tests), -1, 2)
    return predicted


def _distances(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.linalg.norm(predicted - truth, axis=2)


@dataclass(frozen=True)
class Protocol:
    """points: G; by_eyes: errors are divided by the distance of the first two, else by the picture's side."""

    points: int
    forward: Fit
    by_eyes: bool = False
    backward: Fit | None = None
    aspect: tuple[float, float] = (1, 1)  # of the picture


PAPER = "paper"  # Utils.evaluation.evaluate
PROTOCOLS = {
    "mafl5": Protocol(5, least_squares, by_eyes=True),
    "mafl5-tpami": Protocol(5, partial(ridge, penalty=1e-3), True, partial(ridge, penalty=0.1), (178 / 218, 1)),
    "celeba-wild": Protocol(5, least_squares, by_eyes=True),
    "cub": Protocol(15, least_squares),
    "human-simplified": Protocol(32, exchanging_sides),
}


def measure(predictions: Predictions, name: str) -> Errors:
    """The errors of all landmarks by a protocol, from pixels of its picture resized to 256x256.

    Missing landmarks are filled with their means over the annotated pictures. Raises UserError if the groundtruth has
    another number of points, or if no annotated or no tested picture has any.
    """
    protocol, truth = PROTOCOLS[name], predictions.groundtruth
    if truth.shape[1] != protocol.points:
        raise UserError(f"--protocol {name} takes {protocol.points} points; the groundtruth has {truth.shape[1]}")
    train, test = with_groundtruth(predictions)
    scale = np.array(protocol.aspect) / CROP
    x, y = scale * fill_by_means(predictions.points, predictions.points[train]), scale * truth
    unit = _distances(y[test, :1], y[test, 1:2]) if protocol.by_eyes else 1.0

    def forward(chosen: np.ndarray) -> np.ndarray:
        return protocol.forward(x[train[chosen]], y[train[chosen]], x[test], y[test]) / unit

    errors, backward = forward(np.arange(len(train))), np.full(x.shape[1], np.nan)
    if protocol.backward:
        backward = known_mean(protocol.backward(y[train], x[train], y[test], x[test]) / unit)
    return Errors(
        known_mean(errors),
        backward,
        np.arange(x.shape[1]),
        weights=np.isfinite(errors).sum(axis=0),
        forward_from=lambda chosen: known_mean(forward(chosen)),
        annotated=len(train),
    )


def few_annotations(errors: Errors, seed: int) -> np.ndarray:
    """Rows (k, 3): number of annotated pictures, mean and standard deviation of the forward error over draws of them.

    In percent. All pictures are drawn once.
    """
    rows = []
    for count in [*(count for count in COUNTS if count < errors.annotated), errors.annotated]:
        draws = range(DRAWS if count < errors.annotated else 1)
        chosen = [np.random.default_rng([seed, count, i]).permutation(errors.annotated)[:count] for i in draws]
        percents = [errors.percent(errors.forward_from(np.sort(own))) for own in chosen]
        rows.append((count, np.mean(percents), np.std(percents)))
    return np.array(rows)
