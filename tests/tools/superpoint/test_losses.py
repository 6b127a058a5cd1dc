import math

import numpy as np
import pytest
import torch

from tools.superpoint.histograms import gradient_histograms
from tools.superpoint.losses import (
    LossOptions,
    classical_loss,
    contrast_loss,
    descriptor_loss,
    detector_loss,
    gaps_of_cells,
    pair_losses,
)
from tools.superpoint.samples import PairBatch, PairSource, cell_centres
from tools.superpoint.weights import fresh_superpoint


def test_detector_loss_of_even_logits():
    target = torch.zeros(1, 65, 1, 2)
    target[0, 3, 0, 0] = target[0, 64, 0, 1] = 1
    known = torch.ones(1, 1, 2, dtype=torch.bool)
    assert detector_loss(torch.zeros(1, 65, 1, 2), target, known).item() == pytest.approx(math.log(65), rel=1e-5)


def test_detector_loss_leaves_out_unknown_cells():
    target = torch.zeros(1, 65, 1, 2)
    target[:, 64] = 1
    semi = torch.zeros(1, 65, 1, 2)
    semi[0, 0, 0, 1] = 50.0  # very wrong, and unknown
    known = torch.tensor([[[True, False]]])
    assert detector_loss(semi, target, known).item() == pytest.approx(math.log(65), rel=1e-5)


def test_place_weight_counts_the_pixels_of_points_alone():
    target = torch.zeros(1, 65, 1, 2)
    target[0, 3, 0, 0] = target[0, 64, 0, 0] = 0.5
    target[0, 64, 0, 1] = 1
    known = torch.ones(1, 1, 2, dtype=torch.bool)
    semi = torch.zeros(1, 65, 1, 2)
    expected = math.log(65) + 2 * 0.5 * math.log(64) / 2
    assert detector_loss(semi, target, known, place_weight=2.0).item() == pytest.approx(expected, rel=1e-5)


def test_gaps_of_shifted_cells():
    places = torch.from_numpy(cell_centres(16)).float()[None] + torch.tensor([8.0, 0.0])
    gaps = gaps_of_cells(places)[0]
    assert gaps[0].tolist() == pytest.approx([8, 0, math.hypot(8, 8), 8])
    assert (gaps[1] <= 8).tolist() == [False, True, False, False]


def test_descriptor_loss_by_hand():
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).T.reshape(1, 2, 1, 2)  # cells (1, 0) and (0, 1)
    second = torch.tensor([[0.6, 0.8], [1.0, 0.0]]).T.reshape(1, 2, 1, 2)
    same = torch.eye(2, dtype=torch.bool)[None]
    options = LossOptions(positive_weight=250.0)
    # Likeness: [[0.6, 1.0], [0.8, 0.0]]; pairs (0, 0) and (1, 1) correspond.
    expected = 250 * (1 - 0.6) + 250 * (1 - 0.0) + (1.0 - 0.2) + (0.8 - 0.2)
    everything = torch.ones_like(same)
    assert descriptor_loss(first, second, same, everything, options).item() == pytest.approx(expected, rel=1e-5)
    half = everything.clone()
    half[0, 1] = False
    assert descriptor_loss(first, second, same, half, options).item() == pytest.approx(100 + 0.8, rel=1e-5)


def test_contrast_is_small_for_the_right_and_large_for_confused_descriptors():
    own = torch.eye(16).T.reshape(1, 16, 4, 4)  # every cell of a 32x32 picture its own direction
    known = torch.ones(1, 16, dtype=torch.bool)
    still = torch.from_numpy(cell_centres(32)).float()[None]
    right = contrast_loss(own, own, still, known, temperature=0.1).item()
    # Cells more than 12 pixels away compete, all with likeness 0; the right answer has likeness 1, or logit 10.
    centres = np.stack(np.meshgrid(np.arange(4) * 8, np.arange(4) * 8), -1).reshape(-1, 2)
    far = (np.linalg.norm(centres[:, None] - centres[None], axis=-1) > 12).sum(1)
    near = 16 - far
    expected = np.log1p((far * 1.0 + near * math.exp(-10)) * math.exp(-10)).mean()
    assert right == pytest.approx(expected, rel=1e-3)
    same_everywhere = torch.ones(1, 16, 4, 4) / 4
    confused = contrast_loss(same_everywhere, same_everywhere, still, known, temperature=0.1).item()
    assert confused == pytest.approx(np.log1p(far + near * math.exp(-20)).mean(), rel=1e-3)


def test_pairs_beyond_the_picture_teach_nothing():
    network = fresh_superpoint(0)
    batch = PairSource([], 32, share_of_shapes=1.0).batch(1, 3, 0, 0)
    none = torch.zeros_like(batch.known)
    unknown = PairBatch(batch.pictures, batch.target, none, none, batch.places)
    detector, descriptor = pair_losses(network, unknown, LossOptions(), half_precision=False)
    assert detector.item() == 0
    assert descriptor.item() == 0


def test_classical_loss_of_the_right_and_of_opposite_descriptors():
    pictures = PairSource([], 96, share_of_shapes=1.0).batch(4, seed=3, stage=0, iteration=0).pictures
    known = torch.ones(len(pictures), 12, 12, dtype=torch.bool)
    goal = gradient_histograms(pictures)
    empty = goal.norm(dim=1) < 0.5  # even surroundings have no direction
    known &= ~empty
    assert classical_loss(goal, pictures, known).item() == pytest.approx(0, abs=1e-5)
    assert classical_loss(-goal, pictures, known).item() == pytest.approx(2, abs=1e-5)
    wrong_at_the_border = goal.clone()
    wrong_at_the_border[:, :, :2] *= -1
    assert classical_loss(wrong_at_the_border, pictures, known).item() == pytest.approx(0, abs=1e-5)
