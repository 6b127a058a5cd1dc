"""Step one: detector and descriptor, learned from pseudo-groundtruth that is made again and again.

The paper, sections 3.1 and 3.2: train on the current keypoints, then make new keypoints and clusters with the network
just trained, and so on in rounds.
"""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from Databases.augmentation import FIRST_STEP
from Databases.database import Database
from Databases.loading import to_input
from Databases.samples import FirstStepBatch, FirstStepSamples, grid_side
from Networks.bootstrap import bootstrap
from Networks.checkpoints import clusters_from_state, clusters_to_state, load_first_step, newest_state, require_keys
from Networks.execution import autocast, build_fan
from Networks.fan import FAN
from Networks.recipe import PAPER, Recipe
from Networks.relabelling import new_keypoints
from Networks.training import Training
from Utils.heatmaps import detector_targets
from Utils.hyperparameters import Hyperparameters
from Utils.keypoints import KeypointTable
from Utils.options import Options
from Utils.runtime import distributed
from Utils.storage.experiment import Experiment

BATCH_SIZE = 16  # pairs of pictures
MARGIN = 0.8  # distance that descriptors of different clusters should keep
DESCRIPTOR_WEIGHT = 10.0
COSINE_STEPS = 5  # scheduler steps of one cosine period, which is one clustering round
LOWEST_LEARNING_RATE = 5e-6


# Losses


def detector_loss(detector: Tensor, keypoints: Tensor) -> Tensor:
    """Mean squared error of the maps of both pictures of each pair, the two added.

    detector: (2B, 1, G, G) in [0, 1]; keypoints: (n, 3) picture, x, y, where the target is 1 (elsewhere 0).
    """
    batch, _, height, width = detector.shape
    target = detector_targets(keypoints[:, 0], keypoints[:, 1:], (batch, height, width))
    return 2 * functional.mse_loss(detector, target)  # the mean over 2B maps is half the sum of the two means


def descriptor_loss(descriptors: Tensor, batch: FirstStepBatch) -> Tensor:
    """Contrastive loss, averaged over all pairs of the batch; 0 for a batch without pairs.

    descriptors: (2B, D, G, G), raw. With d the distance of a pair's descriptors: d^2 for positive pairs,
    max(0, 0.8 - sqrt(d^2 + 1e-9))^2 for negative ones.
    """
    one, other = functional.embedding(batch.pairs, descriptors_of_ends(descriptors, batch)).unbind(1)
    squared = (one - other).square().sum(dim=1)
    apart = functional.relu(MARGIN - torch.sqrt(squared + 1e-9)).square()
    return distributed.mean(torch.where(batch.positive, squared, apart))


def descriptors_of_ends(descriptors: Tensor, batch: FirstStepBatch) -> Tensor:
    """(2B, D, G, G) -> (m, D): those of the points that pairs join."""
    # Embeddings: the backward pass of indexing adds with atomics on several threads, in an order that varies.
    picture, x, y = batch.ends.unbind(1)
    _, dimension, height, width = descriptors.shape
    rows = descriptors.permute(0, 2, 3, 1).reshape(-1, dimension)
    return functional.embedding((picture * height + y) * width + x, rows)


def first_step_losses(
    network: FAN, batch: FirstStepBatch, precision: str, recipe: Recipe = PAPER
) -> dict[str, Tensor]:
    """Forward pass and losses of a batch on the network's device; `total` is minimised."""
    with autocast(batch.pictures.device, precision):
        detector, descriptors = network(to_input(batch.pictures))
    of_detector = detector_loss(detector, batch.keypoints)
    if recipe.descriptor_loss:
        of_descriptor = recipe.descriptor_loss(descriptors, batch)
    else:
        of_descriptor = DESCRIPTOR_WEIGHT * descriptor_loss(descriptors, batch)
    return {"total": of_descriptor + of_detector, "detector": of_detector, "descriptor": of_descriptor}


# Schedule


def round_ends(hyper: Hyperparameters) -> list[int]:
    """Iterations at which the keypoints are made again: after the first training, then after each round."""
    length = COSINE_STEPS * hyper.iterations_per_scheduler_step
    return [hyper.iterations_first + r * length for r in range(hyper.clustering_rounds + 1)]


