import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from Utils import assignment
from Utils.assignment import (
    Clusters,
    assign,
    cluster,
    distance_thresholds,
    keypoint_table,
    pair,
    squared_distances,
)
from Utils.descriptors import DescriptorStore
from Utils.runtime.errors import UserError


def stored(folder, descriptors, images):
    store = DescriptorStore(folder, descriptors.shape[1])
    store.append(descriptors, np.zeros((len(descriptors), 2)), images)
    return store


def test_squared_distances():
    x = torch.tensor([[1.0, 2], [0, 0]])
    c = torch.tensor([[1.0, 2], [4, 6], [0, 1]])
    assert squared_distances(x, c).tolist() == [[0, 25, 2], [5, 52, 1]]


def test_thresholds_are_mean_plus_standard_deviation():
    nearest = np.array([0, 0, 2, 2, 2])
    distances = np.array([1, 3, 2, 2, 5], np.float32)
    # Cluster 0: 2 + 1; cluster 1 has no members; cluster 2: 3 + sqrt(2).
    assert distance_thresholds(nearest, distances, 4).tolist() == pytest.approx([3, 0, 3 + 2**0.5, 0])


def test_pairs_of_each_image():
    distances = np.array([[1.0, 2], [1, 5], [9, 9], [3, 1.2], [2, 1], [1, 1.5]])
    # Image 0: rows 0, 1 want cluster 0, the cheaper sum gives it to row 1; image 1 is empty; image 2 has one
    # point; image 3 has more points than clusters.
    rows, clusters = pair(distances, np.array([0, 2, 2, 3, 6]))
    assert rows.tolist() == [0, 1, 2, 4, 5]
    assert clusters.tolist() == [1, 0, 0, 1, 0]
    assert pair(distances[:0], np.array([0, 0]))[0].shape == (0,)


def test_assignment_of_a_store(tmp_path):
    centroids = np.array([[0, 0], [10, 0]], np.float32)
    descriptors = np.array([[0, 1], [0, 3], [10, 2], [1, 0], [20, 0]], np.float32)
    images = np.array([0, 0, 2, 2, 2])
    with stored(tmp_path, descriptors, images) as store:
        result = assign(store, 4, centroids)
        # Squared distances of members: cluster 0: 1, 9, 1; cluster 1: 4, 100.
        first = np.array([1, 9, 1])
        assert result.thresholds.tolist() == pytest.approx([first.mean() + first.std(), 52 + 48])
        # Row 1 is too far from cluster 1, row 4 finds cluster 1 taken by the closer row 2.
        assert result.labels.tolist() == [0, -1, 1, 0, -1]
        # At the threshold is already too far.
        assert assign(store, 4, centroids, np.array([1.0, 4.1])).labels.tolist() == [-1, -1, 1, -1, -1]
        among = np.array([True, True, False, True, True])
        part = assign(store, 4, centroids, np.array([200.0, 200.0]), among)
        assert part.labels.tolist() == [0, 1, -1, 0, 1]


@pytest.mark.parametrize("images_at_once", [1, 100, 10_000])
def test_store_gives_what_the_plain_loop_gives(tmp_path, monkeypatch, images_at_once):
    monkeypatch.setattr(assignment, "IMAGES_AT_ONCE", images_at_once)
    rng = np.random.default_rng(4)
    counts = rng.integers(0, 30, 40)  # also empty ones and ones with more points than the 20 clusters
    counts[[0, 7, 39]] = 0
    images = np.repeat(np.arange(40), counts)
    descriptors = rng.standard_normal((len(images), 16)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    among = rng.random(len(images)) < 0.8
    with stored(tmp_path, descriptors, images) as store:
        result = cluster(store, 40, 20, among=among)
    squares = ((descriptors[:, None].astype(np.float64) - result.centroids[None]) ** 2).sum(axis=2)
    nearest = squares.argmin(axis=1)
    expected = np.full(len(images), -1)
    thresholds = []
    for k in range(20):
        members = squares[among & (nearest == k), k]
        thresholds.append(members.mean() + members.std())
    for image in range(40):
        rows = np.flatnonzero((images == image) & among)
        for i, k in zip(*linear_sum_assignment(squares[rows])):
            if squares[rows[i], k] < thresholds[k]:
                expected[rows[i]] = k
    np.testing.assert_allclose(result.thresholds, thresholds, rtol=1e-4)
    assert result.labels.tolist() == expected.tolist()
    assert (result.labels >= 0).mean() > 0.3


def test_fewer_descriptors_than_clusters(tmp_path):
    with stored(tmp_path, np.eye(3), [0, 0, 1]) as store, pytest.raises(UserError, match="fewer than 5 clusters"):
        cluster(store, 2, 5)


def test_table_of_the_points_that_have_a_cluster(tmp_path):
    with DescriptorStore(tmp_path, 2) as store:
        store.append(np.zeros((4, 2)), np.array([[1, 2], [3, 4], [5, 6], [7, 8]]), np.array([0, 0, 2, 2]))
        clusters = Clusters(np.zeros((6, 2)), np.zeros(6), np.array([5, -1, 0, 3], np.int32))
        table = keypoint_table(store, clusters, np.array(["a", "b", "c"]))
    assert {name: points.tolist() for name, points in table.to_dict().items()} == {
        "a": [[1, 2, 5]],
        "b": [],
        "c": [[5, 6, 0], [7, 8, 3]],
    }
