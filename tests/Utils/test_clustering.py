import faiss
import numpy as np
import pytest

from Utils.clustering import foreground, inliers, kmeans, median_of_found, outlier_scores
from Utils.descriptors import DescriptorStore
from Utils.runtime.errors import UserError


def blobs(per_cluster, centres, spread, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.asarray(centres, np.float32)
    points = np.repeat(centres, per_cluster, axis=0)
    return points + spread * rng.standard_normal(points.shape, dtype=np.float32)


def stored(folder, descriptors):
    store = DescriptorStore(folder, descriptors.shape[1])
    store.append(descriptors, np.zeros((len(descriptors), 2)), np.arange(len(descriptors)))
    return store


def test_kmeans_finds_blobs_and_repeats_itself():
    centres = np.eye(4, 16) * 10
    descriptors = blobs(50, centres, 0.1)
    found = kmeans(descriptors, 4, seed=0)
    order = found.argmax(axis=1)
    assert sorted(order) == [0, 1, 2, 3]
    np.testing.assert_allclose(found[np.argsort(order)], descriptors.reshape(4, 50, 16).mean(axis=1), atol=1e-5)
    assert found.tobytes() == kmeans(descriptors, 4, seed=0).tobytes()


def test_kmeans_is_the_same_for_any_number_of_threads():
    descriptors = np.random.default_rng(1).standard_normal((5000, 32), dtype=np.float32)
    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1)
        one = kmeans(descriptors, 20, iterations=10)
        faiss.omp_set_num_threads(2)
        two = kmeans(descriptors, 20, iterations=10)
    finally:
        faiss.omp_set_num_threads(threads)
    assert one.tobytes() == two.tobytes()


def test_kmeans_uses_every_descriptor():
    # One centroid is the mean of all, also with more than FAISS's 256 per centroid.
    descriptors = np.random.default_rng(1).standard_normal((3000, 8)).astype(np.float32)
    np.testing.assert_allclose(kmeans(descriptors, 1)[0], descriptors.mean(axis=0), atol=1e-5)


def test_kmeans_starts_from_given_centroids():
    descriptors = blobs(30, [[0, 0], [10, 0], [0, 10]], 0.1)
    start = np.array([[0, 9], [1, 1], [9, 0]], np.float32)
    found = kmeans(descriptors, 3, initial=start)
    np.testing.assert_allclose(found, [[0, 10], [0, 0], [10, 0]], atol=0.1)
    np.testing.assert_array_equal(kmeans(descriptors, 3, iterations=1, initial=found), found)


def test_kmeans_errors():
    with pytest.raises(UserError, match="3 descriptors are fewer than 4 clusters"):
        kmeans(np.zeros((3, 2)), 4)
    with pytest.raises(UserError, match="undefined"):
        kmeans(np.full((3, 2), np.nan), 2)
    with pytest.raises(UserError, match=r"\(3, 2\) do not fit 2 clusters"):
        kmeans(np.eye(5), 2, initial=np.zeros((3, 2)))
    np.testing.assert_array_equal(np.sort(kmeans(np.array([[1.0], [2]]), 2), axis=0), [[1], [2]])


def test_outlier_score_is_the_median_squared_distance(tmp_path):
    # On a line: the 4 nearest of 0 are 0, 1, 2, 3, squared 0, 1, 4, 9, so the median is 2.5.
    line = np.arange(10, dtype=np.float32)[:, None]
    with stored(tmp_path, line) as store:
        scores = outlier_scores(store, neighbours=4)
        assert scores[0] == 2.5
        assert scores[5] == 1.0  # 0, 1, 1, 4
        # Fewer points than neighbours: all ten; of 0 the squares 16 and 25 are the middle ones.
        assert outlier_scores(store, neighbours=100)[0] == 20.5
        among = np.arange(10) < 3
        assert outlier_scores(store, neighbours=100, among=among)[:4].tolist() == [1, 1, 1, np.inf]


