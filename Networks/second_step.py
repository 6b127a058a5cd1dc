"""Step two: one heatmap per cluster, and clusters that coincide are merged (the paper, section 3.3)."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from Databases.database import Database, ImageSet, evenly
from Databases.samples import GRID, SecondStepBatch, SecondStepSamples, grid_side, to_input
from Networks.checkpoint_schema import numbers
from Networks.checkpoints import (
    clusters_from_state,
    load_fan,
    load_first_step,
    load_schedule,
    load_second_step,
    newest_state,
    require_keys,
)
from Networks.consensus.candidates import Candidates
from Networks.execution import autocast, inference_batches, place
from Networks.fan import FAN
from Networks.inference.detector import CONFIDENT, LandmarkDetector
from Networks.inference.steadiness import steadiness
from Networks.training import Training, augmentation_changes
from Utils.drawing.reports import report_failure
from Utils.heatmaps import gaussian_targets
from Utils.keypoints import KeypointTable
from Utils.merging import merge_clusters, merge_labels, often_apart
from Utils.options import Options
from Utils.runtime import distributed
from Utils.runtime.errors import UserError
from Utils.storage.experiment import Experiment

BATCH_SIZE = 32  # pictures
LEARNING_RATE_DROP = 0.1
EPOCHS_BETWEEN_MERGES = 2
TEMPERATURE = 0.1  # of the softmax over a map's cells, of which a keypoint's is about 1 and most are about 0
COINCIDENCE = 5.7  # pixels of the network's input
SIMILARITY_GAIN = 1.25  # maps that begin as cosines c begin as 1.25 c - 0.25
PICTURES_MEASURED = 64
PICTURES_JUDGED = 500  # training pictures by which clusters are judged at the end


def heatmap_loss(
    heatmaps: Tensor,
    keypoints: Tensor,
    points: int | None = None,
    peak_weight: float = 0.0,
    place_weight: float = 0.0,
) -> Tensor:
    """Squared error, averaged over the maps of the clusters that have a point in their picture.

    heatmaps: (B, K, G, G); keypoints: (n, 4) picture, cluster, x, y, at most one per picture and cluster. Maps
    of clusters without a point in a picture do not count there: the cluster may be visible and just unfound.
    points: how many the mean is of, where these keypoints are a part of them only. peak_weight: a cell counts
    1 + peak_weight times its target, so that the nine cells of a keypoint are not outvoted by a thousand empty ones.
    place_weight: of `place_loss`, which is added.
    """
    picture, cluster = keypoints[:, :2].long().unbind(1)
    maps = heatmaps[picture, cluster]
    number = torch.arange(len(maps), device=maps.device)
    shape = (len(maps), 1, *maps.shape[1:])
    targets = gaussian_targets(number, torch.zeros_like(number), keypoints[:, 2:], shape)[:, 0]
    squared = (maps - targets).square()
    if peak_weight:
        squared = squared * (1 + peak_weight * targets)
    losses = squared.mean(dim=(1, 2))
    if place_weight:
        losses = losses + place_weight * place_loss(maps, targets)
    return distributed.mean(losses, points)


def place_loss(maps: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of finding a keypoint's place among all cells of its map, (n,); 0 where it is on none.

    maps, targets: (n, G, G). What counts is that no other place is higher, which the squared error hardly sees: a
    thousand cells share what one false peak costs.
    """
    wanted = targets.flatten(1)
    total = wanted.sum(dim=1)
    log_share = functional.log_softmax(maps.flatten(1) / TEMPERATURE, dim=1)
    return -(log_share * wanted).sum(dim=1) / total.clamp(min=1e-6)


def second_step_losses(
    network: FAN,
    batch: SecondStepBatch,
    precision: str,
    whole: SecondStepBatch | None = None,
    peak_weight: float = 0.0,
    place_weight: float = 0.0,
) -> dict[str, Tensor]:
    """Forward pass and loss of a batch on the network's device; `total` is what is minimised.

    whole: the batch that this one is a piece of; the losses of its pieces add up to its own.
    """
    whole = whole or batch
    with autocast(batch.pictures.device, precision):
        heatmaps = network.forward_heatmaps(to_input(batch.pictures))
    return {"total": heatmap_loss(heatmaps, batch.keypoints, len(whole.keypoints), peak_weight, place_weight)}


