"""Step two: one heatmap per cluster, and clusters that coincide are merged (the paper, section 3.3)."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from Databases.augmentation import SECOND_STEP
from Databases.database import Database
from Databases.loading import to_input
from Databases.samples import GRID, SecondStepBatch, SecondStepSamples, grid_side
from Networks.checkpoints import (
    clusters_from_state,
    load_fan,
    load_first_step,
    load_second_step,
    newest_state,
    require_keys,
    shape_to_state,
)
from Networks.execution import autocast, heatmaps, inference_batches, place
from Networks.fan import FAN
from Networks.recipe import PAPER, Recipe
from Networks.training import Training
from Utils.heatmaps import gaussian_targets, maxima
from Utils.hyperparameters import Hyperparameters
from Utils.keypoints import KeypointTable
from Utils.merging import merge_clusters, merge_labels
from Utils.options import Options
from Utils.point_distribution import PointDistribution
from Utils.runtime import distributed
from Utils.runtime.errors import UserError
from Utils.runtime.progress import Progress
from Utils.storage.experiment import Experiment

BATCH_SIZE = 32  # pictures
LEARNING_RATE_DROP = 0.1
EPOCHS_BETWEEN_MERGES = 2
COINCIDENCE = 5.7  # pixels of the network's input
CONFIDENT = 0.2  # height that a map's maximum has to exceed


def heatmap_loss(heatmaps: Tensor, keypoints: Tensor, recipe: Recipe = PAPER) -> Tensor:
    """Squared error, averaged over the maps of the clusters that have a point in their picture.

    heatmaps: (B, K, G, G); keypoints: (n, 4) picture, cluster, x, y, at most one per picture and cluster. The map
    of a cluster without a point in a picture does not count there: the cluster may be visible, and just not found.
    """
    picture, cluster = keypoints[:, :2].long().unbind(1)
    maps = heatmaps[picture, cluster]
    number = torch.arange(len(maps), device=maps.device)
    shape = (len(maps), 1, *maps.shape[1:])
    targets = gaussian_targets(number, torch.zeros_like(number), keypoints[:, 2:], shape)[:, 0]
    return distributed.mean((recipe.map_loss or squared_error)(maps, targets))


def squared_error(maps: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of each map: (n, G, G) and (n, G, G) -> (n,)."""
    return (maps - targets).square().mean(dim=(1, 2))


def second_step_losses(
    network: FAN, batch: SecondStepBatch, precision: str, recipe: Recipe = PAPER
) -> dict[str, Tensor]:
    """Forward pass and loss of a batch on the network's device; `total` is minimised."""
    with autocast(batch.pictures.device, precision):
        heatmaps = network.forward_heatmaps(to_input(batch.pictures))
    return {"total": heatmap_loss(heatmaps, batch.keypoints, recipe)}


def learning_rate_at(iteration: int, hyper: Hyperparameters) -> float:
    """A tenth from each of `learning_rate_steps` on."""
    rate = hyper.learning_rate
    for _ in range(sum(step <= iteration for step in hyper.learning_rate_steps)):
        rate *= LEARNING_RATE_DROP
    return rate


