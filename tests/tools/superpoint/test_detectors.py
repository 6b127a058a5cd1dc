import cv2
import numpy as np
import pytest

from tools.superpoint import detectors


def test_suppression_keeps_the_best_of_a_square():
    points = np.array([[10.0, 10.0], [14.0, 14.0], [15.0, 10.0], [40.0, 10.0]])
    scores = np.array([1.0, 3.0, 2.0, 0.5])
    assert detectors.suppress_square(points, scores, 4, 10).tolist() == [1, 3]
    assert detectors.suppress_square(points, scores, 3, 10).tolist() == [1, 2, 0, 3]
    assert detectors.suppress_square(points, scores, 3, 2).tolist() == [1, 2]
    assert len(detectors.suppress_square(points[:0], scores[:0], 3, 2)) == 0


def test_refined_points_lie_between_pixels():
    heat = np.zeros((9, 12))
    heat[4, 5] = heat[4, 6] = 0.3  # between two pixels
    heat[0, 10] = 0.2  # alone, at the border
    refined = detectors.refine(heat, np.array([[5.0, 4.0], [10.0, 0.0]]))
    np.testing.assert_allclose(refined, [[5.5, 4.0], [10.0, 0.0]])


@pytest.mark.parametrize("name", ["fast", "harris", "orb", "sift"])
def test_opencv_finds_the_corners_of_a_board(name):
    board = np.kron((np.indices((6, 8)).sum(0) % 2).astype(np.uint8), np.full((40, 40), 200, np.uint8))
    board = cv2.GaussianBlur(board, (0, 0), 1.0)
    valid = np.ones(board.shape, bool)
    found = detectors.features(getattr(detectors, name), board, valid, 4, 300)
    assert 0 < len(found.points) <= 300
    if name in ("harris", "fast"):
        corners = np.stack(np.meshgrid(np.arange(40, 320, 40), np.arange(40, 240, 40)), -1).reshape(-1, 2) - 0.5
        gaps = np.linalg.norm(corners[:, None] - found.points[None], axis=-1).min(1)
        assert (gaps < 5).mean() > 0.9
