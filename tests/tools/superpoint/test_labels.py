import numpy as np

from Networks.superpoint import SuperPoint
from tools.superpoint.labels import adapt, classical_corners, load_labels, local_maxima, network_detector
from Utils.storage.files import dump_pickle


def test_local_maxima():
    heat = np.zeros((20, 20), np.float32)
    heat[3, 3], heat[3, 7], heat[12, 12] = 1, 0.5, 0.2
    assert np.argwhere(local_maxima(heat, 4)).tolist() == [[3, 3], [12, 12]]
    assert np.argwhere(local_maxima(heat, 3)).tolist() == [[3, 3], [3, 7], [12, 12]]


def test_adaptation_finds_the_corners_of_a_square():
    picture = np.full((96, 96, 3), 60, np.uint8)
    picture[30:66, 30:66] = 190
    points, weights = adapt(picture, classical_corners, np.random.default_rng(0), 12)
    corners = np.array([[29.5, 29.5], [65.5, 29.5], [29.5, 65.5], [65.5, 65.5]])
    best = points[np.argsort(-weights)[:4]]
    gaps = np.linalg.norm(corners[:, None] - best[None], axis=-1).min(1)
    assert gaps.max() < 3
    assert (weights <= 1).all()


def test_network_as_a_detector_gives_separate_points():
    points = network_detector(SuperPoint())(
        np.random.default_rng(0).integers(0, 255, (64, 80)).astype(np.uint8), None
    )
    assert len(points) <= 64 * 80 // 180
    gaps = np.abs(points[:, None] - points[None]).max(-1)
    assert gaps[~np.eye(len(points), dtype=bool)].min() > 4


def test_labels_that_too_few_views_found_are_left_out(tmp_path, monkeypatch):
    pictures = [(np.zeros((16, 16), np.uint8), 1.0)] * 2
    monkeypatch.setattr("tools.superpoint.labels.all_pictures", lambda seed: pictures)
    rows = np.array([[5, 6, 0.4], [7, 8, 0.7], [9, 10, 0.9]], np.float32)
    dump_pickle([rows, rows[:2]], tmp_path / "labels.pickle")
    for least, counts in ((0.3, [3, 2]), (0.5, [2, 1]), (0.7, [2, 1]), (0.8, [1, 0])):
        labelled = load_labels(tmp_path / "labels.pickle", 0, least)
        assert [len(picture.points) for picture in labelled] == counts
    assert labelled[0].points.tolist() == [[9, 10]]
