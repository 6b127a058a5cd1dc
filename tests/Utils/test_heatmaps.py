import pytest
import torch

from Utils.heatmaps import centroids, detector_targets, gaussian_targets, maxima

E, C = 0.41111228, 0.16901332


def targets(points, images=None, clusters=None, shape=(1, 1, 4, 5)):
    n = len(points)
    images = torch.zeros(n, dtype=torch.long) if images is None else torch.tensor(images)
    clusters = torch.zeros(n, dtype=torch.long) if clusters is None else torch.tensor(clusters)
    return gaussian_targets(images, clusters, torch.tensor(points), shape)


@pytest.mark.parametrize(
    "point, expected",
    [
        ([2, 1], [[0, C, E, C, 0], [0, E, 1, E, 0], [0, C, E, C, 0], [0, 0, 0, 0, 0]]),
        ([0, 0], [[1, E, 0, 0, 0], [E, C, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]),
        ([4, 3], [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, C, E], [0, 0, 0, E, 1]]),
        ([4, 0], [[0, 0, 0, E, 1], [0, 0, 0, C, E], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]),
        ([0, 2], [[0, 0, 0, 0, 0], [E, C, 0, 0, 0], [1, E, 0, 0, 0], [E, C, 0, 0, 0]]),
    ],
)
def test_gaussian_in_the_middle_and_at_each_border(point, expected):
    torch.testing.assert_close(targets([point])[0, 0], torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("point", [[2.0, 1.0], [2.3, 1.4], [1.5, 1.75], [2.49, 2.2]])
def test_the_centroid_of_gaussians_mixed_between_cells(point):
    x, y = (int(c) for c in point)
    a, b = point[0] - x, point[1] - y
    corners = [
        ((x, y), (1 - a) * (1 - b)),
        ((x + 1, y), a * (1 - b)),
        ((x, y + 1), (1 - a) * b),
        ((x + 1, y + 1), a * b),
    ]
    maps = sum(share * targets([cell], shape=(1, 1, 6, 7)) for cell, share in corners)
    torch.testing.assert_close(centroids(maps)[0][0, 0], torch.tensor(point))


@pytest.mark.parametrize("point", [[-1, 1], [5, 1], [2, -1], [2, 4], [-1, -1]])
def test_keypoints_off_the_grid_leave_no_trace(point):
    assert targets([point]).abs().sum() == 0


def test_gaussians_of_a_batch_go_to_their_maps():
    maps = targets([[1, 1], [3, 3], [2, 1]], [0, 1, 1], [2, 0, 0], (2, 3, 5, 5))
    assert maps[0, 2, 1, 1] == 1
    assert maps[1, 0, 3, 3] == 1
    assert maps[1, 0, 1, 2] == 1
    assert maps[1, 0, 2, 2] == pytest.approx(E)  # the edge of one over the corner of the other
    assert maps[[0, 0, 1, 1], [0, 1, 1, 2]].abs().sum() == 0
    none = torch.zeros(0, dtype=torch.long)
    assert gaussian_targets(none, none, torch.zeros(0, 2), (2, 3, 5, 5)).sum() == 0


def test_detector_targets():
    points = torch.tensor([[0, 0], [4, 3], [5, 0], [1.4, 1.6]])
    maps = detector_targets(torch.tensor([0, 1, 1, 1]), points, (2, 4, 5))
    assert maps.shape == (2, 1, 4, 5)
    assert maps.nonzero().tolist() == [[0, 0, 0, 0], [1, 0, 2, 1], [1, 0, 3, 4]]
    assert maps.max() == 1


@pytest.mark.parametrize("cell", [(0, 0), (0, 3), (4, 0), (4, 3), (2, 1), (0, 1)])
def test_maxima_of_every_corner_and_the_first_column(cell):
    x, y = cell
    maps = torch.zeros(2, 3, 4, 5)
    maps[1, 2, y, x] = 0.75
    points, confidence = maxima(maps)
    assert points[1, 2].tolist() == [x, y]
    assert confidence[1, 2] == 0.75
    assert confidence.sum() == 0.75


def test_the_centroid_lies_between_cells():
    maps = torch.zeros(1, 2, 16, 16)
    maps[0, 0, 5, 7], maps[0, 0, 5, 8] = 1.0, 0.5
    maps[0, 1, 0, 0], maps[0, 1, 2, 1] = 1.0, 1.0 - 1e-6  # at the corner, where the window is cut
    maps[0, 0, 12, 12] = 0.9  # a second place, out of the window
    points, confidence = centroids(maps)
    torch.testing.assert_close(points[0], torch.tensor([[7 + 0.5 / 1.5, 5.0], [0.5, 1.0]]))
    torch.testing.assert_close(confidence[0], torch.tensor([1.0, 1.0]))


def test_the_centroid_of_an_empty_map_is_its_maximum():
    points, confidence = centroids(-torch.ones(1, 1, 8, 8))
    assert points.tolist() == [[[0.0, 0.0]]]
    assert confidence.tolist() == [[-1.0]]


def test_the_centroid_of_a_published_gaussian_is_its_cell():
    maps = gaussian_targets(torch.tensor([0]), torch.tensor([0]), torch.tensor([[6.0, 3.0]]), (1, 1, 16, 16))
    torch.testing.assert_close(centroids(maps)[0], torch.tensor([[[6.0, 3.0]]]))
