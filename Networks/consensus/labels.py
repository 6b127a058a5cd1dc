"""Labels of the recipe: clusters matched in every picture, where a picture's clusters agree on their places."""

from collections.abc import Iterable, Iterator
from functools import partial

import faiss
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from Databases.database import Database
from Databases.loading import to_input
from Databases.samples import GRID, grid_side
from Networks.bootstrap import object_keypoints
from Networks.consensus.candidates import NOWHERE, Candidates
from Networks.consensus.hyperparameters import ConsensusHyperparameters
from Networks.execution import autocast, inference_batches
from Networks.fan import FAN
from Networks.inference.detector import LandmarkDetector
from Networks.inference.steadiness import training_steadiness
from Networks.relabelling import keypoints_of, new_keypoints
from Networks.second_step import COINCIDENCE, SecondStep
from Utils import crops
from Utils.assignment import Clusters, distance_thresholds, pieces
from Utils.clustering import MAX_ROWS, kmeans
from Utils.descriptors import DescriptorStore
from Utils.keypoints import KeypointTable
from Utils.merging import coincidences
from Utils.options import Options
from Utils.runtime import distributed
from Utils.runtime.progress import Progress
from Utils.storage.experiment import Experiment

MAPS_KEPT = 2**29  # bytes of descriptor maps in memory; if all pictures have more, the network runs once more

# Descriptors (B, D, G, G) of pictures, which cells are on the object (B, 1, G, G), and the pictures' indices (B,).
Maps = tuple[Tensor, Tensor, np.ndarray]


# The bootstrap


def keypoints_unlike_background(
    store: DescriptorStore, constant_background: bool, hyper: ConsensusHyperparameters
) -> np.ndarray:
    """Rows of the object's generic keypoints, (len(store),) bool; outliers stay if the background is constant.

    A constant background is no outlier: the rarer points, which the paper drops as outliers, lie on the object.
    """
    if not constant_background:
        return object_keypoints(store, constant_background, hyper)
    inside = store.column("flag")
    return frequent_inside(store, inside, ~inside, hyper.seed)


def frequent_inside(
    store: DescriptorStore,
    inside: np.ndarray,
    outside: np.ndarray,
    seed: int = 0,
    clusters: int = 350,
    times: float = 2.0,
) -> np.ndarray:
    """Rows inside the box that look like what is more often inside than outside, (len(store),) bool.

    inside, outside: (len(store),) bool, as for `foreground`. All these rows are clustered together, and an inside row
    stays where its cluster has more than `times` as many rows inside as outside. What recurs both in the boxes and
    around them is background, however near its centroid inside may be.
    """
    among = inside | outside
    _, descriptors = store.sample(MAX_ROWS, seed, among)
    if len(descriptors) == 0:
        return inside.copy()
    count = min(clusters, len(descriptors))
    index = faiss.IndexFlatL2(store.dimension)
    index.add(kmeans(descriptors, count))
    del descriptors
    nearest = np.concatenate([index.search(descriptors, 1)[1][:, 0] for _, descriptors in store.chunks()])
    of_inside, of_outside = (np.bincount(nearest[rows], minlength=count) for rows in (inside, outside))
    return inside & (of_inside > times * of_outside)[nearest]


def first_labels(
    store: DescriptorStore,
    names: np.ndarray,
    centroids: np.ndarray,
    among: np.ndarray,
    hyper: ConsensusHyperparameters,
) -> KeypointTable:
    """The generic keypoint of each cluster in every picture, where it is sure.

    The keypoints most similar to a cluster's centroid are candidates, among which the picture's clusters agree. Of
    each cluster the `bootstrap_match_fraction` surest stay. store: rows in the order of the pictures of these names;
    among: (len(store),) bool, the rows that count.
    """
    directions = centroids / np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-9)
    points = store.column("point")
    parts = (
        Candidates.of_keypoints(points[rows], descriptors @ directions.T, bounds, grid_side(hyper))
        for rows, descriptors, bounds in pieces(store, len(names), among)
    )
    candidates = Candidates.joined(parts, len(centroids), grid_side(hyper))
    return candidates.agreed(names, np.arange(len(centroids)), hyper.bootstrap_match_fraction, hyper.stiffness)[0]