def learning_rate_at(iteration: int, hyper: Hyperparameters) -> float:
    """Constant in the first training; then cosine with a warm restart each round, in steps."""
    if iteration < hyper.iterations_first:
        return hyper.learning_rate
    step = (iteration - hyper.iterations_first) // hyper.iterations_per_scheduler_step % COSINE_STEPS
    lowest = min(LOWEST_LEARNING_RATE, hyper.learning_rate)
    return lowest + (hyper.learning_rate - lowest) * (1 + math.cos(math.pi * step / COSINE_STEPS)) / 2


class FirstStep(Training):
    """The whole of step one. Its state: network, optimiser, iteration and clusters."""

    title, folder = "Step one", "step1"
    loss_tags = {"total": "loss/total", "detector": "loss/detector", "descriptor": "loss/descriptor"}
    pictures_per_sample = 2

    def __init__(self, database: Database, options: Options, experiment: Experiment, recipe: Recipe = PAPER) -> None:
        hyper, state = options.hyper, experiment.first_step_state()
        network = build_fan(None, hyper, options.device)
        super().__init__(database, options, experiment, recipe, network, BATCH_SIZE, hyper.weight_decay, state)
        self.relabelled = False  # whether the newest labels come from the network as it is
        self.centroids: np.ndarray | None = None  # (K, D) of the FAN's descriptors
        self.thresholds: np.ndarray | None = None  # (K,)

    def run(self, keypoints: KeypointTable | None = None) -> None:
        """Train and make new keypoints until the last round has ended; keypoints: `labels`, where known."""
        keypoints = self.labels() if keypoints is None else keypoints
        for end in round_ends(self.hyper)[len(self.finished_rounds()) :]:
            self.train(keypoints, end)
            self.save_checkpoint()
            keypoints = self.relabel(keypoints)
            self.save_checkpoint()
        self.scalars.close()

    def labels(self) -> KeypointTable:
        """The newest pseudo-groundtruth: the last finished round's, before any the bootstrap's."""
        finished = self.finished_rounds()
        if finished:
            return self.labels_of(finished[-1])
        return bootstrap(self.database, self.options, self.experiment, self.recipe)

    def train(self, keypoints: KeypointTable, end: int) -> None:
        """Train on the keypoints up to iteration `end`."""
        if self.iteration >= end:
            return
        hyper, strength = self.hyper, self.recipe.augmentation(FIRST_STEP)
        samples = FirstStepSamples(self.database, keypoints, hyper.image_size, hyper.seed, strength)
        self.relabelled = False
        losses = partial(first_step_losses, precision=hyper.precision, recipe=self.recipe)
        self.fit(self.title, samples, losses, partial(learning_rate_at, hyper=hyper), end)

    def relabel(self, previous: KeypointTable) -> KeypointTable:
        """New pseudo-groundtruth from the network as it is; k-means starts from the last centroids."""
        make = self.recipe.new_labels or new_keypoints
        keypoints, clusters = make(
            self.learned, self.database, self.options, self.experiment, previous, self.centroids
        )
        self.centroids, self.thresholds = clusters.centroids, clusters.thresholds
        if distributed.is_main():
            keypoints.save(self.experiment.updated_keypoints(self.iteration))
        self.relabelled = True
        self.report_labels("", keypoints)
        return keypoints

    # State

    def finished_rounds(self) -> list[int]:
        """The rounds that have ended, by the iterations of their ends."""
        ends = round_ends(self.hyper)
        return [end for end in ends if end < self.iteration or (end == self.iteration and self.relabelled)]

    def labels_of(self, iteration: int) -> KeypointTable:
        """The pseudo-groundtruth that the round ending there made."""
        path = self.experiment.find(self.experiment.updated_keypoints(iteration))
        table = KeypointTable.load(path, grid_side(self.hyper), self.hyper.number_of_clusters)
        return table.align(self.database.training.names)

    def checkpoint(self) -> Path:
        return self.experiment.first_step_checkpoint(self.iteration)

    def newest(self) -> tuple[dict[str, Any], Path] | None:
        newest = newest_state(self.experiment.first_step_checkpoints(), self.keeper.path, load_first_step)
        if newest is not None:
            require_keys(newest[0], ("optimizer",), newest[1], "a checkpoint to resume from")
        return newest

    def own_state(self) -> dict[str, Any]:
        return {**clusters_to_state(self.centroids, self.thresholds), "relabelled": self.relabelled}

    def load_own_state(self, content: Mapping[str, Any], source: Path) -> None:
        self.relabelled = bool(content.get("relabelled", True))
        self.centroids, self.thresholds = clusters_from_state(content)
