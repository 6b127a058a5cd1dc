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
    gpus: int | None = None,
) -> np.ndarray:
    """Centroids (number_of_clusters, d) float32 of descriptors (n, d), all of which are used.

    initial: (number_of_clusters, d), where the iterations start; else `seed` chooses among the descriptors.
    gpus: how many to use; None: all there are. Raises UserError for fewer descriptors than clusters and for
    descriptors that are not finite.
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
        gpu=faiss.get_num_gpus() if gpus is None else gpus,
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
    gpus: int | None = None,
) -> np.ndarray:
    """Median squared distance of every row to its nearest descriptors, (len(store),) float32.

    The neighbours (a row itself is among them) are those of the row's list in an inverted file of at most
    `max_rows` rows, chosen by `seed`. Below `_ROWS_PER_LIST` rows per list the file has fewer lists. among:
    (len,) bool, the rows that count; the others score infinite. Memory: the inverted file and one chunk.
    """
    scores = np.full(len(store), np.inf, np.float32)
    _, reference = store.sample(max_rows, seed, among)
    if len(reference) == 0:
        return scores
    gpus = faiss.get_num_gpus() if gpus is None else gpus
    inverted_file = (_InvertedFileOnGpus if gpus else _InvertedFile)(reference, lists)
    del reference
    for start, descriptors in store.chunks():
        rows = slice(start, start + len(descriptors))
        chosen = slice(None) if among is None else among[rows]
        scores[rows][chosen] = inverted_file.median_distance(descriptors[chosen], neighbours)
    return scores


class _InvertedFile:
    """Descriptors (n, d) in the order of their lists, each list searched by matrix products.

    FAISS's own inverted file compares one query at a time, which takes five times as long for as many queries
    as there are here.
    """

    def __init__(self, descriptors: np.ndarray, lists: int) -> None:
        self._owner = _trained_lists(descriptors, lists)  # whose quantizer goes when it does
        self.quantizer = self._owner.quantizer
        members = self.quantizer.search(descriptors, 1)[1][:, 0]
        self.vectors = descriptors[np.argsort(members, kind="stable")]
        self.offsets = np.concatenate([[0], np.cumsum(np.bincount(members, minlength=self.quantizer.ntotal))])

    def median_distance(self, queries: np.ndarray, neighbours: int) -> np.ndarray:
        """(n,) of queries (n, d); over fewer neighbours where a list holds fewer, infinite where it is empty."""
        median = np.full(len(queries), np.inf, np.float32)
        lists = self.quantizer.search(queries, 1)[1][:, 0]
        for number in np.unique(lists):
            vectors = self.vectors[self.offsets[number] : self.offsets[number + 1]]
            count = min(neighbours, len(vectors))
            if count:
                rows = np.flatnonzero(lists == number)
                # The middle of the nearest is all that is needed of them.
                nearest, _ = faiss.knn(queries[rows], vectors, count // 2 + 1)
                median[rows] = (nearest[:, (count - 1) // 2] + nearest[:, count // 2]) / 2
        return median


class _InvertedFileOnGpus:
    """The same on all GPUs, where FAISS searches many lists at once."""

    def __init__(self, descriptors: np.ndarray, lists: int) -> None:
        self.index = faiss.index_cpu_to_all_gpus(_trained_lists(descriptors, lists))
        self.index.add(descriptors)

    def median_distance(self, queries: np.ndarray, neighbours: int) -> np.ndarray:
        """As of `_InvertedFile`."""
        distances, found = self.index.search(queries, min(neighbours, self.index.ntotal))
        count = (found >= 0).sum(axis=1)
        rows = np.arange(len(distances))
        low = distances[rows, (count - 1).clip(min=0) // 2]
        high = distances[rows, count // 2]
        return np.where(count > 0, (low + high) / 2, np.inf)


def _trained_lists(descriptors: np.ndarray, lists: int) -> faiss.IndexIVFFlat:
    """The centroids of an inverted file of descriptors (n, d), without the descriptors."""
    count, dimension = descriptors.shape
    lists = min(lists, max(1, count // _ROWS_PER_LIST))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(dimension), dimension, lists)
    index.train(descriptors)
    return index


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
    gpus: int | None = None,
) -> np.ndarray:
    """Rows that lie inside the box and do not look like background, (len(store),) bool.

    inside, outside: (len(store),) bool, rows of the object's boxes and of their surroundings. An inside row is
    background where a centroid of the outside rows is closer than every centroid of the inside rows. Where there
    are fewer rows than clusters, each row is a cluster.
    """
    centroids = []
    for mask, number in ((inside, inside_clusters), (outside, outside_clusters)):
        _, descriptors = store.sample(max_rows, seed, mask)
        if len(descriptors) == 0:
            return inside.copy()
        centroids.append(kmeans(descriptors, min(number, len(descriptors)), gpus=gpus))
        del descriptors
    result = inside.copy()
    index = faiss.IndexFlatL2(store.dimension)
    index.add(np.concatenate(centroids))
    for start, descriptors in store.chunks():
        rows = slice(start, start + len(descriptors))
        _, nearest = index.search(descriptors, 1)
        result[rows] &= nearest[:, 0] < len(centroids[0])
    return result
