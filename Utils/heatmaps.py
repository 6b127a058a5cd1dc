"""Heatmaps on the grid: training targets from keypoints, and keypoints from predicted maps.

Grid coordinates: x is the column, y the row; a keypoint belongs to the cell that its coordinates round to.
"""

import torch

# The 3x3 Gaussian of the paper's code, as published: 1 at the keypoint, and around it
_EDGE, _CORNER = 0.41111228, 0.16901332


def gaussian_targets(
    images: torch.Tensor, clusters: torch.Tensor, points: torch.Tensor, shape: tuple[int, int, int, int]
) -> torch.Tensor:
    """Target maps of step two (the paper, section 3.2): a 3x3 Gaussian at each keypoint, else 0.

    images, clusters: (n,) int64, the map that a keypoint belongs to; points: (n, 2) x, y in grid cells;
    shape: (B, K, H, W). Returns float32 maps of that shape on the device of the points. The Gaussian is cut at
    the border; keypoints off the grid are left out; where two meet in a map, the larger value stays.
    """
    _, number_of_clusters, height, width = shape
    steps, weights = _gaussian(points.device)
    centres = points.round().long()
    around = centres[:, None] + steps  # (n, 9, 2)
    valid = on_grid(centres, height, width)[:, None] & on_grid(around, height, width)
    planes = (images * number_of_clusters + clusters)[:, None]
    flat = (planes * height + around[..., 1]) * width + around[..., 0]
    values = weights.expand(len(points), -1)
    maps = torch.zeros(shape, device=points.device)
    # Values off the grid go to the first cell as 0, which changes nothing: picking out the others would make
    # the host wait for a GPU.
    maps.view(-1).scatter_reduce_(0, flat.where(valid, 0).view(-1), values.where(valid, 0).reshape(-1), "amax")
    return maps


def _gaussian(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The cells of the Gaussian: steps from the keypoint (9, 2) int64 and values (9,) float32.

    Made on the device: copied there, they would make the host wait for a GPU in each iteration.
    """
    line = torch.arange(-1, 2, device=device)
    steps = torch.cartesian_prod(line, line)
    distance = steps.abs().sum(dim=1)
    return steps, torch.where(distance == 0, 1.0, torch.where(distance == 1, _EDGE, _CORNER))


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
    """Places between cells: the centre of mass of the cells around each map's largest value; as `maxima` else.

    Of the 5x5 cells, cut at the border, those above 0 count. A map without any has its maximum's place.
    """
    cells, confidence = maxima(maps)
    reach = torch.arange(-2, 3, device=maps.device)
    height, width = maps.shape[2:]
    x = cells[..., 0].long()[..., None, None] + reach
    y = cells[..., 1].long()[..., None, None] + reach[:, None]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    flat = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).flatten(2)
    mass = maps.flatten(2).gather(2, flat).view(inside.shape).clamp(min=0) * inside
    total = mass.sum(dim=(2, 3))
    offset = torch.stack([(mass * reach).sum(dim=(2, 3)), (mass * reach[:, None]).sum(dim=(2, 3))], dim=2)
    return cells + torch.where(total > 0, 1 / total.clamp(min=1e-9), 0.0)[..., None] * offset, confidence


READOUTS = {"cell": maxima, "centroid": centroids}