def test_outlier_scores_equal_plain_ones_and_find_the_lonely(tmp_path):
    rng = np.random.default_rng(0)
    crowd = blobs(300, rng.standard_normal((2, 16)) * 3, 0.1)
    lonely = rng.standard_normal((20, 16)).astype(np.float32) * 3
    descriptors = np.concatenate([lonely, crowd])
    with stored(tmp_path, descriptors) as store:
        scores = outlier_scores(store)
    squares = ((descriptors[:, None] - descriptors[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(scores, np.median(np.sort(squares, axis=1)[:, :100], axis=1), rtol=1e-3, atol=1e-4)
    assert not inliers(scores, 20 / 620)[:20].any()


def test_outlier_scores_with_several_lists(tmp_path):
    descriptors = blobs(500, np.eye(8) * 5, 0.1)
    with stored(tmp_path, descriptors) as store:
        scores = outlier_scores(store, max_rows=2000)
        _, reference = store.sample(2000, 0)
    assert scores.shape == (4000,)
    index = faiss.index_factory(8, "IVF5,Flat")
    index.train(reference)
    index.add(reference)
    distances, found = index.search(descriptors, 100)
    assert (found >= 0).all()
    np.testing.assert_allclose(scores, np.median(distances, axis=1), rtol=1e-3, atol=1e-5)


def test_the_median_is_of_what_was_found():
    distances = np.float32([[0, 1, 3, 9], [0, 1, 7, 7], [5, 7, 7, 7], [7, 7, 7, 7]])
    found = np.arange(4) < np.array([4, 3, 1, 0])[:, None]
    assert median_of_found(distances, found).tolist() == [2, 1, 5, np.inf]
    assert median_of_found(distances[:, :2], np.ones((4, 2), bool)).tolist() == [0.5, 0.5, 6, 7]


def test_outliers_of_nothing(tmp_path):
    with DescriptorStore(tmp_path, 4) as store:
        assert outlier_scores(store).shape == (0,)
    assert inliers(np.zeros(0)).shape == (0,)


def test_inliers_drop_the_worst_fraction():
    assert inliers(np.array([5.0, 1, 4, 2, 3]), 0.4).tolist() == [False, True, False, True, True]
    assert inliers(np.array([1.0, 1, 1, 1]), 0.5).tolist() == [True, True, False, False]
    # Rows that never counted are neither kept nor part of the fraction.
    assert inliers(np.array([np.inf, 1, 2, np.inf]), 0.5).tolist() == [False, True, False, False]
    assert inliers(np.array([2.0, 1]), 0).all()


def test_foreground_drops_what_looks_like_the_outside(tmp_path):
    inside_centres, outside_centres = [[0, 0], [10, 0]], [[0, 10], [10, 10]]
    objects, background, intruders = (
        blobs(20, inside_centres, 0.1),
        blobs(20, outside_centres, 0.1, seed=1),
        blobs(3, outside_centres, 0.1, seed=2),
    )
    inside = np.repeat([True, False, True], [40, 40, 6])
    with stored(tmp_path, np.concatenate([objects, background, intruders])) as store:
        kept = foreground(store, inside, ~inside, outside_clusters=2, inside_clusters=2)
        assert kept[:40].all()
        assert not kept[40:80].any()
        # With few centroids inside, the intruders have none of their own.
        assert not kept[80:].any()
        # Nothing outside: nothing to compare with.
        assert foreground(store, np.ones(86, bool), np.zeros(86, bool)).all()


def test_foreground_with_fewer_rows_than_clusters(tmp_path):
    descriptors = np.array([[0.0, 0], [5, 0], [5, 0.1]], np.float32)
    with stored(tmp_path, descriptors) as store:
        assert foreground(store, np.array([True, True, False]), np.array([False, False, True])).tolist() == [
            True,
            True,
            False,
        ]
        assert foreground(store, np.zeros(3, bool), np.ones(3, bool)).tolist() == [False] * 3


OBJECTS_AND_BACKGROUND = [(40, [0, 0]), (40, [10, 10]), (30, [10, 10]), (18, [0, 0])]
