"""Weights as .safetensors: exported, and read in the place of the .pth."""

import numpy as np
import pytest
import torch

from Networks.inference.detector import LandmarkDetector
from Networks.superpoint import SHIPPED_WEIGHTS, load_superpoint
from tests.Networks.test_second_step import prepare, run
from tests.tiny import TinyDatabase, tiny_options
from tools import export_weights
from Utils.storage.experiment import Experiment
from Utils.storage.files import load_checkpoint, save_checkpoint


def export(source, output) -> int:
    with pytest.raises(SystemExit) as end:
        export_weights.main([str(source), str(output)])
    return end.value.code


def test_superpoint(tmp_path):
    assert export(SHIPPED_WEIGHTS, tmp_path / "a.safetensors") == 0
    ours, theirs = (load_superpoint(path).state_dict() for path in ("", tmp_path / "a.safetensors"))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert len(ours) == len(theirs)


def test_a_network_of_step_two_is_read_in_its_place(tmp_path):
    prepare(tmp_path)
    run(tmp_path, "total_iterations=2", "iterations_before_merging=1")
    experiment = Experiment(tmp_path, "tiny")
    epoch, path = experiment.newest_second_step()
    before = LandmarkDetector.from_experiment(experiment, tiny_options(tmp_path), TinyDatabase())
    assert export(path, path.with_suffix(".safetensors")) == 0
    assert experiment.newest_second_step() == (epoch, path)  # which says more
    path.unlink()
    assert experiment.newest_second_step() == (epoch, path.with_suffix(".safetensors"))
    after = LandmarkDetector.from_experiment(experiment, tiny_options(tmp_path), TinyDatabase())
    weights = after.network.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in before.network.state_dict().items())
    np.testing.assert_array_equal(before.active, after.active)
    assert before.iteration == after.iteration
    content = load_checkpoint(path.with_suffix(".safetensors"))
    assert content["hyperparameters"]["image_size"] == 64
    assert "optimizer" not in content


def test_what_has_no_weights_is_refused(tmp_path, capsys):
    save_checkpoint({"a": 5}, tmp_path / "a.pth")
    assert export(tmp_path / "a.pth", tmp_path / "b.safetensors") == 2
    assert "holds no weights" in capsys.readouterr().err
    save_checkpoint({"state_dict": {"a": torch.tensor([float("nan")])}}, tmp_path / "a.pth")
    assert export(tmp_path / "a.pth", tmp_path / "b.safetensors") == 2
    assert "a contains NaN or infinity" in capsys.readouterr().err
    assert export(tmp_path / "a.pth", tmp_path / "b.pth") == 2
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    assert export(tmp_path / "cut.safetensors", tmp_path / "b.safetensors") == 2
    assert "cut.safetensors cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "b.safetensors").exists()
