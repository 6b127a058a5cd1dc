"""New pseudo-groundtruth from the network just trained: its keypoints, joined with the last ones and clustered.

The paper, section 3.2.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from Databases.database import Database, ImageSet
from Databases.samples import grid_side, to_input
from Networks.consensus.candidates import Candidates
from Networks.execution import autocast, inference_batches
from Networks.fan import FAN
from Utils.assignment import Clusters, cluster, distance_thresholds, keypoint_table
from Utils.descriptors import DescriptorStore, collect_rows
from Utils.keypoints import KeypointTable, detect, suppress
from Utils.options import Options
from Utils.runtime import distributed
from Utils.runtime.progress import Progress
from Utils.storage.experiment import Experiment

NMS_FAN = 1  # half-side in grid cells
MAPS_KEPT = 2**29  # bytes of descriptors in memory; where all pictures have more, the network runs once more

Maps = tuple[Tensor, np.ndarray]  # descriptors (B, D, G, G) of pictures, and their indices (B,)


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
    batches = inference_batches(database, images, options, indices)
    network.eval()
    with Progress("Keypoints: FAN", len(indices)) as progress:
        for pictures, _, numbers in batches:
            with autocast(device, hyper.precision):
                detector, descriptors = network(to_input(pictures.to(device, non_blocking=True)))
            points, scores, owners = detect(detector[:, 0], hyper.confidence_fan, NMS_FAN)
            if previous is not None:
                points, owners = _join_previous(previous, numbers, points, scores, owners)
            x, y = points.long().unbind(1)
            descriptors = smoothed(descriptors, hyper.descriptor_window)
            vectors = functional.normalize(descriptors[owners, :, y, x], dim=1)
            store.append(vectors.cpu().numpy(), points.cpu().numpy(), numbers[owners.cpu().numpy()])
            progress.update(len(numbers))
            progress.show(per_picture=len(store) / progress.n)
    network.train()
    collect_rows(store)


def _join_previous(
    previous: KeypointTable, numbers: np.ndarray, points: Tensor, scores: Tensor, owners: Tensor
) -> tuple[Tensor, Tensor]:
    """Points (n, 2) and pictures in the batch (n,) of the new and the previous keypoints, after suppression."""
    old, old_owners = _keypoints_of(previous, numbers)
    points = torch.cat([torch.from_numpy(old[:, :2]).to(points), points])
    owners = torch.cat([torch.from_numpy(old_owners).to(owners), owners])
    # Detector scores are at most 1, so that the previous points go first.
    scores = torch.cat([torch.full((len(old_owners),), 2.0).to(scores), scores])
    kept = suppress(points, scores, owners, NMS_FAN)
    return points[kept], owners[kept]


def _keypoints_of(table: KeypointTable, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The keypoints (n, 3) of some pictures, and which of these each is in (n,)."""
    parts = [table.of(number) for number in numbers]
    return np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def new_keypoints(
    network: FAN,
    database: Database,
    options: Options,
    experiment: Experiment,
    previous: KeypointTable,
    centroids: np.ndarray | None,
) -> tuple[KeypointTable, Clusters]:
    """New pseudo-groundtruth of the training pictures and its clusters; centroids: of the last ones, if any.

    With --set relabelling=match, clusters are detected and made by k-means the first time only; from then on each
    is matched in every picture.
    """
    if options.hyper.relabelling == "match":
        if centroids is None:
            previous, clusters = detected_keypoints(network, database, options, experiment, previous, None)
            centroids = clusters.centroids
        return matched_keypoints(network, database, options, previous, len(centroids))
    return detected_keypoints(network, database, options, experiment, previous, centroids)


def detected_keypoints(
    network: FAN,
    database: Database,
    options: Options,
    experiment: Experiment,
    previous: KeypointTable,
    centroids: np.ndarray | None,
) -> tuple[KeypointTable, Clusters]:
    """The detector's keypoints joined with the previous ones, in clusters by k-means, as the paper has it."""
    with DescriptorStore(experiment.checkpoints, network.l1.out_channels) as store:
        store_fan_keypoints(network, database, database.training, options, store, previous)
        if not distributed.is_main():
            return distributed.from_main(None)
        hyper, names = options.hyper, database.training.names
        experiment.log(f"Keypoints: FAN: {len(store) / len(names):.1f} per picture, before they are clustered")
        clusters = cluster(
            store, len(names), hyper.number_of_clusters, hyper.seed, initial=centroids, device=options.device
        )
        table = keypoint_table(store, clusters, names)
        return distributed.from_main((table, replace(clusters, labels=clusters.labels[:0])))


