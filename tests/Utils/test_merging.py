import numpy as np

from Utils import merging
from Utils.keypoints import KeypointTable
from Utils.merging import coincidences, merge_clusters, merge_labels


def test_coincidences_by_hand():
    predictions = np.array([[[0, 0], [3, 4], [9, 9]], [[0, 0], [6, 0], [0, 1]]], float)
    confident = np.array([[True, True, True], [True, True, False]])
    together, seen = coincidences(predictions, confident, 6)
    # Image 0: clusters 0 and 1 are 5 apart; image 1: exactly 6 is not closer, cluster 2 is not confident.
    assert together.tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 1]]
    assert seen.tolist() == [2, 2, 1]


def test_coincidences_do_not_depend_on_the_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    predictions, confident = rng.random((50, 6, 2)) * 20, rng.random((50, 6)) < 0.7
    whole = coincidences(predictions, confident)
    monkeypatch.setattr(merging, "_PAIRS_PER_CHUNK", 100)
    for first, second in zip(whole, coincidences(predictions, confident)):
        np.testing.assert_array_equal(first, second)


def alone(n, k):
    """Predictions far from each other, all confident."""
    return np.tile(np.arange(k)[None, :, None] * 50.0, (n, 1, 2)), np.full((n, k), 0.9)


def test_a_cluster_joins_the_most_populous_one():
    predictions, confidence = alone(10, 4)
    predictions[:8, 3] = predictions[:8, 1]  # 8 of 10 > 0.7
    predictions[:7, 2] = predictions[:7, 0]  # 7 of 10 is not more
    joins = merge_clusters(predictions, confidence, np.array([900, 600, 700, 800]), np.arange(4))
    assert joins.tolist() == [0, 3, 2, 3]


def test_the_overlap_is_of_the_rarer_cluster():
    predictions, confidence = alone(10, 2)
    predictions[:3, 1] = predictions[:3, 0]
    confidence[3:, 1] = 0.2  # not above
    assert merge_clusters(predictions, confidence, np.array([5, 4]), np.arange(2)).tolist() == [0, 0]
    confidence[:, 1] = 0
    assert merge_clusters(predictions, confidence, np.array([5, 4]), np.arange(2)).tolist() == [0, 1]


def test_chains_join_kept_clusters_only():
    # 1 coincides with 0 and joins it; 2 coincides with 1 alone, which is no longer there.
    predictions, confidence = alone(10, 3)
    predictions[:, 1] = predictions[:, 0] + [4, 0]
    predictions[:, 2] = predictions[:, 0] + [8, 0]
    assert merge_clusters(predictions, confidence, np.array([9, 8, 7]), np.arange(3)).tolist() == [0, 0, 2]
    # Coming second, 0 is kept first only if it is the more populous one.
    assert merge_clusters(predictions, confidence, np.array([8, 9, 7]), np.arange(3)).tolist() == [1, 1, 1]


def test_inactive_clusters_take_no_part():
    predictions, confidence = alone(4, 3)
    predictions[:, :] = 0
    joins = merge_clusters(predictions[:, [0, 2]], confidence[:, [0, 2]], np.array([9, 8, 7]), np.array([0, 2]))
    assert joins.tolist() == [0, 1, 0]
    joins = merge_clusters(predictions[:, :0], confidence[:, :0], np.array([9, 8, 7]), np.zeros(0))
    assert joins.tolist() == [0, 1, 2]


def test_equal_counts_go_by_number():
    predictions, confidence = alone(4, 2)
    predictions[:, :] = 0
    assert merge_clusters(predictions, confidence, np.array([5, 5]), np.array([0, 1])).tolist() == [0, 0]


def test_labels_after_merging():
    table = KeypointTable.from_dict(
        {
            "both": np.array([[1, 1, 2], [2, 2, 0], [3, 3, 1], [4, 4, -1], [5, 5, -1]]),
            "none": np.zeros((0, 3)),
            "lesser": np.array([[6, 6, 2], [7, 7, 1]]),
            "three": np.array([[8, 8, 3], [9, 9, 2], [10, 10, 0]]),
        }
    )
    # 2 and 3 join 0; 3 is the most populous of the three only by its count here.
    merged = merge_labels(table, np.array([0, 1, 0, 0]), np.array([50, 5, 10, 60]))
    assert merged.names.tolist() == table.names.tolist()
    assert merged.of(0).tolist() == [[2, 2, 0], [3, 3, 1], [4, 4, -1], [5, 5, -1]]
    assert merged.of(1).shape == (0, 3)
    assert merged.of(2).tolist() == [[6, 6, 0], [7, 7, 1]]
    assert merged.of(3).tolist() == [[8, 8, 0]]
    assert table.of(0)[0, 2] == 2  # the original stays as it was


def test_labels_equal_the_plain_loop():
    rng = np.random.default_rng(2)
    entries = {}
    for i in range(60):
        clusters = rng.permutation(12)[: rng.integers(0, 12)]
        entries[f"{i}.jpg"] = np.column_stack([rng.random((len(clusters), 2)), clusters])
    table = KeypointTable.from_dict(entries)
    counts = rng.permutation(12)
    joins = np.arange(12)
    joins[[3, 7, 9]] = 5
    joins[11] = 0
    merged = merge_labels(table, joins, counts)
    for i, points in enumerate(entries.values()):
        best = {}
        for x, y, cluster in points:
            new = joins[int(cluster)]
            if new not in best or counts[int(cluster)] > counts[best[new][2]]:
                best[new] = (x, y, int(cluster))
        expected = sorted([x, y, new] for new, (x, y, _) in best.items())
        found = sorted(merged.of(i).tolist())
        assert len(found) == len(expected)
        if expected:
            np.testing.assert_allclose(found, expected, rtol=1e-6)
