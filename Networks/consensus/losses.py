"""Losses of the recipe: every point competes with all others, and every cell of a map with all others."""

import torch
from torch import Tensor
from torch.nn import functional

from Databases.samples import FirstStepBatch
from Networks.first_step import descriptors_of_ends
from Utils.runtime import distributed

TEMPERATURE = 0.1  # of the softmax over cosines, and over a map's cells: about 1 at a keypoint, about 0 elsewhere


def softmax_loss(descriptors: Tensor, batch: FirstStepBatch) -> Tensor:
    """Cross-entropy of finding a point's partner among all points of the other picture, averaged over both ways.

    descriptors: (2B, D, G, G), raw, compared by their cosine over `TEMPERATURE`. All points compete with the partner,
    whereas most pairs soon keep the margin of the contrastive loss. 0 for a batch without pairs.
    """
    ends = functional.normalize(descriptors_of_ends(descriptors, batch), dim=1)
    similarity = ends @ ends.T / TEMPERATURE
    picture = batch.ends[:, 0]
    facing = (picture // 2)[:, None] == (picture // 2)[None]
    facing &= picture[:, None] != picture[None]
    log_share = functional.log_softmax(similarity.masked_fill(~facing, -1e4), dim=1)
    one, other = batch.pairs.unbind(1)
    # Negative pairs are multiplied by 0: picking out the positive ones would make the host wait for a GPU.
    both_ways = -(log_share[one, other] + log_share[other, one]) / 2
    return distributed.mean(both_ways * batch.positive, len(batch.ends) // 2)  # each positive pair has two ends


def map_loss(
    maps: Tensor, targets: Tensor, peak_weight: float, place_weight: float, false_weight: float = 0
) -> Tensor:
    """Squared error with more weight on keypoints, and a cross-entropy over the cells: (n, G, G) twice -> (n,).

    A cell counts 1 + peak_weight times its target, so that a thousand empty cells do not outvote the nine of a
    keypoint; false_weight: the same for what is in a map that has to be empty. place_weight: of `place_loss`, which
    is added.
    """
    empty = targets.amax(dim=(1, 2), keepdim=True) == 0
    emphasis = torch.where(empty, false_weight * maps.detach().clamp(0, 1), peak_weight * targets)
    squared = (maps - targets).square() * (1 + emphasis)
    return squared.mean(dim=(1, 2)) + place_weight * place_loss(maps, targets)


def place_loss(maps: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of finding a keypoint's place among all cells of its map, (n,); 0 for an empty target.

    maps, targets: (n, G, G). What counts is that no other place is higher. The squared error hardly sees that: one
    false peak costs as little as a small error in a thousand cells.
    """
    wanted = targets.flatten(1)
    total = wanted.sum(dim=1)
    log_share = functional.log_softmax(maps.flatten(1) / TEMPERATURE, dim=1)
    return -(log_share * wanted).sum(dim=1) / total.clamp(min=1e-6)
