import numpy as np
import pytest

from Utils import evaluation
from Utils.evaluation import (
    cumulative_percent,
    evaluate,
    fit_ridge,
    mean_shape_errors,
    regress,
    seen_landmarks,
)
from Utils.predictions import Predictions
from Utils.runtime.errors import UserError


def made(n_train=40, n_test=30, landmarks=5, points=7, missing=0.1, seed=0):
    """Groundtruth that depends on the landmarks, with noise; some landmarks are not detected."""
    rng = np.random.default_rng(seed)
    n = n_train + n_test
    hidden = rng.standard_normal((n, 4))
    found = (128 + 30 * hidden @ rng.standard_normal((4, 2 * landmarks))).reshape(n, landmarks, 2)
    truth = (128 + 30 * hidden @ rng.standard_normal((4, 2 * points))).reshape(n, points, 2)
    found += rng.standard_normal(found.shape)
    found[rng.random((n, landmarks)) < missing] = np.nan
    names = np.array([f"{i}.jpg" for i in range(n)])
    normalisers = rng.uniform(50, 100, n)
    return Predictions(names, found, truth, np.arange(n) >= n_train), normalisers


@pytest.fixture
def mean_fill(monkeypatch):
    """Gaps keep the means that they are filled with first."""
    monkeypatch.setattr(evaluation, "complete", lambda values, observed: values)


def plain_ridge(x, y):
    """R = Y'X (X'X + 0.01 max(X'X) I)^-1 on x/256 - 0.5, centred."""
    x, y = np.asarray(x) / 256 - 0.5, np.asarray(y) / 256 - 0.5
    mx, my = x.mean(axis=0), y.mean(axis=0)
    xc, yc = x - mx, y - my
    xx = xc.T @ xc
    r = yc.T @ xc @ np.linalg.inv(xx + 0.01 * xx.max() * np.eye(len(xx)))
    return lambda z: ((r @ (z / 256 - 0.5 - mx)) + my + 0.5) * 256


def plain_forward(p, normalisers, samples, seed):
    train = [i for i in range(len(p.names)) if not p.is_test[i]]
    test = [i for i in range(len(p.names)) if p.is_test[i]]
    x = p.points.reshape(len(p.names), -1).copy()
    for c in range(x.shape[1]):
        mean = np.nanmean(x[train, c])
        for i in range(len(x)):
            if np.isnan(x[i, c]):
                x[i, c] = mean
    errors = np.zeros((10, p.groundtruth.shape[1]))
    for number in range(10):
        chosen = np.random.default_rng([seed, number]).choice(len(train), min(samples, len(train)), replace=False)
        for g in range(p.groundtruth.shape[1]):
            rows = [train[i] for i in chosen if not np.isnan(p.groundtruth[train[i], g]).any()]
            model = plain_ridge(x[rows], p.groundtruth[rows, g])
            values = [
                np.sqrt(((model(x[i]) - p.groundtruth[i, g]) ** 2).sum()) / normalisers[i]
                for i in test
                if not np.isnan(p.groundtruth[i, g]).any()
            ]
            errors[number, g] = sum(values) / len(values)
    return errors.mean(axis=0)


def plain_backward(p, normalisers, samples):
    train = [i for i in range(len(p.names)) if not p.is_test[i]]
    x = p.groundtruth.reshape(len(p.names), -1).copy()
    for c in range(x.shape[1]):
        x[np.isnan(x[:, c]), c] = np.nanmean(x[train, c])
    errors = []
    for k in range(p.points.shape[1]):
        rows = [i for i in train[:samples] if not np.isnan(p.points[i, k]).any()]
        model = plain_ridge(x[rows], p.points[rows, k])
        values = [
            np.linalg.norm(model(x[i]) - p.points[i, k]) / normalisers[i]
            for i in range(len(p.names))
            if p.is_test[i] and not np.isnan(p.points[i, k]).any()
        ]
        errors.append(sum(values) / len(values) if values else 1.0)
    return np.array(errors)


@pytest.mark.parametrize("samples", [15, 300])
@pytest.mark.parametrize("unknown", [0.0, 0.15])
def test_errors_equal_the_plain_formulas(samples, unknown, mean_fill):
    predictions, normalisers = made()
    rng = np.random.default_rng(5)
    predictions.groundtruth[rng.random(predictions.groundtruth.shape[:2]) < unknown] = np.nan
    errors = evaluate(predictions, normalisers, samples, seed=3, missing_limit=1.1)
    np.testing.assert_allclose(errors.forward, plain_forward(predictions, normalisers, samples, 3), atol=1e-9, rtol=0)
    np.testing.assert_allclose(errors.backward, plain_backward(predictions, normalisers, samples), atol=1e-9, rtol=0)
    assert errors.forward_percent == pytest.approx(100 * errors.forward.mean())
    assert errors.backward_percent == pytest.approx(100 * errors.backward.mean())


