"""How step two's maps begin: as the similarity of step one's descriptors to the clusters' centroids."""

import numpy as np
import torch
from torch import Tensor

from Databases.database import Database
from Databases.loading import to_input
from Networks.execution import autocast, inference_batches
from Networks.fan import FAN
from Utils.options import Options

SIMILARITY_GAIN = 1.25  # a map begins as 1.25 c - 0.25 of the cosine c
PICTURES_MEASURED = 64


def maps_of_similarity(
    network: FAN, centroids: np.ndarray, database: Database, options: Options
) -> tuple[Tensor, Tensor]:
    """Weights (k, width, 1, 1) and biases (k,) of maps that show the similarity to each centroid, about 1 at most.

    network: step one's; centroids: (k, D) of unit length.
    """
    return similarity_head(network.l1, centroids, descriptor_length(network, database, options))


@torch.no_grad()
def similarity_head(head: torch.nn.Conv2d, centroids: np.ndarray, length: float) -> tuple[Tensor, Tensor]:
    """head: step one's last layer, to descriptors of about this length."""
    towards = torch.from_numpy(centroids).to(head.weight) * (SIMILARITY_GAIN / length)
    assert head.bias is not None
    weights = torch.einsum("kd,dchw->kchw", towards, head.weight)
    return weights, towards @ head.bias - (SIMILARITY_GAIN - 1)


@torch.inference_mode()
def descriptor_length(network: FAN, database: Database, options: Options) -> float:
    """The mean length of step one's raw descriptors, over some training pictures."""
    some = range(min(PICTURES_MEASURED, len(database.training)))
    lengths = []
    for pictures, _, _ in inference_batches(database, database.training, options, some):
        with autocast(options.device, options.hyper.precision):
            _, descriptors = network(to_input(pictures.to(options.device)))
        lengths.append(descriptors.norm(dim=1).mean(dim=(1, 2)).cpu())
    return float(torch.cat(lengths).mean())
