"""SuperPoint's losses: detector, descriptor, and both over a batch of pairs of views.

DeTone et al., "SuperPoint", CVPRW 2018, section 3.4. Beside the paper's, two more pull at the descriptor: the
contrast between all cells, and a classical descriptor to follow.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from Networks.superpoint import SuperPoint
from tools.superpoint.histograms import gradient_histograms
from tools.superpoint.samples import CELL, PairBatch, cell_centres


@dataclass(frozen=True)
class LossOptions:
    """Weights of the losses. The descriptor's margins and weights are the paper's."""

    place_weight: float = 4.0  # of the detector's cross-entropy within a cell
    describes: bool = True  # False: the detector alone
    descriptor_weight: float = 2e-5  # lambda
    contrast_weight: float = 0.5  # of the softmax over all cells, without which few iterations teach no matching
    contrast_temperature: float = 0.1
    classical_weight: float = 0.0  # of the distance to `gradient_histograms`
    positive_weight: float = 250.0  # lambda_d
    positive_margin: float = 1.0
    negative_margin: float = 0.2


def pair_losses(
    network: SuperPoint, batch: PairBatch, options: LossOptions, half_precision: bool
) -> tuple[Tensor, Tensor]:
    """Both losses of a batch: the detector's over both views, and the descriptor's, already weighted."""
    pictures = batch.pictures.contiguous(memory_format=torch.channels_last)
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=half_precision):
        features = network.encode(pictures)
        semi = network.detect(features)
        desc = network.describe(features) if options.describes else None
    loss = detector_loss(semi, batch.target, batch.known, options.place_weight)
    if desc is None:
        return loss, loss.new_zeros(())
    return loss, descriptor_losses(desc, batch, options)


def detector_loss(semi: Tensor, target: Tensor, known: Tensor, place_weight: float = 0.0) -> Tensor:
    """Cross-entropy over the 65 classes of a cell, averaged over the known cells.

    semi: (B, 65, h, w) logits; target: (B, 65, h, w) adding up to 1 over the classes; known: (B, h, w) bool.
    place_weight times the cross-entropy over the 64 pixels alone is added for the share of a cell that is a
    point: where a point lies is learned much later than whether there is one, and is forgotten first.
    """
    logits = semi.float()
    whether = -(target * logits.log_softmax(1)).sum(1)
    where = -(target[:, :-1] * logits[:, :-1].log_softmax(1)).sum(1)
    return ((whether + place_weight * where) * known).sum() / known.sum().clamp(min=1)


def descriptor_losses(desc: Tensor, batch: PairBatch, options: LossOptions) -> Tensor:
    """The weighted sum of the hinge loss, the contrast seen from either view and the classical loss."""
    first, second = desc.chunk(2)
    there, back = batch.places.chunk(2)
    known_first, known_second = batch.followed.flatten(1).chunk(2)
    forwards = contrast_loss(first, second, there, known_first, options.contrast_temperature)
    backwards = contrast_loss(second, first, back, known_second, options.contrast_temperature)
    loss = options.contrast_weight * (forwards + backwards) / 2
    if options.descriptor_weight:
        same = gaps_of_cells(there) <= CELL
        known = known_first[:, :, None] & known_second[:, None, :]
        loss = options.descriptor_weight * descriptor_loss(first, second, same, known, options) + loss
    if options.classical_weight:
        loss = loss + options.classical_weight * classical_loss(desc, batch.pictures, batch.known)
    return loss


def descriptor_loss(first: Tensor, second: Tensor, same: Tensor, known: Tensor, options: LossOptions) -> Tensor:
    """Hinge loss over all pairs of cells (section 3.4), summed over the pairs, averaged over the pictures.

    first, second: (B, D, h, w) descriptors of length 1; same, known: (B, h w, h w) bool, the pairs that
    correspond and those that count.
    """
    likeness = first.float().flatten(2).transpose(1, 2) @ second.float().flatten(2)
    pull = options.positive_weight * F.relu(options.positive_margin - likeness)
    push = F.relu(likeness - options.negative_margin)
    return (torch.where(same, pull, push) * known).sum() / len(first)


def contrast_loss(first: Tensor, second: Tensor, places: Tensor, known: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each cell of view 1 again among the cells of view 2, averaged over the cells.

    first, second: (B, D, h, w) descriptors of length 1; places: (B, h w, 2) where the cells of view 1 lie in view 2,
    pixels; known: (B, h w) bool, cells of view 1 of which that is known. The right answer is view 2 sampled at the
    very place where the cell's centre lands, the wrong ones are the cells more than 12 pixels from there.
    """
    cells = first.shape[-1]
    size = cells * CELL
    grid = (places + 0.5) * (2 / size) - 1
    landed = known & (grid.abs() < 1 - 1 / cells + 1e-4).all(-1)  # within the outermost centres
    right = F.grid_sample(second.float(), grid[:, :, None], align_corners=False, padding_mode="border")
    right = F.normalize(right[..., 0], dim=1)  # (B, D, n)
    own = first.float().flatten(2)
    wrong = own.transpose(1, 2) @ second.float().flatten(2)
    near = gaps_of_cells(places) <= 1.5 * CELL
    logits = torch.cat([(own * right).sum(1)[..., None], wrong.masked_fill(near, -1)], -1) / temperature
    return (-logits.log_softmax(-1)[..., 0] * landed).sum() / landed.sum().clamp(min=1)


def classical_loss(desc: Tensor, pictures: Tensor, known: Tensor, margin: int = 2) -> Tensor:
    """1 - cosine between descriptors (B, 256, h, w) and `gradient_histograms`, averaged over the known cells.

    known: (B, h, w) bool; cells less than `margin` cells from the border are left out, as they see too little.
    """
    with torch.no_grad():
        goal = gradient_histograms(pictures)
        counts = torch.zeros_like(known)
        counts[:, margin:-margin, margin:-margin] = known[:, margin:-margin, margin:-margin]
    return ((1 - (desc.float() * goal).sum(1)) * counts).sum() / counts.sum().clamp(min=1)


def gaps_of_cells(places: Tensor) -> Tensor:
    """(B, n, n) pixels between where cell i of view 1 lies in view 2 and the centre of cell j there.

    places: (B, n, 2) of the cells of view 1. Cells at most 8 pixels apart correspond (section 3.4).
    """
    size = math.isqrt(places.shape[1]) * CELL
    centres = torch.from_numpy(cell_centres(size)).to(places)
    return torch.cdist(places, centres.expand(len(places), -1, -1))
