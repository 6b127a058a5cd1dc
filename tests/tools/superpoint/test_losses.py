import math

import numpy as np
import pytest
import torch

from Networks.superpoint import SuperPoint, score_map
from tools.superpoint.homographies import translation
from tools.superpoint.losses import (
    Trainer,
    TrainingOptions,
    calibrated,
    classical_loss,
    contrast_loss,
    descriptor_loss,
    detector_loss,
    fresh_superpoint,
    gaps_of_cells,
    gradient_histograms,
    learning_rate,
    network_detector,
    pair_losses,
    unit_length,
    whitened,
)
from tools.superpoint.samples import PairBatch, PairSource


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
    shift = torch.from_numpy(translation(np.array([8.0, 0.0]))).float()[None]
    gaps = gaps_of_cells(shift, 16)[0]
    assert gaps[0].tolist() == pytest.approx([8, 0, math.hypot(8, 8), 8])
    assert (gaps[1] <= 8).tolist() == [False, True, False, False]


def test_descriptor_loss_by_hand():
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).T.reshape(1, 2, 1, 2)  # cells (1, 0) and (0, 1)
    second = torch.tensor([[0.6, 0.8], [1.0, 0.0]]).T.reshape(1, 2, 1, 2)
    same = torch.eye(2, dtype=torch.bool)[None]
    options = TrainingOptions(1, positive_weight=250.0)
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
    still = torch.eye(3)[None]
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


def test_learning_rate_rises_and_falls():
    options = TrainingOptions(iterations=1000, learning_rate=1.0, warm_up=10)
    assert learning_rate(0, options) == pytest.approx(0.1)
    assert learning_rate(500, options) == pytest.approx(0.02 + 0.98 * 0.5)
    assert learning_rate(1000, options) == pytest.approx(0.02)


def test_fresh_network_is_silent():
    torch.manual_seed(0)
    semi, _ = fresh_superpoint(0)(torch.rand(1, 1, 64, 64))
    assert score_map(semi).max() < 0.05


def test_standardised_layers_differ_between_places():
    pictures = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    network = fresh_superpoint(0, pictures)
    before_relu = network.conv1b(torch.relu(network.conv1a(pictures)))
    torch.testing.assert_close(before_relu.mean((0, 2, 3)), torch.zeros(64), atol=1e-4, rtol=0)
    torch.testing.assert_close(before_relu.std((0, 2, 3)), torch.ones(64), atol=1e-3, rtol=0)


def options_for_test(**changes) -> TrainingOptions:
    return TrainingOptions(**{"iterations": 4, "batch_size": 1, "half_precision": False, "seed": 3, **changes})


def trainer() -> Trainer:
    return Trainer(fresh_superpoint(0), PairSource([], 32, share_of_shapes=1.0), options_for_test())


def test_one_step_lowers_the_loss_of_its_batch():
    learner = trainer()
    batch = learner.source.batch(1, 3, 0, 0)
    before = sum(pair_losses(learner.network, batch, learner.options)).item()
    for _ in range(3):
        learner.iteration = 0
        learner.step()
    assert sum(pair_losses(learner.network, batch, learner.options)).item() < before


def test_resumed_training_equals_an_uninterrupted_one(tmp_path):
    whole = trainer()
    whole.train(tmp_path / "whole.pth")

    part = trainer()
    part.step()
    part.step()
    part.save(tmp_path / "part.pth")
    resumed = trainer()
    resumed.resume(tmp_path / "part.pth")
    resumed.train(tmp_path / "part.pth")

    assert resumed.iteration == whole.iteration == 4
    for name, tensor in whole.network.state_dict().items():
        torch.testing.assert_close(resumed.network.state_dict()[name], tensor, rtol=0, atol=0)
        torch.testing.assert_close(resumed.average[name], whole.average[name], rtol=0, atol=0)


def test_pairs_beyond_the_picture_teach_nothing():
    network = fresh_superpoint(0)
    batch = trainer().source.batch(1, 3, 0, 0)
    unknown = PairBatch(batch.pictures, batch.target, torch.zeros_like(batch.known), batch.homography)
    detector, descriptor = pair_losses(network, unknown, options_for_test())
    assert detector.item() == 0
    assert descriptor.item() == 0


def test_calibration_moves_the_confidence():
    network = fresh_superpoint(0)
    picture = torch.rand(1, 1, 32, 32)
    before = network(picture)[0].double()
    mean = before[:, :64].mean(1, keepdim=True)
    after = calibrated(network, place=0.5, odds=2.0, bias=-0.5)(picture)[0].double()
    torch.testing.assert_close(after[:, :64], (before[:, :64] - mean) / 0.5, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after[:, 64], (before[:, 64] - mean[:, 0]) / 2 - 0.5, atol=1e-4, rtol=1e-4)


