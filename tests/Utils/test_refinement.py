"""Points on pictures of a mark that landmarks tell only roughly."""

import cv2
import numpy as np
import pytest

from Utils.crops import apply, warp
from Utils.named_points import common_frame, fit, load_regressor
from Utils.refinement import SIDE, describe, gradients, view_map

# In sides of the picture; not its own mirror image.
SQUARE = np.array([(30, 30), (98, 30), (98, 98), (30, 98), (40, 30), (50, 30)]) / 128


def marks(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, 128, 128, 3) of a mark some 3 pixels from the middle, and where it is (n, 1, 2), in sides."""
    rng = np.random.default_rng(seed)
    middles = 64 + rng.normal(0, 3, (count, 1, 2))
    pictures = np.full((count, 128, 128, 3), 90, np.uint8)
    for picture, (middle,) in zip(pictures, middles, strict=True):
        for step, back in (((14, 0), 0), ((0, 9), 1)):  # |-
            ends = (np.array([middle - np.multiply(back, step), middle + step]) * 16 - 8).round().astype(int)
            cv2.line(picture, ends[0].tolist(), ends[1].tolist(), (220, 220, 220), 2, cv2.LINE_AA, 4)
    return pictures, middles / 128


def whole(pictures: np.ndarray) -> np.ndarray:
    """Maps to crops that show the whole picture."""
    return np.eye(2, 3)[None].repeat(len(pictures), axis=0)


def learned(count: int):
    """A regressor of marks, with its errors."""
    pictures, points = marks(count, 0)
    landmarks = SQUARE + np.random.default_rng(1).normal(0, 0.3 / 128, (count, len(SQUARE), 2))
    maps = whole(pictures)
    return fit(common_frame(landmarks, maps), landmarks, maps, points, ["middle"], pictures)


def test_points_move_to_what_they_look_like():
    regressor, errors, sizes = learned(20)
    pictures, points = marks(30, 5)
    landmarks = np.repeat(SQUARE[None], 30, axis=0)
    rough, unsure = regressor.predict(landmarks, whole(landmarks))
    fine, sure = regressor.predict(landmarks, whole(landmarks), pictures)
    before, after = (np.linalg.norm(found - points, axis=2).mean() for found in (rough, fine))
    assert before > 3 / 128
    assert after < 0.4 * before
    np.testing.assert_allclose((errors * sizes[:, None]).mean(), after, rtol=0.4)
    assert (sure > unsure).all()


@pytest.mark.parametrize("turn", [(0.0, 1.0, 1), (2.0, 1.5, 1), (0.5, 0.7, -1)])
def test_turned_and_mirrored_pictures_of_any_scale_look_alike(turn):
    angle, scale, mirror = turn
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    m = np.array([[c * mirror, -s, 0], [s * mirror, c, 0]])
    m[:, 2] = 0.5 - m[:, :2] @ (0.5, 0.5)
    regressor, _, _ = learned(20)
    pictures, points = marks(10, 6)
    landmarks = np.repeat(SQUARE[None], 10, axis=0)
    turned = np.stack([warp(picture, m * (1, 1, 128), 128, cv2.BORDER_REPLICATE) for picture in pictures])
    upright, _ = regressor.predict(landmarks, whole(landmarks), pictures)
    found, _ = regressor.predict(apply(m, landmarks), whole(pictures), turned)
    np.testing.assert_allclose(found, apply(m, upright), atol=1.5 / 128 * scale)
    assert np.linalg.norm(found - apply(m, points), axis=2).mean() < 1.5 / 128 * scale


def test_crops_may_be_of_any_size():
    regressor, _, _ = learned(20)
    pictures, points = marks(10, 6)
    small = np.stack([cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA) for picture in pictures])
    found, _ = regressor.predict(np.repeat(SQUARE[None], 10, axis=0), whole(pictures), small)
    assert np.linalg.norm(found - points, axis=2).mean() < 1.5 / 128


def test_a_point_that_nothing_tells_stays():
    """In pictures without anything to see, and of a single picture."""
    count = 12
    landmarks = SQUARE + np.random.default_rng(1).normal(0, 0.3 / 128, (count, len(SQUARE), 2))
    points = 0.5 + np.random.default_rng(2).normal(0, 3 / 128, (count, 2, 2))
    points[1:, 1] = np.nan
    pictures = np.full((count, 128, 128, 3), 90, np.uint8)
    maps = whole(pictures)
    regressor, _, _ = fit(common_frame(landmarks, maps), landmarks, maps, points, ["p", "q"], pictures)
    assert regressor.refiner.shares.tolist() == [1, 1]
    np.testing.assert_allclose(
        regressor.predict(landmarks, whole(landmarks), pictures)[0],
        regressor.predict(landmarks, whole(landmarks))[0],
    )


def test_it_is_kept(tmp_path):
    regressor, _, _ = learned(10)
    regressor.save(tmp_path / "a.pickle")
    again = load_regressor(tmp_path / "a.pickle", len(SQUARE))
    pictures, _ = marks(3, 5)
    landmarks = np.repeat(SQUARE[None], 3, axis=0)
    landmarks[1] = np.nan
    found, _ = again.predict(landmarks, whole(landmarks), pictures)
    np.testing.assert_array_equal(found, regressor.predict(landmarks, whole(landmarks), pictures)[0])
    assert np.isnan(found[1]).all()


def test_views_and_descriptions():
    view = view_map(np.array([[-1.0, -0.5], [1, 0.5]]))
    np.testing.assert_allclose(apply(view, np.array([[0.0, 0], [1.4, 0]])), [[64, 64], [SIDE, 64]])
    edge = np.zeros((128, 128, 3), np.uint8)
    edge[:, 64:] = 200
    channels = gradients(edge)
    assert channels[0, 64, 64] > 10 * channels[4, 64, 64].max()  # brighter to the right
    described = describe(channels, np.array([[64.0, 64], [64, 90], [50, 64]]))
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, atol=0.01)
    np.testing.assert_allclose(described[0], described[1], atol=1e-4)
    assert np.abs(described[0] - described[2]).max() > 0.1
