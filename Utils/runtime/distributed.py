"""Several processes that torchrun starts, one per GPU or machine; without torchrun, one.

With one process each function returns the obvious result, so that callers need no special case.
"""

import datetime
import importlib
import os
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

Content = TypeVar("Content")
_PATIENCE = datetime.timedelta(days=7)  # the others wait while the main process clusters
_host_group: Any = None  # gloo, for data in host memory: nccl only moves data of GPUs


def start(device: torch.device) -> None:
    """Join the other processes that torchrun started, over nccl for GPUs and gloo for CPUs."""
    global _host_group
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1 or dist.is_initialized():
        return
    # An optimiser imports this. If a group exists by then, default arguments keep it, and so its threads, for ever.
    importlib.import_module("torch.distributed.nn")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    _host_group = dist.new_group(backend="gloo", timeout=_PATIENCE)


def stop() -> None:
    """Leave the other processes. No thread of gloo outlives this; one that does can abort the process at its exit."""
    global _host_group
    if dist.is_initialized():
        dist.destroy_process_group()
        _host_group = None


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes files and talks to the user."""
    return rank() == 0


def place() -> tuple[int, int]:
    """(rank, number of processes)."""
    return rank(), world()


def shard(count: int) -> range:
    """This process's part of `count` pictures: a run of consecutive ones, in order of rank."""
    return range(count * rank() // world(), count * (rank() + 1) // world())


def from_main(content: Content | None) -> Content:
    """The main process's `content`, in all processes; the others may pass None."""
    box: list[Any] = [content]
    if dist.is_initialized():
        dist.broadcast_object_list(box, src=0, group=_host_group)
    return box[0]


def gather(rows: np.ndarray) -> np.ndarray:
    """The arrays (n_r, ...) of all processes one after the other, in all processes."""
    if not dist.is_initialized():
        return rows
    parts: list[Any] = [None] * world()
    dist.all_gather_object(parts, rows, group=_host_group)
    return np.concatenate(parts)


def mean(losses: Tensor, count: int | None = None) -> Tensor:
    """Mean of losses (n,), a scalar, whose gradients, averaged over the processes, are those of the joined batch.

    count: the number of losses to divide by, if it is not n. Without any loss the mean is 0.
    """
    # torch.full on the device, since a copy would make the host wait for the GPU.
    total = torch.full((), float(len(losses) if count is None else count), device=losses.device)
    if dist.is_initialized():
        dist.all_reduce(total)
        total /= world()
    return losses.sum() / total.clamp(min=1e-9)


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its mean over the processes, in one message."""
    if not dist.is_initialized():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world()
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view(gradient.shape))


def send_to_main(content: Any) -> None:
    """Send an object to the main process, which calls `receive`."""
    dist.send_object_list([content], dst=0, group=_host_group)


def receive(sender: int) -> Any:
    """In the main process: the next object from the process of rank `sender`."""
    box: list[Any] = [None]
    dist.recv_object_list(box, src=sender, group=_host_group)
    return box[0]
