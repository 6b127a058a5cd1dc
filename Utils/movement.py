"""Whether a landmark moves with the object: how much of its movement the groundtruth explains.

A useless landmark that never moves in the crop has small errors in both directions; only its movement tells.
All points are in pixels of the 256x256 crop; unknown points are NaN and do not count.
"""

from dataclasses import dataclass, fields

import numpy as np

from Utils.evaluation import CROP, fill_by_means, fit_ridge

FOLLOWS = 0.8  # R2 from which a landmark counts as one that follows its part
OFTEN = 0.8  # share of the pictures in which a landmark has to be found to count
FEWEST = 20  # pictures with a landmark that each half needs for a result


@dataclass(frozen=True)
class Movement:
    """Each (L,) for L landmarks, NaN for a landmark in too few pictures.

    found: share of the pictures with it; residual: rms distance in pixels between the landmark and what the
    groundtruth predicts; movement: rms distance in pixels from its mean place; r2: 1 - residual^2 / movement^2,
    near 1 for a landmark that follows its part, 0 for one that stays at a place of the crop.
    """

    found: np.ndarray
    residual: np.ndarray
    movement: np.ndarray
    r2: np.ndarray

    def following(self) -> np.ndarray:
        """(L,) bool, the landmarks that are found often and follow their part."""
        return (self.found > OFTEN) & (np.nan_to_num(self.r2, nan=-1) > FOLLOWS)

    def often_found(self) -> "Movement":
        """The part for landmarks that are found in over `OFTEN` of the pictures."""
        kept = self.found > OFTEN
        return Movement(self.found[kept], self.residual[kept], self.movement[kept], self.r2[kept])

    def means(self) -> dict[str, float]:
        """residual, movement and r2 as means over the landmarks with a result, NaN without any."""
        known = ~np.isnan(self.r2)
        values = {"residual": self.residual, "movement": self.movement, "r2": self.r2}
        return {name: float(value[known].mean()) if known.any() else float("nan") for name, value in values.items()}

    def describe(self) -> str:
        """For example `residual 12.1 px, R2 0.64`: means over the landmarks."""
        means = self.means()
        return f"residual {means['residual']:.1f} px, R2 {means['r2']:.2f}"


def explained_movement(points: np.ndarray, groundtruth: np.ndarray, seed: int = 0) -> Movement:
    """How well the groundtruth predicts the landmarks.

    points (n, L, 2) and groundtruth (n, G, 2) of the same pictures. The pictures are split in two at random; the
    evaluation's ridge regression from groundtruth to a landmark is fitted on either half and predicts the other.
    Pictures without groundtruth do not count; single unknown points are replaced by their means.
    """
    known = ~np.isnan(groundtruth).any(axis=2).all(axis=1)
    points, truth = points[known], fill_by_means(groundtruth[known], groundtruth[known])
    inputs = truth.reshape(len(truth), 2 * truth.shape[1]) / CROP
    first_half = np.random.default_rng(seed).permutation(len(points)) % 2 == 0
    seen = ~np.isnan(points).any(axis=2)
    count = points.shape[1]
    residual, movement = np.full(count, np.nan), np.full(count, np.nan)
    for k in range(count):
        halves = [np.flatnonzero(seen[:, k] & half) for half in (first_half, ~first_half)]
        if min(map(len, halves)) < FEWEST:
            continue
        places = points[:, k]
        errors = []
        for fitted, predicted in (halves, halves[::-1]):
            weights, offset = fit_ridge(inputs[fitted], places[fitted] / CROP)
            errors.append(CROP * (inputs[predicted] @ weights.T + offset) - places[predicted])
        everywhere = places[seen[:, k]]
        residual[k] = _rms(np.concatenate(errors))
        movement[k] = _rms(everywhere - everywhere.mean(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(movement > 0, 1 - (residual / movement) ** 2, np.where(np.isnan(movement), np.nan, 0.0))
    found = seen.mean(axis=0) if len(seen) else np.zeros(count)
    return Movement(found, residual, movement, r2)


def explained_by_the_others(points: np.ndarray) -> Movement:
    """How well the other landmarks predict each one: a measure of movement without groundtruth.

    points (n, L, 2), as for `explained_movement`. The others are those found in over `OFTEN` of the pictures; missing
    points are replaced by their means.
    """
    count = points.shape[1]
    often = ~np.isnan(points).any(axis=2)
    others = np.flatnonzero(often.mean(axis=0) > OFTEN) if len(points) else np.zeros(0, np.int64)
    known = fill_by_means(points[:, others], points[:, others])
    each = [explained_movement(points[:, [k]], known[:, others != k]) for k in range(count)]
    return Movement(*(np.array([getattr(one, field.name)[0] for one in each]) for field in fields(Movement)))


def _rms(vectors: np.ndarray) -> float:
    """Root of the mean squared length of vectors (n, 2)."""
    return float(np.sqrt((vectors**2).sum(axis=1).mean()))
