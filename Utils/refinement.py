"""Named points moved to where the picture looks as it does around the annotated points.

A view shows a picture in the common frame of Utils/named_points.py, so that turned and mirrored objects look alike.
Around a place, histograms of the directions of its gradients in 4x4 cells describe it. From the description, a ridge
regression for each point says how far off the place is. It learns from places around the annotated points, as far
off as predictions are (supervised descent: Xiong, De la Torre, CVPR 2013). The strength is the one that
predicts left-out pictures best; a point that no strength improves stays where it was.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from Utils.crops import compose, invert, warp

SIDE, MARGIN = 128, 0.4  # of a view, pixels; and its margin around the mean shape, in sizes of the object
CELLS, SPACING, DIRECTIONS, BLUR = 4, 6.0, 8, 2.5  # a description: cells per side, their distance and blur, pixels
STAGES = 3  # each learns what the one before has left
PLACES, STARTS = 300, (6, 30)  # training places per point in all pictures together; least and most in one
STRENGTHS = 10.0 ** np.arange(-3, 0.1, 0.5)  # of the ridge, per place
WORTHWHILE = 0.97  # share of the error that must be left at most
FARTHEST = 3.0  # standard deviations of the predictions that a point moves at most


@dataclass(frozen=True)
class Refiner:
    """Moves P points in S stages.

    view: (2, 3), from the frame to pixels of a view; means: (S, P, D) of descriptions; offsets: (S, P, 2) and
    weights: (S, P, D, 2), in pixels of a view, 0 for a point that stays; limits: (S, P) pixels; shares: (P,) of the
    variance that is left.
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
            channels = gradients(view)
            for mean, offset, weights, limit in zip(self.means, self.offsets, self.weights, self.limits, strict=True):
                step = offset + np.einsum("pd,pdc->pc", describe(channels, own) - mean, weights)
                length = np.linalg.norm(step, axis=1)
                own += step * np.minimum(1, limit / np.maximum(length, 1e-9))[:, None]
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
    rng = np.random.default_rng(0)
    count, number = points.shape[:2]
    starts, known = int(np.clip(PLACES // count, *STARTS)), ~np.isnan(points).any(axis=2)
    before = np.where(np.isnan(missed), noise[:, None] * rng.standard_normal(missed.shape), missed)
    after, limits, shares, solved = before.copy(), [], np.ones(number), []
    for _ in range(STAGES):
        spread = noise * np.sqrt(shares)
        off = spread[:, None] * rng.standard_normal((count, starts, number, 2))
        off[:, 0] = after
        places = np.nan_to_num(points)[:, None] + off
        described = np.stack(
            [describe(gradients(own), some.reshape(-1, 2)) for own, some in zip(views, places, strict=True)]
        ).reshape(count, starts, number, -1)
        stage = []
        for p, has in enumerate(known.T):
            *moves, share, residual = _learn_point(described[has][:, :, p], -off[has][:, :, p])
            after[has, p] = -residual
            shares[p] *= share
            stage.append(moves)
        solved.append([np.stack(column) for column in zip(*stage, strict=True)])
        limits.append(FARTHEST * spread)
    means, offsets, weights = (np.stack(column) for column in zip(*solved, strict=True))
    left = np.linalg.norm(after, axis=2) / np.maximum(np.linalg.norm(before, axis=2), 1e-9)
    return Refiner(view, means, offsets, weights, np.stack(limits), shares), left


def _learn_point(
    described: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, np.ndarray]:
    """How a point moves, from descriptions (n, k, D) and targets (n, k, 2) at k places in each picture.

    Mean (D,), offset (2,) and weights (D, 2), all 0 if that is not worthwhile; the share of the variance that is
    left, and what remains (n, 2) at the first places of pictures that are left out.
    """
    count, places, dimension = described.shape
    stays = np.zeros(dimension, np.float32), np.zeros(2), np.zeros((dimension, 2)), 1.0, targets[:, 0]
    if count < 2:
        return stays
    inputs, outputs = described.reshape(count * places, -1).astype(np.float64), targets.reshape(-1, 2)
    mean, offset = inputs.mean(axis=0), outputs.mean(axis=0)
    u, s, v = np.linalg.svd(inputs - mean, full_matrices=False)
    along, blocks = u.T @ (outputs - offset), u.reshape(count, places, -1)
    before = np.linalg.norm(targets, axis=2).mean()
    best, chosen = WORTHWHILE * before, None
    for strength in STRENGTHS * len(inputs):
        shrunk = s**2 / (s**2 + strength)
        residual = (outputs - offset - u @ (shrunk[:, None] * along)).reshape(count, places, 2)
        hat = np.einsum("nkr,r,nlr->nkl", blocks, shrunk, blocks, optimize=True) + 1 / len(inputs)
        left_out = np.linalg.solve(np.eye(places) - hat, residual)
        after = np.linalg.norm(left_out, axis=2).mean()
        if after < best:
            weights = v.T @ ((s / (s**2 + strength))[:, None] * along)
            best, chosen = after, (mean.astype(np.float32), offset, weights, (after / before) ** 2, left_out[:, 0])
    return chosen or stays


def views_of(to_view: np.ndarray, to_crops: np.ndarray, crops: np.ndarray) -> np.ndarray:
    """Views (n, SIDE, SIDE, 3) of crops (n, S, S, 3) uint8; the maps (n, 2, 3) are from the same pixels."""
    maps = compose(to_view, invert(to_crops)) / (crops.shape[1], crops.shape[1], 1)
    return np.stack([warp(crop, m, SIDE, cv2.BORDER_REPLICATE) for crop, m in zip(crops, maps, strict=True)])
