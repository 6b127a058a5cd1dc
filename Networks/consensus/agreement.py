"""Places on which the clusters of a picture agree: where each one looks right and where the others expect it.

A cluster's descriptor often fits several places of a picture: the left eye looks like the right one. A mean shape
that each picture shows under an affine map of its own tells which of them is meant. Shape, maps, and how well each
cluster keeps to them are found together, in turn with the choice of places.
"""

from dataclasses import dataclass

import numpy as np

SIMILARITY_SCALE = 0.15  # difference of cosine similarities that counts as much as one nat of distance
DOUBT = 2.0  # cost in nats at which a place has half the weight of a sure one
FARTHEST = 6.0  # nats that distance from the expected place costs at most
LEAST_SPREAD = 12 / 256  # standard deviation of a cluster about its expected place, per axis, in sides of the crop
USUAL_SPREAD = 20 / 256  # of a cluster whose place counts once when a picture's map is fitted
_PICTURES_AT_ONCE = 4096  # of many, whose candidates all together take gigabytes
STIFFNESS = 1.0  # weight of "no map": of so many clusters that stay where the mean shape has them


@dataclass(frozen=True)
class Consensus:
    """chosen: (n, K) int64, which candidate; cost: (n, K), low where place and looks agree, the others' as well."""

    chosen: np.ndarray
    cost: np.ndarray


def agree(
    candidates: np.ndarray, similarity: np.ndarray, stiffness: float = STIFFNESS, iterations: int = 12
) -> Consensus:
    """Choose one of the candidates of each cluster in each picture.

    candidates: (n, K, T, 2) places in sides of the crop, best first; similarity: (n, K, T) cosine similarity of the
    descriptor there to the cluster's.
    """
    usual = np.quantile(similarity[:, :, 0], 0.5, axis=0) if len(similarity) else np.zeros(similarity.shape[1])
    alike = similarity[:, :, 0] >= usual
    weights = alike.astype(float)
    places = candidates[:, :, 0]
    shape = np.stack([_median(places[alike[:, k], k]) for k in range(places.shape[1])])
    spread: np.ndarray = np.full(len(shape), 30 / 256)
    for _ in range(iterations):
        expected = _expected(places, shape, weights, spread, stiffness)
        off = places - expected
        squared = (off**2).sum(axis=2)
        # Places are spread about the expected ones as Student's t with two degrees of freedom.
        trust = weights * 4 / (2 + squared / spread**2)
        known = trust.sum(axis=0) > 5
        shift = (trust[:, :, None] * off).sum(axis=0) / np.maximum(trust.sum(axis=0), 1e-9)[:, None]
        shape = np.where(known[:, None], shape + shift, shape)
        variance = (trust * squared).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-9) / 2
        spread = np.where(known, np.maximum(LEAST_SPREAD, np.sqrt(variance)), spread)
        chosen, cost = _choose(candidates, similarity, usual, expected, spread)
        places = np.take_along_axis(candidates, chosen[:, :, None, None], 2)[:, :, 0]
        weights = 1 / (1 + np.exp(cost - DOUBT))
    # Where few clusters of a picture agree, those that do may agree on a wrong map.
    cost = np.minimum(cost, FARTHEST)
    return Consensus(chosen, cost + cost.mean(axis=1, keepdims=True))


def _choose(
    candidates: np.ndarray, similarity: np.ndarray, usual: np.ndarray, expected: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which candidate of each cluster costs least in each picture, and how much, both (n, K)."""
    chosen = np.empty(candidates.shape[:2], np.int64)
    cost = np.empty(candidates.shape[:2])
    for start in range(0, len(candidates), _PICTURES_AT_ONCE):
        some = slice(start, start + _PICTURES_AT_ONCE)
        looks = (usual[None, :, None] - similarity[some]) / SIMILARITY_SCALE
        off = candidates[some] - expected[some, :, None]
        distance = (off**2).sum(axis=3) / (2 * spread[None, :, None] ** 2)
        costs = looks + np.minimum(distance, FARTHEST)
        chosen[some] = costs.argmin(axis=2)
        cost[some] = np.take_along_axis(costs, chosen[some, :, None], 2)[:, :, 0]
    return chosen, cost


def _expected(
    places: np.ndarray, shape: np.ndarray, weights: np.ndarray, spread: np.ndarray, stiffness: float
) -> np.ndarray:
    """Where the mean shape (K, 2) lies in each picture, (n, K, 2), under the affine map that fits its places best."""
    inputs = np.column_stack([4 * (shape - 0.5), np.ones(len(shape))])
    base = weights * (USUAL_SPREAD / spread) ** 2
    now = base
    expected = places
    for _ in range(3):  # places far from the fit lose their weight
        gram = np.einsum("nk,ka,kb->nab", now, inputs, inputs) + stiffness * np.eye(3)
        target = np.einsum("nk,ka,nkc->nac", now, inputs, places - shape)
        expected = shape + np.einsum("ka,nac->nkc", inputs, np.linalg.solve(gram, target))
        now = base / (1 + ((places - expected) ** 2).sum(axis=2) / (2 * spread**2))
    return expected


def _median(points: np.ndarray) -> np.ndarray:
    """Median (2,) of points (n, 2), the middle of the crop without any."""
    return np.median(points, axis=0) if len(points) else np.full(2, 0.5)
