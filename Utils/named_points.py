"""Named points from landmarks: learned from one annotated picture or thousands by the same rule.

Landmarks are brought into a common frame, in which all pictures show the mean shape as well as a similarity map
allows. There, a point rides on the landmarks around it: their displacements from the mean shape are interpolated at
the point (kriging with an exponential covariance). What annotations show beyond that is learned by a ridge regression
from all displacements, most from those nearby. Of several strengths, it takes the one that predicts left-out pictures
best, so that one picture corrects only the point's mean position, and many pictures the way in which it moves. If
objects stand alike in their boxes, the corners of the crop tell how wrong the similarity map is; they are inputs,
too, unless left-out pictures are predicted better without. Pictures that disagree with the others, such as those in
which landmarks are wrong, lose their weight. Where pictures are at hand, points then move to where they look as
annotated (Utils/refinement.py).

Lengths in the frame are in sizes of the object: twice the root mean square distance of the mean shape's landmarks
from their centre. Landmarks and points come in pixels of their pictures, NaN if they are unknown, with the maps from
these pixels to the crops that the network saw, of side 1.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from Utils import refinement
from Utils.crops import apply, compose, invert
from Utils.evaluation import known_mean
from Utils.refinement import Refiner
from Utils.runtime.errors import UserError
from Utils.storage.files import dump_pickle, load_pickle

FORMAT = 3
REMEDY = "run tools/name_points.py again"
REACH = 0.325  # distance at which the covariance of two landmarks' displacements has fallen to 1/e
OWN_SHARE = 0.1  # of a landmark's displacement that tells nothing of its neighbours
MIRRORED_BELOW = 0.5  # share of the residual under which a picture counts as mirrored
STRENGTHS = 10.0 ** np.arange(-3, 4.1, 0.5)  # variance of the ridge's prediction before any data, over the noise's
USUAL_STRENGTH = 1.0  # and how far, in powers of ten, it may lie from that
STRENGTH_SPREAD = 2.0
PRIOR_PICTURES = 2.0  # so many pictures the noise that is expected before any annotation counts as
CORNER_WEIGHTS = (0.0, 1.0)  # of the inputs that the crop's corners are, to try; 0 leaves them out
USUAL_CORNERS, ODD_CORNERS = 3.0, 6.0  # in spreads; a crop that is farther off counts less, then nothing
NEAR = 0.05  # a point's confidence is the chance that it lies so near
LEAST = 1e-3  # spread and noise are never taken for smaller
_STARTS, _ROUNDS, _REFITS = 4, 5, 3


@dataclass(frozen=True)
class Frame:
    """The common frame of all pictures of an experiment.

    shape: (L, 2), of size 1; spread: root mean square displacement per axis; noise: root mean square error per axis
    with which the others predict a landmark; corners: (2, 2), median of `crop_corners`; corner_spread: their usual
    deviation per axis.
    """

    shape: np.ndarray
    spread: float
    noise: float
    corners: np.ndarray
    corner_spread: float


def common_frame(landmarks: np.ndarray, to_crops: np.ndarray) -> Frame:
    """The frame of landmarks (n, L, 2) of many pictures with their maps (n, 2, 3) to crops.

    UserError if no picture has two of them.
    """
    counts = (~np.isnan(landmarks).any(axis=2)).sum(axis=1)
    if counts.max(initial=0) < 2:
        raise UserError("no picture shows two landmarks; train longer, or lower the threshold")
    best = None
    for start in np.argsort(-counts, kind="stable")[:_STARTS]:
        shape = np.where(np.isnan(landmarks[start]), known_mean(landmarks[start]), landmarks[start])
        for _ in range(_ROUNDS):
            aligned = apply(to_frame(shape, landmarks), landmarks)
            shape = np.where(np.isnan(new := known_mean(aligned)), shape, new)
        residual = np.nanmedian(np.abs(aligned - shape)) / _size(shape)
        if best is None or residual < best[0]:
            best = (residual, shape, aligned)
    assert best is not None
    _, shape, aligned = best
    size = _size(shape)
    shape, aligned = shape / size, aligned / size
    displacements = aligned - shape
    all_corners = crop_corners(to_frame(shape, landmarks), to_crops)
    corners = known_median(all_corners.reshape(-1, 4)).reshape(2, 2)
    corner_spread = max(1.5 * float(np.nanmedian(np.abs(all_corners - corners))), LEAST)
    spread = max(float(np.sqrt(np.nanmean(displacements**2))), LEAST)
    frame = Frame(shape, spread, 0.0, corners, corner_spread)
    errors = []
    for k in range(len(shape)):
        others = np.arange(len(shape)) != k
        riding, _ = ride(frame, np.where(others[:, None], displacements, np.nan), shape[[k]])
        errors.append(riding[:, 0] - displacements[:, k])
    return replace(frame, noise=max(float(np.sqrt(np.nanmean(np.square(errors)))), LEAST))


def _size(shape: np.ndarray) -> float:
    return 2 * float(np.sqrt(np.nanvar(shape, axis=0).sum()))


def known_median(values: np.ndarray) -> np.ndarray:
    """Median over the first axis of the known; NaN where nothing is."""
    return np.array([np.median(own[~np.isnan(own)]) if (~np.isnan(own)).any() else np.nan for own in values.T])


def to_frame(shape: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Maps (n, 2, 3) of landmarks (n, L, 2) to the mean shape (L, 2); NaN with fewer than two landmarks.

    Similarities, mirrored if that fits far better. Landmarks far from their position lose their weight.
    """
    upright, residual = _similarity(shape, landmarks)
    mirrored, mirrored_residual = _similarity(shape, landmarks * (-1, 1))
    mirrored[:, :, 0] *= -1
    return np.where((mirrored_residual < MIRRORED_BELOW * residual)[:, None, None], mirrored, upright)


