"""Step one: losses and schedule by hand, and that a killed run resumes to the same weights and labels."""

import math
import shutil

import numpy as np
import pytest
import torch

from Databases.samples import FirstStepBatch
from Networks import relabelling
from Networks.consensus.losses import softmax_loss
from Networks.first_step import (
    FirstStep,
    descriptor_loss,
    detector_loss,
    learning_rate_at,
    round_ends,
)
from tests.tiny import TinyDatabase, first_step, tiny_options
from Utils.hyperparameters import hyperparameters
from Utils.runtime.errors import UserError
from Utils.storage.experiment import Experiment
from Utils.storage.files import load_checkpoint, load_pickle


def batch_of(ends, pairs, positive) -> FirstStepBatch:
    empty = torch.zeros((0, 3), dtype=torch.int64)
    return FirstStepBatch(
        torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
        empty,
        torch.tensor(ends),
        torch.tensor(pairs),
        torch.tensor(positive),
    )


def test_detector_loss_by_hand():
    detector = torch.zeros(2, 1, 4, 4)
    detector[0, 0, 1, 2] = 0.5  # a keypoint is here, so that 0.5 is missing
    detector[1, 0, 3, 3] = 0.2  # none is here
    keypoints = torch.tensor([[0, 2, 1], [1, 0, 0]])
    # First map (0.5^2) / 16, second (0.2^2 + 1^2) / 16, added.
    assert detector_loss(detector, keypoints).item() == pytest.approx((0.25 + 0.04 + 1.0) / 16)


def test_descriptor_loss_by_hand():
    descriptors = torch.zeros(2, 2, 4, 4)
    descriptors[0, :, 0, 1] = torch.tensor([0.3, 0.0])  # x 1, y 0
    descriptors[1, :, 2, 3] = torch.tensor([0.3, 0.4])  # x 3, y 2
    descriptors[1, :, 3, 3] = torch.tensor([3.0, 0.0])
    ends = [[0, 1, 0], [1, 3, 2], [1, 3, 3]]
    batch = batch_of(ends, [[0, 1], [0, 1], [0, 2]], [True, False, False])
    # Positive: 0.4^2; negative at distance 0.4: (0.8 - 0.4)^2; negative at 2.7: nothing.
    expected = (0.16 + (0.8 - math.sqrt(0.16 + 1e-9)) ** 2 + 0) / 3
    assert descriptor_loss(descriptors, batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss_of", [descriptor_loss, softmax_loss])
def test_no_pairs_give_no_loss(loss_of):
    empty = FirstStepBatch(
        torch.zeros(2, 3, 64, 64),
        *(torch.zeros((0, n), dtype=torch.int64) for n in (3, 3, 2)),
        torch.zeros(0, dtype=torch.bool),
    )
    descriptors = torch.ones(2, 2, 4, 4, requires_grad=True)
    loss = loss_of(descriptors, empty)
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(descriptors.grad).all()


def test_equal_descriptors_have_a_finite_gradient():
    descriptors = torch.ones(2, 2, 4, 4, requires_grad=True)
    descriptor_loss(descriptors, batch_of([[0, 1, 0], [1, 1, 0]], [[0, 1]], [False])).backward()
    assert torch.isfinite(descriptors.grad).all()


def test_schedule_of_the_paper():
    hyper = hyperparameters([], {})
    ends = round_ends(hyper)
    assert ends[:3] == [20_000, 30_000, 40_000]
    assert len(ends) == 31
    assert learning_rate_at(0, hyper) == 5e-4
    assert learning_rate_at(19_999, hyper) == 5e-4
    assert learning_rate_at(20_000, hyper) == pytest.approx(5e-4)
    assert learning_rate_at(21_999, hyper) == pytest.approx(5e-4)
    # Second scheduler step: 5e-6 + (5e-4 - 5e-6) (1 + cos(pi / 5)) / 2.
    assert learning_rate_at(22_000, hyper) == pytest.approx(5e-6 + 4.95e-4 * (1 + math.cos(math.pi / 5)) / 2)
    assert learning_rate_at(29_999, hyper) == pytest.approx(5e-6 + 4.95e-4 * (1 + math.cos(math.pi * 4 / 5)) / 2)
    assert learning_rate_at(30_000, hyper) == pytest.approx(5e-4)


def test_learning_rate_is_torch_s_cosine():
    hyper = hyperparameters(["iterations_first=3", "iterations_per_scheduler_step=2"], {})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=5, eta_min=5e-6)
    for iteration in range(3, 33):
        assert learning_rate_at(iteration, hyper) == pytest.approx(optimizer.param_groups[0]["lr"])
        if (iteration - 3) % 2 == 1:
            optimizer.step()
            scheduler.step()


class Killed(BaseException):
    """Stands for the end of the process."""