# Clusters matched in every picture


@torch.inference_mode()
def matched_keypoints(
    network: FAN, database: Database, options: Options, previous: KeypointTable, number_of_clusters: int
) -> tuple[KeypointTable, Clusters]:
    """The place of each previous cluster in every training picture, where it is sure.

    A cluster's descriptor is the mean of its keypoints'. The places most similar to it are candidates, among which
    the picture's clusters agree (`Networks.consensus.agreement`). Of each cluster the `match_fraction` surest stay,
    and of two in one place the surer.
    """
    hyper = options.hyper
    read, width = partial(_descriptor_maps, network, database, options), network.l1.out_channels
    first: Iterable[Maps]
    again: Iterable[Maps]
    if 4 * width * len(database.training) * grid_side(hyper) ** 2 <= MAPS_KEPT:
        first = again = list(read("Clusters: maps"))
    else:
        first, again = read("Clusters: descriptors"), read("Clusters: matching")
    centroids = _mean_descriptors(first, width, options.device, previous, number_of_clusters)
    alive = np.flatnonzero(centroids.any(axis=1))  # a cluster without keypoints stays without
    there = torch.from_numpy(centroids[alive]).to(options.device)
    similar = (torch.einsum("bdyx,kd->bkyx", of_batch, there) for of_batch, _ in again)
    found = Candidates.joined((Candidates.of_maps(of_batch, hyper) for of_batch in similar), len(alive), hyper)
    candidates = found.gathered()
    result = None
    if distributed.is_main():
        table, similarity = candidates.agreed(database.training.names, alive, hyper.match_fraction)
        thresholds = distance_thresholds(table.clusters(), 2 - 2 * similarity, number_of_clusters)
        result = table, Clusters(centroids, thresholds, np.zeros(0, np.int32))
    return distributed.from_main(result)


def _descriptor_maps(network: FAN, database: Database, options: Options, description: str) -> Iterator[Maps]:
    """Descriptors of this process's part of the training pictures, batch by batch, and the pictures' indices (B,).

    (B, D, G, G), L2-normalised, each a mean over `descriptor_window` cells either way.
    """
    hyper, device = options.hyper, options.device
    indices = distributed.shard(len(database.training))
    network.eval()
    with Progress(description, len(indices)) as progress:
        for pictures, _, numbers in inference_batches(database, database.training, options, indices):
            with autocast(device, hyper.precision):
                _, descriptors = network(to_input(pictures.to(device, non_blocking=True)))
            yield functional.normalize(smoothed(descriptors, hyper.descriptor_window), dim=1), numbers
            progress.update(len(numbers))
    network.train()


def smoothed(descriptors: Tensor, window: int) -> Tensor:
    """Descriptors (B, D, G, G), each the mean of the window x window cells around it that are on the grid."""
    if window == 1:
        return descriptors
    return functional.avg_pool2d(descriptors, window, 1, window // 2, count_include_pad=False)


def _mean_descriptors(
    batches: Iterable[Maps], width: int, device: torch.device, labels: KeypointTable, count: int
) -> np.ndarray:
    """Centroids (count, D=width) float32: the normalised means of the descriptors of each cluster's keypoints."""
    sums = torch.zeros(count, width, device=device)
    for maps, numbers in batches:
        points, owners = _keypoints_of(labels, numbers)
        x, y, clusters = torch.from_numpy(np.rint(points).astype(np.int64)).to(device).unbind(1)
        vectors = maps[torch.from_numpy(owners).to(device), :, y, x]
        members = functional.one_hot(clusters, count).to(vectors.dtype)
        sums += members.T @ vectors  # as a product the order of the additions is fixed
    total = torch.from_numpy(distributed.gather(sums.cpu().numpy()[None]).sum(axis=0))
    return functional.normalize(total, dim=1).numpy()
