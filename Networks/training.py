"""What the training of both steps shares: the arithmetic of an iteration, the loop, and how a killed run resumes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from Databases.database import Database
from Databases.groundtruth import LabelQuality, movement_figures
from Databases.samples import (
    FirstStepBatch,
    FirstStepSamples,
    SecondStepBatch,
    SecondStepSamples,
    training_batches,
)
from Networks.checkpoints import StateKeeper, check_resumed, load_fan_weights, load_optimizer
from Networks.execution import copy_network
from Networks.fan import FAN
from Utils.keypoints import KeypointTable
from Utils.options import Hyperparameters, Options
from Utils.runtime import distributed
from Utils.runtime.errors import UserError
from Utils.runtime.interruption import EndRequested
from Utils.runtime.progress import Progress
from Utils.storage.experiment import Experiment
from Utils.storage.files import save_checkpoint

# Pictures x width x pixels of a picture that pass through a network at once in the CPU's training. Four pictures of
# the paper's size: 32 take four times the memory and a tenth longer; small networks pass whole batches.
PASS_ON_CPU = 2**26
ITERATIONS_PER_LOOK = 20  # between two values of the progress bar and of TensorBoard


def build_optimizer(network: nn.Module, hyper: Hyperparameters, weight_decay: float) -> torch.optim.RMSprop:
    """The paper's RMSprop."""
    return torch.optim.RMSprop(network.parameters(), lr=hyper.learning_rate, weight_decay=weight_decay, foreach=True)


def augmentation_changes(hyper: Hyperparameters) -> dict[str, Any]:
    """What the recipe changes of the augmentation's `Strength`."""
    return {"shift": hyper.augmentation_shift, "border": hyper.augmentation_border}


def global_batch_size(hyper: Hyperparameters, of_paper: int) -> int:
    """The batch of all processes together, which each takes an equal part of."""
    size = hyper.batch_size or of_paper
    if size % distributed.world():
        raise UserError(f"a batch of {size} does not divide among {distributed.world()} processes; set batch_size")
    return size


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


