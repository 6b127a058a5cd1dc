import numpy as np

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
