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
    unexplained = np.cov(values.T, bias=True).reshape(2 * len(often), 2 * len(often))
    penalty = (PENALTY * unexplained.max(initial=0) + 1e-9) * np.eye(2)
    order: list[int] = []
    while len(order) < len(often):
        left = [k for k in range(len(often)) if k not in order]
        explained = {k: _explained(unexplained, k, penalty) for k in left}
        gains = [_variances(explained[k])[[i for i in left if i != k]].sum() for k in left]
        order.append(left[int(np.argmax(gains))])
        unexplained = unexplained - explained[order[-1]]
    return often[order]


def _explained(covariance: np.ndarray, k: int, penalty: np.ndarray) -> np.ndarray:
    """The part of a covariance (2L, 2L) that the two coordinates of landmark k explain."""
    own = covariance[:, 2 * k : 2 * k + 2]
    return own @ np.linalg.solve(own[2 * k : 2 * k + 2] + penalty, own.T)


def _variances(covariance: np.ndarray) -> np.ndarray:
    """Those of the landmarks, both coordinates together: (2L, 2L) -> (L,)."""
    return covariance.diagonal().reshape(-1, 2).sum(axis=1)


def mirror_images(points: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Which landmark each one is in a mirrored picture: (L,), itself for one on the axis, -1 for none.

    points (n, L, 2) of pictures; mirrored: of the mirrored pictures, mirrored back. Each landmark of a mirrored
    picture votes for the nearest one of the picture. Two are each other's image with over half of their votes.
    """
    count = points.shape[1]
    votes, images = np.zeros((count, count)), np.full(count, -1)
    for k in range(count):
        apart = np.linalg.norm(mirrored[:, [k]] - points, axis=2)
        nearest = np.nanargmin(apart[~np.isnan(apart).all(axis=1)], axis=1)
        votes[k] = np.bincount(nearest, minlength=count)
    cast = votes.sum(axis=1)
    shares = (votes + votes.T) / np.maximum(cast[:, None] + cast, 1)
    while shares.max() > 0.5:
        a, b = np.unravel_index(shares.argmax(), shares.shape)
        images[a], images[b] = b, a
        shares[[a, b]] = shares[:, [a, b]] = 0
    return images
