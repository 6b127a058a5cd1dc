"""Maps of step two that begin as similarities."""

import numpy as np
import torch

from Networks.consensus.start import similarity_head
from Networks.fan import FAN


def test_maps_begin_as_similarities_to_the_clusters():
    network = FAN(32, 32)
    with torch.no_grad():
        network.l1.bias.zero_()
    head, pictures = network.l1, torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        _, descriptors = network(pictures)
    centroids = np.eye(32, dtype=np.float32)[[4, 9]]
    network.replace_descriptor_head(3, torch.Generator().manual_seed(0))
    fresh = network.l1.weight[2].clone()
    start = similarity_head(head, centroids, 2.0)
    network.replace_descriptor_head(3, torch.Generator().manual_seed(0), start)
    with torch.no_grad():
        maps = network.forward_heatmaps(pictures)
    # A cosine of 1, of a descriptor of length 2, becomes 1, and one of 0 becomes -0.25.
    torch.testing.assert_close(maps[:, :2], 1.25 * descriptors[:, [4, 9]] / 2 - 0.25, atol=1e-5, rtol=1e-4)
    assert torch.equal(network.l1.weight[2], fresh)
