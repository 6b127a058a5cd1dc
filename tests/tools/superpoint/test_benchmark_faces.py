import numpy as np
import pytest

from tools.superpoint import benchmark_faces as benchmark


def faces(count: int) -> np.ndarray:
    """(count, 68, 2): one random face, moved and scaled."""
    rng = np.random.default_rng(0)
    face = rng.uniform(0, 100, (68, 2))
    scale, shift = rng.uniform(0.5, 2, count), rng.uniform(-50, 50, (count, 1, 2))
    return face * scale[:, None, None] + shift


def test_landmarks_of_all_faces_meet_on_the_mean_face():
    landmarks = faces(5)
    places = benchmark.to_mean_face(landmarks.reshape(-1, 2), np.repeat(np.arange(5), 68), landmarks).reshape(
        5, 68, 2
    )
    np.testing.assert_allclose(places, np.broadcast_to(places[0], places.shape), atol=1e-6)
    left, right = (places[0, k] for k in benchmark.OUTER_EYE_CORNERS)
    assert np.linalg.norm(left - right) == pytest.approx(100)


def test_spread_is_the_median_distance():
    places = np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0], [100.0, 0.0], [7.0, 7.0]])
    spread, size = benchmark.spreads(places, np.array([0, 0, 0, -1, 1]), least=2)
    assert spread.tolist() == [2]
    assert size.tolist() == [3]


def test_a_cluster_occurs_once_per_face():
    descriptors = np.float32([[1, 0], [0.9, 0.1], [0, 1], [1, 0.05], [0.05, 1]])
    found = benchmark.FacePoints(np.zeros((5, 2)), descriptors, np.array([0, 0, 0, 1, 1]))
    cluster = benchmark.assign(found, np.float32([[1, 0], [0, 1]]))
    assert cluster[0] == 0
    assert cluster[1] == -1
    assert (cluster[:3] == 0).sum() == 1


def test_outliers_are_the_lonely_descriptors():
    rng = np.random.default_rng(0)
    crowd = rng.normal([1, 0, 0], 0.01, (150, 3))
    lonely = rng.normal([0, 0, 0], 1, (50, 3)) * [0, 1, 1]
    descriptors = np.concatenate([crowd, lonely]).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    found = benchmark.FacePoints(np.arange(400.0).reshape(200, 2), descriptors, np.zeros(200, int))
    kept = benchmark.without_outliers(found, 0.25)
    assert len(kept.points) == 150
    assert kept.points[:, 0].max() < 300
