import re

import numpy as np
import pytest
import torch

from Utils.keypoints import KeypointTable, detect, suppress
from Utils.runtime.errors import UserError
from Utils.storage.files import dump_pickle


def kept_of(points, scores, images, half_side) -> np.ndarray:
    """`suppress` of arrays."""
    return suppress(*map(torch.from_numpy, (points, scores, images)), half_side).numpy()


def plain_suppression(points, scores, images, half_side, iou=0.01):
    """The definition, one pair at a time."""
    kept = []
    order = sorted(range(len(points)), key=lambda i: (images[i], -scores[i], i))
    for i in order:
        free = True
        for j in kept:
            if images[j] != images[i]:
                continue
            width, height = (2 * half_side - abs(a - b) for a, b in zip(points[i], points[j]))
            inter = max(0.0, width) * max(0.0, height)
            if inter / (8 * half_side**2 - inter) > iou:
                free = False
                break
        if free:
            kept.append(i)
    return kept


def test_suppress_keeps_the_best_and_what_touches_it():
    points = np.array([[10, 10], [11, 10], [12, 10], [10, 13], [10, 10]], np.float32)
    scores = np.array([0.5, 0.9, 0.4, 0.3, 0.1], np.float32)
    images = np.array([0, 0, 0, 0, 1])
    # Half-side 1: (11, 10) suppresses its neighbours at distance 1; image 1 is another world.
    assert kept_of(points, scores, images, 1).tolist() == [1, 3, 4]


def test_suppress_overlap_at_the_corner():
    # Half-side 6: at offset (11, 9) the overlap is 3/285 > 0.01, at (11, 10) it is 2/286 < 0.01.
    points = np.array([[0, 0], [11, 9]], np.float64)
    scores, images = np.array([1.0, 0.5]), np.zeros(2, np.int64)
    assert kept_of(points, scores, images, 6).tolist() == [0]
    assert kept_of(points + [[0, 0], [0, 1]], scores, images, 6).tolist() == [0, 1]


def test_suppress_ties_go_to_the_earlier_index():
    points = np.array([[5, 5], [6, 5], [7, 5]], np.float32)
    assert kept_of(points, np.ones(3, np.float32), np.zeros(3, np.int64), 1).tolist() == [0, 2]
    assert kept_of(points[[1, 0, 2]], np.ones(3, np.float32), np.zeros(3, np.int64), 1).tolist() == [0]