class SecondStep(Training):
    """The whole of step two. Its state: network, optimiser, iteration, epoch, labels and active clusters."""

    title, folder = "Step two", "step2"
    loss_tags = {"total": "loss/heatmaps"}

    def __init__(
        self,
        database: Database,
        options: Options,
        experiment: Experiment,
        recipe: Recipe,
        network: FAN,
        keypoints: KeypointTable,
        labels_file: Path,
    ) -> None:
        """network: with a heatmap per cluster; keypoints: the labels to begin with, from labels_file."""
        hyper, state = options.hyper, experiment.second_step_state()
        super().__init__(
            database, options, experiment, recipe, network, BATCH_SIZE, hyper.heatmap_weight_decay, state
        )
        self.keypoints, self.labels_file = keypoints, labels_file
        self.number_of_clusters: int = network.l1.out_channels
        self.active = active_clusters(keypoints, self.number_of_clusters, hyper.min_cluster_points)
        self.epoch = 0  # epochs finished
        self.epoch_start = 0  # iteration at which the running epoch began

    @classmethod
    def from_first_step(
        cls, database: Database, options: Options, experiment: Experiment, recipe: Recipe = PAPER
    ) -> "SecondStep":
        """Step one's newest network with a fresh head of K maps, and step one's newest labels."""
        _, checkpoint = experiment.newest_first_step()
        _, labels_file = experiment.newest_updated_keypoints()
        first, hyper = load_first_step(checkpoint), options.hyper
        if not first.get("relabelled", True):
            raise UserError(
                f"{checkpoint} was saved within a round, whose labels are not made yet; "
                f"let Train_Firststep.py end it with --resume"
            )
        if recipe.find_poses and len(database.poses) > 1 and not experiment.poses().exists():
            raise UserError(
                f"{experiment.poses()}, which says how objects stand, is missing; restore it, or train step one again"
            )
        network = load_fan(first, checkpoint, options)
        centroids, _ = clusters_from_state(first)
        keypoints = load_labels(labels_file, database.training.names, options, centroids)
        count = max(
            len(keypoints.cluster_counts()), hyper.number_of_clusters if centroids is None else len(centroids)
        )
        start = None
        if recipe.first_heatmaps and centroids is not None:
            start = recipe.first_heatmaps(network, centroids, database, options)
        network.replace_descriptor_head(count, torch.Generator().manual_seed(hyper.seed), start)
        place(network, options.device, hyper.precision)
        experiment.log(f"{cls.title}: network of {checkpoint.name}, labels of {labels_file.name}")
        return cls(database, options, experiment, recipe, network, keypoints, labels_file)

    # Training

    def run(self) -> None:
        """Train to the last iteration; at the end of each epoch merge clusters and save a checkpoint."""
        self.experiment.log(f"{self.title}: {len(self.active)} of {self.number_of_clusters} clusters are active")
        while self.iteration < self.hyper.total_iterations or self.epoch_is_open:
            self.train_epoch()
            self.finish_epoch()
        self.scalars.close()

    @property
    def epoch_is_open(self) -> bool:
        """Whether the running epoch still lacks its end, as in a state that was saved at its last iteration."""
        return self.iteration > self.epoch_start

    def train_epoch(self) -> None:
        """Train from where the running epoch is to its end."""
        hyper, strength = self.hyper, self.recipe.augmentation(SECOND_STEP)
        per_iteration = self.batch_size * hyper.gradient_accumulation
        origin = (self.epoch, self.epoch_start * per_iteration)
        samples = SecondStepSamples(
            self.database,
            self.keypoints,
            self.active,
            hyper.image_size,
            hyper.seed,
            strength,
            origin,
        )
        length = -(-len(samples) // per_iteration)
        end = min(self.epoch_start + length, hyper.total_iterations)
        losses = partial(second_step_losses, precision=hyper.precision, recipe=self.recipe)
        description = f"{self.title}, epoch {self.epoch + 1}"
        rate = partial(learning_rate_at, hyper=hyper)
        self.fit(description, samples, losses, rate, end, hyper.gradient_accumulation)

    def finish_epoch(self) -> None:
        """Merge if it is time, and save the epoch's checkpoint."""
        self.epoch += 1
        self.epoch_start = self.iteration
        labels = self.keypoints
        if self.recipe.end_of_epoch:
            self.recipe.end_of_epoch(self)
        elif self.merging_is_due:
            self.merge(*self.predict())
        if self.keypoints is not labels:
            self.labels_file = self.experiment.merged_keypoints(self.iteration)
            if distributed.is_main():
                self.keypoints.save(self.labels_file)
        self.scalars.add(self.iteration, {"clusters": float(len(self.active))})
        self.save_checkpoint()

    @property
    def merging_is_due(self) -> bool:
        """Whether clusters that coincide are joined at the end of this epoch."""
        return self.iteration > self.hyper.iterations_before_merging and self.epoch % EPOCHS_BETWEEN_MERGES == 0

    def merge(self, points: np.ndarray, confidences: np.ndarray, apart: np.ndarray | None = None) -> None:
        """Join the clusters that coincide, in the labels and among the active ones.

        points (n, A, 2) in crop pixels and confidences (n, A) of the active clusters in the training pictures; apart:
        (K, K) bool, clusters that stay apart whatever the predictions say.
        """
        counts = self.keypoints.cluster_counts(self.number_of_clusters)
        joins = merge_clusters(
            points, confidences, counts, self.active, COINCIDENCE, self.hyper.cluster_overlap, CONFIDENT, apart
        )
        before, self.active = self.active, np.unique(joins[self.active])
        self.keypoints = merge_labels(self.keypoints, joins, counts)
        if len(self.active) < len(before):
            joined = ", ".join(f"{k} into {joins[k]}" for k in before if joins[k] != k)
            labels = self.keypoints.keep(np.isin(self.keypoints.clusters(), self.active))
            self.report_labels(f"merged {joined}; {len(self.active)} active clusters; ", labels)

    # Predictions

    @property
    def shape(self) -> PointDistribution | None:
        """How the labels of the active clusters stand, by which poses are told; None where there is one pose."""
        if len(self.database.poses) == 1:
            return None
        cells = self.keypoints.places(self.number_of_clusters)[:, self.active]
        return PointDistribution.of(cells / grid_side(self.hyper))

    def heatmaps(self) -> Iterator[tuple[Tensor, np.ndarray, np.ndarray]]:
        """Maps (B, A, G, G) of the active clusters, the maps (B, 2, 3) from the pictures to crops, and indices (B,).

        Of this process's part of the training pictures.
        """
        images, title = self.database.training, "Clusters: maps"
        indices = distributed.shard(len(images))
        with Progress(title, len(indices)) as progress:
            for pictures, to_crop, numbers in inference_batches(self.database, images, self.options, indices):
                yield heatmaps(self.learned, pictures, self.active, self.options), to_crop, numbers
                progress.update(len(numbers))

    def predict(self) -> tuple[np.ndarray, np.ndarray]:
        """Points (n, A, 2) in crop pixels and confidences (n, A) of the active clusters in the training pictures."""
        points, confidences = [np.zeros((0, len(self.active), 2))], [np.zeros((0, len(self.active)), np.float32)]
        for maps, _, _ in self.heatmaps():
            cells, heights = maxima(maps)
            points.append((GRID * cells).cpu().numpy().astype(np.float64))
            confidences.append(heights.cpu().numpy())
        return distributed.gather(np.concatenate(points)), distributed.gather(np.concatenate(confidences))

    # State

    def remove_superseded(self) -> None:
        """Keep the newest checkpoints only; on a small data set each epoch takes seconds."""
        super().remove_superseded()
        kept = self.hyper.checkpoints_kept
        for epoch, path in self.experiment.second_step_checkpoints() if kept else ():
            if epoch <= self.epoch - kept and path.parent == self.experiment.checkpoints:
                path.unlink(missing_ok=True)

    def checkpoint(self) -> Path:
        return self.experiment.second_step_checkpoint(self.epoch)

    def newest(self) -> tuple[dict[str, Any], Path] | None:
        newest = newest_state(self.experiment.second_step_checkpoints(), self.keeper.path, load_second_step)
        if newest is not None:
            names = ("iteration", "epoch", "epoch_start", "labels", "optimizer")
            require_keys(newest[0], names, newest[1], "a checkpoint to resume from")
        return newest

    def own_state(self) -> dict[str, Any]:
        schedule = {
            "milestones": list(self.hyper.learning_rate_steps),
            "gamma": LEARNING_RATE_DROP,
            "last_epoch": self.iteration,
        }
        return {
            "active_channels": self.active,
            "schedualer": schedule,  # for readers of published checkpoints; the rate follows from the iteration
            "epoch": self.epoch,
            "epoch_start": self.epoch_start,
            "labels": self.labels_file.name,
            **shape_to_state(self.shape),
        }

    def load_own_state(self, content: Mapping[str, Any], source: Path) -> None:
        self.epoch, self.epoch_start = int(content["epoch"]), int(content["epoch_start"])
        self.active = content["active_channels"]
        self.labels_file = self.experiment.find(self.experiment.checkpoints / content["labels"])
        names = self.database.training.names
        self.keypoints = load_labels(self.labels_file, names, self.options, range(self.number_of_clusters))


def load_labels(path: Path, names: np.ndarray, options: Options, clusters: Any) -> KeypointTable:
    """The labels of the pictures of these names, in their order; UserError if no picture has any.

    clusters: something as long as there are clusters, or None.
    """
    count = None if clusters is None else len(clusters)
    table = KeypointTable.load(path, grid_side(options.hyper), count).align(names, path)
    if len(table.points) == 0:
        raise UserError(f"{path} has no keypoint of any training picture; check --dataset_name and the paths")
    return table


def active_clusters(keypoints: KeypointTable, number_of_clusters: int, min_points: int) -> np.ndarray:
    """Clusters with more than `min_points` points, ascending; UserError without any."""
    counts = keypoints.cluster_counts(number_of_clusters)
    active = np.flatnonzero(counts > min_points)
    if len(active) == 0:
        raise UserError(
            f"no cluster has more than {min_points} keypoints (the largest has {counts.max(initial=0)}); "
            f"lower --set min_cluster_points"
        )
    return active
