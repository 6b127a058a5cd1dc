"""Errors of discovered landmarks against groundtruth, by ridge regression both ways (the paper, section 4).

All points are in pixels of the 256x256 crop. Unknown points are NaN and take no part.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from Utils.completion import complete
from Utils.predictions import Predictions
from Utils.runtime.errors import UserError

CROP = 256
_RIDGE = 0.01
_REGRESSORS = 10
_REGRESSION_IMAGES = 1000


@dataclass(frozen=True)
class Errors:
    """Normalised errors, as fractions.

    forward: (G,) per groundtruth point, NaN for one that no image has; backward: (L,) per kept landmark;
    landmarks: (L,) int64, which landmarks are kept; notes: lines for the log. weights: (G,) what each point counts in
    the mean, None: the same. forward_from: forward errors (G,) of one regressor, from some (k,) of the `annotated`
    regression images, by their numbers.
    """

    forward: np.ndarray
    backward: np.ndarray
    landmarks: np.ndarray
    notes: list[str] = field(default_factory=list)
    weights: np.ndarray | None = None
    forward_from: Callable[[np.ndarray], np.ndarray] = lambda chosen: np.zeros(0)
    annotated: int = 0

    @property
    def forward_percent(self) -> float:
        """Mean over groundtruth points, in percent; NaN without any."""
        return self.percent(self.forward)

    def percent(self, forward: np.ndarray) -> float:
        """The mean of forward errors (G,), in percent."""
        known = np.isfinite(forward)
        if self.weights is None or not known.any():
            return final_percent(forward)
        return float(100 * np.average(forward[known], weights=self.weights[known]))

    @property
    def backward_percent(self) -> float:
        """Mean over kept landmarks, in percent; NaN without any."""
        return final_percent(self.backward)


def cumulative_percent(errors: np.ndarray) -> np.ndarray:
    """The curve of errors (n,): sorted ascending, cumulative mean, in percent; NaN are left out."""
    known = np.sort(errors[~np.isnan(errors)])
    return 100 * np.cumsum(known) / np.arange(1, len(known) + 1)


def final_percent(errors: np.ndarray) -> float:
    """The last value of the curve of errors (n,), NaN without any."""
    curve = cumulative_percent(errors)
    return float(curve[-1]) if len(curve) else float("nan")


def evaluate(
    predictions: Predictions,
    normalisers: np.ndarray,
    ridge_samples: int = 300,
    seed: int = 0,
    missing_limit: float = 0.2,
) -> Errors:
    """Forward errors (landmarks -> groundtruth) and backward errors (groundtruth -> landmarks).

    normalisers: (n,) pixels; an image where it is NaN or not positive is not tested. ridge_samples: N, the training
    images of a regressor. seed: chooses those of the forward regressors. missing_limit: landmarks missing in this
    share of the images or more are left out. A landmark that no training or no test image has gets backward error 1.
    Raises UserError if no regression image or no test image has groundtruth.
    """
    train, test, notes = _split(predictions, normalisers, ridge_samples)
    landmarks = seen_landmarks(predictions.points, missing_limit)
    points, truth = predictions.points[:, landmarks], predictions.groundtruth

    inputs, test_inputs = _without_gaps(points[train], notes), fill_by_means(points[test], points[train])

    def forward_from(chosen: np.ndarray) -> np.ndarray:
        predicted = regress(inputs[chosen], truth[train[chosen]], test_inputs)
        return known_mean(normalised_errors(predicted, truth[test], normalisers[test]))

    total = np.zeros(truth.shape[1])
    for number in range(_REGRESSORS):
        rng = np.random.default_rng([seed, number])
        total += forward_from(rng.choice(len(train), min(ridge_samples, len(train)), replace=False))
    forward = total / _REGRESSORS

    first = train[:ridge_samples]
    known, test_known = fill_by_means(truth[first], truth[train]), fill_by_means(truth[test], truth[train])
    predicted = regress(known, points[first], test_known)
    backward = known_mean(normalised_errors(predicted, points[test], normalisers[test]))
    backward = np.where(np.isnan(backward), 1.0, backward)
    return Errors(forward, backward, landmarks, notes, forward_from=forward_from, annotated=len(train))


def mean_shape_errors(predictions: Predictions, normalisers: np.ndarray) -> np.ndarray:
    """Forward errors (G,) of predicting the mean groundtruth of the regression images everywhere."""
    train, test, _ = _split(predictions, normalisers, 1)
    shape = column_means(predictions.groundtruth[train])
    return known_mean(normalised_errors(shape, predictions.groundtruth[test], normalisers[test]))


def missing_share(points: np.ndarray) -> np.ndarray:
    """Share (L,) of the images in which each landmark of points (n, L, 2) is missing."""
    return np.isnan(points).any(axis=2).mean(axis=0)


def seen_landmarks(points: np.ndarray, missing_limit: float = 0.2) -> np.ndarray:
    """Indices of the landmarks of points (n, L, 2) that are missing in less than this share of the images."""
    return np.flatnonzero(missing_share(points) < missing_limit)


def regress(inputs: np.ndarray, targets: np.ndarray, test_inputs: np.ndarray, penalty: float = _RIDGE) -> np.ndarray:
    """Predict points of test images by ridge regression: (m, B, 2), NaN for a target that no training image has.

    inputs (n, A, 2) and test_inputs (m, A, 2) without NaN; targets (n, B, 2), each learned from the images
    that have it. R = Y'X (X'X + penalty max(X'X) I)^-1, with X and Y divided by 256 and centred.
    """
    x = inputs.reshape(len(inputs), -1) / CROP
    y = targets.reshape(len(targets), -1) / CROP
    known = ~np.isnan(targets).any(axis=2)
    weights = np.zeros((y.shape[1], x.shape[1]))
    offset = np.full(y.shape[1], np.nan)
    # Targets with the same images share one regression.
    patterns, group = np.unique(known.T, axis=0, return_inverse=True)
    for number, rows in enumerate(patterns):
        if rows.any():
            columns = np.repeat(group.reshape(-1) == number, 2)
            weights[columns], offset[columns] = fit_ridge(x[rows], y[np.ix_(rows, columns)], penalty)
    predicted = test_inputs.reshape(len(test_inputs), -1) @ weights.T
    predicted += CROP * offset
    return predicted.reshape(len(test_inputs), *targets.shape[1:])


def fit_ridge(x: np.ndarray, y: np.ndarray, penalty: float = _RIDGE) -> tuple[np.ndarray, np.ndarray]:
    """Weights (q, p) and offset (q,) from inputs x (n, p) to targets y (n, q): y = x @ weights.T + offset."""
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x
    largest = gram.max(initial=0)
    if largest == 0:  # without inputs that change, only the mean can be learned
        return np.zeros((y.shape[1], x.shape[1])), y_mean
    gram.flat[:: len(gram) + 1] += penalty * largest
    weights = np.linalg.solve(gram, x.T @ y).T
    return weights, y_mean - weights @ x_mean


def normalised_errors(predicted: np.ndarray, truth: np.ndarray, normalisers: np.ndarray) -> np.ndarray:
    """Distances of points (m, k, 2) over the normalisers (m,): (m, k), NaN where either is unknown."""
    squares = predicted - truth
    squares *= squares
    return np.sqrt(squares[..., 0] + squares[..., 1]) / normalisers[:, None]


def column_means(points: np.ndarray) -> np.ndarray:
    """Mean (k, 2) of the known ones of points (n, k, 2); the middle of the crop for a point that is never known."""
    means = known_mean(points)
    return np.where(np.isnan(means), CROP / 2, means)


def fill_by_means(points: np.ndarray, train_points: np.ndarray) -> np.ndarray:
    """Points (m, k, 2) with the column means of train_points (n, k, 2) in place of NaN."""
    return np.where(np.isnan(points), column_means(train_points), points)


def known_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis without the NaN; NaN if all values are."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = values.sum(axis=0, where=known)
    return np.where(count > 0, total / count.clip(min=1), np.nan)


def with_groundtruth(predictions: Predictions, tested: np.ndarray | bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the regression images and, among those `tested`, of the test images that have groundtruth."""
    known = ~np.isnan(predictions.groundtruth).any(axis=2).all(axis=1)
    train = np.flatnonzero(~predictions.is_test & known)
    test = np.flatnonzero(predictions.is_test & known & tested)
    for images, kind in ((train, "regression"), (test, "test")):
        if len(images) == 0:
            raise UserError(f"no {kind} image has groundtruth; evaluate more images")
    return train, test


def _split(
    predictions: Predictions, normalisers: np.ndarray, ridge_samples: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Indices of the regression and test images with groundtruth, and notes."""
    train, test = with_groundtruth(predictions, normalisers > 0)
    train, notes = train[:_REGRESSION_IMAGES], []
    left_out = predictions.is_test.sum() - len(test)
    if left_out:
        notes.append(f"{left_out} test images are left out, without groundtruth or normaliser")
    if len(train) < _REGRESSION_IMAGES:
        notes.append(f"{len(train)} regression images, fewer than {_REGRESSION_IMAGES}: all are used")
    if len(train) < ridge_samples:
        notes.append(f"a regressor learns from {len(train)} images instead of {ridge_samples}")
    return train, test, notes


def _without_gaps(points: np.ndarray, notes: list[str]) -> np.ndarray:
    """Points (n, L, 2) with NaN filled by matrix completion, or by column means where that fails."""
    values = fill_by_means(points, points)
    if not np.isnan(points).any():
        return values
    try:
        observed = ~np.isnan(points.reshape(len(points), -1))
        return CROP * complete(values.reshape(observed.shape) / CROP, observed).reshape(points.shape)
    except np.linalg.LinAlgError as error:
        notes.append(f"matrix completion failed ({error}); missing landmarks are filled by their means")
        return values
