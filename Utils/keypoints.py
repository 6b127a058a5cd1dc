"""Keypoints: suppression and detection on whole batches, and the table of a data set's pseudo-groundtruth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from Utils.runtime.errors import UserError
from Utils.storage.files import dump_pickle, load_pickle

MOST_CELLS, MOST_CLUSTERS = 10_000, 100_000  # accepted in a file if the caller does not know the numbers


def suppress(
    points: torch.Tensor, scores: torch.Tensor, images: torch.Tensor, half_side: float, iou: float = 0.01
) -> torch.Tensor:
    """Greedy non-maximum suppression of squares around points, image by image, best score first.

    points: (n, 2) x, y; scores: (n,); images: (n,) int, the image of each point; on any device. A point's square
    is [x - half_side, x + half_side] x [y - half_side, y + half_side]; it suppresses every worse point of its
    image with an overlap (intersection over union) above `iou`. Of equal scores the earlier index wins.

    Returns the kept indices (m,) int64, on the device of `points`, sorted by image, then by descending score.
    """
    from torchvision.ops import nms  # slow to import, and most scripts do not need it

    if len(points) == 0:
        return torch.zeros(0, dtype=torch.int64, device=points.device)
    order = torch.argsort(scores, stable=True, descending=True)
    order = order[torch.argsort(images[order], stable=True)]
    _, counts = torch.unique_consecutive(images[order], return_counts=True)
    centres = points[order].double()  # single precision rounds overlaps
    squares = torch.cat([centres - half_side, centres + half_side], dim=1)
    ranks = torch.arange(len(order), 0, -1, dtype=squares.dtype, device=squares.device)
    # torchvision's batched_nms takes 30 times as long for the pictures of a whole data set.
    by_image = zip(*(values.split(counts.tolist()) for values in (order, squares, ranks)), strict=True)
    return torch.cat([rows[nms(square, rank, iou)] for rows, square, rank in by_image])


def detect(
    score_maps: torch.Tensor, threshold: float, half_side: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points of a batch of score maps above a threshold, after suppression.

    score_maps: (B, H, W). Returns points (n, 2) float32 x, y in map pixels, scores (n,) and images (n,) int64
    (index in the batch), on the device of the maps, sorted by image, then by descending score.
    """
    images, y, x = torch.nonzero(score_maps > threshold, as_tuple=True)
    scores = score_maps[images, y, x]
    points = torch.stack([x, y], dim=1).float()
    kept = suppress(points, scores, images, half_side)
    return points[kept], scores[kept], images[kept]


