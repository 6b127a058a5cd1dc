"""What SuperPoint learns from: pairs of views of a picture, with keypoints that follow the warp, or of two objects.

DeTone et al., "SuperPoint", CVPRW 2018, sections 4 to 6. A picture is a synthetic shape, or a free photo
whose keypoints homographic adaptation has found. Two members of a family of drawn objects teach descriptors alone.
Everything random is a function of the generator passed in.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from tools.superpoint.families import random_family, random_members
from tools.superpoint.homographies import (
    HomographyRange,
    inside,
    map_points,
    random_homography,
    translation,
    warp_picture,
)
from tools.superpoint.photometry import degrade
from tools.superpoint.shapes import render_shapes

CELL = 8
RELIABLE = 0.5  # of the views have to have found a point, else it is not sure to be one
CROP = HomographyRange(rotation=20, scale=1.25, stretch=1.1, perspective=0.0, shift=0.0)
PAIR = HomographyRange(rotation=40, scale=1.5, stretch=1.25, perspective=0.3, shift=0.12)


@dataclass(frozen=True)
class LabelledPicture:
    """A picture and its keypoints."""

    picture: np.ndarray  # RGB (H, W, 3) or gray (H, W), uint8
    points: np.ndarray  # (n, 2) x, y in pixels
    weights: np.ndarray  # (n,) share of random views in which the point is found again, in (0, 1]
    chance: float = 1.0  # how often it is drawn, relative to the others


@dataclass(frozen=True)
class PairBatch:
    """B pairs of views; pictures and labels hold the first views, then the second ones."""

    pictures: Tensor  # (2B, 1, S, S) float32 in [0, 1]
    target: Tensor  # (2B, 65, S / 8, S / 8): what the softmax of each cell should say
    known: Tensor  # (2B, S / 8, S / 8) bool: the cell shows the picture and not what lies beyond it, and has a target
    followed: Tensor  # (2B, S / 8, S / 8) bool: it is known where what the cell shows lies in the other view
    places: Tensor  # (2B, n, 2) where the centres of the n cells lie in the other view, pixels


def random_gray(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """RGB -> gray with the usual or with random shares of the three colours; a gray picture as it is."""
    if picture.ndim == 2:
        return picture
    shares = np.array([0.299, 0.587, 0.114]) if rng.random() < 0.4 else rng.dirichlet(np.ones(3))
    return cv2.transform(picture, shares[None].astype(np.float32))


def cell_targets(points: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """What the softmax should say, float32 (65, size / 8, size / 8).

    Each point (n, 2) gives its weight to its pixel of its cell, the rest of a cell goes to "no point"; the
    weights of a cell are scaled down where they add up to more than 1.
    """
    cells = size // CELL
    columns, rows = np.round(points).astype(int).reshape(-1, 2).T
    fits = (columns >= 0) & (rows >= 0) & (columns < cells * CELL) & (rows < cells * CELL)
    columns, rows, weights = columns[fits], rows[fits], weights[fits]
    target = np.zeros((CELL * CELL + 1, cells, cells), np.float32)
    np.add.at(target, (rows % CELL * CELL + columns % CELL, rows // CELL, columns // CELL), weights)
    target /= np.maximum(target.sum(0), 1)
    target[-1] = 1 - target.sum(0)
    return target


def cell_centres(size: int) -> np.ndarray:
    """(cells * cells, 2) x, y of the cells' centres, row by row."""
    axis = np.arange(size // CELL) * CELL + (CELL - 1) / 2
    return np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)


