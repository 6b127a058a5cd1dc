"""New pseudo-groundtruth from the network just trained: its keypoints, joined with the last ones and clustered.

The paper, section 3.2.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from Databases.database import Database, ImageSet
from Databases.samples import GRID, to_input
from Networks.execution import autocast, inference_batches
from Networks.fan import FAN
from Utils import distributed
from Utils.assignment import Clusters, cluster, distance_thresholds, keypoint_table
from Utils.consensus import agree
from Utils.descriptors import DescriptorStore
from Utils.experiment import Experiment
from Utils.heatmaps import centre_of_mass, windows
from Utils.keypoints import KeypointTable, detect, suppress
from Utils.options import Options
from Utils.progress import Progress

NMS_FAN = 1  # half-side in grid cells
CANDIDATES = 4  # places per cluster and picture that a match is chosen from
LESS_SIMILAR = 0.3  # than a peak, in cosine: cells that count nothing for its place between cells
ONE_PLACE = 0.07  # sides of the crop: clusters that are nearer, in x and in y, are in one place


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
            progress.show(per_picture=len(store) / progress.done)
    network.train()
    distributed.collect_rows(store)


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
    the picture's clusters agree (`Utils.consensus`). Of each cluster the `match_fraction` surest stay, and of two
    in one place the surer.
    """
    hyper = options.hyper
    centroids = _mean_descriptors(network, database, options, previous, number_of_clusters)
    alive = np.flatnonzero(centroids.any(axis=1))  # a cluster without keypoints stays without
    cells, similarity, places = _candidates(network, database, options, centroids[alive])
    result = None
    if distributed.is_main():
        side = hyper.image_size // GRID
        found = agree(cells / side, similarity)
        chosen = found.chosen[:, :, None]
        places = np.take_along_axis(places, chosen[..., None], 2)[:, :, 0]
        kept = found.cost <= np.quantile(found.cost, hyper.match_fraction, axis=0)
        images, numbers = np.nonzero(kept)
        stay = _surer_of_doubles(images, numbers, places[kept], found.cost, side)
        images, numbers = images[stay], numbers[stay]
        points = np.column_stack([places[images, numbers], alive[numbers]])
        table = KeypointTable.from_flat(database.training.names, images, points)
        distances = 2 - 2 * np.take_along_axis(similarity, chosen, 2)[images, numbers, 0]
        thresholds = distance_thresholds(alive[numbers], distances, number_of_clusters)
        result = table, Clusters(centroids, thresholds, np.zeros(0, np.int32))
    return distributed.from_main(result)


def _descriptor_maps(
    network: FAN, database: Database, options: Options, description: str
) -> Iterator[tuple[Tensor, np.ndarray]]:
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
    network: FAN, database: Database, options: Options, labels: KeypointTable, count: int
) -> np.ndarray:
    """Centroids (count, D) float32: the normalised means of the descriptors of each cluster's keypoints."""
    device = options.device
    sums = torch.zeros(count, network.l1.out_channels, device=device)
    for maps, numbers in _descriptor_maps(network, database, options, "Clusters: descriptors"):
        points, owners = _keypoints_of(labels, numbers)
        x, y, clusters = torch.from_numpy(np.rint(points).astype(np.int64)).to(device).unbind(1)
        vectors = maps[torch.from_numpy(owners).to(device), :, y, x]
        members = functional.one_hot(clusters, count).to(vectors.dtype)
        sums += members.T @ vectors  # as a product the order of the additions is fixed
    total = torch.from_numpy(distributed.gather(sums.cpu().numpy()[None]).sum(axis=0))
    return functional.normalize(total, dim=1).numpy()


def _candidates(
    network: FAN, database: Database, options: Options, centroids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The places most similar to each centroid (K, D): cells (n, K, T, 2) x, y, similarities (n, K, T).

    Third: the places (n, K, T, 2) that keypoints get there, the cells themselves or, with --set places=between,
    between them.
    """
    there = torch.from_numpy(centroids).to(options.device)
    side = options.hyper.image_size // GRID
    cells = [np.zeros((0, len(centroids), CANDIDATES, 2))]
    similarity = [np.zeros((0, len(centroids), CANDIDATES))]
    refined = [np.zeros((0, len(centroids), CANDIDATES, 2))]
    between = options.hyper.places == "between"
    for maps, _ in _descriptor_maps(network, database, options, "Clusters: matching"):
        similar = torch.einsum("bdyx,kd->bkyx", maps, there)
        scores, flat = peaks(similar, CANDIDATES)
        of_batch = torch.stack([flat % side, flat // side], dim=3)
        cells.append(of_batch.cpu().numpy().astype(np.float64))
        similarity.append(scores.cpu().numpy().astype(np.float64))
        if between:
            refined.append(between_cells(similar, of_batch).cpu().numpy().astype(np.float64))
    all_cells = distributed.gather(np.concatenate(cells))
    places = distributed.gather(np.concatenate(refined)) if between else all_cells
    return all_cells, distributed.gather(np.concatenate(similarity)), places


def peaks(maps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest local maxima (of 5x5 cells) of maps (B, K, H, W): values and cells (y W + x), both (B, K, count).

    Where a map has fewer, the rest have the value -1, below any similarity.
    """
    highest = functional.max_pool2d(maps, 5, 1, 2)
    return torch.where(maps == highest, maps, -1.0).flatten(2).topk(count, dim=2)


def between_cells(similarity: Tensor, cells: Tensor) -> Tensor:
    """Places between cells of peaks (B, K, T, 2) x, y of similarity maps (B, K, H, W).

    The centre of mass of the 5x5 cells around each, where mass is the square of what exceeds the peak's similarity
    less `LESS_SIMILAR`.
    """
    values, inside = windows(similarity, cells)
    middle = values[..., 2:3, 2:3]
    mass = (values - middle + LESS_SIMILAR).clamp(min=0).square() * inside
    return cells + centre_of_mass(mass)


def _surer_of_doubles(
    images: np.ndarray, numbers: np.ndarray, cells: np.ndarray, cost: np.ndarray, side: int
) -> np.ndarray:
    """Which of the points cells (m, 2) stay, ascending: the surer one where two of a picture lie in one place.

    images, numbers: (m,) their picture and column of cost (n, K). Sure is a place in comparison with the same
    cluster's in other pictures.
    """
    rank = cost.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
    sure = torch.from_numpy(-rank[images, numbers])
    stay = suppress(torch.from_numpy(cells), sure, torch.from_numpy(images), ONE_PLACE * side / 2)
    return np.sort(stay.numpy())
