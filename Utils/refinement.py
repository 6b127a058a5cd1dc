"""Named points moved to where the picture looks as it does around the annotated points.

A view shows a picture in the common frame of Utils/named_points.py, so that turned and mirrored objects look alike.
Around a place, histograms of the directions of its gradients in 4x4 cells describe it. From the description, a ridge
regression for each point says how far off the place is. It learns from places around the annotated points, as far
off as predictions are (a step of supervised descent: Xiong, De la Torre, CVPR 2013). The strength is the one that
predicts left-out pictures best; a point that no strength improves stays where it was.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from Utils.crops import compose, invert, warp

SIDE, MARGIN = 128, 0.4  # of a view, pixels; and its margin around the mean shape, in sizes of the object
CELLS, SPACING, DIRECTIONS, BLUR = 4, 6.0, 8, 2.5  # a description: cells per side, their distance and blur, pixels
STARTS = 6  # places around each annotated point
STRENGTHS = 10.0 ** np.arange(-3, 0.1, 0.5)  # of the ridge, per place
WORTHWHILE = 0.97  # share of the error that must be left at most
FARTHEST = 3.0  # standard deviations of the predictions that a point moves at most


@dataclass(frozen=True)
class Refiner:
    """Moves P points.

    view: (2, 3), from the frame to pixels of a view; means: (P, D) of descriptions; offsets: (P, 2) and weights:
    (P, D, 2), in pixels of a view, 0 for a point that stays; limits: (P,) pixels; shares: (P,) of the variance that
    is left.
    """

    view: np.ndarray
    means: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray
    limits: np.ndarray
    shares: np.ndarray

    def refine(self, views: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Points (n, P, 2) in pixels of the views (n, SIDE, SIDE, 3), moved."""
        moved = points.copy()
        for own, view in zip(moved, views, strict=True):
            off = describe(gradients(view), own) - self.means
            step = self.offsets + np.einsum("pd,pdc->pc", off, self.weights)
            length = np.linalg.norm(step, axis=1)
            own += step * np.minimum(1, self.limits / np.maximum(length, 1e-9))[:, None]
        return moved


def view_map(places: np.ndarray) -> np.ndarray:
    """The map (2, 3) from the frame to a view that shows places (m, 2)."""
    low, high = np.nanmin(places, axis=0) - MARGIN, np.nanmax(places, axis=0) + MARGIN
    scale = SIDE / (high - low).max()
    return np.column_stack([scale * np.eye(2), SIDE / 2 - scale * (low + high) / 2])


def gradients(view: np.ndarray) -> np.ndarray:
    """A view (H, W, 3) -> how steep it is in each of some directions, blurred: (DIRECTIONS, H, W) float32."""
    grey = cv2.cvtColor(view, cv2.COLOR_RGB2GRAY).astype(np.float32)
    x, y = cv2.Scharr(grey, -1, 1, 0), cv2.Scharr(grey, -1, 0, 1)
    angles = np.arange(DIRECTIONS, dtype=np.float32) * 2 * np.pi / DIRECTIONS
    units = zip(np.cos(angles), np.sin(angles), strict=True)
    return np.stack([cv2.GaussianBlur(np.maximum(x * c + y * s, 0), (0, 0), BLUR) for c, s in units])


def describe(channels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Descriptions (m, D) float32 of places (m, 2), in pixels of the channels' (C, H, W) view; of length 1."""
    steps = (np.arange(CELLS) - (CELLS - 1) / 2) * SPACING
    cells = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    x, y = (places[:, None] + cells - 0.5).astype(np.float32).transpose(2, 0, 1)
    sampled = [cv2.remap(c, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for c in channels]
    values = np.stack(sampled, axis=-1).reshape(len(places), -1)
    return np.sqrt(values / (values.sum(axis=1, keepdims=True) + 1))


def learn(
    view: np.ndarray, views: np.ndarray, points: np.ndarray, missed: np.ndarray, noise: np.ndarray
) -> tuple[Refiner, np.ndarray]:
    """The refiner of annotated pictures, and the share (n, P) of a left-out picture's error that it leaves.

    views: (n, SIDE, SIDE, 3); points: (n, P, 2), annotated; missed: (n, P, 2), by how much a prediction that has not
    seen the picture is off, NaN: unknown; noise: (P,), standard deviation of predictions per axis. All in pixels of
    the views.
    """
    count, number = points.shape[:2]
    starts = noise[:, None] * np.random.default_rng(0).standard_normal((STARTS, count, number, 2))
    starts[0] = np.where(np.isnan(missed), starts[0], missed)
    places = (np.nan_to_num(points) + starts).swapaxes(0, 1)  # (n, STARTS, P, 2)
    described = np.stack(
        [describe(gradients(own), some.reshape(-1, 2)) for own, some in zip(views, places, strict=True)]
    ).reshape(count, STARTS, number, -1)
    dimension = described.shape[-1]
    refiner = Refiner(
        view,
        np.zeros((number, dimension), np.float32),
        np.zeros((number, 2)),
        np.zeros((number, dimension, 2)),
        FARTHEST * noise,
        np.ones(number),
    )
    left: np.ndarray = np.ones((count, number))
    for p in range(number):
        has = ~np.isnan(points[:, p]).any(axis=1)
        if has.sum() > 1:
            _learn_point(refiner, p, described[has][:, :, p], -starts[:, has, p].swapaxes(0, 1), left, has)
    return refiner, left


def _learn_point(
    refiner: Refiner, p: int, described: np.ndarray, targets: np.ndarray, left: np.ndarray, has: np.ndarray
) -> None:
    """Fill in point p from descriptions (n, STARTS, D) and targets (n, STARTS, 2), if that is worthwhile."""
    count = len(described)
    inputs, outputs = described.reshape(count * STARTS, -1).astype(np.float64), targets.reshape(-1, 2)
    mean, offset = inputs.mean(axis=0), outputs.mean(axis=0)
    u, s, v = np.linalg.svd(inputs - mean, full_matrices=False)
    along, blocks = u.T @ (outputs - offset), u.reshape(count, STARTS, -1)
    before = np.linalg.norm(targets, axis=2)
    best, chosen = WORTHWHILE * before.mean(), None
    for strength in STRENGTHS * len(inputs):
        shrunk = s**2 / (s**2 + strength)
        residual = (outputs - offset - u @ (shrunk[:, None] * along)).reshape(count, STARTS, 2)
        hat = np.einsum("nkr,r,nlr->nkl", blocks, shrunk, blocks, optimize=True) + 1 / len(inputs)
        after = np.linalg.norm(np.linalg.solve(np.eye(STARTS) - hat, residual), axis=2)
        if after.mean() < best:
            best, chosen = after.mean(), (strength, after)
    if chosen is not None:
        strength, after = chosen
        refiner.means[p], refiner.offsets[p] = mean, offset
        refiner.weights[p] = v.T @ ((s / (s**2 + strength))[:, None] * along)
        refiner.shares[p] = (best / before.mean()) ** 2
        left[has, p] = after[:, 0] / np.maximum(before[:, 0], 1e-9)


def views_of(to_view: np.ndarray, pictures: np.ndarray, to_pictures: np.ndarray) -> np.ndarray:
    """Views (n, SIDE, SIDE, 3) of crops (n, S, S, 3) uint8; to_view, to_pictures: (n, 2, 3), of the same pixels."""
    maps = compose(to_view, invert(to_pictures))
    return np.stack([warp(picture, m, SIDE, cv2.BORDER_REPLICATE) for picture, m in zip(pictures, maps, strict=True)])
