"""New keypoints of the FAN: which stay beside the previous ones, and what the store holds of them."""

import numpy as np
import pytest
import torch

from Networks import relabelling
from Networks.consensus import candidates as matching
from Networks.relabelling import store_fan_keypoints
from tests.tiny import TinyDatabase, tiny_options
from Utils.descriptors import DescriptorStore
from Utils.keypoints import KeypointTable


def test_previous_keypoints_win_where_two_meet():
    previous = KeypointTable.from_lists(["a", "b"], [[[5, 5, 0]], np.zeros((0, 3))])
    points = torch.tensor([[6.0, 6.0], [9.0, 5.0], [6.0, 6.0]])
    scores = torch.tensor([0.99, 0.3, 0.5])
    owners = torch.tensor([0, 0, 1])
    kept, of = relabelling._join_previous(previous, np.array([0, 1]), points, scores, owners)
    # (6, 6) of the first picture lies beside the previous (5, 5); in the second picture nothing is there.
    assert kept.tolist() == [[5, 5], [9, 5], [6, 6]]
    assert of.tolist() == [0, 0, 1]


class Marked(torch.nn.Module):
    """Answers a keypoint at cell (3, 5) and a weaker one at (9, 5); the descriptor of a cell is (x, y)."""

    def forward(self, pictures):
        detector = torch.zeros(len(pictures), 1, 16, 16)
        detector[:, 0, 5, 3], detector[:, 0, 5, 9] = 0.9, 0.4
        y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
        return detector, torch.stack([x, y]).expand(len(pictures), 2, 16, 16)


@pytest.mark.parametrize("confidence", [0.3, 0.5])
def test_store_has_the_detections_and_their_unit_descriptors(tmp_path, confidence):
    database, options = TinyDatabase(3, 1), tiny_options(tmp_path, f"confidence_fan={confidence}")
    with DescriptorStore(tmp_path, 2) as store:
        store_fan_keypoints(Marked(), database, database.training, options, store)
        points, images, descriptors = store.column("point"), store.column("image"), store.read(0, len(store))
    cells = [[3, 5], [9, 5]] if confidence < 0.4 else [[3, 5]]
    assert images.tolist() == [i for i in range(3) for _ in cells]
    assert points.tolist() == cells * 3
    expected = np.array(cells) / np.linalg.norm(cells, axis=1, keepdims=True)
    np.testing.assert_allclose(descriptors, np.tile(expected, (3, 1)), rtol=1e-6)


class Painted(torch.nn.Module):
    """A network whose descriptor of a cell tells the colour there, and similar colours well apart."""

    l1 = torch.nn.Conv2d(1, 64, 1)

    def forward(self, pictures):
        colours = torch.nn.functional.avg_pool2d(pictures, 4)
        waves = torch.randn(32, 3, generator=torch.Generator().manual_seed(0)) * 12
        angles = torch.einsum("kc,bcyx->bkyx", waves, colours)
        return torch.zeros(len(pictures), 1, 16, 16), torch.cat([angles.sin(), angles.cos()], dim=1)


def test_a_cluster_is_found_in_pictures_whose_labels_lack_it(tmp_path):
    """Ten pictures know the marks; matching finds them in the others too, and invents no cluster."""
    database = TinyDatabase(40, 1)
    whole = database.keypoints()
    known = whole.keep((whole.images() < 10) & (whole.clusters() != 5))
    options = tiny_options(tmp_path, "recipe=consensus", "match_fraction=0.8")

    table, clusters = relabelling.matched_keypoints(Painted(), database, options, known, 14)

    assert clusters.centroids.shape == (14, 64)
    assert set(np.unique(table.clusters())) == set(range(12)) - {5}  # no cluster comes from nothing
    assert clusters.thresholds[5] == 0
    found = table.places(12)
    off = np.abs(found - whole.places(12))[10:].max(axis=2)
    assert (~np.isnan(off)).sum() > 0.6 * 30 * 11
    assert (off[~np.isnan(off)] <= 1).mean() > 0.9


def test_of_two_clusters_in_one_place_the_surer_stays():
    images, numbers = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 1])
    cells = np.array([[5.0, 5.0], [5.0, 6.0], [12.0, 3.0], [5.0, 5.0]])
    cost = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])  # in picture 0, cluster 1 is surer than elsewhere
    stay = matching.surer_of_doubles(images, numbers, cells, cost, 32)
    assert stay.tolist() == [1, 2, 3]


def test_peaks_are_local_maxima():
    maps = torch.zeros(1, 1, 12, 12)
    maps[0, 0, 3, 4], maps[0, 0, 3, 5], maps[0, 0, 9, 9] = 0.9, 0.8, 0.5  # the second is beside the first
    values, cells = matching.peaks(maps, 2)
    assert cells.tolist() == [[[3 * 12 + 4, 9 * 12 + 9]]]
    torch.testing.assert_close(values, torch.tensor([[[0.9, 0.5]]]))


@pytest.mark.parametrize("shape", [(3, 2, 32, 32), (1, 1, 1, 4), (2, 1, 5, 2)])
def test_highest_around_is_max_pooling(shape):
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(matching.highest_around(maps), torch.nn.functional.max_pool2d(maps, 5, 1, 2))


def test_candidates_joined_are_those_of_all_maps_at_once(tmp_path):
    hyper = tiny_options(tmp_path).hyper
    maps = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    whole = matching.Candidates.of_maps(maps, hyper)
    parts = matching.Candidates.joined((matching.Candidates.of_maps(b, hyper) for b in maps.split(2)), 3, hyper)
    alone = matching.Candidates.of_maps(maps[:, ::2], hyper)
    columns = np.array([True, False, True])
    for name in ("cells", "values", "places"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
        np.testing.assert_array_equal(getattr(parts.of(columns), name), getattr(alone, name))


def test_places_between_cells_follow_what_is_similar():
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    there = torch.tensor([[4.3, 6.8], [5.0, 3.4]])
    maps = torch.stack([1 - 0.1 * ((x - a) ** 2 + (y - b) ** 2) for a, b in there])[None]
    maps[0, 0, 0, 0] = 0.99  # far from the peak that is asked for
    places = matching.between_cells(maps, there.round().long()[None, :, None])
    torch.testing.assert_close(places[0, :, 0], there, atol=0.1, rtol=0)


def test_maps_that_are_not_kept_give_the_same_labels(tmp_path, monkeypatch):
    database, options = TinyDatabase(), tiny_options(tmp_path)
    kept, clusters = relabelling.matched_keypoints(Painted(), database, options, database.keypoints(), 12)
    monkeypatch.setattr(relabelling, "MAPS_KEPT", 0)
    read, clusters_read = relabelling.matched_keypoints(Painted(), database, options, database.keypoints(), 12)
    np.testing.assert_array_equal(kept.points, read.points)
    np.testing.assert_array_equal(clusters.centroids, clusters_read.centroids)
