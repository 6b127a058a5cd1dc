"""What landmarks tell about each other: which few tell most about all, and which are mirror images."""

from pathlib import Path

import numpy as np
from pydantic import BaseModel, NonNegativeInt, ValidationError

from Utils.evaluation import fill_by_means, missing_share
from Utils.movement import OFTEN
from Utils.runtime.errors import UserError
from Utils.storage.files import writing

PENALTY = 0.01  # of the ridge, times the largest variance, as in the evaluation


class Relations(BaseModel):
    """What the training pictures tell about a network's landmarks, by their clusters' numbers.

    telling: `telling_order`; mirror: pairs that are each other's image in a mirrored picture, a landmark on the axis
    with itself.
    """

    telling: list[NonNegativeInt]
    mirror: list[tuple[NonNegativeInt, NonNegativeInt]]

    @classmethod
    def learned(cls, points: np.ndarray, mirrored: np.ndarray, active: np.ndarray) -> "Relations":
        """From the landmarks `active` (L,) in pictures (n, L, 2), and in mirrored pictures, mirrored back."""
        pairs = [(int(active[a]), int(active[b])) for a, b in enumerate(mirror_images(points, mirrored)) if a <= b]
        return cls(telling=active[telling_order(points)].tolist(), mirror=pairs)

    @classmethod
    def load(cls, path: Path, active: np.ndarray) -> "Relations":
        """Raises UserError for a file of another kind or of a network with other landmarks."""
        try:
            relations = cls.model_validate_json(path.read_bytes())
            assert {*relations.telling, *sum(relations.mirror, ())} <= set(active.tolist())
        except (AssertionError, ValidationError):
            raise UserError(f"{path} is damaged or of another network; remove it, it will be made again") from None
        return relations

    def save(self, path: Path) -> None:
        with writing(path) as temporary:
            temporary.write_text(self.model_dump_json() + "\n")

    def counterparts(self, active: np.ndarray) -> np.ndarray:
        """The place (L,) in `active` of each landmark's mirror image, -1 for none."""
        image = {a: b for pair in self.mirror for a, b in (pair, pair[::-1])}
        place = {int(k): i for i, k in enumerate(active)}
        return np.array([place.get(image.get(k, -1), -1) for k in place])


def telling_order(points: np.ndarray) -> np.ndarray:
    """The landmarks of points (n, L, 2) that are found often, those first that tell most about the others: (M,).

    Each one added is the one from which, with those before it, a ridge best explains the positions of those not
    added. What a landmark tells about itself does not count, so that noise comes last.
    """
    often = np.flatnonzero(missing_share(points) < 1 - OFTEN)
    values = fill_by_means(points, points)[:, often].reshape(len(points), -1)
    unexplained = np.cov(values.T, bias=True).reshape(2 * len(often), 2 * len(often))
    penalty = (PENALTY * unexplained.max(initial=0) + 1e-9) * np.eye(2)
    order: list[int] = []
    left = list(range(len(often)))
    while left:
        explained = {k: _explained(unexplained, k, penalty) for k in left}
        variances = {k: explained[k].diagonal().reshape(-1, 2)[left].sum() for k in left}
        gains = [variances[k] - explained[k][2 * k : 2 * k + 2, 2 * k : 2 * k + 2].trace() for k in left]
        order.append(left.pop(int(np.argmax(gains))))
        unexplained = unexplained - explained[order[-1]]
    return often[order]


def _explained(covariance: np.ndarray, k: int, penalty: np.ndarray) -> np.ndarray:
    """The part of a covariance (2L, 2L) that the two coordinates of landmark k explain."""
    own = covariance[:, 2 * k : 2 * k + 2]
    return own @ np.linalg.solve(own[2 * k : 2 * k + 2] + penalty, own.T)


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
