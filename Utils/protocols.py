"""How other methods' tables measure landmarks: each protocol is a pure function of points.

Points are shares of the sides of the picture that a protocol measures in; NaN is unknown. A `Fit` learns groundtruth
from the landmarks of annotated pictures and returns its distances (m, G) in the tested pictures.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from Utils.evaluation import CROP, Errors, fill_by_means, known_mean, regress, with_groundtruth
from Utils.predictions import Predictions
from Utils.runtime.errors import UserError

# landmarks x (n, L, 2) and groundtruth y (n, G, 2) of annotated pictures, those of tested ones -> (m, G)
Fit = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]

COUNTS = (1, 2, 5, 10, 20, 50, 100, 500, 1000, 5000)  # annotated pictures, beside all of them
DRAWS = 10
FEW_CHANGES = 10  # pictures whose sides are exchanged in the last pass
FARTHEST = 3  # standard deviations beyond which a training picture is left out
# Left and right joints, exchanged all at once as in AutoLink's evaluation. 28 stands there twice, for 28 and 29.
_LEFT = (1, 2, 3, 4, 5, 17, 18, 19, 20, 21, 22, 23)
_RIGHT = (6, 7, 8, 9, 10, 25, 26, 27, 28, 28, 30, 31)


def least_squares(x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> np.ndarray:
    """A `Fit`: linear, without intercept or penalty; each point learns from the pictures in which it is known."""
    return _distances(_linear(x, y, test_x), test_y)


def ridge(x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, penalty: float) -> np.ndarray:
    """A `Fit`: `Utils.evaluation.regress`."""
    return _distances(regress(x, y, test_x, penalty), test_y)


def exchanging_sides(x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> np.ndarray:
    """A `Fit` of 32 joints: `least_squares`, where left and right are what the regressor takes for them.

    A picture whose joints are nearer with left and right exchanged exchanges them, until few do. Training pictures
    that are far off are then left out of the last fit.
    """
    y, predicted = _exchanged(y, lambda known: _linear(x, known, x))
    far = _distances(predicted, y).mean(axis=1)
    near = ~(far > far.mean() + FARTHEST * far.std(ddof=1)) if len(far) > 1 else slice(None)
    predicted = _linear(x[near], y[near], test_x)
    return _distances(predicted, _exchanged(test_y, lambda _: predicted)[0])


def _exchanged(joints: np.ndarray, predict: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Joints (n, 32, 2) with left and right as predicted, and the last prediction from them."""
    order = np.arange(joints.shape[1])
    order[[*_LEFT, *_RIGHT]] = [*_RIGHT, *_LEFT]
    while True:
        predicted, other = predict(joints), joints[:, order]
        nearer = _distances(predicted, other).mean(axis=1) < _distances(predicted, joints).mean(axis=1)
        joints = np.where(nearer[:, None, None], other, joints)
        if nearer.sum() <= FEW_CHANGES:
            return joints, predicted


def _linear(x: np.ndarray, y: np.ndarray, test_x: np.ndarray) -> np.ndarray:
    """Predicted points (m, G, 2), NaN for a point that no picture has."""
    inputs, tests = x.reshape(len(x), -1), test_x.reshape(len(test_x), -1)
    predicted = np.full((len(tests), *y.shape[1:]), np.nan)
    known = ~np.isnan(y).any(axis=2)
    for rows in np.unique(known, axis=1).T:  # points that the same pictures have share one regression
        points = (known == rows[:, None]).all(axis=0)
        if rows.any():
            targets = y[np.ix_(rows, points)].reshape(rows.sum(), -1)
            weights = np.linalg.lstsq(inputs[rows], targets, rcond=None)[0]
            predicted[:, points] = (tests @ weights).reshape(len(tests), -1, 2)
    return predicted


def _distances(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.linalg.norm(predicted - truth, axis=2)


def eyes(truth: np.ndarray) -> np.ndarray:
    """The distance (m,) of the first two of points (m, G, 2)."""
    return np.linalg.norm(truth[:, 0] - truth[:, 1], axis=1)


def side(truth: np.ndarray) -> np.ndarray:
    """The picture's side, (m,) ones."""
    return np.ones(len(truth))


@dataclass(frozen=True)
class Protocol:
    """points: G of the groundtruth; unit: groundtruth -> lengths that divide errors; aspect: of the picture."""

    points: int
    forward: Fit
    unit: Callable[[np.ndarray], np.ndarray]
    backward: Fit | None = None
    aspect: tuple[float, float] = (1, 1)


PAPER = "paper"  # Utils.evaluation.evaluate
PROTOCOLS = {
    "mafl5": Protocol(5, least_squares, eyes),
    "mafl5-tpami": Protocol(5, partial(ridge, penalty=1e-3), eyes, partial(ridge, penalty=0.1), (178 / 218, 1)),
    "celeba-wild": Protocol(5, least_squares, eyes),
    "cub": Protocol(15, least_squares, side),
    "human-simplified": Protocol(32, exchanging_sides, side),
}


def measure(predictions: Predictions, name: str) -> Errors:
    """The errors of all landmarks by a protocol, in pixels of its picture resized to 256x256.

    Missing landmarks are filled with their means over the annotated pictures. Raises UserError if the groundtruth has
    another number of points, or if no annotated or no tested picture has any.
    """
    protocol, truth = PROTOCOLS[name], predictions.groundtruth
    if truth.shape[1] != protocol.points:
        raise UserError(
            f"--protocol {name} takes {protocol.points} points of each picture; the groundtruth has {truth.shape[1]}"
        )
    train, test = with_groundtruth(predictions)
    scale = np.array(protocol.aspect) / CROP
    x, y = scale * fill_by_means(predictions.points, predictions.points[train]), scale * truth
    unit = protocol.unit(y[test])[:, None]

    def forward(chosen: np.ndarray) -> np.ndarray:
        return protocol.forward(x[train[chosen]], y[train[chosen]], x[test], y[test]) / unit

    errors, backward = forward(np.arange(len(train))), np.full(x.shape[1], np.nan)
    if protocol.backward:
        filled = fill_by_means(y, y[train])
        backward = known_mean(protocol.backward(filled[train], x[train], filled[test], x[test]) / unit)
    return Errors(
        known_mean(errors),
        backward,
        np.arange(x.shape[1]),
        weights=np.isfinite(errors).sum(axis=0),
        forward_from=lambda chosen: known_mean(forward(chosen)),
        annotated=len(train),
    )


def few_annotations(errors: Errors, seed: int) -> np.ndarray:
    """Rows (k, 3): number of annotated pictures, the forward error in percent over draws of them, and its spread.

    The spread is the standard deviation; all pictures are drawn once.
    """
    rows = []
    for count in [*(count for count in COUNTS if count < errors.annotated), errors.annotated]:
        percents = []
        for draw in range(DRAWS if count < errors.annotated else 1):
            chosen = np.random.default_rng([seed, count, draw]).permutation(errors.annotated)[:count]
            percents.append(errors.percent(errors.forward_from(np.sort(chosen))))
        rows.append((count, np.mean(percents), np.std(percents)))
    return np.array(rows)
