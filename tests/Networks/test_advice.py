"""What is said before hours of training."""

from types import SimpleNamespace

import pytest
import torch

from Networks.advice import advise
from Utils.hyperparameters import hyperparameters


@pytest.mark.parametrize(
    ("largest", "least", "said"),
    [
        (1.0, 199, []),
        (1.0, 200, ["200 training pictures a cluster gets at most 200 keypoints", "min_cluster_points=50"]),
        (0.6, 119, []),  # 120 of 200 pictures cost no more than the quantile 0.6 of all
        (0.6, 120, ["at most 120 keypoints", "min_cluster_points=30"]),
    ],
)
def test_clusters_that_cannot_be_large_enough_are_foretold(largest, least, said):
    lines: list[str] = []
    hyper = hyperparameters([f"min_cluster_points={least}", "preset=small"], {})
    advise(SimpleNamespace(log=lines.append), hyper, torch.device("cpu"), 200, largest)
    assert len(lines) == bool(said)
    assert all(words in lines[0] for words in said)


@pytest.mark.parametrize(("device", "lines"), [("cpu", 1), ("cuda", 0)])
def test_the_paper_s_size_is_for_a_gpu(device, lines):
    found: list[str] = []
    advise(SimpleNamespace(log=found.append), hyperparameters([], {}), torch.device(device), 1000, 1.0)
    assert len(found) == lines