def _similarity(shape: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps (n, 2, 3), and the mean distances (n,) that they leave; in complex numbers, as z -> a z + b."""
    known = ~np.isnan(landmarks).any(axis=2) & ~np.isnan(shape).any(axis=1)
    z, s = (np.nan_to_num(points[..., 0] + 1j * points[..., 1]) for points in (landmarks, shape))
    weights, counts = known.astype(float), known.sum(axis=1).clip(1)
    for _ in range(_ROUNDS):
        total = weights.sum(axis=1).clip(1e-12)
        z_mean, s_mean = (weights * z).sum(axis=1) / total, (weights * s).sum(axis=1) / total
        z_off, s_off = z - z_mean[:, None], s - s_mean[:, None]
        cross = (weights * z_off.conj() * s_off).sum(axis=1)
        sizes = [np.sqrt((weights * np.abs(off) ** 2).sum(axis=1)) for off in (z_off, s_off)]
        a = np.exp(1j * np.angle(cross)) * sizes[1] / sizes[0].clip(1e-9)
        b = s_mean - a * z_mean
        distance = np.abs(a[:, None] * z + b[:, None] - s) * known
        usual = np.sqrt((distance**2).sum(axis=1) / (2 * counts)).clip(1e-9)
        weights = known / (1 + (distance / usual[:, None]) ** 2 / 2)
    maps = np.stack([np.stack([a.real, -a.imag, b.real], -1), np.stack([a.imag, a.real, b.imag], -1)], axis=1)
    maps[known.sum(axis=1) < 2] = np.nan
    return maps, distance.sum(axis=1) / counts


def crop_corners(maps: np.ndarray, to_crops: np.ndarray) -> np.ndarray:
    """Where two opposite corners of each crop lie in the frame, (n, 2, 2); in mirrored crops, those that correspond.

    maps, to_crops: (n, 2, 3), from pixels to the frame and to the crops.
    """
    is_mirrored = maps[:, 0, 0] * maps[:, 1, 1] < maps[:, 0, 1] * maps[:, 1, 0]
    corners = np.array([[[0.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])[is_mirrored.astype(int)]
    return apply(maps, apply(invert(to_crops), corners))


def ride(frame: Frame, displacements: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Displacements (n, L, 2) of landmarks, interpolated at points (P, 2) of the frame: (n, P, 2).

    Also returns the variance (n, P) that remains, per axis in units of the spread.
    """

    def covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (1 - OWN_SHARE) * np.exp(-np.linalg.norm(a[:, None] - b, axis=2) / REACH)

    among = covariance(frame.shape, frame.shape) + OWN_SHARE * np.eye(len(frame.shape))
    across = covariance(frame.shape, points)
    known = ~np.isnan(displacements).any(axis=2)
    riding = np.empty((len(displacements), len(points), 2))
    variance = np.empty((len(displacements), len(points)))
    patterns, group = np.unique(known, axis=0, return_inverse=True)
    for number, has in enumerate(patterns):
        rows = group.reshape(-1) == number
        weights = np.linalg.solve(among[np.ix_(has, has)], across[has])
        riding[rows] = np.einsum("kp,nkc->npc", weights, displacements[rows][:, has])
        variance[rows] = 1 - (weights * across[has]).sum(axis=0)
    return riding, variance


@dataclass(frozen=True)
class Regressor:
    """From L landmarks to P named points, by D = 2L + 4 inputs.

    positions: (P, 2) in the frame; offsets: (P, 2); inputs_mean: (P, D); weights: (P, D, 2); noise: (P,)
    standard deviation per axis; covariance: (P, D, D) of the weights, in units of the noise; counts: (P,)
    annotated pictures; refiner: None if it was learned without pictures.
    """

    names: list[str]
    frame: Frame
    positions: np.ndarray
    offsets: np.ndarray
    inputs_mean: np.ndarray
    weights: np.ndarray
    noise: np.ndarray
    covariance: np.ndarray
    counts: np.ndarray
    refiner: Refiner | None = None

    def predict(
        self, landmarks: np.ndarray, to_crops: np.ndarray, crops: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points (n, P, 2) of landmarks (n, L, 2) with their maps to crops, and their confidence (n, P) float32.

        In crops (n, S, S, 3) RGB uint8, the points are refined. A picture with fewer than two landmarks has points
        NaN and confidence 0.
        """
        maps = to_frame(self.frame.shape, landmarks)
        inputs, riding, lost = _inputs(self.frame, maps, landmarks, to_crops, self.positions)
        off = inputs[:, None] - self.inputs_mean
        points = self.positions + riding + self.offsets + np.einsum("npd,pdc->npc", off, self.weights)
        unsure = (
            1 + 1 / self.counts + (off * np.einsum("npd,pde->npe", off, self.covariance, optimize=True)).sum(axis=2)
        )
        variance = unsure * self.noise**2 + lost * self.frame.spread**2
        there = ~np.isnan(maps).any(axis=(1, 2))
        if self.refiner is not None and crops is not None and there.any():
            view = self.refiner.view
            views = refinement.views_of(compose(view, maps[there]), to_crops[there], crops[there])
            refined = self.refiner.refine(views, apply(view, points[there]))
            points[there] = apply(invert(view), refined)
            variance[there] *= self.refiner.shares
        points[there] = apply(invert(maps[there]), points[there])
        points[~there] = np.nan
        confidence = 1 - np.exp(-(NEAR**2) / (2 * variance))
        return points, np.where(there[:, None], confidence, 0).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write a pickle of names and arrays."""
        refiner = None if self.refiner is None else vars(self.refiner)
        dump_pickle({"format": FORMAT, **vars(self), "frame": vars(self.frame), "refiner": refiner}, path)


def load_regressor(path: Path, landmarks: int) -> Regressor:
    """What `Regressor.save` has written; UserError for anything else, or for another number of landmarks."""
    content = load_pickle(path, REMEDY)
    try:
        assert content.pop("format") == FORMAT
        refiner = None if content["refiner"] is None else Refiner(**content["refiner"])
        regressor = Regressor(**{**content, "frame": Frame(**content["frame"]), "refiner": refiner})
        points, _ = regressor.predict(
            regressor.frame.shape[None], np.eye(2, 3)[None], np.zeros((1, 8, 8, 3), np.uint8)
        )
        assert landmarks == regressor.frame.shape.shape[0]
        assert points.shape == (1, len(regressor.names), 2)
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} does not belong to these {landmarks} landmarks, is damaged or of an earlier version; {REMEDY}"
        ) from error
    return regressor


