"""Clusters matched in every training picture: candidates from maps of how well each fits, chosen by agreement."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from Databases.samples import GRID
from Utils import distributed
from Utils.consensus import agree
from Utils.heatmaps import centre_of_mass, windows
from Utils.keypoints import KeypointTable, suppress
from Utils.options import Hyperparameters

CANDIDATES = 4  # places per cluster and picture that a match is chosen from
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
    def of_maps(cls, batches: Iterable[Tensor], clusters: int, hyper: Hyperparameters) -> "Candidates":
        """Of this process's batches of maps (B, K, G, G), joined with those of the others."""
        side, between = hyper.image_size // GRID, hyper.places == "between"
        cells = [np.zeros((0, clusters, CANDIDATES, 2), np.float32)]
        values = [np.zeros((0, clusters, CANDIDATES), np.float32)]
        places = [cells[0]]
        for maps in batches:
            heights, flat = peaks(maps, CANDIDATES)
            of_batch = torch.stack([flat % side, flat // side], dim=3)
            cells.append(of_batch.cpu().numpy().astype(np.float32))
            values.append(heights.cpu().numpy())
            if between:
                places.append(between_cells(maps, of_batch).cpu().numpy())
        all_cells, all_values = (distributed.gather(np.concatenate(parts)) for parts in (cells, values))
        return cls(all_cells, all_values, distributed.gather(np.concatenate(places)) if between else all_cells, side)

    def agreed(self, names: np.ndarray, clusters: np.ndarray, fraction: float) -> tuple[KeypointTable, np.ndarray]:
        """The keypoints on which the clusters agree, and the values of the maps there (m,), in their order.

        names: (n,) of the pictures; clusters: (K,) the ids. Of each cluster the surest of that fraction of the
        pictures stay, and of two in one place the surer.
        """
        found = agree(self.cells / self.side, self.values)
        chosen = found.chosen[:, :, None]
        places = np.take_along_axis(self.places, chosen[..., None], 2)[:, :, 0].astype(np.float64)
        kept = found.cost <= np.quantile(found.cost, fraction, axis=0)
        images, numbers = np.nonzero(kept)
        stay = surer_of_doubles(images, numbers, places[kept], found.cost, self.side)
        images, numbers = images[stay], numbers[stay]
        points = np.column_stack([places[images, numbers], clusters[numbers]])
        values = np.take_along_axis(self.values, chosen, 2)[images, numbers, 0]
        return KeypointTable.from_flat(names, images, points), values


def peaks(maps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest local maxima (of 5x5 cells) of maps (B, K, H, W): values and cells (y W + x), both (B, K, count).

    Where a map has fewer, the rest have the value -1, below any similarity.
    """
    highest = functional.max_pool2d(maps, 5, 1, 2)
    return torch.where(maps == highest, maps, -1.0).flatten(2).topk(count, dim=2)


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
