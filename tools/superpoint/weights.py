"""What is done to SuperPoint's weights before, between and after the stages of training, without learning."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from Networks.superpoint import SuperPoint
from tools.superpoint.samples import RELIABLE, PairBatch


def fresh_superpoint(seed: int, pictures: Tensor | None = None) -> SuperPoint:
    """SuperPoint before training, silent at first: "no point" in nearly every cell.

    He's initialisation; with `pictures` (B, 1, S, S) every channel before a ReLU is then shifted and scaled to
    mean 0 and deviation 1 over them. Plain initialisation leaves the deeper features of all pictures so alike
    that the detector does not learn for hundreds of iterations where in its cell a point lies.
    """
    network = SuperPoint()
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            layer.weight.data = torch.randn(layer.weight.shape, generator=generator) * (2 / fan_in) ** 0.5
            nn.init.zeros_(bias_of(layer))
    if pictures is not None:
        standardise(network, pictures)
    network.convPb.weight.data *= 0.1
    bias_of(network.convPb).data[-1] = 5.0
    return network


@torch.no_grad()
def standardise(network: SuperPoint, pictures: Tensor) -> None:
    """Scale and shift the 3x3 convolutions so that their outputs over `pictures` have mean 0 and deviation 1."""

    def adjust(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert isinstance(layer, nn.Conv2d)
        bias = bias_of(layer)
        mean, deviation = output.mean((0, 2, 3)), output.std((0, 2, 3)).clamp(min=1e-6)
        layer.weight.data /= deviation[:, None, None, None]
        bias.data = (bias.data - mean) / deviation
        return (output - mean[:, None, None]) / deviation[:, None, None]

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)]
    hooks = [layer.register_forward_hook(adjust) for layer in layers]
    network(pictures)
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def unit_length(network: SuperPoint, pictures: Tensor) -> SuperPoint:
    """The same network, its descriptors being 1 long on average before they are normalised.

    Lengths are free and grow in training, and the longer they are, the less a step of Adam turns them.
    """
    layer = network.convDb
    length = raw_descriptors(network, pictures).norm(dim=1).mean()
    layer.weight /= length
    bias_of(layer).div_(length)
    return network


@torch.no_grad()
def calibrated(network: SuperPoint, place: float = 1.0, odds: float = 1.0, bias: float = 0.0) -> SuperPoint:
    """The network with other confidence, by a linear change of its last layer; descriptors stay.

    With m the mean of a cell's 64 logits, pixels get (logit - m) / place and "no point" gets
    (logit - m) / odds + bias: `place` sharpens where in its cell a point lies, `odds` softens whether there is
    one, `bias` lowers or raises all scores. The order of the pixels within a cell stays.
    """
    weight, offsets = network.convPb.weight, bias_of(network.convPb)
    for tensor in (weight, offsets):
        tensor -= tensor[:-1].mean(0, keepdim=True)
        tensor[:-1] /= place
        tensor[-1] /= odds
    offsets[-1] += bias
    return network


@torch.no_grad()
def uncalibrated(network: SuperPoint, place: float = 1.0, odds: float = 1.0, bias: float = 0.0) -> SuperPoint:
    """What `calibrated` with the same arguments was given, but for a mean that does not count."""
    bias_of(network.convPb)[-1] -= bias
    return calibrated(network, 1 / place, 1 / odds)


@torch.no_grad()
def whitened(network: SuperPoint, batch: PairBatch, strength: float = 1.0, shrinkage: float = 1.0) -> SuperPoint:
    """The network with descriptors that are centred and spread over all directions, by its last layer alone.

    What training gives shares a large common part and lies in few directions, so that distances say little
    about pictures of another kind. Mean m and covariance C of the unnormalised descriptors of the cells of
    `batch` that hold a point turn a descriptor d into (C + shrinkage * mean variance)^(-strength / 2) (d - m).
    """
    network = network.eval()
    raw = raw_descriptors(network, batch.pictures).permute(0, 2, 3, 1)
    rows = raw[batch.known & (batch.target[:, -1] < RELIABLE)].double()
    mean = rows.mean(0)
    variances, directions = torch.linalg.eigh(torch.cov((rows - mean).T))
    scales = (variances + shrinkage * variances.mean()) ** (-strength / 2)
    turn = directions * scales @ directions.T
    layer = network.convDb
    shift = bias_of(layer)
    shift.copy_(turn @ (shift.double() - mean))
    layer.weight.copy_((turn @ layer.weight[:, :, 0, 0].double())[:, :, None, None])
    return network


def bias_of(layer: nn.Conv2d) -> Tensor:
    """All convolutions of SuperPoint have one."""
    assert layer.bias is not None
    return layer.bias


def raw_descriptors(network: SuperPoint, pictures: Tensor) -> Tensor:
    """Descriptors before they are normalised: (B, 1, S, S) -> (B, 256, S / 8, S / 8)."""
    return network.convDb(F.relu(network.convDa(network.encode(pictures))))
