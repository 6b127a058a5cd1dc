import math

import numpy as np
import pytest

from tools.superpoint import benchmark
from tools.superpoint.detectors import Features
from tools.superpoint.homographies import translation
from Utils.runtime.errors import UserError


def test_repeatability_counts_what_both_views_show():
    shift = translation(np.array([100.0, 0.0]))
    first = np.array([[10.0, 50.0], [60.0, 80.0], [300.0, 20.0]])  # the last leaves the second view
    second = np.array([[112.0, 50.0], [200.0, 90.0], [20.0, 10.0]])  # the last was not in the first view
    share, shown = benchmark.repeatability(first, second, shift)
    assert share == pytest.approx((1 + 1) / (2 + 2))
    assert shown == 2


def test_mutual_matches():
    first = np.float32([[0, 0], [1, 0], [5, 5]])
    second = np.float32([[1.1, 0], [0.1, 0], [0.9, 0]])
    i, j = benchmark.mutual_matches(first, second)
    assert list(zip(i, j)) in ([(0, 1), (1, 0)], [(0, 1), (1, 2)])


def test_hamming_distance_of_bits():
    first, second = np.array([[0b1011, 0]], np.uint8), np.array([[0b0001, 0], [0b1011, 0b1]], np.uint8)
    assert benchmark.distances(first, second).tolist() == [[2, 1]]


def test_perfect_points_score_one():
    rng = np.random.default_rng(0)
    shift = translation(np.array([6.0, -3.0]))
    points = rng.uniform(40, 200, (60, 2))
    descriptors = rng.standard_normal((60, 16)).astype(np.float32)
    pair = Features(points, descriptors), Features(points + [6, -3], descriptors)
    scores = benchmark.compare(*pair, shift)
    assert (scores.points, scores.repeatability, scores.matching, scores.homography) == (60, 1, 1, 1)
    bare = benchmark.compare(*(Features(f.points, None) for f in pair), shift)
    assert bare.repeatability == 1
    assert math.isnan(bare.homography)


def test_pictures_are_spread_over_the_folders(tmp_path):
    for folder, count in (("a", 5), ("b", 4)):
        (tmp_path / folder).mkdir()
        for k in range(count):
            (tmp_path / folder / f"{k}.jpg").touch()
    chosen = benchmark.find_pictures([tmp_path / "a", tmp_path / "b"], 5)
    assert [path.parent.name + path.stem for path in chosen] == ["a0", "a4", "b0", "b1", "b3"]
    with pytest.raises(UserError, match="no .jpg"):
        benchmark.find_pictures([tmp_path / "a" / "0.jpg"], 5)
