"""Clusters of descriptors: outliers, background and k-means, all through FAISS (the paper, section 3.1).

FAISS runs on all GPUs that `faiss.get_num_gpus()` reports, else on the CPU, where its results are the same bit
by bit from run to run and for any number of threads.
"""

import faiss
import numpy as np

from Utils.descriptors import DescriptorStore
from Utils.runtime.errors import UserError

MAX_ROWS = 500_000  # descriptors that an index or a k-means gets at most
_ROWS_PER_LIST = 400  # fewer lists where the set is small, so that a list holds several times the neighbours


def kmeans(
    descriptors: np.ndarray,
    number_of_clusters: int,
    seed: int = 0,
    iterations: int = 100,
    initial: np.ndarray | None = None,
) -> np.ndarray:
    """Centroids (number_of_clusters, d) float32 of descriptors (n, d), all of which are used.

    initial: (number_of_clusters, d), where the iterations start; else `seed` chooses among the descriptors.
    Raises UserError for fewer descriptors than clusters and for descriptors that are not finite.
    """
    descriptors = np.ascontiguousarray(descriptors, np.float32)
    count, dimension = descriptors.shape
    if count < number_of_clusters:
        raise UserError(
            f"{count} descriptors are fewer than {number_of_clusters} clusters; "
            "lower --set number_of_clusters=, detect more keypoints or give more pictures"
        )
    if not np.isfinite(np.einsum("nd,nd->n", descriptors, descriptors)).all():
        raise UserError("descriptors hold infinite or undefined values: training diverged; lower learning_rate")
    if initial is not None and initial.shape != (number_of_clusters, dimension):
        raise UserError(
            f"centroids of shape {initial.shape} do not fit {number_of_clusters} clusters of {dimension} "
            "dimensions; continue with the settings of the run that made them"
        )
    model = faiss.Kmeans(
        dimension,
        number_of_clusters,
        niter=iterations,
        seed=seed,
        gpu=faiss.get_num_gpus(),
        min_points_per_centroid=1,  # no warning for small sets
        max_points_per_centroid=count,  # no silent subset
    )
    start = None if initial is None else np.ascontiguousarray(initial, np.float32)
    model.train(descriptors, init_centroids=start)
    return np.array(model.centroids)


def outlier_scores(
    store: DescriptorStore,
    seed: int = 0,
    among: np.ndarray | None = None,
    neighbours: int = 100,
    lists: int = 100,
    max_rows: int = MAX_ROWS,
) -> np.ndarray:
    """Median squared distance of every row to its nearest descriptors, (len(store),) float32.

    The neighbours (a row itself is among them) are those of the row's list in an inverted file of at most `max_rows`
    rows, chosen by `seed`. A small file has fewer lists. among: (len,) bool, the rows that count; the others score
    infinite. Memory: the inverted file and one chunk.
    """
    scores = np.full(len(store), np.inf, np.float32)
    _, reference = store.sample(max_rows, seed, among)
    if len(reference) == 0:
        return scores
    count, dimension = reference.shape
    quantizer = faiss.IndexFlatL2(dimension)  # kept by this name as long as the index uses it
    index: faiss.Index = faiss.IndexIVFFlat(quantizer, dimension, min(lists, max(1, count // _ROWS_PER_LIST)))
    index.train(reference)
    if faiss.get_num_gpus():
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(reference)
    del reference
    for start, descriptors in store.chunks():
        rows = slice(start, start + len(descriptors))
        chosen = slice(None) if among is None else among[rows]
        distances, found = index.search(descriptors[chosen], min(neighbours, count))
        scores[rows][chosen] = median_of_found(distances, found >= 0)
    return scores


def median_of_found(distances: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Median (n,) of the distances (n, m), ascending in each row, that are found (n, m); infinite without any."""
    count, row = found.sum(axis=1), np.arange(len(found))
    last = (count - 1).clip(min=0)
    middle = (distances[row, last // 2] + distances[row, (count // 2).clip(max=last)]) / 2
    return np.where(count > 0, middle, np.inf)


def inliers(scores: np.ndarray, outlier_fraction: float = 0.4) -> np.ndarray:
    """Which rows stay, (n,) bool, when the worst fraction of the finite scores (n,) is dropped."""
    finite = np.isfinite(scores)
    keep = finite.sum() - int(outlier_fraction * finite.sum())
    mask = np.zeros(len(scores), bool)
    mask[np.argsort(scores, kind="stable")[:keep]] = True
    return mask


def foreground(
    store: DescriptorStore,
    inside: np.ndarray,
    outside: np.ndarray,
    seed: int = 0,
    outside_clusters: int = 250,
    inside_clusters: int = 100,
    max_rows: int = MAX_ROWS,
) -> np.ndarray:
    """Rows that lie inside the box and do not look like background, (len(store),) bool.

    inside, outside: (len(store),) bool, rows of the object's boxes and of their surroundings. An inside row is
    background if a centroid of the outside rows is closer than every centroid of the inside rows. Fewer rows than
    clusters: each row is a cluster.
    """
    centroids = []
    for mask, number in ((inside, inside_clusters), (outside, outside_clusters)):
        _, descriptors = store.sample(max_rows, seed, mask)
        if len(descriptors) == 0:
            return inside.copy()
        centroids.append(kmeans(descriptors, min(number, len(descriptors))))
        del descriptors
    result = inside.copy()
    index = faiss.IndexFlatL2(store.dimension)
    index.add(np.concatenate(centroids))
    for start, descriptors in store.chunks():
        rows = slice(start, start + len(descriptors))
        _, nearest = index.search(descriptors, 1)
        result[rows] &= nearest[:, 0] < len(centroids[0])
    return result
