import pytest
import torch

from tools.superpoint.losses import LossOptions
from tools.superpoint.samples import PairSource
from tools.superpoint.trainer import Trainer, TrainingOptions, learning_rate
from tools.superpoint.weights import fresh_superpoint


def test_learning_rate_rises_and_falls():
    options = TrainingOptions(iterations=1000, learning_rate=1.0, warm_up=10)
    assert learning_rate(0, options) == pytest.approx(0.1)
    assert learning_rate(500, options) == pytest.approx(0.02 + 0.98 * 0.5)
    assert learning_rate(1000, options) == pytest.approx(0.02)


def options_for_test(**changes) -> TrainingOptions:
    return TrainingOptions(**{"iterations": 4, "batch_size": 1, "half_precision": False, "seed": 3, **changes})


def trainer() -> Trainer:
    return Trainer(fresh_superpoint(0), PairSource([], 32, share_of_shapes=1.0), options_for_test())


def test_resumed_training_equals_an_uninterrupted_one(tmp_path):
    whole = trainer()
    whole.train(tmp_path / "whole.pth")

    part = trainer()
    part.step()
    part.step()
    part.save(tmp_path / "part.pth")
    resumed = trainer()
    resumed.resume(tmp_path / "part.pth")
    resumed.train(tmp_path / "part.pth")

    assert resumed.iteration == whole.iteration == 4
    for name, tensor in whole.network.state_dict().items():
        torch.testing.assert_close(resumed.network.state_dict()[name], tensor, rtol=0, atol=0)
        torch.testing.assert_close(resumed.average[name], whole.average[name], rtol=0, atol=0)


def test_the_head_alone_learns():
    options = options_for_test(head_alone=True, losses=LossOptions(describes=False))
    learner = Trainer(fresh_superpoint(0), PairSource([], 32, share_of_shapes=1.0), options)
    before = {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}
    learner.step()
    changed = {name for name, tensor in learner.network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"{layer}.{part}" for layer in ("convPa", "convPb") for part in ("weight", "bias")}
