"""A classical descriptor that SuperPoint's may follow: short training on few pictures finds none like it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tools.superpoint.samples import CELL

WINDOW = 32  # pixels
SCALES = (1, 2)
_CELLS, _BINS, _CUT = 4, 8, 0.2


def gradient_histograms(pictures: Tensor) -> Tensor:
    """A classical descriptor of the surroundings of each cell: (B, 1, S, S) -> (B, 256, S / 8, S / 8), length 1.

    Histograms of oriented gradients: 8 signed directions in 4x4 parts of windows of 32 and 64 pixels, cut off
    at 0.2 of their length as in Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004.
    Its wide and coarse look tells the parts of objects apart, across individuals.
    """
    scales = []
    for scale in SCALES:
        gray = _blurred(F.avg_pool2d(pictures.float(), scale), 1.0)
        padded = F.pad(gray, (1, 1, 1, 1), mode="replicate")
        across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
        down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
        direction = torch.atan2(down, across) * (_BINS / (2 * math.pi)) % _BINS
        bins = torch.arange(_BINS, device=gray.device).view(1, -1, 1, 1)
        gap = (direction - bins).abs()
        share = (1 - torch.minimum(gap, _BINS - gap)).clamp(min=0)
        side = WINDOW / _CELLS
        votes = F.pad(_blurred(torch.hypot(across, down) * share, side / 2), (WINDOW,) * 4, mode="replicate")
        parts = (torch.arange(_CELLS) + 0.5) * side - WINDOW / 2
        centres = (torch.arange(pictures.shape[-1] // CELL) * CELL + CELL / 2) / scale - 0.5
        places = (centres[:, None] + parts + WINDOW).round().long().to(gray.device)
        histograms = votes[:, :, places][..., places].permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
        cut = F.normalize(histograms, dim=1).clamp(max=_CUT)
        scales.append(F.normalize(cut, dim=1))
    return torch.cat(scales, 1) / math.sqrt(len(scales))


def _blurred(maps: Tensor, deviation: float) -> Tensor:
    """Gaussian blur of maps (B, C, H, W); the border's values go on beyond it."""
    reach = math.ceil(3 * deviation)
    offsets = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.exp(-((offsets / deviation) ** 2) / 2)
    kernel = (kernel / kernel.sum()).expand(maps.shape[1], 1, -1)
    padded = F.pad(maps, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, kernel[:, :, None, :], groups=maps.shape[1])
    return F.conv2d(rows, kernel[:, :, :, None], groups=maps.shape[1])