def _inputs(
    frame: Frame, maps: np.ndarray, landmarks: np.ndarray, to_crops: np.ndarray, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the regression sees (n, 2L + 4) and how points ride (n, P, 2) on landmarks (n, L, 2).

    maps, to_crops: (n, 2, 3), from pixels to the frame and to the crops. A missing landmark rides on the others. Also
    returns the variance (n, P) that missing landmarks add.
    """
    displacements = apply(maps, landmarks) - frame.shape
    both, variance = ride(frame, displacements, np.concatenate([frame.shape, positions]))
    _, complete = ride(frame, 0 * frame.shape[None], positions)
    count = len(frame.shape)
    filled = np.where(np.isnan(displacements), both[:, :count], displacements)
    inputs = np.nan_to_num(filled).reshape(len(filled), 2 * count) / (frame.spread * np.sqrt(2 * count))
    corners = np.nan_to_num(crop_corners(maps, to_crops) - frame.corners).reshape(-1, 4) / frame.corner_spread
    oddness = np.abs(corners).max(axis=1, keepdims=True)
    corners *= np.interp(oddness, (USUAL_CORNERS, ODD_CORNERS), (1, 0)) / 2
    return np.concatenate([inputs, corners], axis=1), both[:, count:], variance[:, count:] - complete


def fit(
    frame: Frame,
    landmarks: np.ndarray,
    to_crops: np.ndarray,
    points: np.ndarray,
    names: list[str],
    crops: np.ndarray | None = None,
) -> tuple[Regressor, np.ndarray, np.ndarray]:
    """The regressor of annotated pictures, landmarks (n, L, 2) and points (n, P, 2), and its errors.

    The errors (n, P), in sizes of the object, are those of a regressor that has not seen the picture (leave-one-out);
    NaN where the point is not annotated or is annotated only there. Also returns the objects' sizes (n,) in pixels.
    Raises UserError if a point has no picture with two landmarks.

    to_crops: (n, 2, 3), from pixels to the crops; crops: (n, S, S, 3) RGB uint8, in which it learns to refine points.
    """
    maps = to_frame(frame.shape, landmarks)
    targets = apply(maps, points)
    known = ~np.isnan(targets).any(axis=2)
    if not known.any(axis=0).all():
        missing = names[known.any(axis=0).argmin()]
        raise UserError(f"no annotated picture shows point {missing} and two landmarks; annotate it in a picture")
    weights = known.astype(float)
    positions = known_mean(targets)
    for _ in range(_ROUNDS):
        inputs, riding, _ = _inputs(frame, maps, landmarks, to_crops, positions)
        rest = np.where(known[..., None], targets - riding, 0)
        positions = (weights[..., None] * rest).sum(axis=0) / weights.sum(axis=0)[:, None]
        distance = np.where(known, np.linalg.norm(rest - positions, axis=2), np.nan)
        weights = _trust(distance, known, frame)
    inputs, riding, _ = _inputs(frame, maps, landmarks, to_crops, positions)
    rest = targets - positions - riding
    near = np.exp(-np.linalg.norm(positions[:, None] - frame.shape, axis=2) / (2 * REACH))
    near = np.repeat(near / np.sqrt(np.nanmean(near**2, axis=1, keepdims=True)), 2, axis=1)
    near = np.nan_to_num(near)  # of a landmark that the frame lacks
    scales = [np.column_stack([near, np.full((len(near), 4), weight)]) for weight in CORNER_WEIGHTS]
    for _ in range(_REFITS):
        tries = []
        for scale in scales:
            parts = [_Part(scale[p] * inputs[has], rest[has, p], weights[has, p]) for p, has in enumerate(known.T)]
            score = np.stack([part.score() for part in parts])
            score += score.mean(axis=0) - 0.5 * (np.log10(STRENGTHS / USUAL_STRENGTH) / STRENGTH_SPREAD) ** 2
            tries.append((score, parts, scale))
        score, parts, scale = max(tries, key=lambda tried: round(float(tried[0].max(axis=1).sum()), 6))
        chosen = STRENGTHS[score.argmax(axis=1)]
        solved = [part.solve(strength, frame.noise) for part, strength in zip(parts, chosen, strict=True)]
        missed = np.full(targets.shape, np.nan)
        for p, has in enumerate(known.T):
            missed[has, p] = -parts[p].left_out(chosen[p])
        errors = np.linalg.norm(missed, axis=2)
        weights = _trust(errors, known, frame)
    offsets, slopes, noise, covariance = (np.stack(column) for column in zip(*solved, strict=True))
    slopes, covariance = scale[..., None] * slopes, scale[:, :, None] * covariance * scale[:, None]
    means = np.stack([inputs[has].T @ part.share for part, has in zip(parts, known.T, strict=True)])
    refiner = None
    if crops is not None:
        there = ~np.isnan(maps).any(axis=(1, 2))
        view = refinement.view_map(np.concatenate([frame.shape, positions]))
        views = refinement.views_of(compose(view, maps[there]), to_crops[there], crops[there])
        lengths = view[0, 0] * noise
        refiner, left = refinement.learn(
            view, views, apply(view, targets[there]), view[0, 0] * missed[there], lengths
        )
        errors[there] *= left
    counts = known.sum(axis=0)
    regressor = Regressor(names, frame, positions, offsets, means, slopes, noise, covariance, counts, refiner)
    return regressor, errors, 1 / np.linalg.norm(maps[:, :, 0], axis=1)


def _trust(errors: np.ndarray, known: np.ndarray, frame: Frame) -> np.ndarray:
    """Weights (n, P) of pictures with errors (n, P), by Student's t with two degrees of freedom; 0 if unknown."""
    usual = np.fmax(known_median(errors), np.sqrt(2) * frame.noise)
    return known * np.nan_to_num(1 / (1 + (errors / usual) ** 2 / 2), nan=1.0)


class _Part:
    """The ridge regression of one point: inputs (n, D), targets (n, 2), weights (n,)."""

    def __init__(self, inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> None:
        self.weights = weights
        self.share = weights / weights.sum()
        self.mean, self.offset = self.share @ inputs, self.share @ targets
        self.targets = targets - self.offset
        self.root = np.sqrt(weights)[:, None]
        self.u, self.s, self.v = np.linalg.svd(self.root * (inputs - self.mean), full_matrices=False)
        self.along = self.u.T @ (self.root * self.targets)

    def left_out(self, strength: float) -> np.ndarray:
        """Errors (n, 2) in pictures that are left out; NaN of a single one."""
        if len(self.targets) == 1:
            return np.full((1, 2), np.nan)
        shrunk = strength * self.s**2 / (1 + strength * self.s**2)
        residual = self.targets - self.u @ (shrunk[:, None] * self.along) / self.root
        hat = self.share + (self.u**2 * shrunk).sum(axis=1)
        return residual / np.maximum(1 - hat, 1e-6)[:, None]

    def score(self) -> np.ndarray:
        """How well the strengths (S,) predict pictures that are left out: a log likelihood, whatever the noise."""
        count = len(self.targets)
        if count == 1:
            return np.zeros(len(STRENGTHS))
        errors = np.stack([np.linalg.norm(self.left_out(strength), axis=1) for strength in STRENGTHS])
        return -2 * count * np.log((self.weights * errors).sum(axis=1) / self.weights.sum() + 1e-9)

    def solve(self, strength: float, expected_noise: float) -> tuple[np.ndarray, ...]:
        """offset, weights, noise, and covariance of the weights."""
        slopes = self.v.T @ ((strength * self.s / (1 + strength * self.s**2))[:, None] * self.along)
        left_out = (self.left_out(strength) ** 2).sum(axis=1) / 2
        count = len(self.targets)
        found = 0.0 if count == 1 else float(self.share @ left_out) * (count - 1)
        noise = np.sqrt((PRIOR_PICTURES * expected_noise**2 + found) / (PRIOR_PICTURES + count - 1))
        known = (self.v.T * (strength * self.s**2 / (1 + strength * self.s**2))) @ self.v
        return self.offset, slopes, noise, strength * (np.eye(len(self.mean)) - known)


def most_telling(frame: Frame, landmarks: np.ndarray, to_crops: np.ndarray, count: int) -> np.ndarray:
    """Which `count` of the pictures, by their landmarks (n, L, 2), tell most about all of them, in order.

    Each choice lessens the variance of the ridge regression, summed over all pictures, as much as one picture can.
    Unusual shapes count as if they were nearer to the mean: in many of them landmarks are wrong.
    """
    inputs, _, _ = _inputs(frame, to_frame(frame.shape, landmarks), landmarks, to_crops, np.zeros((0, 2)))
    off = inputs - inputs.mean(axis=0)
    far = np.linalg.norm(off, axis=1, keepdims=True)
    off = off * np.median(far) / np.maximum(far, max(np.median(far), LEAST))
    covariance = 1 + USUAL_STRENGTH * off @ off.T
    chosen: list[int] = []
    for _ in range(count):
        gain = (covariance**2).sum(axis=0) / (np.diag(covariance) + 1)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        column = covariance[:, chosen[-1]]
        covariance = covariance - np.outer(column, column) / (column[chosen[-1]] + 1)
    return np.array(chosen)
