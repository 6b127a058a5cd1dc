"""What the training of both steps shares: precision, optimiser, and states that a killed run resumes from."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from Databases.database import Database, ImageSet
from Databases.samples import FirstStepBatch, SecondStepBatch, crop_batches
from Networks.fan import FAN
from Utils import distributed
from Utils.errors import UserError
from Utils.files import save_checkpoint
from Utils.options import Hyperparameters, Options, plain

# Pictures x width x pixels of a picture that pass through a network at once in the CPU's training. Four pictures of
# the paper's size: 32 take four times the memory and a tenth longer; small networks pass whole batches.
PASS_ON_CPU = 2**26
INFERENCE_BATCH = {"cpu": 16, "cuda": 128}  # pictures
ITERATIONS_PER_LOOK = 20  # between two values of the progress bar and of TensorBoard
# What a checkpoint says of its network, so that later steps need not be told again.
PAPER_IMAGE_SIZE = 256  # of published checkpoints, which do not say
_ARCHITECTURE = ("width", "image_size")
# What may change when a run is resumed; everything else decides the result.
_FREE_ON_RESUME = {
    "clustering_rounds",
    "total_iterations",
    "minutes_between_checkpoints",
    "checkpoints_kept",
    "compile",
}


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
        network.forward_features = torch.compile(network.forward_features)  # nearly all of the arithmetic
    return place(network, device, hyper.precision)


def place(network: FAN, device: torch.device, precision: str) -> FAN:
    """Move a network to the device, in the memory format in which it trains fastest there.

    Channels last suits tensor cores, and the CPU in float32; in bfloat16 the CPU's backward pass takes half as
    long again with it.
    """
    last = device.type == "cuda" or not uses_bfloat16(device, precision)
    return network.to(device=device, memory_format=torch.channels_last if last else torch.contiguous_format)


def build_optimizer(network: nn.Module, hyper: Hyperparameters) -> torch.optim.RMSprop:
    """The paper's RMSprop."""
    return torch.optim.RMSprop(
        network.parameters(), lr=hyper.learning_rate, weight_decay=hyper.weight_decay, foreach=True
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def load_fan_weights(network: FAN, state_dict: Mapping[str, torch.Tensor], source: Path | str) -> None:
    """Strict loading; UserError where the tensors are not those of the network."""
    try:
        network.load_state_dict(state_dict)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(
            f"{source} holds other tensors than this network ({_first_complaint(error)}); "
            f"check --set width and number_of_clusters, or the file"
        ) from error


def _first_complaint(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
    return (lines or [str(error)])[0][:160]


def require_keys(content: Mapping[str, Any], keys: tuple[str, ...], source: Path | str, step: str) -> None:
    """UserError where a checkpoint is not one of the step."""
    missing = [key for key in keys if key not in content]
    if missing:
        raise UserError(f"{source} has no {missing[0]}: it is no checkpoint of {step}; give the file of {step}")


def adopt_architecture(hyper: Hyperparameters, content: Mapping[str, Any], source: Path | str) -> None:
    """Take width and picture size over from a checkpoint (its hyperparameters, else its tensors and the paper)."""
    weights = content["state_dict"]
    if not isinstance(weights, Mapping) or "l1.weight" not in weights:
        raise UserError(f"{source}: state_dict holds no FAN; give a checkpoint of this method")
    head = weights["l1.weight"]
    if not isinstance(head, torch.Tensor) or head.ndim != 4 or head.shape[1] < 32 or head.shape[1] % 32:
        raise UserError(f"{source}: l1.weight is not that of a FAN; give a checkpoint of this method")
    values = {"width": head.shape[1], "image_size": PAPER_IMAGE_SIZE}
    saved = content.get("hyperparameters") or {}
    values.update({name: saved[name] for name in _ARCHITECTURE if name in saved})
    hyper.adopt(values, source)


def check_resumed(hyper: Hyperparameters, content: Mapping[str, Any], source: Path | str) -> None:
    """UserError where a run to be resumed was begun with other hyperparameters."""
    for name, before in (content.get("hyperparameters") or {}).items():
        now = hyper.as_dict().get(name)
        if name not in _FREE_ON_RESUME and plain(now) != plain(before):
            raise UserError(
                f"--resume: {source} was made with {name}={before}, this run has {now}; "
                f"give --set {name}={before} or use another experiment"
            )


def newest_state(
    checkpoints: list[tuple[int, Path]], state: Path, load: Callable[[Path], dict[str, Any]]
) -> tuple[dict[str, Any], Path] | None:
    """The last checkpoint or the state between two, whichever is newer, and its path; the same in all processes.

    checkpoints: numbers and paths, ascending. None where there is neither.
    """
    newest = None
    if distributed.is_main():
        paths = [path for _, path in checkpoints[-1:]] + ([state] if state.exists() else [])
        contents = [(load(path), path) for path in paths]
        newest = max(contents, key=lambda pair: pair[0]["iteration"], default=None)
    return distributed.from_main(newest)


def global_batch_size(hyper: Hyperparameters, of_paper: int) -> int:
    """The batch of all processes together, which each takes an equal part of."""
    size = hyper.batch_size or of_paper
    if size % distributed.world():
        raise UserError(f"a batch of {size} does not divide among {distributed.world()} processes; set batch_size")
    return size


def load_optimizer(optimizer: torch.optim.Optimizer, state: Any, source: Path | str) -> None:
    """UserError where the state is not one of this optimiser."""
    try:
        optimizer.load_state_dict(state)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"{source}: its optimizer does not fit this network; remove the file") from error


class StateKeeper:
    """Saves the state of a training now and then, so that a killed run loses minutes at most."""

    def __init__(self, path: Path, minutes: float, collect: Callable[[], dict[str, Any]]) -> None:
        self.path, self.seconds, self.collect = path, 60 * minutes, collect
        self.saved = time.monotonic()

    def after_look(self) -> None:
        """Save if the time has come; called when the losses were just seen to be finite."""
        if distributed.is_main() and time.monotonic() - self.saved >= self.seconds:
            self.save()

    def save(self) -> None:
        save_checkpoint(self.collect(), self.path)
        self.saved = time.monotonic()

    def remove(self) -> None:
        """The state is superseded by a checkpoint."""
        self.path.unlink(missing_ok=True)


def add_gradients(
    losses: Callable[..., dict[str, torch.Tensor]],
    network: FAN,
    batch: FirstStepBatch | SecondStepBatch,
    hyper: Hyperparameters,
    weight: float = 1.0,
) -> dict[str, torch.Tensor]:
    """Forward and backward pass of a batch; its gradients, times `weight`, are added to those that are there.

    losses: (network, piece, precision, batch) -> losses of a piece, whose `total` is minimised. Returns the
    losses of the batch. On the CPU a large batch passes in pieces, see `PASS_ON_CPU`.
    """
    pictures = len(batch.pictures)
    if batch.pictures.device.type == "cpu":
        pictures = max(1, PASS_ON_CPU // (hyper.width * hyper.image_size**2))
    whole: dict[str, torch.Tensor] = {}
    for piece in batch.split(pictures) if pictures < len(batch.pictures) else (batch,):
        of_piece = losses(network, piece, hyper.precision, batch)
        (weight * of_piece["total"]).backward()
        for name, loss in of_piece.items():
            whole[name] = whole.get(name, 0) + loss.detach()
    return whole


class RunningMean:
    """Means of losses since the last look, summed on the device so that no iteration waits for it."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0

    def add(self, values: Mapping[str, torch.Tensor]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        self.count += 1

    def take(self) -> dict[str, float]:
        """The means, and begin anew. UserError where one is not a finite number."""
        means = {name: float(value) / max(self.count, 1) for name, value in self.sums.items()}
        self.sums, self.count = {}, 0
        for name, mean in means.items():
            if mean != mean or mean in (float("inf"), float("-inf")):
                raise UserError(f"the {name} loss is {mean}; lower --set learning_rate or use precision=float32")
        return means


def workers_for(options: Options, items: int) -> int:
    """Worker processes for `items` pictures: none where starting them would cost more than they save."""
    return min(options.num_workers, items // 64)


def inference_batches(
    database: Database, images: ImageSet, options: Options, indices: Sequence[int]
) -> Iterator[tuple[torch.Tensor, np.ndarray, np.ndarray]]:
    """`crop_batches` of the pictures of `indices` at the network's size, in batches that suit the device."""
    size, batch_size = options.hyper.image_size, INFERENCE_BATCH[options.device.type]
    workers = workers_for(options, len(indices))
    return crop_batches(database, images, size, batch_size, workers, options.device, indices)
