"""One stage of training: the loop, and checkpoints from which it goes on exactly where it was."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from Networks.checkpoints import check_checkpoint, load_optimizer, load_weights, require_keys
from Networks.superpoint import SuperPoint
from tools.superpoint.losses import LossOptions, pair_losses
from tools.superpoint.samples import PairSource
from Utils.runtime.errors import UserError
from Utils.runtime.progress import Progress
from Utils.storage.files import load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class TrainingOptions:
    """One stage of training."""

    iterations: int
    batch_size: int = 8  # pairs, hence twice as many pictures
    learning_rate: float = 1e-3
    warm_up: int = 200  # iterations
    losses: LossOptions = LossOptions()
    head_alone: bool = False  # only the detector's last two layers learn
    average_decay: float = 0.999  # of the moving average of the weights, which is what a stage hands on
    gradient_norm: float = 5.0
    seed: int = 1993
    stage: int = 0  # number of the stage, part of the seed
    half_precision: bool = True  # bfloat16 where it is quick


def learning_rate(iteration: int, options: TrainingOptions) -> float:
    """Linear warm-up, then half a cosine down to a fiftieth."""
    rise = min((iteration + 1) / max(options.warm_up, 1), 1)
    fall = 0.5 * (1 + np.cos(np.pi * iteration / options.iterations))
    return options.learning_rate * rise * (0.02 + 0.98 * fall)


class Trainer:
    """A stage of training that can be left and taken up again, exactly where it was.

    What is random depends on the seed and the iteration alone; the checkpoint holds the rest.
    """

    def __init__(self, network: SuperPoint, source: PairSource, options: TrainingOptions) -> None:
        self.network = network.to(memory_format=torch.channels_last).train().requires_grad_(False)
        self.source, self.options = source, options
        learning = nn.ModuleList([network.convPa, network.convPb]) if options.head_alone else network
        self.learning = list(learning.requires_grad_(True).parameters())
        self.optimizer = torch.optim.Adam(self.learning, lr=options.learning_rate)
        self.average = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        self.iteration = 0
        self.curve: list[tuple[int, float, float]] = []  # iteration, detector's loss, descriptor's loss

    def step(self) -> tuple[float, float]:
        """One iteration: draw pairs, both losses, one step of Adam; returns the losses."""
        options = self.options
        batch = self.source.batch(options.batch_size, options.seed, options.stage, self.iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.iteration, options)
        detector, descriptor = pair_losses(self.network, batch, options.losses, options.half_precision)
        self.optimizer.zero_grad()
        (detector + descriptor).backward()
        nn.utils.clip_grad_norm_(self.learning, options.gradient_norm)
        self.optimizer.step()
        self.iteration += 1
        self._follow()
        return float(detector.detach()), float(descriptor.detach())

    def _follow(self) -> None:
        """Let the average of the weights follow; quickly at first, when the weights still come from chance."""
        decay = min(self.options.average_decay, (1 + self.iteration) / (10 + self.iteration))
        for name, tensor in self.network.state_dict().items():
            self.average[name].lerp_(tensor, 1 - decay)

    def train(self, path: Path, every: int = 250, description: str = "SuperPoint") -> None:
        """Go on to the last iteration; a checkpoint at `path` every `every` iterations and at the end."""
        recent: np.ndarray = np.zeros((0, 2))
        progress = Progress(description, self.options.iterations, "iteration", initial=self.iteration)
        with progress:
            while self.iteration < self.options.iterations:
                recent = np.concatenate([recent, [self.step()]])
                detector, descriptor = recent[-50:].mean(0)
                progress.show(detector=float(detector), descriptor=float(descriptor))
                progress.update()
                if self.iteration % every == 0 or self.iteration == self.options.iterations:
                    means = recent.mean(0)
                    self.curve.append((self.iteration, float(means[0]), float(means[1])))
                    recent = recent[:0]
                    self.save(path)

    def save(self, path: Path) -> None:
        """Everything that `resume` needs, in one file."""
        content = {
            "state_dict": self.network.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "iteration": self.iteration,
            "curve": self.curve,
        }
        save_checkpoint(content, path)

    def resume(self, path: Path) -> None:
        """Take up the state of a file written by `save`."""
        content = load_state(path)
        load_weights(self.network, content["state_dict"], path, "remove the file")
        load_optimizer(self.optimizer, content["optimizer"], path)
        self.average = content["average"]
        self.iteration, self.curve = content["iteration"], content["curve"]


def load_state(path: Path) -> dict[str, Any]:
    """The content of a file written by `Trainer.save`; UserError for any other file."""
    content = load_checkpoint(path, remedy="remove it to train this stage again")
    require_keys(
        content, ("state_dict", "average", "optimizer", "iteration", "curve"), path, "a state of this training"
    )
    check_checkpoint(content, path)
    try:
        content["curve"] = [
            (int(i), float(detector), float(descriptor)) for i, detector, descriptor in content["curve"]
        ]
        if not isinstance(content["average"], dict):
            raise TypeError
    except (TypeError, ValueError):
        raise UserError(f"{path} is no state of this training; remove it to train this stage again") from None
    return content
