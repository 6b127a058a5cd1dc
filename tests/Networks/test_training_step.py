"""One optimiser step of both steps against the published code's: losses, gradients and weights, tensor by tensor.

training_step.npz holds its numbers, on weights and pictures made from seeds: the norms of the gradients, and the
first six weights of each tensor. About 15 seconds.
"""

import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from Databases.samples import FirstStepBatch, SecondStepBatch
from Networks import training
from Networks.fan import FAN
from Networks.first_step import FirstStep, first_step_losses
from Networks.second_step import SecondStep, second_step_losses
from tests.Networks.test_fan import published_shapes, seeded_weights
from tests.tiny import tiny_options

PUBLISHED = np.load(Path(__file__).with_name("training_step.npz"))
PICTURES = torch.rand((2, 3, 256, 256), generator=torch.Generator().manual_seed(zlib.crc32(b"fan")))
PICTURES = (255 * PICTURES).round().to(torch.uint8)
KEYPOINTS = [PUBLISHED[name] for name in ("keypoints1", "keypoints2")]  # x, y, cluster
# How far gradients may be off, as a share of all. With the arithmetic of AVX2 (ONEDNN_MAX_CPU_ISA=AVX2) step one is
# off by 3e-7; where other kernels' rounding, or none, moves a value across a ReLU's edge, it is off by 1.4e-4.
GRADIENTS = {1: 5e-4, 2: 5e-5}


def first_batches() -> list[FirstStepBatch]:
    """One sample of two pictures."""
    keypoints = np.concatenate([np.insert(points[:, :2], 0, i, axis=1) for i, points in enumerate(KEYPOINTS)])
    pairs = PUBLISHED["pairs"]
    both = np.concatenate([np.insert(pairs[:, 2 * i : 2 * i + 2], 0, i, axis=1) for i in (0, 1)])
    ends, rows = np.unique(both, axis=0, return_inverse=True)
    whole = (torch.from_numpy(part.astype(np.int64)) for part in (keypoints, ends, rows.reshape(2, -1).T))
    return [FirstStepBatch(PICTURES, *whole, torch.from_numpy(pairs[:, 4] == 1))]


def second_batches() -> list[SecondStepBatch]:
    """Two batches of one picture each, with the keypoints of active clusters."""
    kept = [points[np.isin(points[:, 2], PUBLISHED["step2_active"])] for points in KEYPOINTS]
    rows = [torch.from_numpy(np.insert(points[:, [2, 0, 1]], 0, 0, axis=1).astype(np.float32)) for points in kept]
    return [SecondStepBatch(picture[None], own) for picture, own in zip(PICTURES, rows, strict=True)]


@pytest.mark.parametrize("number", [1, 2])
def test_one_optimiser_step_is_the_published_one(number, tmp_path, monkeypatch):
    hyper = tiny_options(tmp_path).hyper
    step, batches, losses_of, decay, channels = (
        (FirstStep, first_batches(), first_step_losses, hyper.weight_decay, 256),
        (SecondStep, second_batches(), second_step_losses, hyper.heatmap_weight_decay, 100),
    )[number - 1]
    network = FAN(channels)
    network.load_state_dict(seeded_weights(published_shapes(channels)))
    run = object.__new__(step)
    run.options = SimpleNamespace(device=torch.device("cpu"), num_workers=0)
    run.hyper, run.network, run.average, run.iteration, run.batch_size = hyper, network, None, 0, 1
    run.optimizer = torch.optim.RMSprop(network.parameters(), lr=hyper.learning_rate, weight_decay=decay)
    run.scalars, run.keeper = SimpleNamespace(add=lambda *_: None), SimpleNamespace(after_look=lambda: None)
    monkeypatch.setattr(training, "training_batches", lambda *_: iter(batches))
    losses = []

    def noted(network, batch):
        found = losses_of(network, batch, "float32")
        losses.append(found["total"].item())
        return found

    run.fit("", None, noted, lambda _: hyper.learning_rate, 1, len(batches))
    published = PUBLISHED["step1_total"] if number == 1 else PUBLISHED["step2_losses"]
    np.testing.assert_allclose(losses, published.ravel(), rtol=1e-5)

    names = PUBLISHED["names" if number == 1 else "step2_names"]
    parameters = [dict(network.named_parameters())[name] for name in names]
    norms = np.array([np.nan if p.grad is None else float(p.grad.double().norm()) for p in parameters])
    published = PUBLISHED[f"step{number}_gradients"]
    np.testing.assert_array_equal(np.isnan(norms), np.isnan(published))
    assert np.nansum((norms - published) ** 2) < GRADIENTS[number] ** 2 * np.nansum(published**2)
    published = PUBLISHED[f"step{number}_weights"]
    weights = [p.detach().flatten()[:6].numpy() for p in parameters]
    padded = [np.pad(own, (0, 6 - len(own)), constant_values=np.nan) for own in weights]  # few have less than six
    # RMSprop's first step follows the sign of a gradient; where that is nothing but rounding, so is the sign.
    assert np.mean(np.abs(padded - published) > 1e-5) < 0.005