@dataclass(frozen=True)
class KeypointTable:
    """Keypoints of many images in three flat arrays, which worker processes share and slice cheaply.

    names: (n,) str, one per image, all different; offsets: (n + 1,) int64, the points of image i are
    points[offsets[i]:offsets[i + 1]]; points: (total, 3) float32: x, y in grid cells, cluster (-1 without one).
    """

    names: np.ndarray
    offsets: np.ndarray
    points: np.ndarray

    @classmethod
    def from_flat(cls, names: Sequence[str] | np.ndarray, images: np.ndarray, points: np.ndarray) -> "KeypointTable":
        """Build a table from points (total, 3) in any order and the index of each one's name (total,)."""
        names = np.asarray(names, dtype=str)
        order = np.argsort(images, kind="stable")
        counts = np.bincount(images, minlength=len(names))
        return cls(names, _offsets(counts), np.asarray(points, np.float32)[order])

    @classmethod
    def from_dict(cls, content: Mapping[str, np.ndarray], source: str = "keypoints") -> "KeypointTable":
        """Build a table from a dictionary image name -> (n, 3); an empty array is an image without points.

        Raises UserError, beginning with `source`, for other shapes and for x and y that are not finite numbers.
        """
        if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
            raise UserError(f"{source} is not a dictionary with image names as keys; make the file again")
        arrays = [_as_points(name, values, source) for name, values in content.items()]
        points = np.concatenate([np.zeros((0, 3), np.float32), *arrays])
        return cls(np.array(list(content), dtype=str), _offsets([len(array) for array in arrays]), points)

    @classmethod
    def load(cls, path: Path | str, side: int | None = None, clusters: int | None = None) -> "KeypointTable":
        """Read a pseudo-groundtruth pickle: dictionary name -> (n, 3) x, y, cluster.

        Raises UserError for other content, and for a point outside the grid of `side` cells or the `clusters`.
        """
        table = cls.from_dict(load_pickle(path), str(path))
        side, clusters = side or MOST_CELLS, clusters or MOST_CLUSTERS
        x, y, cluster = table.points.T
        off = (x < 0) | (y < 0) | (x >= side) | (y >= side)
        bad = np.flatnonzero(off | (cluster < -1) | (cluster >= clusters) | (cluster != np.rint(cluster)))
        if len(bad):
            image = table.names[table.images()[bad[0]]]
            what = f"off the grid of {side} cells" if off[bad[0]] else f"of none of the {clusters} clusters"
            point = ", ".join(f"{value:g}" for value in table.points[bad[0]])
            raise UserError(f"{path}: the point ({point}) of {image} is {what}; make the file again")
        return table

    def save(self, path: Path | str) -> None:
        """Write the pickle that `load` reads; it includes images without points."""
        dump_pickle(self.to_dict(), path)

    def to_dict(self) -> dict[str, np.ndarray]:
        """Dictionary image name -> (n, 3) float32 view of the table."""
        pieces = np.split(self.points, self.offsets[1:-1]) if len(self.names) else []
        return dict(zip(self.names.tolist(), pieces, strict=True))

    def __len__(self) -> int:
        return len(self.names)

    def of(self, image: int) -> np.ndarray:
        """Points (n, 3) of one image, a view."""
        return self.points[self.offsets[image] : self.offsets[image + 1]]

    def counts(self) -> np.ndarray:
        """Number of points of each image, (n,) int64."""
        return np.diff(self.offsets)

    def images(self) -> np.ndarray:
        """Index of the image of each point, (total,) int64."""
        return np.repeat(np.arange(len(self.names)), self.counts())

    def clusters(self) -> np.ndarray:
        """Cluster of each point, (total,) int64, -1 without one."""
        return self.points[:, 2].astype(np.int64)

    def cluster_counts(self, number_of_clusters: int = 0) -> np.ndarray:
        """Number of points of each cluster, (number_of_clusters or more,) int64; -1 is left out."""
        clusters = self.clusters()
        return np.bincount(clusters[clusters >= 0], minlength=number_of_clusters)

    def figures(self) -> dict[str, float]:
        """Measures of a pseudo-groundtruth: keypoints_per_picture, and clusters that have a point."""
        return {
            "keypoints_per_picture": len(self.points) / max(len(self), 1),
            "clusters": float((self.cluster_counts() > 0).sum()),
        }

    def describe(self) -> str:
        """The figures in words."""
        figures = self.figures()
        return f"{figures['keypoints_per_picture']:.1f} keypoints per picture in {figures['clusters']:.0f} clusters"

    def places(self, number_of_clusters: int) -> np.ndarray:
        """Grid x, y of each cluster's point in each image (n, number_of_clusters, 2), NaN without one."""
        places = np.full((len(self), number_of_clusters, 2), np.nan)
        rows = self.clusters() >= 0
        places[self.images()[rows], self.clusters()[rows]] = self.points[rows, :2]
        return places

    def index(self, names: Sequence[str] | np.ndarray) -> np.ndarray:
        """Row of each name in this table, (m,) int64, -1 for an unknown name."""
        rows = {name: row for row, name in enumerate(self.names.tolist())}
        return np.array([rows.get(name, -1) for name in np.asarray(names, dtype=str).tolist()], np.int64)

    def align(self, names: Sequence[str] | np.ndarray, source: Path | str = "the table") -> "KeypointTable":
        """The table in the order of another list of names; names that this one lacks get no points.

        Raises UserError, which names the source, if it lacks all of them.
        """
        names = np.asarray(names, dtype=str)
        rows = self.index(names)
        if len(self) and len(names) and (rows < 0).all():
            raise UserError(
                f"{source} has labels of other pictures ({self.names[0]} ...) than the data set's ({names[0]} ...); "
                f"give the data set that the experiment was trained on"
            )
        lengths = np.where(rows >= 0, self.counts()[rows], 0) if len(self) else np.zeros(len(names), np.int64)
        offsets = _offsets(lengths)
        first = self.offsets[rows.clip(min=0)] - offsets[:-1]
        return KeypointTable(names, offsets, self.points[np.repeat(first, lengths) + np.arange(offsets[-1])])

    def keep(self, mask: np.ndarray) -> "KeypointTable":
        """The table with only the points where mask (total,) is true; every image stays."""
        offsets = _offsets(mask)[self.offsets]
        return KeypointTable(self.names, offsets, self.points[mask])


def _offsets(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Counts (n,) -> where each begins, and the total: (n + 1,) int64."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _as_points(name: str, values: Any, source: str) -> np.ndarray:
    """(n, 3) float32; a cluster that is unknown becomes -1."""
    try:
        with np.errstate(over="ignore"):  # numbers that are too large become infinite
            array = np.array(values, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{source}: the entry of {name} is not an array of numbers; make the file again") from None
    if array.size == 0:
        return np.zeros((0, 3), np.float32)
    if array.ndim != 2 or array.shape[1] != 3:
        raise UserError(f"{source}: the entry of {name} has shape {array.shape}, not (n, 3); make the file again")
    if not np.isfinite(array[:, :2]).all():
        raise UserError(f"{source}: a point of {name} has no finite x and y; make the file again")
    array[~np.isfinite(array[:, 2]), 2] = -1
    return array