# A round of step one


def new_labels(
    network: FAN,
    database: Database,
    options: Options,
    experiment: Experiment,
    previous: KeypointTable,
    centroids: np.ndarray | None,
    hyper: ConsensusHyperparameters,
) -> tuple[KeypointTable, Clusters]:
    """New pseudo-groundtruth; clusters are made by k-means once, and matched in every picture from then on."""
    if centroids is None:
        describe = partial(smoothed, window=hyper.descriptor_window)
        previous, clusters = new_keypoints(network, database, options, experiment, previous, None, describe)
        centroids = clusters.centroids
    return matched_keypoints(network, database, options, previous, len(centroids), hyper)


@torch.inference_mode()
def matched_keypoints(
    network: FAN,
    database: Database,
    options: Options,
    previous: KeypointTable,
    number_of_clusters: int,
    hyper: ConsensusHyperparameters,
) -> tuple[KeypointTable, Clusters]:
    """The place of each previous cluster in every training picture, where it is sure.

    A cluster's descriptor is the mean of its keypoints'. The places most similar to it are candidates, among which
    the picture's clusters agree. Of each cluster the `match_fraction` surest stay, and of two in one place the surer.
    """
    read, width = (
        partial(_descriptor_maps, network, database, options, hyper.descriptor_window),
        network.l1.out_channels,
    )
    first: Iterable[Maps]
    again: Iterable[Maps]
    if 4 * width * len(database.training) * grid_side(hyper) ** 2 <= MAPS_KEPT:
        first = again = list(read("Clusters: maps"))
    else:
        first, again = read("Clusters: descriptors"), read("Clusters: matching")
    centroids = _mean_descriptors(first, width, options.device, previous, number_of_clusters)
    alive = np.flatnonzero(centroids.any(axis=1))  # a cluster without keypoints stays without
    there = torch.from_numpy(centroids[alive]).to(options.device)
    similar = (
        torch.einsum("bdyx,kd->bkyx", of_batch, there).masked_fill(~inside, NOWHERE) for of_batch, inside, _ in again
    )
    found = Candidates.joined((Candidates.of_maps(of_batch) for of_batch in similar), len(alive), grid_side(hyper))
    candidates = found.gathered()
    result = None
    if distributed.is_main():
        table, similarity = candidates.agreed(database.training.names, alive, hyper.match_fraction, hyper.stiffness)
        thresholds = distance_thresholds(table.clusters(), 2 - 2 * similarity, number_of_clusters)
        result = table, Clusters(centroids, thresholds, np.zeros(0, np.int32))
    return distributed.from_main(result)


def _descriptor_maps(
    network: FAN, database: Database, options: Options, window: int, description: str
) -> Iterator[Maps]:
    """Descriptor maps of this process's part of the training pictures, batch by batch.

    L2-normalised, each a mean over window x window cells.
    """
    device, images = options.device, database.training
    indices = distributed.shard(len(images))
    network.eval()
    with Progress(description, len(indices)) as progress:
        for pictures, to_crop, numbers in inference_batches(database, images, options, indices):
            with autocast(device, options.hyper.precision):
                _, descriptors = network(to_input(pictures.to(device, non_blocking=True)))
            maps = functional.normalize(smoothed(descriptors, window), dim=1)
            yield maps, on_object(database, to_crop, numbers, maps), numbers
            progress.update(len(numbers))
    network.train()


