"""Means of losses, and optimisers."""

import copy

import pytest
import torch

from Networks.fan import FAN
from Networks.training import OPTIMIZERS, mean_losses
from Utils.runtime.errors import UserError


def test_means_of_the_losses_of_batches():
    recent = [{"total": torch.tensor(total), "part": torch.tensor(part)} for total, part in ((1.0, 0.5), (3.0, 0.0))]
    assert mean_losses(recent) == {"total": 2.0, "part": 0.25}


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_training(loss):
    with pytest.raises(UserError, match=f"the detector loss is {loss}; lower --set learning_rate"):
        mean_losses([{"total": torch.tensor(1.0), "detector": torch.tensor(loss)}])


def test_adam_moves_a_network_alike_whatever_its_memory_format():
    """Its fused kernel goes through weights and gradients in the order of memory."""
    torch.manual_seed(0)
    network = FAN(12, 32).to(memory_format=torch.channels_last)
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    fused = OPTIMIZERS["adam"](network.parameters(), lr=1e-3, weight_decay=1e-2)
    loop = torch.optim.Adam(plain.parameters(), lr=1e-3, weight_decay=1e-2, betas=(0.9, 0.99), foreach=False)
    for _ in range(2):
        fused.zero_grad()
        network.forward_heatmaps(torch.rand(2, 3, 64, 64)).square().mean().backward()
        for own, other in zip(network.parameters(), plain.parameters(), strict=True):
            other.grad = None if own.grad is None else own.grad.clone(memory_format=torch.contiguous_format)
        fused.step()
        loop.step()
    for own, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-6)
