"""Protocols against the numbers that the peers' own functions gave on made-up predictions (protocols.npz)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from Utils import protocols
from Utils.evaluation import cumulative_percent, evaluate
from Utils.predictions import Predictions
from Utils.protocols import PROTOCOLS, few_annotations, measure
from Utils.runtime.errors import UserError

PEERS = np.load(Path(__file__).with_name("protocols.npz"))


def made_up(which: str) -> Predictions:
    """The first of the pictures are annotated; hidden points are NaN."""
    annotated = PEERS["train"][("mafl", "cub", "human").index(which)]
    points, truth = (256 * PEERS[f"{which}_{what}"].astype(np.float64) for what in ("prediction", "groundtruth"))
    if which == "cub":
        truth[~PEERS["cub_visible"]] = np.nan
    number = np.arange(len(points))
    return Predictions(number.astype(str), points, truth, number >= annotated)


@pytest.mark.parametrize(
    ("name", "which", "answer"),
    [
        ("mafl5", "mafl", "mafl_imm"),
        ("mafl5-tpami", "mafl", "mafl_k2l_forward"),
        ("celeba-wild", "mafl", "wild_autolink"),
        ("cub", "cub", "cub_autolink"),
        ("human-simplified", "human", "human_autolink"),
    ],
)
def test_forward_errors_are_the_peers(name, which, answer, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, name, replace(PROTOCOLS[name], aspect=(1, 1)))  # the file's pictures are square
    assert measure(made_up(which), name).forward_percent == pytest.approx(float(PEERS[answer]), rel=1e-3)


def test_the_successors_curves(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "mafl5-tpami", replace(PROTOCOLS["mafl5-tpami"], aspect=(1, 1)))
    errors = measure(made_up("mafl"), "mafl5-tpami")
    for side in ("forward", "backward"):
        curve = cumulative_percent(getattr(errors, side))
        np.testing.assert_allclose(curve, PEERS[f"mafl_k2l_{side}_curve"], rtol=1e-3)
    assert errors.backward_percent == pytest.approx(float(PEERS["mafl_k2l_backward"]), rel=1e-3)


def test_missing_landmarks_count_as_their_means():
    predictions = made_up("mafl")
    predictions.points[3:5, 0], filled = np.nan, made_up("mafl")
    filled.points[3:5, 0] = np.nanmean(predictions.points[:1000, 0], axis=0)
    assert measure(predictions, "mafl5").forward_percent == measure(filled, "mafl5").forward_percent


def test_another_number_of_points_is_refused():
    with pytest.raises(UserError, match="--protocol cub takes 15 points of each picture; the groundtruth has 5"):
        measure(made_up("mafl"), "cub")


def test_few_annotations_by_hand(monkeypatch):
    """Five landmarks at twice the groundtruth: less than five pictures do not tell that, six do."""
    monkeypatch.setattr(protocols, "COUNTS", (1, 2, 9))
    truth = np.random.default_rng(0).uniform(50, 100, (8, 5, 1)) * np.array([1.0, 0])
    points = np.zeros((8, 5, 2))
    points[..., 0] = 2 * truth[..., 0]
    errors = measure(Predictions(np.arange(8).astype(str), points, truth, np.arange(8) >= 6), "mafl5")
    rows = few_annotations(errors, 0)
    assert rows[:, 0].tolist() == [1, 2, 6]
    assert rows[0, 1] > rows[1, 1] > rows[2, 1]
    assert rows[2, 1:].tolist() == [errors.forward_percent, 0]
    assert rows[:2, 2].min() > 0


def test_few_annotations_of_the_paper():
    """A regressor from all pictures is `evaluate`'s; one from one picture predicts its points everywhere."""
    predictions = made_up("mafl")
    errors = evaluate(predictions, np.full(1500, 100.0), 1000)
    rows = few_annotations(errors, 0)
    assert rows[:, 0].tolist() == [1, 2, 5, 10, 20, 50, 100, 500, 1000]
    assert rows[-1, 1] == pytest.approx(errors.forward_percent)
    alone = [errors.percent(errors.forward_from(np.array([i]))) for i in (0, 1)]
    truth, test = predictions.groundtruth, predictions.groundtruth[1000:]
    assert alone == pytest.approx([np.linalg.norm(test - truth[i], axis=2).mean() for i in (0, 1)])
