"""Losses of the recipe by hand."""

import math

import pytest
import torch

from Networks.consensus.losses import map_loss, place_loss, softmax_loss
from Networks.second_step import squared_error
from tests.Networks.test_first_step import batch_of
from tests.Networks.test_second_step import CORNER, EDGE
from Utils.heatmaps import gaussian_targets


def test_softmax_loss_by_hand():
    """Two clusters in both pictures; each point competes with the two of the other picture, not with its own."""
    descriptors = torch.zeros(2, 2, 4, 4)
    descriptors[0, :, 0, 0] = torch.tensor([2.0, 0.0])  # lengths do not count
    descriptors[0, :, 1, 0] = torch.tensor([0.0, 1.0])
    descriptors[1, :, 2, 0] = torch.tensor([1.0, 0.0])
    descriptors[1, :, 3, 0] = torch.tensor([0.6, 0.8])
    ends = [[0, 0, 0], [0, 0, 1], [1, 0, 2], [1, 0, 3]]
    batch = batch_of(ends, [[0, 2], [0, 3], [1, 2], [1, 3]], [True, False, False, True])

    def share(right, wrong):  # of the right partner
        return math.exp(right / 0.1) / (math.exp(right / 0.1) + math.exp(wrong / 0.1))

    # Cosines: 0-2: 1, 0-3: 0.6, 1-2: 0, 1-3: 0.8.
    shares = [share(1, 0.6), share(1, 0), share(0.8, 0), share(0.8, 0.6)]
    expected = -sum(math.log(s) for s in shares) / 4
    assert softmax_loss(descriptors, batch).item() == pytest.approx(expected, rel=1e-5)


def target_of(x: int, y: int, side: int) -> torch.Tensor:
    """The target map (1, side, side) of a keypoint."""
    zero = torch.zeros(1, dtype=torch.int64)
    return gaussian_targets(zero, zero, torch.tensor([[x, y]]), (1, 1, side, side))[0]


def test_peaks_weigh_more_by_hand():
    """One keypoint in the middle of a 4x4 map of zeros: its nine cells count 1 + 20 times their target."""
    target = target_of(1, 1, 4)
    targets = [1.0] + 4 * [EDGE] + 4 * [CORNER]
    expected = sum(t**2 * (1 + 20 * t) for t in targets) / 16
    assert map_loss(torch.zeros(1, 4, 4), target, 20, 0).item() == pytest.approx(expected)


def test_a_keypoint_off_the_grid_asks_for_an_empty_map():
    maps, target = torch.full((1, 4, 4), 0.5), target_of(-3, 1, 4)
    assert squared_error(maps, target).item() == pytest.approx(0.25)
    assert map_loss(maps, target, 20, 1).item() == pytest.approx(0.25)
    assert map_loss(maps, target, 20, 1, 8).item() == pytest.approx(0.25 * (1 + 8 * 0.5))  # what is there counts


def test_a_place_is_lost_to_one_false_peak_and_not_to_many_low_cells():
    found = target_of(3, 4, 16)
    false, low = found.clone(), found + 0.05 * (found == 0)
    false[0, 12, 12] = 1.0
    place = [place_loss(maps, found).item() for maps in (found, false, low)]
    assert place[1] > place[0] + 0.5
    assert place[2] < place[0] + 0.05
