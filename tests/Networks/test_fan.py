"""FAN against the published networks: names, shapes, and answers on weights that anyone can remake."""

import math
import zlib
from pathlib import Path

import pytest
import torch

from Networks.fan import FAN

DETECTOR = [0.263778, 0.514723, 0.480921, 0.462278]
DESCRIPTOR = [1.20816, -1.32669, -0.19625, 0.53454]
TENSORS = Path(__file__).with_name("fan_tensors.txt")


def published_shapes(last: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published state dict, with `last` channels of the second head."""
    shapes = {}
    for line in TENSORS.read_text().splitlines():
        name, *sizes = line.split()
        shapes[name] = tuple(map(int, sizes))
        if name.startswith("l1."):
            shapes[name] = (last, *shapes[name][1:])
    return shapes


def seeded_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Each tensor from a generator seeded by the CRC-32 of its name."""
    weights = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
        if len(shape) == 4:
            weights[name] = noise * math.sqrt(2 / math.prod(shape[1:]))
        elif "bn" in name or "downsample.0" in name:
            weights[name] = 0.1 * noise + (1 if name.endswith("weight") else 0)
        else:
            weights[name] = 0.05 * noise
    return weights


@pytest.mark.parametrize("last", [256, 100])
def test_tensors_are_the_published_ones(last):
    own = {name: tuple(tensor.shape) for name, tensor in FAN(last).state_dict().items()}
    assert own == published_shapes(last)


def test_answers_are_the_published_ones():
    network = FAN(256).eval()
    network.load_state_dict(seeded_weights(published_shapes(256)))
    pictures = torch.rand((2, 3, 256, 256), generator=torch.Generator().manual_seed(zlib.crc32(b"fan")))
    with torch.inference_mode():
        detector, descriptor = network(pictures)
    assert detector.shape == (2, 1, 64, 64)
    assert descriptor.shape == (2, 256, 64, 64)
    # What the published network gives at some places.
    places = [(0, 0, 0), (0, 31, 17), (1, 63, 63), (1, 5, 40)]
    torch.testing.assert_close(
        torch.stack([detector[n, 0, y, x] for n, y, x in places]), torch.tensor(DETECTOR), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        torch.stack([descriptor[n, c, 16, 32] for n, c in ((0, 0), (0, 100), (1, 7), (1, 255))]),
        torch.tensor(DESCRIPTOR),
        rtol=1e-4,
        atol=1e-4,
    )


def test_width_scales_every_layer():
    width = 32
    network = FAN(width=width)
    assert network.l1.weight.shape == (width, width, 1, 1)
    assert network.conv1.weight.shape[0] == width // 4
    detector, descriptor = network(torch.rand(1, 3, 64, 64))
    assert detector.shape == (1, 1, 16, 16)
    assert descriptor.shape == (1, width, 16, 16)
    assert 0 <= detector.min() <= detector.max() <= 1


def test_odd_width_is_refused():
    with pytest.raises(ValueError, match="multiple of 32"):
        FAN(width=40)


def test_heatmaps_are_the_second_head_alone():
    network = FAN(width=32).eval()
    pictures = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(network.forward_heatmaps(pictures), network(pictures)[1])


def test_fresh_head_depends_on_the_generator_alone():
    first, second = FAN(width=32), FAN(width=32)
    for network in (first, second):
        network.replace_descriptor_head(7, torch.Generator().manual_seed(3))
    assert first.l1.weight.shape == (7, 32, 1, 1)
    assert torch.equal(first.l1.weight, second.l1.weight)
    assert torch.equal(first.l1.bias, second.l1.bias)
