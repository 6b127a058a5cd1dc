"""Clusters matched in every training picture: candidates from how well each place fits, chosen by agreement."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from Databases.samples import grid_side
from Networks.consensus.agreement import agree
from Utils.heatmaps import centre_of_mass, windows
from Utils.keypoints import KeypointTable, suppress
from Utils.options import Hyperparameters
from Utils.runtime import distributed

CANDIDATES = 4  # places per cluster and picture that a match is chosen from
NOWHERE = -1.0  # value of a candidate that is none, below any similarity
LESS_SIMILAR = 0.3  # than a peak: cells that count nothing for its place between cells
ONE_PLACE = 0.07  # sides of the crop: clusters that are nearer, in x and in y, are in one place


@dataclass(frozen=True)
class Candidates:
    """The places that fit each of K clusters best in each of n pictures, best first.

    cells: (n, K, T, 2) x, y; values: (n, K, T) of the maps there; places: (n, K, T, 2) that keypoints get there, the
    cells themselves or between them. side: of the grid, in cells.
    """

    cells: np.ndarray
    values: np.ndarray
    places: np.ndarray
    side: int

    @classmethod
    def of_maps(cls, maps: Tensor, hyper: Hyperparameters) -> "Candidates":
        """Of a batch of maps (B, K, G, G)."""
        side = grid_side(hyper)
        heights, flat = peaks(maps, CANDIDATES)
        cells = torch.stack([flat % side, flat // side], dim=3)
        on_host = cells.cpu().numpy().astype(np.float32)
        places = between_cells(maps, cells).cpu().numpy() if hyper.places == "between" else on_host
        return cls(on_host, heights.cpu().numpy(), places, side)

    @classmethod
    def of_keypoints(
        cls, points: np.ndarray, similarity: np.ndarray, offsets: np.ndarray, hyper: Hyperparameters
    ) -> "Candidates":
        """Of m keypoints (m, 2) on the grid and their similarity to the clusters (m, K).

        offsets: (n + 1,), picture i has the keypoints offsets[i]:offsets[i + 1].
        """
        pictures, clusters = len(offsets) - 1, similarity.shape[1]
        cells: np.ndarray = np.zeros((pictures, clusters, CANDIDATES, 2), np.float32)
        values: np.ndarray = np.full((pictures, clusters, CANDIDATES), NOWHERE, np.float32)
        for picture, (start, stop) in enumerate(itertools.pairwise(offsets.tolist())):
            best = np.argsort(-similarity[start:stop], axis=0, kind="stable")[:CANDIDATES] + start
            cells[picture, :, : len(best)] = points[best].transpose(1, 0, 2)
            values[picture, :, : len(best)] = np.take_along_axis(similarity, best, 0).T
        return cls(cells, values, cells, grid_side(hyper))

    @classmethod
    def joined(cls, batches: Iterable["Candidates"], clusters: int, hyper: Hyperparameters) -> "Candidates":
        """Of this process's batches of so many clusters."""
        nowhere = np.zeros((0, clusters, CANDIDATES, 2), np.float32)
        parts = [cls(nowhere, nowhere[..., 0], nowhere, grid_side(hyper)), *batches]
        cells, values = (
            np.concatenate(columns) for columns in zip(*((part.cells, part.values) for part in parts), strict=True)
        )
        places = np.concatenate([part.places for part in parts]) if hyper.places == "between" else cells
        return cls(cells, values, places, parts[0].side)

    def gathered(self) -> "Candidates":
        """Those of all processes."""
        cells, values = distributed.gather(self.cells), distributed.gather(self.values)
        places = cells if self.places is self.cells else distributed.gather(self.places)
        return replace(self, cells=cells, values=values, places=places)

    def of(self, columns: np.ndarray) -> "Candidates":
        """Of some of the clusters alone, by their columns (K',)."""
        cells = self.cells[:, columns]
        places = cells if self.places is self.cells else self.places[:, columns]
        return replace(self, cells=cells, values=self.values[:, columns], places=places)

    def agreed(self, names: np.ndarray, clusters: np.ndarray, fraction: float) -> tuple[KeypointTable, np.ndarray]:
        """The keypoints on which the clusters agree, and the values of the maps there (m,), in their order.

        names: (n,) of the pictures; clusters: (K,) the ids. Of each cluster the surest of that fraction of the
        pictures stay, and of two in one place the surer.
        """
        found = agree(self.cells / self.side, self.values)
        chosen = found.chosen[:, :, None]
        places = np.take_along_axis(self.places, chosen[..., None], 2)[:, :, 0].astype(np.float64)
        there = np.take_along_axis(self.values, chosen, 2)[:, :, 0] > NOWHERE
        kept = there & (found.cost <= np.quantile(found.cost, fraction, axis=0))
        images, numbers = np.nonzero(kept)
        stay = surer_of_doubles(images, numbers, places[kept], found.cost, self.side)
        images, numbers = images[stay], numbers[stay]
        points = np.column_stack([places[images, numbers], clusters[numbers]])
        values = np.take_along_axis(self.values, chosen, 2)[images, numbers, 0]
        return KeypointTable.from_flat(names, images, points), values


def peaks(maps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest local maxima (of 5x5 cells) of maps (B, K, H, W): values and cells (y W + x), both (B, K, count).

    Where a map has fewer, the rest have the value `NOWHERE`.
    """
    return torch.where(maps == highest_around(maps), maps, NOWHERE).flatten(2).topk(count, dim=2)


def highest_around(maps: Tensor) -> Tensor:
    """The highest value of the 5x5 cells around each cell of maps (..., H, W), of the same shape.

    Maxima of shifted maps, axis by axis: on a CPU twelve times as fast as max-pooling.
    """
    for dim in (-2, -1):
        size = maps.shape[dim]
        padded = functional.pad(maps, (0, 0, 2, 2) if dim == -2 else (2, 2), value=-torch.inf)
        of_two = torch.maximum(padded.narrow(dim, 0, size + 3), padded.narrow(dim, 1, size + 3))
        of_four = torch.maximum(of_two.narrow(dim, 0, size + 1), of_two.narrow(dim, 2, size + 1))
        maps = torch.maximum(of_four.narrow(dim, 0, size), padded.narrow(dim, 4, size))
    return maps


def between_cells(maps: Tensor, cells: Tensor) -> Tensor:
    """Places between cells of peaks (B, K, T, 2) x, y of maps (B, K, H, W).

    The centre of mass of the 5x5 cells around each, where mass is the square of what exceeds the peak's value less
    `LESS_SIMILAR`.
    """
    values, inside = windows(maps, cells)
    middle = values[..., 2:3, 2:3]
    mass = (values - middle + LESS_SIMILAR).clamp(min=0).square() * inside
    return cells + centre_of_mass(mass)


def surer_of_doubles(
    images: np.ndarray, numbers: np.ndarray, cells: np.ndarray, cost: np.ndarray, side: int
) -> np.ndarray:
    """Which of the points cells (m, 2) stay, ascending: the surer one where two of a picture lie in one place.

    images, numbers: (m,) their picture and column of cost (n, K). Sure is a place in comparison with the same
    cluster's in other pictures.
    """
    rank = cost.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
    sure = torch.from_numpy(-rank[images, numbers])
    stay = suppress(torch.from_numpy(cells), sure, torch.from_numpy(images), ONE_PLACE * side / 2)
    return np.sort(stay.numpy())
