"""Merging of clusters that a network learns to put at the same place (the paper, section 3.2)."""

import numpy as np

from Utils.keypoints import KeypointTable

_PAIRS_PER_CHUNK = 1 << 22  # of clusters, over all pictures that are compared at once


def coincidences(
    predictions: np.ndarray, confident: np.ndarray, distance: float = 5.7
) -> tuple[np.ndarray, np.ndarray]:
    """In how many images clusters coincide, (K, K) int64, and in how many each is confident, (K,) int64.

    predictions: (n, K, 2) in pixels of the network's input; confident: (n, K) bool. Two clusters coincide
    where both are confident and less than `distance` apart.
    """
    count = predictions.shape[1]
    together = np.zeros((count, count), np.int64)
    step = max(1, _PAIRS_PER_CHUNK // max(1, count * count))
    for start in range(0, len(predictions), step):
        x, y = np.moveaxis(predictions[start : start + step].astype(np.float32), 2, 0)
        seen = confident[start : start + step]
        square = (x[:, :, None] - x[:, None, :]) ** 2 + (y[:, :, None] - y[:, None, :]) ** 2
        close = square < distance**2
        close &= seen[:, :, None] & seen[:, None, :]
        together += close.sum(axis=0)
    return together, confident.sum(axis=0)


def merge_clusters(
    predictions: np.ndarray,
    confidence: np.ndarray,
    counts: np.ndarray,
    active: np.ndarray,
    distance: float = 5.7,
    overlap: float = 0.7,
    least_confidence: float = 0.2,
    apart: np.ndarray | None = None,
) -> np.ndarray:
    """Which cluster each one joins, (K,) int64: itself where it is kept or inactive.

    counts: (K,) pseudo-groundtruth points of each cluster; active: (A,) indices; predictions: (n, A, 2) of these, in
    pixels of the network's input; confidence: (n, A), confident above `least_confidence`.
    From the most to the least populous, a cluster joins the first kept one with which it coincides in more
    than `overlap` times the confident images of the less often confident of the two. apart: (K, K) bool, which do
    not join, whatever the predictions say.
    """
    active = np.asarray(active, np.int64)
    columns = np.argsort(-np.asarray(counts)[active], kind="stable")
    order = active[columns]
    together, seen = coincidences(predictions[:, columns], confidence[:, columns] > least_confidence, distance)
    coincide = together > overlap * np.minimum(seen[:, None], seen[None, :])
    if apart is not None:
        coincide &= ~apart[np.ix_(order, order)]
    joins = np.arange(len(counts))
    kept: list[int] = []
    for rank, cluster in enumerate(order):
        partners = [other for other in kept if coincide[rank, other]]
        if partners:
            joins[cluster] = order[partners[0]]
        else:
            kept.append(rank)
    return joins


def merge_labels(table: KeypointTable, joins: np.ndarray, counts: np.ndarray) -> KeypointTable:
    """The pseudo-groundtruth with merged clusters renamed.

    joins: (K,) as from `merge_clusters`; counts: (K,) points of each cluster before merging. Where an image
    has several points of a cluster now, the point that had the most populous one stays. Points without a
    cluster stay as they are.
    """
    old = table.clusters()
    named = np.flatnonzero(old >= 0)
    new = joins[old[named]]
    rank = np.empty(len(joins), np.int64)
    rank[np.argsort(-np.asarray(counts), kind="stable")] = np.arange(len(joins))
    images = table.images()[named]
    order = np.lexsort((rank[old[named]], new, images))
    repeated = np.zeros(len(order), bool)
    repeated[1:] = (np.diff(new[order]) == 0) & (np.diff(images[order]) == 0)
    points = table.points.copy()
    points[named, 2] = new
    mask = np.ones(len(points), bool)
    mask[named[order[repeated]]] = False
    return KeypointTable(table.names, table.offsets, points).keep(mask)