class PairSource:
    """Draws pairs of views from labelled pictures, synthetic shapes and families of objects."""

    def __init__(
        self, pictures: list[LabelledPicture], size: int, share_of_shapes: float, share_of_families: float = 0.0
    ) -> None:
        self.pictures, self.size = pictures, size
        self.share_of_shapes, self.share_of_families = share_of_shapes, share_of_families
        self.surroundings = [labelled.picture for labelled in pictures]
        chances = np.array([labelled.chance for labelled in pictures])
        self.cumulative = np.cumsum(chances) / max(chances.sum(), 1e-9)

    def batch(self, count: int, seed: int, stage: int, iteration: int) -> PairBatch:
        """The `count` pairs of one iteration."""
        pairs = [self.pair(np.random.default_rng([seed, stage, iteration, slot])) for slot in range(count)]
        pictures, targets, known, followed, places = zip(*pairs)
        return PairBatch(
            pictures=torch.from_numpy(_views_first(pictures)[:, None]).float() / 255,
            target=torch.from_numpy(_views_first(targets)),
            known=torch.from_numpy(_views_first(known)),
            followed=torch.from_numpy(_views_first(followed)),
            places=torch.from_numpy(_views_first(places)).float(),
        )

    def pair(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Two views as `PairBatch` has them: pictures uint8 (2, S, S), targets, known, followed, places."""
        if self.share_of_families and rng.random() < self.share_of_families:
            return self._members(rng)
        size = self.size
        labelled, first = self._shape(rng) if rng.random() < self.share_of_shapes else self._crop(rng)
        between = random_homography(rng, size, size, PAIR)
        centres = cell_centres(size)
        views, targets, known = [], [], []
        height, width = labelled.picture.shape[:2]
        for matrix in (first, between @ first):
            view = warp_picture(random_gray(labelled.picture, rng), matrix, size, size)
            views.append(degrade(view, rng))
            targets.append(cell_targets(map_points(matrix, labelled.points), labelled.weights, size))
            sources = map_points(np.linalg.inv(matrix), centres)
            known.append(inside(sources, width, height).reshape(size // CELL, size // CELL))
        places = [map_points(matrix, centres) for matrix in (between, np.linalg.inv(between))]
        return np.stack(views), np.stack(targets), np.stack(known), np.stack(known), np.stack(places)

    def _members(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Two members of a new family; where their keypoints are is not known."""
        size, cells = self.size, self.size // CELL
        one, other = random_members(random_family(rng), rng, size, self.surroundings)
        centres = cell_centres(size)
        followed, places = [], []
        for member, partner in ((one, other), (other, one)):
            of_family = member.to_family(centres)
            followed.append(member.shows(of_family).reshape(cells, cells))
            places.append(partner.to_pixels(of_family))
        views = [degrade(member.picture, rng) for member in (one, other)]
        targets = cell_targets(np.zeros((0, 2)), np.zeros(0), size)
        return (
            np.stack(views),
            np.stack([targets, targets]),
            np.zeros((2, cells, cells), bool),
            np.stack(followed),
            np.stack(places),
        )

    def _shape(self, rng: np.random.Generator) -> tuple[LabelledPicture, np.ndarray]:
        picture, points = render_shapes(rng, self.size)
        return LabelledPicture(picture, points, np.ones(len(points))), np.eye(3)

    def _crop(self, rng: np.random.Generator) -> tuple[LabelledPicture, np.ndarray]:
        """A labelled picture and the map from its pixels to those of a random crop, mirrored half the time."""
        labelled = self.pictures[int(np.searchsorted(self.cumulative, rng.random()))]
        height, width = labelled.picture.shape[:2]
        free = np.maximum(np.array([width, height]) - self.size, 0)
        corner = np.array([width - self.size, height - self.size]) / 2 + rng.uniform(-0.5, 0.5, 2) * free
        matrix = random_homography(rng, self.size, self.size, CROP) @ translation(-corner)
        if rng.random() < 0.5:
            matrix = np.array([[-1, 0, self.size - 1], [0, 1, 0], [0, 0, 1]], float) @ matrix
        return labelled, matrix


def _views_first(pairs: Iterable[np.ndarray]) -> np.ndarray:
    """B arrays (2, ...) -> (2B, ...): all first views, then all second ones."""
    stacked = np.stack(list(pairs), 1)
    return stacked.reshape(-1, *stacked.shape[2:])
