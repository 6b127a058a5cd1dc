"""Candidates: the places that fit clusters best."""

import numpy as np
import pytest
import torch

from Networks.consensus import candidates


def test_of_two_clusters_in_one_place_the_surer_stays():
    images, numbers = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 1])
    cells = np.array([[5.0, 5.0], [5.0, 6.0], [12.0, 3.0], [5.0, 5.0]])
    cost = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])  # in picture 0, cluster 1 is surer than elsewhere
    stay = candidates.surer_of_doubles(images, numbers, cells, cost, 32)
    assert stay.tolist() == [1, 2, 3]


def test_peaks_are_local_maxima():
    maps = torch.zeros(1, 1, 12, 12)
    maps[0, 0, 3, 4], maps[0, 0, 3, 5], maps[0, 0, 9, 9] = 0.9, 0.8, 0.5  # the second is beside the first
    values, cells = candidates.peaks(maps, 2)
    assert cells.tolist() == [[[3 * 12 + 4, 9 * 12 + 9]]]
    torch.testing.assert_close(values, torch.tensor([[[0.9, 0.5]]]))


@pytest.mark.parametrize("shape", [(3, 2, 32, 32), (1, 1, 1, 4), (2, 1, 5, 2)])
def test_highest_around_is_max_pooling(shape):
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(candidates.highest_around(maps), torch.nn.functional.max_pool2d(maps, 5, 1, 2))


def test_candidates_joined_are_those_of_all_maps_at_once():
    maps = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    whole = candidates.Candidates.of_maps(maps)
    parts = candidates.Candidates.joined((candidates.Candidates.of_maps(b) for b in maps.split(2)), 3, 16)
    alone = candidates.Candidates.of_maps(maps[:, ::2])
    columns = np.array([True, False, True])
    for name in ("cells", "values"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
        np.testing.assert_array_equal(getattr(parts.of(columns), name), getattr(alone, name))
