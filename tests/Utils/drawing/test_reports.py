"""What an evaluation says and leaves: failures, and tables with what is known."""

import csv

import numpy as np
import pytest

from Utils.drawing.reports import report_failure, report_landmarks
from Utils.storage.experiment import Experiment


@pytest.fixture
def experiment(tmp_path) -> Experiment:
    experiment = Experiment(tmp_path, "e")
    experiment.open()
    return experiment


@pytest.mark.parametrize(("found", "best"), [([0.5, 0.8], "80%"), ([], "0%")])
def test_no_landmarks_are_a_failure_with_a_remedy(experiment, capsys, found, best):
    assert report_failure(experiment, np.array(found), remedy="try this")
    said = capsys.readouterr().out.splitlines()
    assert said == [f"Failed: no landmark is found in over 80% of the pictures, the best one in {best}; try this"]


def test_one_landmark_is_no_failure(experiment, capsys):
    assert not report_failure(experiment, np.array([0.1, 0.81]))
    assert capsys.readouterr().out == ""


def test_landmarks_that_keep_their_place_in_the_crop_are_a_failure(experiment, capsys):
    found = np.array([1, 1, 1, 1, 0.9, 0.1, 0.1])  # two maps are no landmarks
    steady = np.arange(7) < 2
    assert not report_failure(experiment, found, steady, "try this")
    steady[1] = False
    assert report_failure(experiment, found, steady, "try this")
    assert "only 1 of 5 landmarks follow a picture that is turned and shifted" in capsys.readouterr().out


def test_the_table_says_how_often_landmarks_are_found_without_groundtruth_too(experiment):
    report_landmarks(experiment, np.array([4, 7]), np.array([0.25, 1.0]))
    with (experiment.logs / "Landmarks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["landmark"], row["found_percent"], row["r2"]) for row in rows] == [("4", "25", ""), ("7", "100", "")]
