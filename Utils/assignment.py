"""Assignment of keypoints to clusters, image by image, each cluster at most once (the paper, section 3.1)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from Utils.clustering import MAX_ROWS, kmeans
from Utils.descriptors import DescriptorStore
from Utils.keypoints import KeypointTable

IMAGES_AT_ONCE = 256


@dataclass(frozen=True)
class Clusters:
    """centroids: (K, d) float32; thresholds: (K,) float32, squared distances; labels: (n,) int32, -1: none."""

    centroids: np.ndarray
    thresholds: np.ndarray
    labels: np.ndarray


def cluster(
    store: DescriptorStore,
    number_of_images: int,
    number_of_clusters: int,
    sample_seed: int = 0,
    initial: np.ndarray | None = None,
    among: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> Clusters:
    """k-means on at most `MAX_ROWS` rows of a store, then thresholds and assignment of all its rows.

    store: rows in the order of their images; among: (len(store),) bool, the rows that count, default all;
    initial: (K, d) centroids where k-means starts; sample_seed: chooses the rows, k-means itself has seed 0.
    Memory: the sample, one chunk of rows and 16 bytes per row. Raises UserError as `kmeans`.
    """
    _, descriptors = store.sample(MAX_ROWS, sample_seed, among)
    centroids = kmeans(descriptors, number_of_clusters, initial=initial)
    del descriptors
    return assign(store, number_of_images, centroids, among=among, device=device)


def assign(
    store: DescriptorStore,
    number_of_images: int,
    centroids: np.ndarray,
    thresholds: np.ndarray | None = None,
    among: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> Clusters:
    """The cluster of every row of a store.

    In each image, points and clusters are paired so that the sum of squared distances is least; pairs at or
    over the cluster's threshold are dropped. thresholds: (K,); by default from the rows themselves, see
    `distance_thresholds`. among: (len(store),) bool, rows that take part; the others get -1.
    """
    among = np.ones(len(store), bool) if among is None else among
    nearest, labels = (np.full(len(store), -1, np.int32) for _ in range(2))
    nearest_distance, label_distance = (np.zeros(len(store), np.float32) for _ in range(2))
    centroids_there = torch.as_tensor(centroids, device=device)
    for rows, descriptors, bounds in pieces(store, number_of_images, among):
        if len(rows) == 0:
            continue
        distances = squared_distances(torch.from_numpy(descriptors).to(device), centroids_there).cpu().numpy()
        nearest[rows], nearest_distance[rows] = distances.argmin(axis=1), distances.min(axis=1)
        chosen, paired = pair(distances, bounds)
        labels[rows[chosen]], label_distance[rows[chosen]] = paired, distances[chosen, paired]
    if thresholds is None:
        thresholds = distance_thresholds(nearest[among], nearest_distance[among], len(centroids))
    labels[label_distance >= thresholds[labels]] = -1
    return Clusters(centroids, thresholds, labels)


def pieces(
    store: DescriptorStore, number_of_images: int, among: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Some images of a store after the others: the rows of `among` (m,), their descriptors (m, d), and bounds.

    among: (len(store),) bool; bounds: (images + 1,), image i of these has the rows bounds[i]:bounds[i + 1] of the m.
    """
    offsets = store.image_offsets(number_of_images)
    for first in range(0, number_of_images, IMAGES_AT_ONCE):
        last = min(first + IMAGES_AT_ONCE, number_of_images)
        start, stop = offsets[first], offsets[last]
        rows = start + np.flatnonzero(among[start:stop])
        descriptors = store.read(start, stop) if len(rows) else np.zeros((0, store.dimension), np.float32)
        if len(rows) < len(descriptors):
            descriptors = descriptors[rows - start]
        yield rows, descriptors, np.searchsorted(rows, offsets[first : last + 1])


def keypoint_table(store: DescriptorStore, clusters: Clusters, names: np.ndarray) -> KeypointTable:
    """The points of a store that a cluster was assigned to, of the images of these names."""
    rows = clusters.labels >= 0
    points = np.column_stack([store.column("point"), clusters.labels])[rows]
    return KeypointTable.from_flat(names, store.column("image")[rows], points)


def pair(distances: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hungarian assignment in each image: rows and clusters of the pairs, both (m,).

    distances: (n, K), not changed; bounds: (images + 1,), image i has the rows bounds[i]:bounds[i + 1]. An
    image with more points than clusters leaves points over, one with fewer leaves clusters over.
    """
    costs = distances.astype(np.float64)  # scipy would convert each image on its own
    chosen, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    limits = bounds.tolist()
    for start, stop in zip(limits[:-1], limits[1:], strict=True):
        if start < stop:
            points, clusters = linear_sum_assignment(costs[start:stop])
            chosen.append(points + start)
            labels.append(clusters)
    return np.concatenate(chosen), np.concatenate(labels)


def squared_distances(descriptors: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """(n, K) of descriptors (n, d) and centroids (K, d), as one matrix product."""
    ours, theirs = (torch.einsum("nd,nd->n", vectors, vectors) for vectors in (descriptors, centroids))
    return torch.addmm(ours[:, None] + theirs, descriptors, centroids.T, alpha=-2).clamp_(min=0)


def distance_thresholds(nearest: np.ndarray, distances: np.ndarray, number_of_clusters: int) -> np.ndarray:
    """Mean + standard deviation of the squared distances of each cluster's members, (K,) float32.

    nearest: (n,) nearest cluster of each descriptor; distances: (n,) squared distance to it. A cluster
    without members gets 0, so that nothing is assigned to it.
    """
    count = np.bincount(nearest, minlength=number_of_clusters).clip(min=1)
    mean = np.bincount(nearest, distances, number_of_clusters) / count
    variance = np.bincount(nearest, (distances - mean[nearest]) ** 2, number_of_clusters) / count
    return (mean + np.sqrt(variance)).astype(np.float32)
