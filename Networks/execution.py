"""How networks run on a device: precision, memory format, and pictures in batches."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from Databases.database import Database, ImageSet
from Databases.loading import crop_batches, to_input, workers_for
from Networks.fan import FAN
from Utils.hyperparameters import Hyperparameters
from Utils.options import Options

INFERENCE_BATCH = {"cpu": 16, "cuda": 128}  # pictures


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Mixed precision: by default bfloat16 on a GPU and float32 on the CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=uses_bfloat16(device, precision))


def uses_bfloat16(device: torch.device, precision: str) -> bool:
    return precision == "bfloat16" or (precision == "auto" and device.type == "cuda")


def build_fan(descriptor_channels: int | None, hyper: Hyperparameters, device: torch.device) -> FAN:
    """A FAN with weights drawn from the seed, on the device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(hyper.seed)
        network = FAN(descriptor_channels, hyper.width)
    if hyper.compile:
        # This method does nearly all of the arithmetic.
        network.forward_features = torch.compile(network.forward_features)  # type: ignore[method-assign]
    return place(network, device, hyper.precision)


def copy_network(network: FAN, hyper: Hyperparameters) -> FAN:
    """A network with the same weights on the same device, not compiled and without gradients."""
    copy = FAN(network.l1.out_channels, network.width)
    copy.load_state_dict(network.state_dict())
    return place(copy, network.l1.weight.device, hyper.precision).requires_grad_(False)


def place(network: FAN, device: torch.device, precision: str) -> FAN:
    """Move a network to the device, in the memory format in which it trains fastest there.

    That is channels last, except in bfloat16 on the CPU, whose backward pass takes half as long again with it.
    """
    last = device.type == "cuda" or not uses_bfloat16(device, precision)
    return network.to(device).to(memory_format=torch.channels_last if last else torch.contiguous_format)


def inference_batches(
    database: Database, images: ImageSet, options: Options, indices: Sequence[int]
) -> Iterator[tuple[Tensor, np.ndarray, np.ndarray]]:
    """`crop_batches` of the pictures of `indices` at the network's size, in batches that suit the device."""
    size, batch_size = options.hyper.image_size, INFERENCE_BATCH[options.device.type]
    workers = workers_for(options, len(indices))
    return crop_batches(database, images, size, batch_size, workers, options.device, indices)


@torch.inference_mode()
def heatmaps(network: FAN, pictures: Tensor, channels: np.ndarray, options: Options) -> Tensor:
    """Crops (n, 3, S, S) uint8 -> heatmaps (n, A, G, G) of some channels (A,), on the network's device."""
    with autocast(options.device, options.hyper.precision):
        maps = network.forward_heatmaps(to_input(pictures.to(options.device, non_blocking=True)))
    return maps.index_select(1, torch.from_numpy(channels).to(options.device))
