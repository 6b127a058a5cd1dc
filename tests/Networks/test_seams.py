"""Killed at each of its seams and resumed, a training ends with the same files, byte by byte. Half a minute."""

import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from Networks.checkpoints import StateKeeper
from tests.seams import Seams
from tests.tiny import TinyDatabase, first_step, second_step, tiny_options
from Utils.runtime.interruption import EndRequested, noting_requests
from Utils.storage.experiment import Experiment
from Utils.storage.files import load_checkpoint, save_checkpoint

STEPS = {
    "first": (first_step, ("iterations_first=2", "clustering_rounds=1", "confidence_fan=0.3")),
    "second": (
        second_step,
        (
            *("total_iterations=5", "iterations_before_merging=2", "cluster_overlap=0.05", "checkpoints_kept=1"),
            *("batch_size=12", "gradient_accumulation=1", "least_steadiness=0.01", "learning_rate_steps=2,4"),
            "map_match_fraction=0.8",
        ),
    ),
}
SEAMS = {"first": 12, "second": 13}


def train(folder, step: str, asked_at: int | None = None, every: int = 1000) -> None:
    """The step from where it is to its end, a state saved at its last iteration and after each `every`.

    asked_at: the iteration at which, within the step of the weights, SIGTERM comes; no other state is saved then.
    """
    experiment = Experiment(folder, "tiny")
    experiment.open()
    make, settings = STEPS[step]
    common = ("recipe=consensus", "weight_average=0.9", "minutes_between_checkpoints=0")
    options = tiny_options(folder, *common, *settings, resume=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("Networks.training.ITERATIONS_PER_LOOK", every)
        training = make(TinyDatabase(), options, experiment)
        if asked_at is not None:
            whole = training.optimizer.step

            def asked() -> None:
                if training.iteration == asked_at:
                    os.kill(os.getpid(), signal.SIGTERM)
                whole()

            patch.setattr(training.optimizer, "step", asked)
            patch.setattr(training.keeper, "after_look", lambda: None)
        training.run()


def bootstrapped(folder) -> None:
    """What the bootstrap leaves."""
    experiment = Experiment(folder, "tiny")
    experiment.open()
    save_checkpoint({"hyperparameters": {}, "centroid": None, "threshold": None}, experiment.bootstrap_clusters())
    TinyDatabase().keypoints().save(experiment.bootstrap_keypoints())


@dataclass
class Whole:
    """A step that nothing disturbed: the folders before and after it and at its seams, what these are, its files."""

    before: Path
    after: Path
    at: Path
    acts: list[str]
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Whole]:
    first, second, end = (tmp_path_factory.mktemp("whole") / name for name in ("first", "second", "end"))
    bootstrapped(first)
    found = {}
    for step, before, after in (("first", first, second), ("second", second, end)):
        shutil.copytree(before, after)
        with Seams(after, tmp_path_factory.mktemp(step)) as seams:
            train(after, step, every=2)
        found[step] = Whole(before, after, seams.kept, seams.acts, contents(after))
    return found


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "tiny" / "CheckPoints").iterdir()}


def require_same(folder, files: dict[str, bytes]) -> None:
    """No file more or less, and no other byte."""
    ours = contents(folder)
    assert set(ours) == set(files)
    assert [name for name in files if ours[name] != files[name]] == []


def test_the_seams(whole):
    """States between, checkpoints, labels, removals of states and of old checkpoints."""
    for step, number in SEAMS.items():
        assert len(whole[step].acts) == number, whole[step].acts
        assert not any("State" in name or name.startswith(".") for name in whole[step].files)
    assert "rename UpdatedKeypoints2.pickle" in whole["first"].acts
    assert "rename MergedKeypoints4.pickle" in whole["second"].acts
    assert "remove tinySecondStepEpoch1.pth" in whole["second"].acts
    # The last state is of the last iteration: what follows it is done again from there.
    last = max(n for n, act in enumerate(whole["second"].acts) if act == "rename tinySecondStepState.pth")
    state = load_checkpoint(whole["second"].at / str(last + 1) / "tiny/CheckPoints/tinySecondStepState.pth")
    assert state["iteration"] == 5


@pytest.mark.parametrize(("step", "seam"), [(step, seam) for step, number in SEAMS.items() for seam in range(number)])
def test_killed_at_each_seam(whole, step, seam):
    folder = whole[step].at / str(seam)
    train(folder, step)
    require_same(folder, whole[step].files)


@pytest.mark.parametrize(("step", "iteration"), [("first", 4), ("second", 2)])
def test_asked_to_end_a_training_saves_where_it_is(whole, tmp_path, step, iteration):
    shutil.copytree(whole[step].before, tmp_path, dirs_exist_ok=True)
    with pytest.raises(EndRequested), noting_requests():
        train(tmp_path, step, asked_at=iteration)
    kind = {"first": "First", "second": "Second"}[step]
    state = load_checkpoint(tmp_path / "tiny" / "CheckPoints" / f"tiny{kind}StepState.pth")
    assert state["iteration"] == iteration + 1
    train(tmp_path, step)
    require_same(tmp_path, whole[step].files)


def test_checkpoints_hold_the_average_and_what_training_goes_on_from(whole):
    """Weights that change in each iteration differ from their average, which lags behind."""
    for step, name, layer in (("first", "tinyFirstStepIteration7", "l0"), ("second", "tinySecondStepEpoch3", "l1")):
        checkpoint = load_checkpoint(whole[step].after / f"tiny/CheckPoints/{name}.pth")
        learned, trained = (checkpoint[key][f"{layer}.weight"] for key in ("state_dict", "training_state_dict"))
        assert not torch.equal(learned, trained)
        assert (learned - trained).abs().max() < 0.1


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    content = {"state_dict": {"a": torch.tensor([1.0, float("nan")])}, "optimizer": {"state": {}}}
    keeper = StateKeeper(tmp_path / "state.pth", 60, lambda: content)
    keeper.save()
    assert not keeper.path.exists()
    content["state_dict"]["a"] = torch.zeros(3)
    keeper.save()
    assert keeper.path.exists()
