"""Memory formats of the network."""

import torch

from Networks.execution import build_fan
from Utils.hyperparameters import hyperparameters

CPU = torch.device("cpu")


def test_memory_formats():
    """On the CPU channels last in float32, first in bfloat16; the maps are the same to rounding."""
    last = build_fan(12, hyperparameters(["image_size=64", "width=32"], {}), CPU)
    first = build_fan(12, hyperparameters(["image_size=64", "width=32", "precision=bfloat16"], {}), CPU)
    assert last.conv2.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert first.conv2.conv1.weight.is_contiguous()
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(last(pictures), first(pictures), rtol=1e-4, atol=1e-5)
