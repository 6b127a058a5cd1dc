"""Heatmaps on the grid: training targets from keypoints, and keypoints from predicted maps.

Grid coordinates: x is the column, y the row; a keypoint belongs to the cell that its coordinates round to.
"""

import torch

# The 3x3 Gaussian of the paper's code: 1 at the keypoint, this in the cells beside it, its square at the corners.
_EDGE = 0.41111228


def gaussian_targets(
    images: torch.Tensor, clusters: torch.Tensor, points: torch.Tensor, shape: tuple[int, int, int, int]
) -> torch.Tensor:
    """Target maps of step two (the paper, section 3.2): a 3x3 Gaussian at each keypoint, else 0.

    images, clusters: (n,) int64, the map that a keypoint belongs to; points: (n, 2) x, y in grid cells; shape:
    (B, K, H, W). Returns float32 maps of that shape on the device of the points. The Gaussian is cut at the border;
    keypoints off the grid are left out; if two meet in a map, the larger value stays.
    """
    _, number_of_clusters, height, width = shape
    # Made on the device: copied there, they would make the host wait for a GPU in each iteration.
    reach = torch.arange(-1, 2, device=points.device)
    offsets = torch.cartesian_prod(reach, reach)  # (9, 2)
    gaussian = torch.where(offsets == 0, 1.0, _EDGE).prod(dim=1)
    centres = points.round().long()
    around = centres[:, None] + offsets  # (n, 9, 2)
    valid = on_grid(centres, height, width)[:, None] & on_grid(around, height, width)
    planes = (images * number_of_clusters + clusters)[:, None]
    flat = (planes * height + around[..., 1]) * width + around[..., 0]
    maps = torch.zeros(shape, device=points.device)
    # Values off the grid go to the first cell as 0, which changes nothing: picking out the others would make
    # the host wait for a GPU.
    maps.view(-1).scatter_reduce_(0, flat.where(valid, 0).flatten(), gaussian.where(valid, 0.0).flatten(), "amax")
    return maps


def detector_targets(images: torch.Tensor, points: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Target maps of the detector (the paper, section 3.1): 1 in the cell of each keypoint, else 0.

    images: (n,) int64; points: (n, 2) x, y in grid cells; shape: (B, H, W). Returns (B, 1, H, W) float32, as
    the detector's output; keypoints off the grid are left out.
    """
    batch, height, width = shape
    centres = points.round().long()
    valid = on_grid(centres, height, width)
    flat = (images * height + centres[:, 1]) * width + centres[:, 0]
    maps = torch.zeros((batch, 1, height, width), device=points.device)
    maps.view(-1).scatter_reduce_(0, flat.where(valid, 0), valid.float(), "amax")
    return maps


def on_grid(cells: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Which cells (..., 2) int x, y lie on a grid of height x width, (...) bool."""
    x, y = cells.unbind(dim=-1)
    return (x >= 0) & (x < width) & (y >= 0) & (y < height)


def maxima(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest value of each map: points (B, K, 2) float32 x, y in grid cells, confidence (B, K).

    maps: (B, K, H, W), on any device.
    """
    confidence, cell = maps.flatten(2).max(dim=2)
    width = maps.shape[3]
    return torch.stack([cell % width, cell // width], dim=2).float(), confidence


def centroids(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Places between cells: the centre of mass of the cells around each map's largest value; else as `maxima`.

    The 5x5 cells count, cut at the border, where they are above 0. A map without any has its maximum's place.
    """
    cells, confidence = maxima(maps)
    height, width = maps.shape[2:]
    reach = torch.arange(-2, 3, device=maps.device)
    x = cells[..., 0, None, None].long() + reach
    y = cells[..., 1, None, None].long() + reach[:, None]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)  # (B, K, 5, 5)
    flat = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    mass = maps.flatten(2).gather(2, flat.flatten(2)).view(inside.shape).clamp(min=0) * inside
    total = mass.sum(dim=(-2, -1))
    moment = torch.stack([(mass * reach).sum(dim=(-2, -1)), (mass * reach[:, None]).sum(dim=(-2, -1))], dim=-1)
    return cells + torch.where(total > 0, 1 / total.clamp(min=1e-9), 0.0)[..., None] * moment, confidence


READOUTS = {"cell": maxima, "centroid": centroids}
