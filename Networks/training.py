"""What the training of both steps shares: one iteration, the loop around it, and how a killed run resumes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch

from Databases.database import Database
from Databases.groundtruth import LabelQuality, movement_figures
from Databases.loading import training_batches
from Databases.samples import FirstStepSamples, SecondStepSamples
from Networks.checkpoints import StateKeeper, check_resumed, load_optimizer, load_weights
from Networks.fan import FAN
from Networks.recipe import Recipe
from Utils.keypoints import KeypointTable
from Utils.options import Options
from Utils.runtime import distributed
from Utils.runtime.errors import UserError
from Utils.runtime.interruption import EndRequested
from Utils.runtime.progress import Progress
from Utils.storage.experiment import Experiment
from Utils.storage.files import save_checkpoint

OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "rmsprop": partial(torch.optim.RMSprop, foreach=True),
    "adam": partial(torch.optim.Adam, betas=(0.9, 0.99), fused=True),
}
ITERATIONS_PER_LOOK = 20  # between two values of the progress bar and of TensorBoard


def mean_losses(recent: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, float]:
    """Means of the losses of several batches. Raises UserError for a mean that is NaN or infinite."""
    means = {name: float(torch.stack([losses[name] for losses in recent]).mean()) for name in recent[0]}
    for name, mean in means.items():
        if not math.isfinite(mean):
            raise UserError(f"the {name} loss is {mean}; lower --set learning_rate or use precision=float32")
    return means


class Training(ABC):
    """A step's training: its loop, and the state from which a killed run goes on.

    A step adds its losses and its learning rate, what else its state holds, and what happens between the loops.
    """

    title: ClassVar[str]  # as the log calls it
    folder: ClassVar[str]  # of its TensorBoard scalars
    loss_tags: ClassVar[Mapping[str, str]]  # losses -> their names in TensorBoard
    pictures_per_sample: ClassVar[int] = 1

    def __init__(
        self,
        database: Database,
        options: Options,
        experiment: Experiment,
        recipe: Recipe,
        network: FAN,
        batch_size: int,
        weight_decay: float,
        state_file: Path,
    ) -> None:
        """network: on the device; batch_size: the paper's, unless --set batch_size says otherwise."""
        self.database, self.options, self.experiment, self.recipe = database, options, experiment, recipe
        self.hyper = options.hyper
        self.batch_size = self.hyper.batch_size or batch_size
        if self.batch_size % distributed.world():
            raise UserError(
                f"a batch of {self.batch_size} does not divide among {distributed.world()} processes; set batch_size"
            )
        self.network = network
        self.optimizer = OPTIMIZERS[self.hyper.optimizer](
            network.parameters(), lr=self.hyper.learning_rate, weight_decay=weight_decay
        )
        self.average = recipe.average(network) if recipe.average else None
        self.iteration = 0
        self.scalars = experiment.scalars(self.folder)
        self.quality = LabelQuality(database, options)
        self.keeper = StateKeeper(state_file, self.hyper.minutes_between_checkpoints, self.state)

    @property
    def learned(self) -> FAN:
        """The network that labels and predicts: the recipe's average of the weights, if it has one."""
        return self.average.network if self.average else self.network

    def fit(
        self,
        description: str,
        samples: FirstStepSamples | SecondStepSamples,
        losses: Callable[..., dict[str, torch.Tensor]],
        learning_rate: Callable[[int], float],
        end: int,
        accumulation: int = 1,
    ) -> None:
        """Train on the samples up to iteration `end`.

        losses: (network, batch) -> losses, whose `total` is minimised; learning_rate: of an iteration;
        accumulation: batches whose gradients are added up in an iteration.
        """
        device, first, last = self.options.device, self.iteration * accumulation, end * accumulation
        batches = training_batches(
            samples, first, last, self.batch_size, self.options.num_workers, device, distributed.place()
        )
        pictures = self.pictures_per_sample * self.batch_size * accumulation
        recent: list[dict[str, torch.Tensor]] = []  # since the last look; an iteration does not wait for the device
        self.network.train()
        with Progress(description, end, "iteration", self.iteration) as progress:
            while self.iteration < end:
                self.optimizer.zero_grad(set_to_none=True)
                for _ in range(accumulation):
                    found = losses(self.network, next(batches).to(device))
                    found["total"].backward()
                    recent.append({name: loss.detach() for name, loss in found.items()})
                distributed.average_gradients(self.network.parameters())
                rate = learning_rate(self.iteration)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                self.optimizer.step()
                if self.average:
                    self.average.follow(self.network, self.iteration)
                self.iteration += 1
                if self.iteration % ITERATIONS_PER_LOOK == 0 or self.iteration == end:
                    taken, recent = mean_losses(recent), []
                    progress.show(loss=taken["total"], lr=rate, pictures_per_s=pictures * progress.rate)
                    tagged = {tag: taken[name] for name, tag in self.loss_tags.items()}
                    self.scalars.add(self.iteration, tagged | {"lr": rate})
                    self.keeper.after_look()
                try:
                    progress.update()
                except EndRequested:
                    self.keeper.save()
                    raise

    def report_labels(self, news: str, labels: KeypointTable) -> None:
        """Log how many new labels there are, and how well they follow the groundtruth if there is some."""
        if not distributed.is_main():
            return
        movement = self.quality.of(labels)
        quality = "" if movement is None else f"; against groundtruth: {movement.describe()}"
        self.experiment.log(f"{self.title}, iteration {self.iteration}: {news}{labels.describe()}{quality}")
        self.scalars.add(self.iteration, labels.figures() | movement_figures(movement))

    # State

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: the published keys (odd spelling included), and what exact resuming needs.

        state_dict is what was learned, for everyone who loads it. If that is an average, training goes on from
        training_state_dict.
        """
        raw = {"training_state_dict": self.network.state_dict()} if self.average else {}
        return {
            "state_dict": self.learned.state_dict(),
            **raw,
            "optimizer": self.optimizer.state_dict(),
            "iteration": self.iteration,
            **self.own_state(),
            "hyperparameters": self.hyper.model_dump(),
            "dataset_name": self.options.dataset_name,
        }

    def save_checkpoint(self) -> None:
        """Save the state for good, and remove what it supersedes."""
        if distributed.is_main():
            save_checkpoint(self.state(), self.checkpoint())
            self.remove_superseded()

    def remove_superseded(self) -> None:
        """Remove the state between two checkpoints, which the newest checkpoint makes useless."""
        self.keeper.remove()

    def resume(self) -> None:
        """Go on from the newest checkpoint or the state between two, or from the beginning without either."""
        newest = self.newest()
        if newest is None:
            return
        content, path = newest
        check_resumed(self.options, content, path)
        load_weights(self.network, content.get("training_state_dict", content["state_dict"]), path)
        if self.average:
            load_weights(self.average.network, content["state_dict"], path)
        load_optimizer(self.optimizer, content["optimizer"], path)
        self.iteration = int(content["iteration"])
        self.load_own_state(content, path)
        if distributed.is_main() and path != self.keeper.path:
            self.remove_superseded()  # the run may have been killed between its checkpoint and this
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
        """Take over what `own_state` gave; UserError if it does not fit."""
