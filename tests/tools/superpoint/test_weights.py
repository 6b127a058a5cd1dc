import pytest
import torch

from tools.superpoint.samples import PairSource
from tools.superpoint.weights import calibrated, fresh_superpoint, uncalibrated, unit_length, whitened


def test_standardised_layers_differ_between_places():
    pictures = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    network = fresh_superpoint(0, pictures)
    before_relu = network.conv1b(torch.relu(network.conv1a(pictures)))
    torch.testing.assert_close(before_relu.mean((0, 2, 3)), torch.zeros(64), atol=1e-4, rtol=0)
    torch.testing.assert_close(before_relu.std((0, 2, 3)), torch.ones(64), atol=1e-3, rtol=0)


def test_calibration_is_undone():
    network, picture = fresh_superpoint(0), torch.rand(1, 1, 32, 32)
    before = network(picture)[0].softmax(1)
    calibrated(network, place=0.25, odds=0.25, bias=-16.0)
    assert (network(picture)[0].softmax(1) - before).abs().max() > 0.1
    uncalibrated(network, place=0.25, odds=0.25, bias=-16.0)
    torch.testing.assert_close(network(picture)[0].softmax(1), before, atol=1e-4, rtol=1e-3)


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


def test_unit_length_keeps_descriptors():
    network = fresh_superpoint(0)
    pictures = PairSource([], 96, share_of_shapes=1.0).batch(4, seed=3, stage=0, iteration=0).pictures
    with torch.no_grad():
        before = network(pictures)[1]
        after = unit_length(network, pictures)(pictures)[1]
        raw = network.convDb(torch.relu(network.convDa(network.encode(pictures))))
    assert raw.norm(dim=1).mean().item() == pytest.approx(1, rel=1e-4)
    assert torch.allclose(before, after, atol=1e-4)
