"""Step one: detector and descriptor learned from the pseudo-groundtruth, which is made again and again.

The paper, sections 3.1 and 3.2: training on the current keypoints, then new keypoints and clusters from the
network just trained, and so on in rounds.
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

from Databases.database import Database
from Databases.samples import FirstStepBatch, FirstStepSamples, grid_side, to_input
from Networks.bootstrap import bootstrap
from Networks.checkpoints import clusters_from_state, clusters_to_state, load_first_step, newest_state, require_keys
from Networks.execution import autocast, build_fan
from Networks.fan import FAN
from Networks.relabelling import new_keypoints
from Networks.training import Training, augmentation_changes
from Utils.heatmaps import detector_targets
from Utils.keypoints import KeypointTable
from Utils.options import Hyperparameters, Options
from Utils.runtime import distributed
from Utils.storage.experiment import Experiment

BATCH_SIZE = 16  # pairs of pictures
MARGIN = 0.8  # distance that descriptors of different clusters should keep
DESCRIPTOR_WEIGHT = {"margin": 10.0, "softmax": 1.0}
TEMPERATURE = 0.1  # of the softmax over cosines
COSINE_STEPS = 5  # scheduler steps of one cosine period, which is one clustering round
LOWEST_LEARNING_RATE = 5e-6
SHARE_TO_LEARN = 4  # of the keypoints that a cluster can have, one in so many makes it worth learning
LONG_ON_CPU = 128 * 256**2  # width x pixels of a network whose training is none for a CPU


# Losses


def detector_loss(detector: Tensor, keypoints: Tensor, pictures: int | None = None) -> Tensor:
    """Mean squared error of the maps of both pictures of each pair, the two added.

    detector: (2B, 1, G, G) in [0, 1]; keypoints: (n, 3) picture, x, y, where the target is 1 (elsewhere 0);
    pictures: how many the mean is of, where these are a part of them only.
    """
    batch, _, height, width = detector.shape
    target = detector_targets(keypoints[:, 0], keypoints[:, 1:], (batch, height, width))
    share = batch / (pictures or batch)
    return 2 * share * functional.mse_loss(detector, target)  # the mean over 2B maps is half the sum of the two means


def descriptor_loss(descriptors: Tensor, batch: FirstStepBatch, pairs: int | None = None) -> Tensor:
    """Contrastive loss, averaged over all pairs of the batch.

    descriptors: (2B, D, G, G), raw. With d the distance of a pair's descriptors: d^2 for positive pairs,
    max(0, 0.8 - sqrt(d^2 + 1e-9))^2 for negative ones. 0 where the batch has no pair. pairs: how many the mean
    is of, where these are a part of them only.
    """
    one, other = functional.embedding(batch.pairs, descriptors_of_ends(descriptors, batch)).unbind(1)
    squared = (one - other).square().sum(dim=1)
    apart = functional.relu(MARGIN - torch.sqrt(squared + 1e-9)).square()
    losses = torch.where(batch.positive, squared, apart)
    return distributed.mean(losses, pairs)


def softmax_loss(descriptors: Tensor, batch: FirstStepBatch, positives: int | None = None) -> Tensor:
    """Cross-entropy of finding a point's partner among all points of the other picture, averaged over both ways.

    descriptors: (2B, D, G, G), raw, compared by their cosine over `TEMPERATURE`. All points compete with the partner,
    where the margin of the contrastive loss is soon kept by most pairs. 0 where the batch has no pair. positives: how
    many positive pairs the mean is of, where these are a part of them only.
    """
    ends = functional.normalize(descriptors_of_ends(descriptors, batch), dim=1)
    similarity = ends @ ends.T / TEMPERATURE
    picture = batch.ends[:, 0]
    facing = (picture // 2)[:, None] == (picture // 2)[None]
    facing &= picture[:, None] != picture[None]
    log_share = functional.log_softmax(similarity.masked_fill(~facing, -1e4), dim=1)
    one, other = batch.pairs.unbind(1)
    # Pairs that are not positive count nothing: to pick out the others would make the host wait for a GPU.
    both_ways = -(log_share[one, other] + log_share[other, one]) / 2
    return distributed.mean(both_ways * batch.positive, positives_of(batch) if positives is None else positives)


def descriptors_of_ends(descriptors: Tensor, batch: FirstStepBatch) -> Tensor:
    """(2B, D, G, G) -> (m, D): those of the points that pairs join."""
    # Embeddings: the backward pass of indexing adds with atomics on several threads, in an order that varies.
    picture, x, y = batch.ends.unbind(1)
    _, dimension, height, width = descriptors.shape
    rows = descriptors.permute(0, 2, 3, 1).reshape(-1, dimension)
    return functional.embedding((picture * height + y) * width + x, rows)


def positives_of(batch: FirstStepBatch) -> int:
    """How many positive pairs there are: each joins two of the points."""
    return len(batch.ends) // 2


def first_step_losses(
    network: FAN,
    batch: FirstStepBatch,
    precision: str,
    whole: FirstStepBatch | None = None,
    descriptors_by: str = "margin",
) -> dict[str, Tensor]:
    """Forward pass and losses of a batch on the network's device; `total` is what is minimised.

    whole: the batch that this one is a piece of; the losses of its pieces add up to its own. descriptors_by: margin,
    the paper's loss, or softmax.
    """
    whole = whole or batch
    with autocast(batch.pictures.device, precision):
        detector, descriptors = network(to_input(batch.pictures))
    of_detector = detector_loss(detector, batch.keypoints, len(whole.pictures))
    if descriptors_by == "margin":
        of_descriptor = descriptor_loss(descriptors, batch, len(whole.pairs))
    else:
        of_descriptor = softmax_loss(descriptors, batch, positives_of(whole))
    total = DESCRIPTOR_WEIGHT[descriptors_by] * of_descriptor + of_detector
    return {"total": total, "detector": of_detector, "descriptor": of_descriptor}


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


def most_cluster_points(pictures: int, hyper: Hyperparameters) -> int:
    """How many keypoints a cluster can have in the labels of so many pictures: one in each, or in the surest ones."""
    return int(hyper.match_fraction * (pictures - 1)) + 1 if hyper.relabelling == "match" else pictures


# Training


class FirstStep(Training):
    """The whole of step one. Its state is the network, the optimiser, the iteration and the clusters."""

    title = "Step one"
    loss_tags = {"total": "loss/total", "detector": "loss/detector", "descriptor": "loss/descriptor"}
    pictures_per_sample = 2

    def __init__(self, database: Database, options: Options, experiment: Experiment) -> None:
        network = build_fan(None, options.hyper, options.device)
        super().__init__(
            database,
            options,
            experiment,
            network,
            BATCH_SIZE,
            options.hyper.weight_decay,
            experiment.first_step_state(),
            scalars="step1",
        )
        self.relabelled = False  # whether new keypoints were made with the network of this iteration
        self.centroids: np.ndarray | None = None  # (K, D) of the FAN's descriptors
        self.thresholds: np.ndarray | None = None  # (K,)

    def run(self) -> None:
        """Bootstrap, then train and make new keypoints until the last round has ended."""
        if self.options.device.type == "cpu" and self.hyper.width * self.hyper.image_size**2 >= LONG_ON_CPU:
            self.experiment.log(
                f"{self.title}: at this size and length a CPU takes weeks; --set preset=small takes minutes"
            )
        reach = most_cluster_points(len(self.database.training), self.hyper)
        if reach <= self.hyper.min_cluster_points:
            self.experiment.log(
                f"Warning: with {len(self.database.training)} training pictures a cluster gets at most {reach} "
                f"keypoints, and step two learns only clusters with more than {self.hyper.min_cluster_points}; give "
                f"step two --set min_cluster_points={reach // SHARE_TO_LEARN}, or both steps more pictures"
            )
        if self.options.resume:
            self.load_newest()
        ends = round_ends(self.hyper)
        finished = [end for end in ends if end < self.iteration or (end == self.iteration and self.relabelled)]
        if finished:
            path = self.experiment.find(self.experiment.updated_keypoints(finished[-1]))
            keypoints = KeypointTable.load(path, grid_side(self.hyper), self.hyper.number_of_clusters).align(
                self.database.training.names
            )
        else:
            keypoints = bootstrap(self.database, self.options, self.experiment)
        for end in ends[len(finished) :]:
            self.train(keypoints, end)
            self.save_checkpoint()
            keypoints = self.relabel(keypoints)
            self.save_checkpoint()
        self.scalars.close()

    def train(self, keypoints: KeypointTable, end: int) -> None:
        """Train on the keypoints up to iteration `end`."""
        if self.iteration >= end:
            return
        hyper = self.hyper
        samples = FirstStepSamples(
            self.database, keypoints, hyper.image_size, hyper.seed, hyper.augmentation, **augmentation_changes(hyper)
        )
        self.relabelled = False
        self.fit(self.title, samples, partial(first_step_losses, descriptors_by=hyper.descriptor_loss), end)

    def update_weights(self) -> float:
        rate = learning_rate_at(self.iteration, self.hyper)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.step_weights()
        return rate

    def relabel(self, previous: KeypointTable) -> KeypointTable:
        """New pseudo-groundtruth from the network as it is; k-means starts from the last centroids."""
        keypoints, clusters = new_keypoints(
            self.learned, self.database, self.options, self.experiment, previous, self.centroids
        )
        self.centroids, self.thresholds = clusters.centroids, clusters.thresholds
        if distributed.is_main():
            keypoints.save(self.experiment.updated_keypoints(self.iteration))
        self.relabelled = True
        self.report_labels("", keypoints)
        return keypoints

    # State

    def checkpoint(self) -> Path:
        return self.experiment.first_step_checkpoint(self.iteration)

    def newest(self) -> tuple[dict[str, Any], Path] | None:
        newest = newest_state(self.experiment.first_step_checkpoints(), self.keeper.path, load_first_step)
        if newest is not None:
            require_keys(newest[0], ("optimizer",), newest[1], "a run that can be resumed")
        return newest

    def own_state(self) -> dict[str, Any]:
        return {**clusters_to_state(self.centroids, self.thresholds), "relabelled": self.relabelled}

    def load_own_state(self, content: Mapping[str, Any], source: Path) -> None:
        self.relabelled = bool(content.get("relabelled", True))
        self.centroids, self.thresholds = clusters_from_state(content)
