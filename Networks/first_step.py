"""Step one: detector and descriptor learned from the pseudo-groundtruth, which is made again and again.

The paper, sections 3.1 and 3.2: training on the current keypoints, then new keypoints and clusters from the
network just trained, and so on in rounds.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from Databases.database import Database, ImageSet
from Databases.samples import FirstStepBatch, FirstStepSamples, to_input, training_batches
from Networks import training
from Networks.bootstrap import store_generic_keypoints
from Networks.fan import FAN
from Networks.superpoint import load_superpoint
from Utils import distributed
from Utils.assignment import Clusters, cluster
from Utils.clustering import foreground, inliers, outlier_scores
from Utils.descriptors import DescriptorStore
from Utils.experiment import Experiment
from Utils.files import load_checkpoint, save_checkpoint
from Utils.heatmaps import detector_targets
from Utils.keypoints import KeypointTable, detect, suppress
from Utils.options import Hyperparameters, Options
from Utils.progress import Progress

BATCH_SIZE = 16  # pairs of pictures
MARGIN = 0.8  # distance that descriptors of different clusters should keep
DESCRIPTOR_WEIGHT = 10.0
COSINE_STEPS = 5  # scheduler steps of one cosine period, which is one clustering round
LOWEST_LEARNING_RATE = 5e-6
NMS_FAN = 1  # half-side in grid cells


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
    # Embeddings: the backward pass of indexing adds with atomics on several threads, in an order that varies.
    picture, x, y = batch.ends.unbind(1)
    _, dimension, height, width = descriptors.shape
    rows = descriptors.permute(0, 2, 3, 1).reshape(-1, dimension)
    ends = functional.embedding((picture * height + y) * width + x, rows)
    one, other = functional.embedding(batch.pairs, ends).unbind(1)
    squared = (one - other).square().sum(dim=1)
    apart = functional.relu(MARGIN - torch.sqrt(squared + 1e-9)).square()
    losses = torch.where(batch.positive, squared, apart)
    return distributed.mean(losses, pairs)


def first_step_losses(
    network: FAN, batch: FirstStepBatch, precision: str, whole: FirstStepBatch | None = None
) -> dict[str, Tensor]:
    """Forward pass and losses of a batch on the network's device; `total` is what is minimised.

    whole: the batch that this one is a piece of; the losses of its pieces add up to its own.
    """
    whole = whole or batch
    with training.autocast(batch.pictures.device, precision):
        detector, descriptors = network(to_input(batch.pictures))
    of_detector = detector_loss(detector, batch.keypoints, len(whole.pictures))
    of_descriptor = descriptor_loss(descriptors, batch, len(whole.pairs))
    total = DESCRIPTOR_WEIGHT * of_descriptor + of_detector
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


# Keypoints from SuperPoint


def bootstrap(database: Database, options: Options, experiment: Experiment) -> KeypointTable:
    """The first pseudo-groundtruth, written to the experiment; read from there where it is complete."""
    hyper = options.hyper
    keypoints_file, clusters_file = experiment.bootstrap_keypoints(), experiment.bootstrap_clusters()
    if options.resume and keypoints_file.exists():
        if clusters_file.exists():
            training.check_resumed(hyper, load_checkpoint(clusters_file), clusters_file)
        return KeypointTable.load(keypoints_file).align(database.training.names)
    superpoint = load_superpoint(options.paths.optional("path_to_superpoint_checkpoint"), options.device)
    with DescriptorStore(experiment.checkpoints) as store:
        store_generic_keypoints(superpoint, database, database.training, options, store)
        experiment.log(
            f"Bootstrap: {store.column('flag').sum() / len(database.training):.1f} generic keypoints per picture"
        )
        if not distributed.is_main():
            return distributed.from_main(None)
        inside = store.column("flag")
        among = inside & inliers(outlier_scores(store, hyper.seed, inside), hyper.outlier_fraction)
        if database.constant_background:
            among &= foreground(store, among, ~inside, hyper.seed)
        pictures = len(database.training)
        clusters = cluster(store, pictures, hyper.number_of_clusters, hyper.seed, among=among, device=options.device)
        table = keypoint_table(store, clusters, database.training.names)
    state = clusters_to_state(clusters.centroids, clusters.thresholds)
    save_checkpoint({**state, "hyperparameters": hyper.as_dict()}, clusters_file)
    table.save(keypoints_file)  # last: that it exists says that the bootstrap is complete
    experiment.log(f"Bootstrap: {describe(keypoint_figures(table))}")
    return distributed.from_main(table)


def keypoint_table(store: DescriptorStore, clusters: Clusters, names: np.ndarray) -> KeypointTable:
    """The points of a store that a cluster was assigned to."""
    rows = clusters.labels >= 0
    points = np.column_stack([store.column("point"), clusters.labels])[rows]
    return KeypointTable.from_flat(names, store.column("image")[rows], points)


# Keypoints from FAN


@torch.inference_mode()
def store_fan_keypoints(
    network: FAN,
    database: Database,
    images: ImageSet,
    options: Options,
    store: DescriptorStore,
    previous: KeypointTable | None = None,
) -> None:
    """Put the keypoints that the detector finds, joined with each picture's previous ones, into the store.

    Where two lie on top of each other the previous one stays. Descriptors are L2-normalised. Of several
    processes each detects in its part of the pictures, and the main one's store gets all rows.
    """
    hyper, device = options.hyper, options.device
    indices = distributed.shard(len(images))
    batches = training.inference_batches(database, images, options, indices)
    network.eval()
    with Progress("Keypoints: FAN", len(indices)) as progress:
        for pictures, _, numbers in batches:
            with training.autocast(device, hyper.precision):
                detector, descriptors = network(to_input(pictures.to(device, non_blocking=True)))
            points, scores, owners = detect(detector[:, 0], hyper.confidence_fan, NMS_FAN)
            if previous is not None:
                points, owners = _join_previous(previous, numbers, points, scores, owners)
            x, y = points.long().unbind(1)
            vectors = functional.normalize(descriptors[owners, :, y, x], dim=1)
            store.append(vectors.cpu().numpy(), points.cpu().numpy(), numbers[owners.cpu().numpy()])
            progress.update(len(numbers), keypoints=len(points) / len(numbers))
    network.train()
    distributed.collect_rows(store)


def _join_previous(
    previous: KeypointTable, numbers: np.ndarray, points: Tensor, scores: Tensor, owners: Tensor
) -> tuple[Tensor, Tensor]:
    """Points (n, 2) and pictures in the batch (n,) of the new and the previous keypoints, after suppression."""
    old = [previous.of(number)[:, :2] for number in numbers]
    old_owners = np.repeat(np.arange(len(numbers)), [len(part) for part in old])
    points = torch.cat([torch.from_numpy(np.concatenate(old)).to(points), points])
    owners = torch.cat([torch.from_numpy(old_owners).to(owners), owners])
    # Detector scores are at most 1, so that the previous points go first.
    scores = torch.cat([torch.full((len(old_owners),), 2.0).to(scores), scores])
    kept = suppress(points, scores, owners, NMS_FAN)
    return points[kept], owners[kept]


def new_keypoints(
    network: FAN,
    database: Database,
    options: Options,
    experiment: Experiment,
    previous: KeypointTable,
    centroids: np.ndarray | None,
) -> tuple[KeypointTable, Clusters]:
    """New pseudo-groundtruth of the training pictures and its clusters."""
    with DescriptorStore(experiment.checkpoints, network.l1.out_channels) as store:
        store_fan_keypoints(network, database, database.training, options, store, previous)
        if not distributed.is_main():
            return distributed.from_main(None)
        hyper, names = options.hyper, database.training.names
        clusters = cluster(
            store, len(names), hyper.number_of_clusters, hyper.seed, initial=centroids, device=options.device
        )
        table = keypoint_table(store, clusters, names)
        return distributed.from_main((table, replace(clusters, labels=clusters.labels[:0])))


# Training


class FirstStep:
    """The whole of step one. Its state is the network, the optimiser, the iteration and the clusters."""

    def __init__(self, database: Database, options: Options, experiment: Experiment) -> None:
        self.database, self.options, self.experiment = database, options, experiment
        self.hyper = options.hyper
        self.batch_size = training.global_batch_size(self.hyper, BATCH_SIZE)
        self.network = training.build_fan(None, self.hyper, options.device)
        self.optimizer = training.build_optimizer(self.network, self.hyper)
        self.iteration = 0
        self.relabelled = False  # whether new keypoints were made with the network of this iteration
        self.centroids: np.ndarray | None = None  # (K, D) of the FAN's descriptors
        self.thresholds: np.ndarray | None = None  # (K,)
        self.scalars = experiment.scalars("step1")
        self.keeper = training.StateKeeper(
            experiment.first_step_state(), self.hyper.minutes_between_checkpoints, self.state
        )

    def run(self) -> None:
        """Bootstrap, then train and make new keypoints until the last round has ended."""
        if self.options.resume:
            self.load_newest()
        ends = round_ends(self.hyper)
        finished = [end for end in ends if end < self.iteration or (end == self.iteration and self.relabelled)]
        if finished:
            path = self.experiment.find(self.experiment.updated_keypoints(finished[-1]))
            keypoints = KeypointTable.load(path).align(self.database.training.names)
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
        hyper, device = self.hyper, self.options.device
        samples = FirstStepSamples(self.database, keypoints, hyper.image_size, hyper.seed, hyper.augmentation)
        batches = training_batches(
            samples, self.iteration, end, self.batch_size, self.options.num_workers, device, distributed.place()
        )
        means = training.RunningMean()
        self.relabelled = False
        self.network.train()
        with Progress("Step one", end, "iteration", self.iteration) as progress:
            for batch in batches:
                rate = learning_rate_at(self.iteration, hyper)
                training.set_learning_rate(self.optimizer, rate)
                self.optimizer.zero_grad(set_to_none=True)
                losses = training.add_gradients(first_step_losses, self.network, batch.to(device), hyper)
                distributed.average_gradients(self.network.parameters())
                self.optimizer.step()
                self.iteration += 1
                means.add(losses)
                progress.update()
                if self.iteration % training.ITERATIONS_PER_LOOK == 0 or self.iteration == end:
                    taken = means.take()
                    progress.show(loss=taken["total"], lr=rate, pictures_per_s=2 * self.batch_size * progress.rate)
                    self.scalars.add(self.iteration, {f"loss/{k}": v for k, v in taken.items()} | {"lr": rate})
                    self.keeper.after_look()

    def relabel(self, previous: KeypointTable) -> KeypointTable:
        """New pseudo-groundtruth from the network as it is; k-means starts from the last centroids."""
        keypoints, clusters = new_keypoints(
            self.network, self.database, self.options, self.experiment, previous, self.centroids
        )
        self.centroids, self.thresholds = clusters.centroids, clusters.thresholds
        if distributed.is_main():
            keypoints.save(self.experiment.updated_keypoints(self.iteration))
        self.relabelled = True
        figures = keypoint_figures(keypoints)
        self.experiment.log(f"Step one, iteration {self.iteration}: {describe(figures)}")
        self.scalars.add(self.iteration, figures)
        return keypoints

    # State

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: the published keys, and what exact resuming needs."""
        return {
            "state_dict": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "iteration": self.iteration,
            **clusters_to_state(self.centroids, self.thresholds),
            "relabelled": self.relabelled,
            "hyperparameters": self.hyper.as_dict(),
            "dataset_name": self.options.dataset_name,
        }

    def save_checkpoint(self) -> None:
        if distributed.is_main():
            save_checkpoint(self.state(), self.experiment.first_step_checkpoint(self.iteration))
            self.keeper.remove()

    def load_newest(self) -> None:
        """Go on from the newest checkpoint or the state between two; from the beginning where there is none."""
        newest = training.newest_state(
            self.experiment.first_step_checkpoints(), self.experiment.first_step_state(), load_first_step
        )
        if newest is None:
            return
        content, path = newest
        training.check_resumed(self.hyper, content, path)
        training.load_fan_weights(self.network, content["state_dict"], path)
        training.load_optimizer(self.optimizer, content["optimizer"], path)
        self.iteration = int(content["iteration"])
        self.relabelled = bool(content.get("relabelled", True))
        self.centroids, self.thresholds = clusters_from_state(content)
        self.experiment.log(f"Step one goes on from iteration {self.iteration} ({path.name})")