def run(folder, *settings, kill_at=None, kill_in_relabel=False, monkeypatch=None) -> None:
    """Step one on the tiny data set from given first keypoints, ended early where wanted."""
    database = TinyDatabase()
    experiment = Experiment(folder, "tiny")
    experiment.open()
    if not experiment.bootstrap_keypoints().exists():
        database.keypoints().save(experiment.bootstrap_keypoints())
    options = tiny_options(folder, "minutes_between_checkpoints=0", *settings, resume=True)
    step = first_step(database, options, experiment)
    with monkeypatch.context() as patch:
        if kill_at is not None:
            patch.setattr("Networks.training.ITERATIONS_PER_LOOK", 1)
            patch.setattr(step.keeper, "after_look", lambda: kill(step, kill_at))
        if kill_in_relabel:
            patch.setattr(relabelling, "cluster", raise_killed)
        step.run()


def kill(step: FirstStep, at: int) -> None:
    if step.iteration == at:
        raise Killed
    step.keeper.save()


def raise_killed(*_, **__):
    raise Killed


SETTINGS = ("iterations_first=3", "clustering_rounds=1", "confidence_fan=0.02", "number_of_clusters=24")
LAST = 8


def outcome(folder):
    experiment = Experiment(folder, "tiny")
    checkpoint = load_checkpoint(experiment.first_step_checkpoint(LAST))
    return checkpoint, load_pickle(experiment.updated_keypoints(LAST))


def assert_same(a, b) -> None:
    """Equal bit by bit, whatever the nesting."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_same(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        run(folder, *SETTINGS, monkeypatch=patch)
    return folder


def test_killed_run_resumes_to_the_same_bits(tmp_path, monkeypatch, uninterrupted):
    """By the paper; tests/Networks/test_seams.py kills our recipe at every seam."""
    with pytest.raises(Killed):
        run(tmp_path, *SETTINGS, kill_at=7, monkeypatch=monkeypatch)
    run(tmp_path, *SETTINGS, monkeypatch=monkeypatch)
    for a, b in zip(outcome(uninterrupted), outcome(tmp_path)):
        assert_same(a, b)


def test_run_killed_while_making_keypoints_resumes_to_the_same_bits(tmp_path, monkeypatch, uninterrupted):
    with pytest.raises(Killed):
        run(tmp_path, *SETTINGS, kill_in_relabel=True, monkeypatch=monkeypatch)
    run(tmp_path, *SETTINGS, monkeypatch=monkeypatch)
    for a, b in zip(outcome(uninterrupted), outcome(tmp_path)):
        assert_same(a, b)


def test_files_of_a_finished_run(uninterrupted):
    experiment = Experiment(uninterrupted, "tiny")
    assert [n for n, _ in experiment.first_step_checkpoints()] == [3, 8]
    assert [n for n, _ in experiment.updated_keypoints_files()] == [3, 8]
    assert not experiment.first_step_state().exists()
    assert not list(experiment.checkpoints.glob(".*"))
    checkpoint, keypoints = outcome(uninterrupted)
    assert checkpoint["iteration"] == 8
    assert checkpoint["centroid"].shape == (24, 32)
    assert {"state_dict", "optimizer"} <= set(checkpoint)
    assert len(keypoints) == 24
    for points in keypoints.values():
        clusters = points[:, 2]
        assert len(np.unique(clusters)) == len(clusters)  # a cluster occurs at most once
        assert ((points[:, :2] >= 0) & (points[:, :2] < 16)).all()


def test_resuming_with_other_settings_is_refused(tmp_path, monkeypatch, uninterrupted):
    with pytest.raises(UserError, match="learning_rate=0.0005"):
        run(uninterrupted, *SETTINGS, "learning_rate=0.1", monkeypatch=monkeypatch)


def test_more_rounds_go_on_from_the_last(tmp_path, monkeypatch, uninterrupted):
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    run(tmp_path, *SETTINGS, "clustering_rounds=2", monkeypatch=monkeypatch)
    assert [n for n, _ in Experiment(tmp_path, "tiny").first_step_checkpoints()] == [3, 8, 13]


def test_training_lowers_the_loss(tmp_path):
    database = TinyDatabase()
    experiment = Experiment(tmp_path, "tiny")
    experiment.open()
    step = first_step(database, tiny_options(tmp_path), experiment)
    losses = []
    step.scalars.add = lambda iteration, values: losses.append(values["loss/total"])
    step.train(database.keypoints(), 60)
    assert losses[-1] < 0.6 * losses[0]


def test_descriptor_gradients_are_the_same_bit_by_bit():
    """Thousands of pairs share few points, whose gradients several threads could add in any order."""
    rng = torch.Generator().manual_seed(0)
    ends = torch.stack([torch.arange(24) % 2, torch.arange(24) // 5, torch.arange(24) % 4], dim=1)
    batch = batch_of(ends.tolist(), torch.randint(24, (4000, 2), generator=rng).tolist(), [True] * 4000)
    values = torch.rand(2, 64, 5, 5, generator=rng)
    gradients = []
    threads = torch.get_num_threads()
    torch.set_num_threads(max(2, threads))
    try:
        for _ in range(20):
            descriptors = values.clone().requires_grad_()
            descriptor_loss(descriptors, batch).backward()
            gradients.append(descriptors.grad)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)