def test_network_as_a_detector_gives_separate_points():
    points = network_detector(SuperPoint())(
        np.random.default_rng(0).integers(0, 255, (64, 80)).astype(np.uint8), None
    )
    assert len(points) <= 64 * 80 // 180
    gaps = np.abs(points[:, None] - points[None]).max(-1)
    assert gaps[~np.eye(len(points), dtype=bool)].min() > 4


def test_whitening_centres_and_spreads_the_descriptors_of_points():
    network = fresh_superpoint(0)
    network.convDb.bias.data += 3 * network.convDb.weight.data.norm(dim=1).flatten()  # a large common part
    batch = PairSource([], size=64, share_of_shapes=1.0).batch(12, seed=1, stage=0, iteration=0)
    rows = batch.known & (batch.target[:, -1] < 0.5)

    def raw() -> torch.Tensor:
        features = network.encode(batch.pictures)
        return network.convDb(torch.relu(network.convDa(features))).permute(0, 2, 3, 1)[rows].double()

    with torch.no_grad():
        before, semi = raw(), network(batch.pictures)[0]
        whitened(network, batch, strength=0.6, shrinkage=0.5)
        after = raw()
    assert before.mean(0).norm() > before.std(0).norm()
    assert after.mean(0).norm() < 1e-3 * after.std(0).norm()
    # A direction of variance v has v / (v + 0.5 mean)^0.6 now.
    old = torch.linalg.eigvalsh(torch.cov(before.T))
    expected = (old / (old + 0.5 * old.mean()) ** 0.6).sort().values
    assert torch.allclose(torch.linalg.eigvalsh(torch.cov(after.T)), expected, rtol=1e-2, atol=2e-3)
    assert torch.equal(network(batch.pictures)[0], semi)  # the detector stays


def rendered(size: int = 96) -> torch.Tensor:
    return PairSource([], size, share_of_shapes=1.0).batch(4, seed=3, stage=0, iteration=0).pictures


def test_histograms_of_an_edge_have_its_direction_alone():
    picture = torch.zeros(1, 1, 64, 64)
    picture[..., 32:] = 1  # bright to the right: direction 0
    found = gradient_histograms(picture)[0, :, 4, 4].reshape(2, 16, 8)
    assert found.norm().item() == pytest.approx(1, abs=1e-5)
    assert found[:, :, 0].norm(dim=1).tolist() == pytest.approx([0.5**0.5, 0.5**0.5], abs=1e-5)
    assert found[:, :, 1:].abs().max() < 1e-5
    down = gradient_histograms(picture.transpose(2, 3))[0, :, 4, 4].reshape(2, 16, 8)
    assert down[:, :, 2].norm(dim=1).tolist() == pytest.approx([0.5**0.5, 0.5**0.5], abs=1e-5)


def test_histograms_ignore_brightness_and_contrast_and_follow_a_shift():
    pictures = torch.rand(2, 1, 192, 192, generator=torch.Generator().manual_seed(0))
    found = gradient_histograms(pictures)
    assert torch.allclose(gradient_histograms(0.5 * pictures + 0.2), found, atol=1e-4)
    moved = gradient_histograms(pictures.roll(16, dims=3))
    # Away from the border, where windows of 64 pixels and their blur end.
    assert torch.allclose(moved[..., 13:14], found[..., 11:12], atol=1e-4)


def test_classical_loss_of_the_right_and_of_opposite_descriptors():
    pictures = rendered()
    known = torch.ones(len(pictures), 12, 12, dtype=torch.bool)
    goal = gradient_histograms(pictures)
    empty = goal.norm(dim=1) < 0.5  # even surroundings have no direction
    known &= ~empty
    assert classical_loss(goal, pictures, known).item() == pytest.approx(0, abs=1e-5)
    assert classical_loss(-goal, pictures, known).item() == pytest.approx(2, abs=1e-5)
    wrong_at_the_border = goal.clone()
    wrong_at_the_border[:, :, :2] *= -1
    assert classical_loss(wrong_at_the_border, pictures, known).item() == pytest.approx(0, abs=1e-5)


def test_unit_length_keeps_descriptors():
    network, pictures = fresh_superpoint(0), rendered()
    with torch.no_grad():
        before = network(pictures)[1]
        after = unit_length(network, pictures)(pictures)[1]
        raw = network.convDb(torch.relu(network.convDa(network.encode(pictures))))
    assert raw.norm(dim=1).mean().item() == pytest.approx(1, rel=1e-4)
    assert torch.allclose(before, after, atol=1e-4)
