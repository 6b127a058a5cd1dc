"""How networks run on a device: precision, memory format, and pictures in batches."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from Databases.database import Database, ImageSet
from Databases.loading import crop_batches, to_input, workers_for
from Networks.fan import FAN
from Utils.hyperparameters import Hyperparameters
from Utils.options import Options
from Utils.runtime import distributed
from Utils.runtime.progress import Progress

INFERENCE_BATCH = {"cpu": 16, "cuda": 128}  # pictures


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Mixed precision: bfloat16 on a GPU, float32 on the CPU, or what --set precision says."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=uses_bfloat16(device, precision))


def uses_bfloat16(device: torch.device, precision: str) -> bool:
    return precision == "bfloat16" or (precision == "auto" and device.type == "cuda")


def build_fan(descriptor_channels: int | None, hyper: Hyperparameters, device: torch.device) -> FAN:
    """A FAN with weights drawn from the seed, on the device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(hyper.seed)
        network = FAN(descriptor_channels, hyper.width)
    if hyper.compile:
        # Nearly all of the arithmetic; the method is replaced in this network alone.
        network.forward_features = torch.compile(network.forward_features)  # type: ignore[method-assign]
    return place(network, device, hyper.precision)


def copy_network(network: FAN, hyper: Hyperparameters) -> FAN:
    """Another network with the same weights, at the same place, not compiled."""
    copy = FAN(network.l1.out_channels, network.width)
    copy.load_state_dict(network.state_dict())
    return place(copy, network.l1.weight.device, hyper.precision).requires_grad_(False)


def place(network: FAN, device: torch.device, precision: str) -> FAN:
    """Move a network to the device, in the memory format in which it trains fastest there.

    Channels last suits tensor cores, and the CPU in float32; in bfloat16 the CPU's backward pass takes half as
    long again with it.
    """
    last = device.type == "cuda" or not uses_bfloat16(device, precision)
    return network.to(device).to(memory_format=torch.channels_last if last else torch.contiguous_format)


@contextlib.contextmanager
def share_of_cores(threads: int) -> Iterator[int]:
    """How many threads torch may use in each of so many threads of ours: what they set, undone in the end."""
    before = torch.get_num_threads()
    try:
        yield max(1, before // max(1, threads))
    finally:
        torch.set_num_threads(before)


def inference_batches(
    database: Database, images: ImageSet, options: Options, indices: Sequence[int]
) -> Iterator[tuple[torch.Tensor, np.ndarray, np.ndarray]]:
    """`crop_batches` of the pictures of `indices` at the network's size, in batches that suit the device."""
    size, batch_size = options.hyper.image_size, INFERENCE_BATCH[options.device.type]
    workers = workers_for(options, len(indices))
    return crop_batches(database, images, size, batch_size, workers, options.device, indices)


@torch.inference_mode()
def heatmap_batches(
    network: FAN, database: Database, images: ImageSet, options: Options, channels: np.ndarray, description: str
) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
    """Heatmaps (B, A, G, G) of some channels (A,), and the maps (B, 2, 3) from the pictures to their crops.

    Batch by batch; of several processes each gets its part of the pictures.
    """
    wanted = torch.from_numpy(channels).to(options.device)
    indices = distributed.shard(len(images))
    with Progress(description, len(indices)) as progress:
        for pictures, to_crop, numbers in inference_batches(database, images, options, indices):
            with autocast(options.device, options.hyper.precision):
                maps = network.forward_heatmaps(to_input(pictures.to(options.device, non_blocking=True)))
            yield maps.index_select(1, wanted), to_crop
            progress.update(len(numbers))
