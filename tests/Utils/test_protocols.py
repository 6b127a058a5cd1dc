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
def test_errors_are_the_peers(name, which, answer, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, name, replace(PROTOCOLS[name], aspect=(1, 1)))  # the file's pictures are square
    errors = measure(made_up(which), name)
    assert errors.forward_percent == pytest.approx(float(PEERS[answer]), rel=1e-3)
    for side in ("forward", "backward") if name == "mafl5-tpami" else ():
        curve = PEERS[f"mafl_k2l_{side}_curve"]
        np.testing.assert_allclose(cumulative_percent(getattr(errors, side)), curve, rtol=1e-3)


def test_missing_landmarks_are_filled_and_missing_points_refused():
    predictions, filled = made_up("mafl"), made_up("mafl")
    predictions.points[3:5, 0] = np.nan
    filled.points[3:5, 0] = np.nanmean(predictions.points[:1000, 0], axis=0)
    assert measure(predictions, "mafl5").forward_percent == measure(filled, "mafl5").forward_percent
    with pytest.raises(UserError, match="--protocol cub takes 15 points; the groundtruth has 5"):
        measure(predictions, "cub")


def test_few_annotations(monkeypatch):
    """A regressor from all pictures is `evaluate`'s; those from one picture predict its points everywhere."""
    monkeypatch.setattr(protocols, "DRAWS", 2)
    predictions = made_up("mafl")
    errors = evaluate(predictions, np.full(1500, 100.0), 1000)
    rows = few_annotations(errors, 0)
    assert rows[:, 0].tolist() == [1, 2, 5, 10, 20, 50, 100, 500, 1000]
    assert rows[-1, 1:] == pytest.approx([errors.forward_percent, 0])
    drawn = [np.random.default_rng([0, 1, draw]).permutation(1000)[0] for draw in (0, 1)]
    truth, test = predictions.groundtruth, predictions.groundtruth[1000:]
    alone = [np.linalg.norm(test - truth[i], axis=2).mean() for i in drawn]
    assert rows[0, 1:] == pytest.approx([np.mean(alone), np.std(alone)])
