import pytest
import torch

from tools.superpoint.histograms import gradient_histograms


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
