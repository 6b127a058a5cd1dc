"""What landmarks tell about each other: which few tell most about all, and which are mirror images."""

import numpy as np

from Utils.evaluation import fill_by_means, missing_share
from Utils.movement import OFTEN

PENALTY = 0.01  # of the ridge, times the largest variance, as in the evaluation


def most_telling(points: np.ndarray) -> np.ndarray:
    """The landmarks of points (n, L, 2) that are found often, those first that tell most about the others: (M,).

    Each one added is the one from which, with those before it, a ridge best explains the positions of those not
    added. What a landmark tells about itself does not count, so that noise comes last.
    """
    often = np.flatnonzero(missing_share(points) < 1 - OFTEN)
    values = fill_by_means(points, points)[:, often].reshape(len(points), -1)
    unexplained = np.cov(values.T, bias=True).reshape(len(often), 2, len(often), 2)
    penalty = PENALTY * unexplained.max(initial=0) * np.eye(2) + 1e-9 * np.eye(2)
    order: list[int] = []
    left = list(range(len(often)))
    while left:
        gains = []
        for k in left:
            explained = np.einsum("iab,bc,icd->iad", *_through(unexplained, k, penalty))
            others = [i for i in left if i != k]
            gains.append(float(np.trace(explained[others], axis1=1, axis2=2).sum()))
        k = left.pop(int(np.argmax(gains)))
        order.append(k)
        across, inverse, _ = _through(unexplained, k, penalty)
        unexplained = unexplained - np.einsum("iab,bc,jdc->iajd", across, inverse, across)
    return often[order]


def _through(covariance: np.ndarray, k: int, penalty: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariance (L, 2, L, 2) of all with k, the inverse of k's own with the penalty, covariance of k with all."""
    across = covariance[:, :, k]
    return across, np.linalg.inv(covariance[k, :, k] + penalty), across.swapaxes(1, 2)


def mirror_images(points: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Which landmark each one is in a mirrored picture: (L,), itself for one on the axis, -1 for none.

    points (n, L, 2) of pictures; mirrored: of the mirrored pictures, mirrored back. Each landmark of a mirrored
    picture votes for the nearest one of the picture. Two are each other's image with over half of their votes.
    """
    count = points.shape[1]
    votes = np.zeros((count, count))
    for k in range(count):
        apart = np.linalg.norm(mirrored[:, [k]] - points, axis=2)
        seen = ~np.isnan(apart).all(axis=1)
        votes[k] = np.bincount(np.nanargmin(apart[seen], axis=1), minlength=count)
    cast = votes.sum(axis=1)
    shares = (votes + votes.T) / np.maximum(cast[:, None] + cast, 1)
    images = np.full(count, -1)
    while shares.max(initial=0) > 0.5:
        a, b = np.unravel_index(shares.argmax(), shares.shape)
        images[a], images[b] = b, a
        shares[[a, b]] = shares[:, [a, b]] = 0
    return images