def test_ridge_by_hand():
    # Centred x = -1, 0, 1 and y = -2, 0, 2: X'X = 2, Y'X = 4, R = 4 / 2.02.
    weights, offset = fit_ridge(np.array([[1.0], [2], [3]]), np.array([[0.0], [2], [4]]))
    assert weights[0, 0] == pytest.approx(4 / 2.02)
    assert offset[0] == pytest.approx(2 - 2 * 4 / 2.02)


def test_regression_without_inputs_gives_the_mean():
    targets = np.array([[[10.0, 20]], [[30, 40]], [[np.nan, np.nan]]])
    assert regress(np.zeros((3, 0, 2)), targets, np.zeros((2, 0, 2))).tolist() == [[[20, 30]], [[20, 30]]]
    assert regress(np.ones((3, 2, 2)), targets, np.ones((1, 2, 2))).tolist() == [[[20, 30]]]
    assert np.isnan(regress(np.ones((1, 2, 2)), targets[2:], np.ones((1, 2, 2)))).all()


def test_landmarks_missing_in_a_fifth_are_left_out():
    points = np.zeros((10, 3, 2))
    points[:2, 0] = np.nan
    points[:1, 1] = np.nan
    assert seen_landmarks(points).tolist() == [1, 2]
    assert seen_landmarks(points, 0.3).tolist() == [0, 1, 2]


def test_curve_is_the_cumulative_mean_of_sorted_errors():
    assert cumulative_percent(np.array([0.03, np.nan, 0.01, 0.05])).tolist() == pytest.approx([1, 2, 3])
    assert cumulative_percent(np.array([np.nan])).tolist() == []


def test_a_landmark_never_tested_counts_one(mean_fill):
    predictions, normalisers = made(missing=0)
    predictions.points[predictions.is_test, 2] = np.nan
    errors = evaluate(predictions, normalisers, missing_limit=0.9)
    assert errors.backward[2] == 1
    assert (errors.backward[[0, 1, 3, 4]] < 0.2).all()


def test_no_landmark_at_all_is_the_mean_shape():
    predictions, normalisers = made(missing=0)
    predictions.points[:] = np.nan
    errors = evaluate(predictions, normalisers)
    assert len(errors.landmarks) == len(errors.backward) == 0
    np.testing.assert_allclose(errors.forward, mean_shape_errors(predictions, normalisers), atol=1e-12)
    assert np.isnan(errors.backward_percent)


def test_mean_shape_by_hand():
    truth = np.array([[[0.0, 0]], [[2, 0]], [[1, 3]], [[5, 0]], [[np.nan, 0]]])
    predictions = Predictions(
        np.array(list("abcde")), np.zeros((5, 1, 2)), truth, np.array([False, False, True, True, True])
    )
    # The mean is (1, 0); the distances are 3 and 4, the normalisers 2 and 4.
    errors = mean_shape_errors(predictions, np.array([1.0, 1, 2, 4, 1]))
    assert errors.tolist() == [(1.5 + 1) / 2]


def test_few_regression_images_are_told(mean_fill):
    predictions, normalisers = made()
    notes = evaluate(predictions, normalisers, 300).notes
    assert "40 regression images, fewer than 1000: all are used" in notes
    assert "a regressor learns from 40 images instead of 300" in notes
    normalisers[-3:] = [np.nan, 0, -1]
    assert any("3 test images" in note for note in evaluate(predictions, normalisers, 20).notes)


@pytest.mark.parametrize("kind", ["regression", "test"])
def test_no_images_of_a_kind(kind):
    predictions, normalisers = made()
    predictions.groundtruth[predictions.is_test == (kind == "test")] = np.nan
    with pytest.raises(UserError, match=f"no {kind} image"):
        evaluate(predictions, normalisers)


def test_failed_completion_falls_back_to_means_and_is_told(mean_fill, monkeypatch):
    def failing(values, observed):
        raise np.linalg.LinAlgError("no luck")

    predictions, normalisers = made()
    expected = evaluate(predictions, normalisers, 20, missing_limit=1)
    monkeypatch.setattr(evaluation, "complete", failing)
    errors = evaluate(predictions, normalisers, 20, missing_limit=1)
    np.testing.assert_array_equal(errors.forward, expected.forward)
    assert any("no luck" in note for note in errors.notes)


def test_seed_decides_alone(mean_fill):
    predictions, normalisers = made()
    first, again, other = (evaluate(predictions, normalisers, 20, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.forward, again.forward)
    assert (first.forward != other.forward).any()
    np.testing.assert_array_equal(first.backward, other.backward)
