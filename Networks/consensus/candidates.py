"""Clusters matched in every training picture: candidates from how well each place fits, chosen by agreement."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from Networks.consensus.agreement import STIFFNESS, agree
from Utils.keypoints import KeypointTable, suppress
from Utils.runtime import distributed

CANDIDATES = 4  # places per cluster and picture that a match is chosen from
NOWHERE = -1.0  # marks a missing candidate; below any similarity
ONE_PLACE = 0.07  # sides of the crop: clusters that are nearer, in x and in y, are in one place


@dataclass(frozen=True)
class Candidates:
    """The places that fit each of K clusters best in each of n pictures, best first.

    cells: (n, K, T, 2) x, y; values: (n, K, T), how well they fit; side: of the grid, in cells.
    """

    cells: np.ndarray
    values: np.ndarray
    side: int

    @classmethod
    def of_maps(cls, maps: Tensor) -> "Candidates":
        """The highest peaks of a batch of maps (B, K, G, G)."""
        side = maps.shape[-1]
        heights, flat = peaks(maps, CANDIDATES)
        cells = torch.stack([flat % side, flat // side], dim=3)
        return cls(cells.cpu().numpy().astype(np.float32), heights.cpu().numpy(), side)

    @classmethod
    def of_keypoints(cls, points: np.ndarray, similarity: np.ndarray, offsets: np.ndarray, side: int) -> "Candidates":
        """The most similar of m keypoints (m, 2) on the grid; similarity: (m, K) to the clusters.

        offsets: (n + 1,), picture i has the keypoints offsets[i]:offsets[i + 1].
        """
        pictures, clusters = len(offsets) - 1, similarity.shape[1]
        cells: np.ndarray = np.zeros((pictures, clusters, CANDIDATES, 2), np.float32)
        values: np.ndarray = np.full((pictures, clusters, CANDIDATES), NOWHERE, np.float32)
        for picture, (start, stop) in enumerate(itertools.pairwise(offsets.tolist())):
            best = np.argsort(-similarity[start:stop], axis=0, kind="stable")[:CANDIDATES] + start
            cells[picture, :, : len(best)] = points[best].transpose(1, 0, 2)
            values[picture, :, : len(best)] = np.take_along_axis(similarity, best, 0).T
        return cls(cells, values, side)

    @classmethod
    def joined(cls, batches: Iterable["Candidates"], clusters: int, side: int) -> "Candidates":
        """Those of all batches of this process, for that many clusters."""
        nowhere = np.zeros((0, clusters, CANDIDATES, 2), np.float32)
        parts = [cls(nowhere, nowhere[..., 0], side), *batches]
        return cls(
            np.concatenate([part.cells for part in parts]), np.concatenate([part.values for part in parts]), side
        )

    def gathered(self) -> "Candidates":
        """Those of all processes."""
        return Candidates(distributed.gather(self.cells), distributed.gather(self.values), self.side)

    def of(self, columns: np.ndarray) -> "Candidates":
        """Those of some of the clusters, by their columns (K',)."""
        return Candidates(self.cells[:, columns], self.values[:, columns], self.side)

    def agreed(
        self, names: np.ndarray, clusters: np.ndarray, fraction: float, stiffness: float = STIFFNESS
    ) -> tuple[KeypointTable, np.ndarray]:
        """The keypoints on which the clusters of each picture agree, and their values (m,), in the same order.

        names: (n,) of the pictures; clusters: (K,) the ids. Of each cluster the surest of that fraction of the
        pictures stay, and of two in one place the surer. stiffness: as in `agree`.
        """
        found = agree(self.cells / self.side, self.values, stiffness)
        chosen = found.chosen[:, :, None]
        places = np.take_along_axis(self.cells, chosen[..., None], 2)[:, :, 0].astype(np.float64)
        values = np.take_along_axis(self.values, chosen, 2)[:, :, 0]
        kept = (values > NOWHERE) & (found.cost <= np.quantile(found.cost, fraction, axis=0))
        images, numbers = np.nonzero(kept)
        stay = surer_of_doubles(images, numbers, places[kept], found.cost, self.side)
        images, numbers = images[stay], numbers[stay]
        points = np.column_stack([places[images, numbers], clusters[numbers]])
        return KeypointTable.from_flat(names, images, points), values[images, numbers]


def peaks(maps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest local maxima (of 5x5 cells) of maps (B, K, H, W): values and cells (y W + x), both (B, K, count).

    A map with fewer maxima gets the value `NOWHERE` for the rest.
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