@pytest.mark.parametrize("fractional", [False, True])
@pytest.mark.parametrize("half_side", [1, 6])
def test_suppress_equals_its_definition(fractional, half_side):
    rng = np.random.default_rng([3, half_side])
    n = 600
    points = rng.integers(0, 60, (n, 2)).astype(np.float32)
    if fractional:
        points = (points - 30) / np.float32(1.3) + 30
    scores = rng.integers(0, 50, n).astype(np.float32) / 50  # many ties
    images = rng.permutation(np.repeat([0, 2, 3, 900], n // 4))
    expected = plain_suppression(points.astype(float), scores, images, half_side)
    assert kept_of(points, scores, images, half_side).tolist() == expected


def test_suppress_nothing():
    assert kept_of(np.zeros((0, 2)), np.zeros(0), np.zeros(0, np.int64), 6).shape == (0,)


def test_detect_on_a_batch():
    maps = torch.zeros(3, 8, 10)
    maps[0, 2, 9] = 0.3
    maps[0, 7, 0] = 0.8
    maps[2, 4, 4] = 0.5
    maps[2, 4, 5] = 0.6
    maps[2, 0, 0] = 0.2  # not above the threshold
    points, scores, images = detect(maps, 0.2, 1)
    assert points.tolist() == [[0, 7], [9, 2], [5, 4]]
    assert scores.tolist() == pytest.approx([0.8, 0.3, 0.6])
    assert images.tolist() == [0, 0, 2]
    points, scores, images = detect(maps, 0.9, 1)
    assert points.shape == (0, 2)
    assert len(scores) == len(images) == 0


@pytest.fixture
def table():
    return KeypointTable.from_dict({"b": np.array([[1, 2, 0], [3, 4, 2]]), "a": [], "c": np.array([[5.0, 6, -1]])})


def test_table_lookups(table):
    assert table.names.tolist() == ["b", "a", "c"]
    assert table.offsets.tolist() == [0, 2, 2, 3]
    assert table.of(1).shape == (0, 3)
    assert table.of(2).tolist() == [[5, 6, -1]]
    assert table.counts().tolist() == [2, 0, 1]
    assert table.images().tolist() == [0, 0, 2]
    assert table.cluster_counts(4).tolist() == [1, 0, 1, 0]
    assert table.index(["c", "x", "b", "zz"]).tolist() == [2, -1, 0, -1]


def test_table_aligned_to_other_names(table):
    aligned = table.align(["c", "x", "b", "a"])
    assert aligned.names.tolist() == ["c", "x", "b", "a"]
    assert aligned.offsets.tolist() == [0, 1, 1, 3, 3]
    assert aligned.points.tolist() == [[5, 6, -1], [1, 2, 0], [3, 4, 2]]
    empty = KeypointTable.from_dict({})
    assert empty.align(["q"]).counts().tolist() == [0]
    assert len(table.align([])) == 0


def test_labels_of_other_pictures_are_refused(table):
    with pytest.raises(UserError, match=r"of other pictures \(\w+ \.\.\.\) than the data set's \(q \.\.\.\)"):
        table.align(["q", "r"])


def test_table_keep_and_from_flat(table):
    kept = table.keep(np.array([False, True, True]))
    assert kept.offsets.tolist() == [0, 1, 1, 2]
    flat = KeypointTable.from_flat(["u", "v", "w"], np.array([2, 0, 2]), np.array([[1, 1, 0], [2, 2, 1], [3, 3, 2]]))
    assert flat.counts().tolist() == [1, 0, 2]
    assert flat.of(2)[:, 0].tolist() == [1, 3]


def test_table_file_round_trip(table, tmp_path):
    path = tmp_path / "Keypoints.pickle"
    table.save(path)
    again = KeypointTable.load(path)
    assert again.names.tolist() == table.names.tolist()
    assert again.offsets.tolist() == table.offsets.tolist()
    np.testing.assert_array_equal(again.points, table.points)
    assert again.points.dtype == np.float32
    KeypointTable.from_dict({}).save(path)
    assert len(KeypointTable.load(path)) == 0


def test_table_reads_unknown_clusters_as_none():
    table = KeypointTable.from_dict({"a": np.array([[1, 2, np.nan]])})
    assert table.clusters().tolist() == [-1]


@pytest.mark.parametrize(
    "content, words",
    [
        ([1, 2], "not a dictionary"),
        ({1: np.zeros((1, 3))}, "image names as keys"),
        ({"p.jpg": np.zeros((4, 2))}, r"p\.jpg has shape \(4, 2\)"),
        ({"p.jpg": np.zeros(3)}, r"shape \(3,\)"),
        ({"p.jpg": np.array([["a", "b", "c"]])}, "not an array of numbers"),
        ({"q.jpg": [], "p.jpg": np.array([[1, np.nan, 0]])}, r"point of p\.jpg"),
    ],
)
def test_table_refuses_odd_content(content, words, tmp_path):
    dump_pickle(content, tmp_path / "odd.pickle")
    with pytest.raises(UserError, match=words) as caught:
        KeypointTable.load(tmp_path / "odd.pickle")
    assert "odd.pickle" in str(caught.value)


def test_figures_of_a_table():
    table = KeypointTable.from_dict({"a": [[1, 1, 0], [2, 2, 4]], "b": [[3, 3, 4], [4, 4, -1], [5, 5, -1]]})
    assert table.figures() == {"keypoints_per_picture": 2.5, "clusters": 2.0}
    assert table.describe() == "2.5 keypoints per picture in 2 clusters"


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ([16, 3, 1], "the point (16, 3, 1) of b is off the grid of 16 cells"),
        ([3, -1, 1], "the point (3, -1, 1) of b is off the grid of 16 cells"),
        ([3, 3, 5], "the point (3, 3, 5) of b is of none of the 5 clusters"),
        ([3, 3, -2], "the point (3, 3, -2) of b is of none of the 5 clusters"),
        ([3, 3, 0.5], "the point (3, 3, 0.5) of b is of none of the 5 clusters"),
    ],
)
def test_labels_off_the_grid_or_of_no_cluster_are_named(tmp_path, point, said):
    path = tmp_path / "labels.pickle"
    dump_pickle({"a": np.array([[0, 0, 0], [15, 15, 4]]), "b": np.array([[1, 1, -1], point])}, path)
    with pytest.raises(UserError, match=re.escape(f"{path}: {said}; make the file again")):
        KeypointTable.load(path, side=16, clusters=5)


def test_labels_of_too_many_clusters_to_count(tmp_path):
    """A count for each would fill any memory."""
    dump_pickle({"a": [[1, 1, 1e9]]}, tmp_path / "labels.pickle")
    with pytest.raises(UserError, match="is of none of the 100000 clusters"):
        KeypointTable.load(tmp_path / "labels.pickle")
