import numpy as np
import pytest
import torch

from Networks.superpoint import SuperPoint, load_superpoint, sample_descriptors, score_map
from Utils.runtime.errors import UserError


def test_shapes_and_lost_remainder():
    semi, desc = SuperPoint()(torch.rand(2, 1, 218, 178))
    assert semi.shape == (2, 65, 27, 22)
    assert desc.shape == (2, 256, 27, 22)
    assert score_map(semi).shape == (2, 216, 176)
    torch.testing.assert_close(desc.norm(dim=1), torch.ones(2, 27, 22))


def test_state_dict_is_the_published_one():
    shapes = {name: tuple(tensor.shape) for name, tensor in SuperPoint().state_dict().items()}
    assert len(shapes) == 24
    assert shapes["conv1a.weight"] == (64, 1, 3, 3)
    assert shapes["conv4b.weight"] == (128, 128, 3, 3)
    assert shapes["convPb.weight"] == (65, 256, 1, 1)
    assert shapes["convDb.weight"] == (256, 256, 1, 1)
    assert list(shapes)[:4] == ["conv1a.weight", "conv1a.bias", "conv1b.weight", "conv1b.bias"]


def test_score_map_places_channels_row_by_row():
    semi = torch.zeros(1, 65, 2, 3)
    semi[0, 8 * 5 + 2, 1, 2] = 100.0  # row 5, column 2 of the cell at row 1, column 2
    score = score_map(semi)[0]
    assert score[8 + 5, 16 + 2] == pytest.approx(1)
    assert score[0, 0] == pytest.approx(1 / 65)


def test_score_map_drops_no_point():
    semi = torch.zeros(1, 65, 1, 1)
    semi[0, 64] = 100.0
    assert score_map(semi).max() < 1e-6


def test_samples_at_cell_centres_and_between():
    desc = torch.zeros(1, 2, 1, 2)
    desc[0, :, 0, 0] = torch.tensor([1.0, 0.0])
    desc[0, :, 0, 1] = torch.tensor([0.0, 1.0])
    points = torch.tensor([[3.5, 3.5], [11.5, 3.5], [7.5, 3.5], [5.5, 0.0], [0.0, 7.0], [15.0, 3.5]])
    got = sample_descriptors(desc, points).numpy()
    half = np.sqrt(0.5)
    quarter = np.array([0.75, 0.25]) / np.hypot(0.75, 0.25)
    np.testing.assert_allclose(got, [[1, 0], [0, 1], [half, half], quarter, [1, 0], [0, 1]], atol=1e-6)


def test_samples_of_several_pictures():
    desc = torch.nn.functional.normalize(torch.randn(3, 4, 2, 2), dim=1)
    points = torch.tensor([[3.5, 11.5], [11.5, 3.5]])
    got = sample_descriptors(desc, points, torch.tensor([2, 1]))
    torch.testing.assert_close(got, torch.stack([desc[2, :, 1, 0], desc[1, :, 0, 1]]))


def test_loads_half_precision(tmp_path):
    network = SuperPoint()
    path = tmp_path / "half.pth"
    torch.save({name: tensor.half() for name, tensor in network.state_dict().items()}, path)
    loaded = load_superpoint(path)
    assert loaded.conv1a.weight.dtype == torch.float32
    assert not loaded.training
    torch.testing.assert_close(loaded.conv4b.weight, network.conv4b.weight, atol=1e-3, rtol=1e-3)


def test_refuses_other_tensors(tmp_path):
    state = SuperPoint().state_dict()
    cases = {
        r"Missing key\(s\).*convDb.bias": {k: v for k, v in state.items() if k != "convDb.bias"},
        r"Unexpected key\(s\).*extra": {**state, "extra": torch.zeros(1)},
        "size mismatch for convPb.bias": {**state, "convPb.bias": torch.zeros(64)},
    }
    for message, content in cases.items():
        torch.save(content, tmp_path / "wrong.pth")
        with pytest.raises(UserError, match=message):
            load_superpoint(tmp_path / "wrong.pth")


def test_scores_and_descriptors_are_not_rounded_by_mixed_precision():
    """bfloat16 has 8 bits: rounded scores tie, and ties move keypoints."""
    network = load_superpoint()
    gray = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = network(gray)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = network(gray)
    for a, b in zip(exact, mixed, strict=True):
        assert b.dtype == torch.float32
        assert not torch.equal(b, b.bfloat16().float())
        assert (a - b).abs().max() < 0.05 * a.abs().max()