def on_object(database: Database, to_crop: np.ndarray, numbers: np.ndarray, maps: Tensor) -> Tensor:
    """Which cells of maps (B, C, G, G) lie in the training pictures' boxes, (B, 1, G, G) bool.

    All of them where objects stand one way up; for other poses crops are so large that they hold much background.
    """
    batch, _, side, _ = maps.shape
    if len(database.poses) == 1:
        return torch.ones(batch, 1, side, side, dtype=torch.bool, device=maps.device)
    cells = GRID * np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=2).reshape(-1, 2).astype(float)
    places = crops.apply(crops.invert(to_crop), cells).reshape(-1, 2)
    inside = database.in_box(database.training, np.repeat(numbers, side**2), places)
    return torch.from_numpy(inside.reshape(batch, 1, side, side)).to(maps.device)


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
    for maps, _, numbers in batches:
        points, owners = keypoints_of(labels, numbers)
        x, y, clusters = torch.from_numpy(np.rint(points).astype(np.int64)).to(device).unbind(1)
        vectors = maps[torch.from_numpy(owners).to(device), :, y, x]
        members = functional.one_hot(clusters, count).to(vectors.dtype)
        sums += members.T @ vectors  # as a product the order of the additions is fixed
    total = torch.from_numpy(distributed.gather(sums.cpu().numpy()[None]).sum(axis=0))
    return functional.normalize(total, dim=1).numpy()


# The end of an epoch of step two


def end_of_epoch(step: SecondStep, hyper: ConsensusHyperparameters) -> None:
    """Merge clusters, match those that remain by their maps, and at the very end drop those that stay in place."""
    merging, matching, columns = step.merging_is_due, matching_is_due(step.iteration, hyper), step.active
    if merging or matching:
        detector = LandmarkDetector.of_training(step)
        read = [(np.zeros((0, len(columns), 2)), np.zeros((0, len(columns)), np.float32))]
        candidates = []
        for maps, to_crop, numbers in step.heatmaps():
            if merging:
                read.append(detector.read(maps))
            if matching:
                inside = on_object(step.database, to_crop, numbers, maps)
                candidates.append(Candidates.of_maps(maps.masked_fill(~inside, NOWHERE)))
        if merging:
            points, confidences = (distributed.gather(np.concatenate(parts)) for parts in zip(*read, strict=True))
            places = GRID * step.keypoints.places(step.number_of_clusters)
            step.merge(points, confidences, often_apart(places, hyper.most_apart, COINCIDENCE))
        if matching:
            found = Candidates.joined(candidates, len(columns), grid_side(hyper)).gathered()
            match(step, found.of(np.isin(columns, step.active)), hyper)
    if step.iteration >= hyper.total_iterations and hyper.least_steadiness:
        drop_unsteady(step, hyper.least_steadiness)


def matching_is_due(iteration: int, hyper: ConsensusHyperparameters) -> bool:
    """Whether the maps are good enough to make labels from, and there is training left for these labels."""
    learned = 2 * iteration > hyper.iterations_before_merging
    return bool(hyper.map_match_fraction) and learned and iteration < hyper.total_iterations


def match(step: SecondStep, candidates: Candidates, hyper: ConsensusHyperparameters) -> None:
    """Make the labels anew: in every training picture, each active cluster where others agree with its map."""
    names = step.database.training.names
    labels = None
    if distributed.is_main():
        labels = candidates.agreed(names, step.active, hyper.map_match_fraction, hyper.stiffness)[0]
    step.keypoints = distributed.from_main(labels)
    step.report_labels("matched; ", step.keypoints)


def drop_unsteady(step: SecondStep, least: float) -> None:
    """Leave out the clusters whose maps do not follow pictures under known warps; the steadiest one stays."""
    follows = np.nan_to_num(training_steadiness(LandmarkDetector.of_training(step)).r2, nan=-1)
    steady = (follows >= least) | (follows == follows.max())
    step.experiment.log(
        f"{step.title}: {steady.sum()} of {len(steady)} clusters follow pictures under known warps; the others "
        "are left out"
    )
    step.active = step.active[steady]


def often_apart(places: np.ndarray, share: float, distance: float = 5.7) -> np.ndarray:
    """Which clusters stand in the same images at two places, and so are not one, (K, K) bool.

    places: (n, K, 2) the pseudo-groundtruth, in pixels of the network's input, NaN = none. Two clusters are apart
    where both have a point and these are at least `distance` from each other; often, in over `share` of the images
    with a point of the rarer of the two.
    """
    seen = ~np.isnan(places).any(axis=2)
    together, count = coincidences(places, seen, distance)
    both = seen.T.astype(np.int64) @ seen
    return both - together > share * np.minimum(count[:, None], count[None, :])
