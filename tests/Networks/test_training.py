"""Gradients of a batch in pieces, and means of losses."""

import numpy as np
import pytest
import torch

from Databases.samples import FirstStepSamples, SecondStepSamples, training_batches
from Networks import training
from Networks.execution import build_fan
from Networks.first_step import first_step_losses
from Networks.second_step import second_step_losses
from tests.tiny import TinyDatabase
from Utils.hyperparameters import hyperparameters
from Utils.runtime.errors import UserError

CPU = torch.device("cpu")
HYPER = hyperparameters(["image_size=64", "width=32"], {})
PER_PICTURE = 32 * 64**2


def samples_of(step: str):
    database = TinyDatabase()
    if step == "first":
        return FirstStepSamples(database, database.keypoints(), 64, 3, "fast")
    return SecondStepSamples(database, database.keypoints(), np.arange(12), 64, 3, "fast")


@pytest.mark.parametrize(("step", "losses"), [("first", first_step_losses), ("second", second_step_losses)])
@pytest.mark.parametrize("pictures", [1, 4, 100])
def test_gradients_of_pieces_add_up_to_those_of_the_batch(step, losses, pictures, monkeypatch):
    batch = next(training_batches(samples_of(step), 0, 1, 5, 0, CPU))
    network = build_fan(12, HYPER, CPU)
    whole = losses(network, batch, "float32")
    (0.5 * whole["total"]).backward()
    expected = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)

    sizes = []
    network.conv1.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    monkeypatch.setattr(training, "PASS_ON_CPU", pictures * PER_PICTURE)
    found = training.add_gradients(losses, network, batch, HYPER, weight=0.5)
    least = 2 if step == "first" else 1
    assert max(sizes) == min(max(pictures, least), len(batch.pictures))
    assert sum(sizes) == len(batch.pictures)
    for name, loss in whole.items():
        assert found[name].item() == pytest.approx(loss.item(), rel=1e-5)
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        difference = (network.get_parameter(name).grad - gradient).abs().max()
        assert difference <= 1e-4 * gradient.abs().max() + 1e-6 * largest, name


def test_pieces_keep_the_pairs():
    batch = next(training_batches(samples_of("first"), 0, 1, 5, 0, CPU))
    pieces = list(batch.split(4))
    assert [len(piece.pictures) for piece in pieces] == [4, 4, 2]
    shift = 0
    pairs = []
    for piece in pieces:
        ends = piece.ends + torch.tensor([shift, 0, 0])
        pairs.append(ends[piece.pairs])
        shift += len(piece.pictures)
    assert torch.equal(torch.cat(pairs), batch.ends[batch.pairs])
    assert torch.equal(torch.cat([piece.positive for piece in pieces]), batch.positive)


def test_running_means_begin_anew_after_each_look():
    means = training.RunningMean()
    for total, part in ((1.0, 0.5), (3.0, 0.0)):
        means.add({"total": torch.tensor(total), "part": torch.tensor(part)})
    assert means.take() == {"total": 2.0, "part": 0.25}
    means.add({"total": torch.tensor(5.0)})
    assert means.take() == {"total": 5.0}


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_training(loss):
    means = training.RunningMean()
    means.add({"total": torch.tensor(1.0), "detector": torch.tensor(loss)})
    with pytest.raises(UserError, match=f"the detector loss is {loss}; lower --set learning_rate"):
        means.take()