class Training(ABC):
    """A step's training: its loop, and the state that a killed run goes on from.

    A step adds its losses and its learning rate, what else its state holds, and what happens between the loops.
    """

    title: ClassVar[str]  # as the log calls it
    loss_tags: ClassVar[Mapping[str, str]]  # losses -> their names in TensorBoard
    pictures_per_sample: ClassVar[int] = 1

    def __init__(
        self,
        database: Database,
        options: Options,
        experiment: Experiment,
        network: FAN,
        batch_size: int,
        weight_decay: float,
        state_file: Path,
        scalars: str,
    ) -> None:
        """network: on the device; batch_size: the paper's, for --set batch_size; scalars: their folder's name."""
        self.database, self.options, self.experiment = database, options, experiment
        self.hyper = options.hyper
        self.batch_size = global_batch_size(self.hyper, batch_size)
        self.network = network
        self.optimizer = build_optimizer(network, self.hyper, weight_decay)
        self.average = copy_network(network, self.hyper) if self.hyper.weight_average else None
        self.iteration = 0
        self.scalars = experiment.scalars(scalars)
        self.quality = LabelQuality(database, options)
        self.keeper = StateKeeper(state_file, self.hyper.minutes_between_checkpoints, self.state)

    # The loop

    def fit(
        self,
        description: str,
        samples: FirstStepSamples | SecondStepSamples,
        losses: Callable[..., dict[str, torch.Tensor]],
        end: int,
        accumulation: int = 1,
    ) -> None:
        """Train on the samples up to iteration `end`; losses: as for `add_gradients`.

        accumulation: batches whose gradients are averaged in an iteration.
        """
        hyper, device = self.hyper, self.options.device
        first, last = self.iteration * accumulation, end * accumulation
        batches = training_batches(
            samples, first, last, self.batch_size, self.options.num_workers, device, distributed.place()
        )
        pictures = self.pictures_per_sample * self.batch_size * accumulation
        means = RunningMean()
        self.network.train()
        with Progress(description, end, "iteration", self.iteration) as progress:
            try:
                while self.iteration < end:
                    self.optimizer.zero_grad(set_to_none=True)
                    for _ in range(accumulation):
                        batch = next(batches).to(device)
                        means.add(add_gradients(losses, self.network, batch, hyper, 1 / accumulation))
                    distributed.average_gradients(self.network.parameters())
                    rate = self.update_weights()
                    self.iteration += 1
                    progress.update()
                    if self.iteration % ITERATIONS_PER_LOOK == 0 or self.iteration == end:
                        taken = means.take()
                        progress.show(loss=taken["total"], lr=rate, pictures_per_s=pictures * progress.rate)
                        tagged = {tag: taken[name] for name, tag in self.loss_tags.items()}
                        self.scalars.add(self.iteration, tagged | {"lr": rate})
                        self.keeper.after_look()
            except EndRequested:
                self.keeper.save()
                raise

    @property
    def learned(self) -> FAN:
        """The network that labels and predicts: the weights' average where --set weight_average says so."""
        return self.network if self.average is None else self.average

    def step_weights(self) -> None:
        """One step of the optimiser; the average follows, at first faster than by its own rate."""
        self.optimizer.step()
        if self.average is not None:
            keep = min(self.hyper.weight_average, (1 + self.iteration) / (10 + self.iteration))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - keep)

    @abstractmethod
    def update_weights(self) -> float:
        """One step of the optimiser, at the learning rate that is due; returns the rate to be shown."""

    def report_labels(self, news: str, labels: KeypointTable) -> None:
        """Say of new labels how many they are, and how well they follow the groundtruth where there is some."""
        if not distributed.is_main():
            return
        movement = self.quality.of(labels)
        quality = "" if movement is None else f"; against groundtruth: {movement.describe()}"
        self.experiment.log(f"{self.title}, iteration {self.iteration}: {news}{labels.describe()}{quality}")
        self.scalars.add(self.iteration, labels.figures() | movement_figures(movement))

    # State

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: the published keys (odd spelling included), and what exact resuming needs.

        state_dict is what was learned, for all who load it; where that is an average, training goes on from
        training_state_dict.
        """
        raw = {} if self.average is None else {"training_state_dict": self.network.state_dict()}
        return {
            "state_dict": self.learned.state_dict(),
            **raw,
            "optimizer": self.optimizer.state_dict(),
            "iteration": self.iteration,
            **self.own_state(),
            "hyperparameters": self.hyper.as_dict(),
            "dataset_name": self.options.dataset_name,
        }

    def save_checkpoint(self) -> None:
        """Save the state for good, and remove what it supersedes."""
        if distributed.is_main():
            save_checkpoint(self.state(), self.checkpoint())
            self.remove_superseded()

    def remove_superseded(self) -> None:
        """Remove what the checkpoint just saved, or gone on from, makes useless: the state between two."""
        self.keeper.remove()

    def load_newest(self) -> None:
        """Go on from the newest checkpoint or the state between two; from the beginning where there is none."""
        newest = self.newest()
        if newest is None:
            return
        content, path = newest
        check_resumed(self.options, content, path)
        load_fan_weights(self.network, content.get("training_state_dict", content["state_dict"]), path)
        if self.average is not None:
            load_fan_weights(self.average, content["state_dict"], path)
        load_optimizer(self.optimizer, content["optimizer"], path)
        self.iteration = int(content["iteration"])
        self.load_own_state(content, path)
        if distributed.is_main() and path != self.keeper.path:
            self.remove_superseded()  # a run that was killed just after its checkpoint did not come to it
        self.experiment.log(f"{self.title} goes on from iteration {self.iteration} ({path.name})")

    @abstractmethod
    def checkpoint(self) -> Path:
        """Where the checkpoint of the present iteration goes."""

    @abstractmethod
    def newest(self) -> tuple[dict[str, Any], Path] | None:
        """The newest checkpoint or state that this run can go on from, and its path."""

    @abstractmethod
    def own_state(self) -> dict[str, Any]:
        """What the step's state has beside network, optimiser and iteration."""

    @abstractmethod
    def load_own_state(self, content: Mapping[str, Any], source: Path) -> None:
        """What `own_state` gave, from a checkpoint; UserError where it does not fit."""
