"""Landmarks of the early stages: the places of clusters, and files that are not those of the stage."""

import pytest
import torch

from Networks.first_step import FirstStep
from Networks.inference.stages import bootstrap_landmarks, first_step_landmarks
from Networks.recipe import PAPER
from tests.tiny import TinyDatabase, tiny_options
from Utils.runtime.errors import UserError
from Utils.storage.experiment import Experiment
from Utils.storage.files import save_checkpoint


@pytest.fixture
def experiment(tmp_path) -> Experiment:
    """What step one leaves, with the bootstrap's files, all with the true marks as keypoints."""
    experiment = Experiment(tmp_path, "tiny")
    experiment.open()
    step = FirstStep(TinyDatabase(), tiny_options(tmp_path), experiment)
    step.centroids, step.thresholds = torch.rand(12, 32).numpy(), torch.ones(12).numpy()
    step.save_checkpoint()
    TinyDatabase().keypoints().save(experiment.updated_keypoints(0))
    TinyDatabase().keypoints().save(experiment.bootstrap_keypoints())
    return experiment


def test_keypoints_of_training_pictures_are_those_of_the_labels(tmp_path, experiment):
    """Cells of the 16x16 grid are 16 pixels of the 256x256 crop; the 8 test pictures are detected anew."""
    predictions = first_step_landmarks(
        TinyDatabase(), tiny_options(tmp_path, "confidence_fan=0.9"), experiment, PAPER
    )
    assert predictions.points.shape == (32, 12, 2)
    cells = TinyDatabase().keypoints().points[:, :2].reshape(24, 12, 2)
    assert predictions.points[:24].tolist() == (16 * cells).tolist()
    assert predictions.is_test.tolist() == [False] * 24 + [True] * 8


def test_a_bootstrap_file_without_clusters_is_named(tmp_path, experiment):
    save_checkpoint({"hyperparameters": {}}, experiment.bootstrap_clusters())
    with pytest.raises(UserError, match="SuperPointClusters.pth has no centroid"):
        bootstrap_landmarks(TinyDatabase(), tiny_options(tmp_path), experiment)


def test_a_checkpoint_between_training_and_clustering_is_named(tmp_path, experiment):
    step = FirstStep(TinyDatabase(), tiny_options(tmp_path), experiment)
    step.iteration = 4
    step.save_checkpoint()
    with pytest.raises(UserError, match="FirstStepIteration4.pth has no clusters of its own"):
        first_step_landmarks(TinyDatabase(), tiny_options(tmp_path), experiment, PAPER)