def load_first_step(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of step one; UserError for any other file."""
    content = load_checkpoint(path, remedy="remove it to go on from an earlier checkpoint")
    training.require_keys(content, ("state_dict", "optimizer", "iteration", "centroid"), path, "step one")
    return content


def clusters_to_state(centroids: np.ndarray | None, thresholds: np.ndarray | None) -> dict[str, Any]:
    """The checkpoint keys `centroid` (K, D) and `threshold` (K,); None before the first clustering."""
    if centroids is None or thresholds is None:
        return {"centroid": None, "threshold": None}
    return {"centroid": torch.from_numpy(centroids), "threshold": torch.from_numpy(thresholds)}


def clusters_from_state(content: dict[str, Any]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """What `clusters_to_state` wrote; published files have no thresholds."""
    centroids, thresholds = content.get("centroid"), content.get("threshold")
    return (
        None if centroids is None else np.asarray(centroids, np.float32),
        None if thresholds is None else np.asarray(thresholds, np.float32),
    )


def keypoint_figures(keypoints: KeypointTable) -> dict[str, float]:
    """What to watch of a pseudo-groundtruth."""
    return {
        "keypoints_per_picture": len(keypoints.points) / max(len(keypoints), 1),
        "clusters": float((keypoints.cluster_counts() > 0).sum()),
    }


def describe(figures: dict[str, float]) -> str:
    return f"{figures['keypoints_per_picture']:.1f} keypoints per picture in {figures['clusters']:.0f} clusters"