class SecondStep(Training):
    """The whole of step two. Its state: network, optimiser, schedule, iteration, epoch, labels, active clusters."""

    title = "Step two"
    loss_tags = {"total": "loss/heatmaps"}

    def __init__(self, database: Database, options: Options, experiment: Experiment) -> None:
        """Step one's network with a fresh head of K maps, and its newest labels."""
        _, checkpoint = experiment.newest_first_step()
        _, self.labels_file = experiment.newest_updated_keypoints()
        first, hyper = load_first_step(checkpoint), options.hyper
        if not first.get("relabelled", True):
            raise UserError(
                f"{checkpoint} was saved within a round, whose labels are not made yet; "
                f"let Train_Firststep.py end it with --resume"
            )
        network = load_fan(first, checkpoint, options)
        centroids = first["centroid"]
        self.keypoints = load_labels(
            self.labels_file, database.training.names, options, None if centroids is None else len(centroids)
        )
        self.number_of_clusters = count_clusters(self.keypoints, first, hyper.number_of_clusters)
        self.active = active_clusters(self.keypoints, self.number_of_clusters, hyper.min_cluster_points)
        described = clusters_from_state(first)[0] if hyper.heatmap_start == "descriptors" else None
        length = None if described is None else descriptor_length(network, database, options)
        descriptor_head = network.l1
        network.replace_descriptor_head(self.number_of_clusters, torch.Generator().manual_seed(hyper.seed))
        if described is not None and length is not None:
            start_from_descriptors(network, descriptor_head, described, length)
        place(network, options.device, hyper.precision)
        super().__init__(
            database,
            options,
            experiment,
            network,
            BATCH_SIZE,
            options.hyper.heatmap_weight_decay,
            experiment.second_step_state(),
            scalars="step2",
        )
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(
            self.optimizer, list(hyper.learning_rate_steps), LEARNING_RATE_DROP
        )
        self.epoch = 0  # epochs finished
        self.epoch_start = 0  # iteration at which the running epoch began
        experiment.log(f"{self.title}: network of {checkpoint.name}, labels of {self.labels_file.name}")

    # Training

    def run(self) -> None:
        """Train to the last iteration; a checkpoint at the end of each epoch, merging in every second one."""
        if self.options.resume:
            self.load_newest()
        self.experiment.log(f"{self.title}: {len(self.active)} of {self.number_of_clusters} clusters are active")
        while self.iteration < self.hyper.total_iterations or self.epoch_is_open:
            self.train_epoch()
            self.finish_epoch()
        report_failure(self.experiment, self.found())
        self.scalars.close()

    @property
    def epoch_is_open(self) -> bool:
        """Whether the running epoch still lacks its end, as in a state that was saved at its last iteration."""
        return self.iteration > self.epoch_start

    def train_epoch(self) -> None:
        """Train from where the running epoch is to its end."""
        hyper = self.hyper
        per_iteration = self.batch_size * hyper.gradient_accumulation
        origin = (self.epoch, self.epoch_start * per_iteration)
        samples = SecondStepSamples(
            self.database,
            self.keypoints,
            self.active,
            hyper.image_size,
            hyper.seed,
            hyper.augmentation,
            origin,
            hyper.places == "between",
            **augmentation_changes(hyper),
        )
        length = -(-len(samples) // per_iteration)
        end = min(self.epoch_start + length, hyper.total_iterations)
        description = f"{self.title}, epoch {self.epoch + 1}"
        losses = partial(second_step_losses, peak_weight=hyper.peak_weight, place_weight=hyper.place_weight)
        self.fit(description, samples, losses, end, hyper.gradient_accumulation)

    def update_weights(self) -> float:
        self.step_weights()
        self.scheduler.step()
        return float(self.scheduler.get_last_lr()[0])

    def finish_epoch(self) -> None:
        """Merge and match where it is due, and save the epoch's checkpoint."""
        self.epoch += 1
        self.epoch_start = self.iteration
        if self.merging_is_due or self.matching_is_due:
            self.relabel()
        if self.iteration >= self.hyper.total_iterations and self.hyper.least_steadiness:
            self.drop_unsteady()
        self.scalars.add(self.iteration, {"clusters": float(len(self.active))})
        self.save_checkpoint()

    @property
    def merging_is_due(self) -> bool:
        """Whether clusters that coincide are joined at the end of this epoch."""
        return self.iteration > self.hyper.iterations_before_merging and self.epoch % EPOCHS_BETWEEN_MERGES == 0

    @property
    def matching_is_due(self) -> bool:
        """Whether the maps are good enough to make labels of, and there is training left for these."""
        hyper = self.hyper
        learned = 2 * self.iteration > hyper.iterations_before_merging
        return bool(hyper.map_match_fraction) and learned and self.iteration < hyper.total_iterations

    def relabel(self) -> None:
        """Join the clusters that coincide, and match those that remain: both of one pass of all training pictures."""
        merging, matching, columns, labels = self.merging_is_due, self.matching_is_due, self.active, self.keypoints
        detector = LandmarkDetector(self.learned, self.database, self.options, columns)
        read = [(np.zeros((0, len(columns), 2)), np.zeros((0, len(columns)), np.float32))]
        candidates = []
        for maps in detector.maps_of(self.database.training, "Clusters: maps"):
            if merging:
                read.append(detector.read(maps))
            if matching:
                candidates.append(Candidates.of_maps(maps, self.hyper))
        if merging:
            self.merge(*(distributed.gather(np.concatenate(parts)) for parts in zip(*read, strict=True)))
        if matching:
            found = Candidates.joined(candidates, len(columns), self.hyper).gathered()
            self.match(found.of(np.isin(columns, self.active)))
        if self.keypoints is not labels:
            self.labels_file = self.experiment.merged_keypoints(self.iteration)
            if distributed.is_main():
                self.keypoints.save(self.labels_file)

    def merge(self, points: np.ndarray, confidences: np.ndarray) -> None:
        """Join the clusters that coincide, in the labels and among the active ones.

        points (n, A, 2) in crop pixels and confidences (n, A) of the active clusters in the training pictures.
        """
        counts = self.keypoints.cluster_counts(self.number_of_clusters)
        apart = None
        if self.hyper.most_apart < 1:
            places = GRID * self.keypoints.places(self.number_of_clusters)
            apart = often_apart(places, self.hyper.most_apart, COINCIDENCE)
        joins = merge_clusters(
            points, confidences, counts, self.active, COINCIDENCE, self.hyper.cluster_overlap, CONFIDENT, apart
        )
        before, self.active = self.active, np.unique(joins[self.active])
        self.keypoints = merge_labels(self.keypoints, joins, counts)
        if len(self.active) < len(before):
            joined = ", ".join(f"{k} into {joins[k]}" for k in before if joins[k] != k)
            self.report_labels(f"merged {joined}; {len(self.active)} active clusters; ", self.active_labels())

    def match(self, candidates: Candidates) -> None:
        """Make the labels anew: in every training picture, each active cluster where others agree with its map."""
        names, fraction = self.database.training.names, self.hyper.map_match_fraction
        labels = candidates.agreed(names, self.active, fraction)[0] if distributed.is_main() else None
        self.keypoints = distributed.from_main(labels)
        self.report_labels("matched; ", self.keypoints)

    def drop_unsteady(self) -> None:
        """Leave out the clusters whose maps do not follow pictures under known warps; the steadiest one stays."""
        detector = LandmarkDetector(self.learned, self.database, self.options, self.active)
        follows = np.nan_to_num(steadiness(detector, self.some_training_pictures()).r2, nan=-1)
        steady = (follows >= self.hyper.least_steadiness) | (follows == follows.max())
        self.experiment.log(
            f"{self.title}: {steady.sum()} of {len(steady)} clusters follow pictures under known warps; the others "
            "are left out"
        )
        self.active = self.active[steady]

    def found(self) -> np.ndarray:
        """Share (A,) of some training pictures in which each active cluster is found."""
        detector = LandmarkDetector(self.learned, self.database, self.options, self.active)
        _, confidences, _ = detector.predict(self.some_training_pictures(), "Landmarks")
        return (confidences >= CONFIDENT).mean(axis=0)

    def some_training_pictures(self) -> ImageSet:
        """Enough of them to judge clusters by, from the whole list."""
        training = self.database.training
        return training.subset(evenly(np.arange(len(training)), PICTURES_JUDGED))

    def active_labels(self) -> KeypointTable:
        """The labels of the active clusters alone."""
        return self.keypoints.keep(np.isin(self.keypoints.clusters(), self.active))

    def remove_superseded(self) -> None:
        """Keep the newest checkpoints only; on a small data set each epoch takes seconds."""
        super().remove_superseded()
        kept = self.hyper.checkpoints_kept
        for epoch, path in self.experiment.second_step_checkpoints() if kept else ():
            if epoch <= self.epoch - kept and path.parent == self.experiment.checkpoints:
                path.unlink(missing_ok=True)

    # State

    def checkpoint(self) -> Path:
        return self.experiment.second_step_checkpoint(self.epoch)

    def newest(self) -> tuple[dict[str, Any], Path] | None:
        newest = newest_state(self.experiment.second_step_checkpoints(), self.keeper.path, load_second_step)
        if newest is not None:
            names = ("iteration", "epoch", "epoch_start", "labels", "optimizer", "schedualer")
            require_keys(newest[0], names, newest[1], "a run that can be resumed")
        return newest

    def own_state(self) -> dict[str, Any]:
        return {
            "active_channels": self.active,
            "schedualer": self.scheduler.state_dict(),
            "epoch": self.epoch,
            "epoch_start": self.epoch_start,
            "labels": self.labels_file.name,
        }

    def load_own_state(self, content: Mapping[str, Any], source: Path) -> None:
        load_schedule(self.scheduler, content["schedualer"], self.iteration, source)
        self.epoch, self.epoch_start = int(content["epoch"]), int(content["epoch_start"])
        self.active = np.array(numbers(content["active_channels"]))
        self.labels_file = self.experiment.find(self.experiment.checkpoints / content["labels"])
        self.keypoints = load_labels(
            self.labels_file, self.database.training.names, self.options, self.number_of_clusters
        )


@torch.inference_mode()
def descriptor_length(network: FAN, database: Database, options: Options) -> float:
    """The mean length of step one's raw descriptors, over some training pictures."""
    some = range(min(PICTURES_MEASURED, len(database.training)))
    lengths = []
    for pictures, _, _ in inference_batches(database, database.training, options, some):
        with autocast(options.device, options.hyper.precision):
            _, descriptors = network(to_input(pictures.to(options.device)))
        lengths.append(descriptors.norm(dim=1).mean(dim=(1, 2)).cpu())
    return float(torch.cat(lengths).mean())


@torch.no_grad()
def start_from_descriptors(network: FAN, head: torch.nn.Conv2d, centroids: np.ndarray, length: float) -> None:
    """Let each map begin as the similarity of step one's descriptors to its cluster's, at most about 1.

    head: step one's last layer to descriptors of about the length; centroids: (K', D) of unit length. Maps of
    further clusters keep their fresh weights.
    """
    towards = torch.from_numpy(centroids).to(head.weight) * (SIMILARITY_GAIN / length)
    count = len(towards)
    network.l1.weight[:count] = torch.einsum("kd,dchw->kchw", towards, head.weight)
    if network.l1.bias is not None and head.bias is not None:
        network.l1.bias[:count] = towards @ head.bias - (SIMILARITY_GAIN - 1)


def load_labels(path: Path, names: np.ndarray, options: Options, clusters: int | None) -> KeypointTable:
    """The labels of the pictures of these names, in their order; UserError where no picture has any."""
    table = KeypointTable.load(path, grid_side(options.hyper), clusters).align(names)
    if len(table.points) == 0:
        raise UserError(f"{path} has no keypoint of any training picture; check --dataset_name and the paths")
    return table


def count_clusters(keypoints: KeypointTable, first: Mapping[str, Any], given: int) -> int:
    """K: as many as step one had (its checkpoint, else `given`), or as the labels name."""
    centroids = first.get("centroid")
    return max(len(keypoints.cluster_counts()), given if centroids is None else len(centroids))


def active_clusters(keypoints: KeypointTable, number_of_clusters: int, min_points: int) -> np.ndarray:
    """Clusters with more than `min_points` points, ascending; UserError where there is none."""
    counts = keypoints.cluster_counts(number_of_clusters)
    active = np.flatnonzero(counts > min_points)
    if len(active) == 0:
        raise UserError(
            f"no cluster has more than {min_points} keypoints (the largest has {counts.max(initial=0)}); "
            f"lower --set min_cluster_points"
        )
    return active
