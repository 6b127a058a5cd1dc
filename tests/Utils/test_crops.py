import cv2
import numpy as np
import pytest

from Utils import crops
from Utils.runtime.errors import UserError

NOISE = np.random.default_rng(0).integers(0, 255, (218, 178, 3)).astype(np.uint8)


def test_face_window_by_hand():
    # d = ((1.2 * 120 - 50) + (2 * 170.5 - 60)) / 2 = 187.5, margin int(15.0) = 15
    assert crops.face_window([50, 60, 120, 170.5], 178, 218) == (35, 45, 135, 185)
    # cut off at the picture's first and last row and column
    assert crops.face_window([5, 10, 175, 215], 178, 218) == (0, 0, 177, 217)
    # d = ((12 - 4) + (20 - 4)) / 2 = 12 < 20: margin 8
    assert crops.face_window([4, 4, 10, 10], 178, 218) == (0, 0, 18, 18)


def test_face_crop_by_hand():
    m = crops.face_crop([50, 60, 120, 170.5], 178, 218, 256)
    assert np.allclose(m, [[2.56, 0, -35 * 2.56], [0, 256 / 140, -45 * 256 / 140]], atol=1e-12)
    corners = crops.apply(m, np.array([[35.0, 45.0], [135.0, 185.0], [85.0, 115.0]]))
    assert np.allclose(corners, [[0, 0], [256, 256], [128, 128]], atol=1e-9)


def test_a_box_outside_has_no_crop():
    with pytest.raises(UserError, match="outside its picture"):
        crops.face_crop([500, 500, 600, 600], 178, 218, 256)


def test_padded_window_by_hand():
    # mean side 150, a tenth of it is 15
    assert crops.padded_window([50, 60, 150, 260], 400, 270, 0.1).tolist() == [35, 45, 165, 270]
    assert crops.padded_window([0, 0, 400, 270], 400, 270, 0.1).tolist() == [0, 0, 400, 270]


def test_zoom_crop_by_hand():
    # of 450 pixels the middle 450 / 1.4 fill the crop
    m = crops.zoom_crop(450, 450, 256, 1.4)
    half = 450 / 1.4 / 2
    points = np.array([[225, 225], [225 - half, 225 + half], [225 + half, 225.0]])
    assert np.allclose(crops.apply(m, points), [[128, 128], [0, 256], [256, 128]], atol=1e-9)


@pytest.mark.parametrize(
    "m",
    [
        crops.face_crop([50, 60, 120, 170.5], 178, 218, 256),
        crops.zoom_crop(450, 450, 256, 1.4),
        crops.padded_crop([3.3, 7.7, 99.9, 55.5], 178, 218, 256, 0.08),
        np.array([[0.8, -0.6, 12.5], [0.6, 0.9, -3.25]]),
    ],
)
def test_round_trip_is_exact(m):
    points = np.random.default_rng(1).uniform(-100, 600, (500, 2))
    assert np.abs(crops.apply(crops.invert(m), crops.apply(m, points)) - points).max() < 1e-6
    identity = crops.compose(crops.invert(m), m)
    assert np.allclose(identity, [[1, 0, 0], [0, 1, 0]], atol=1e-9)


def test_compose_applies_the_inner_map_first():
    double, shift = np.array([[2.0, 0, 0], [0, 2, 0]]), np.array([[1.0, 0, 5], [0, 1, -1]])
    assert crops.apply(crops.compose(double, shift), np.array([[1.0, 1.0]])).tolist() == [[12, 0]]


def test_stacks_of_maps_and_unknown_points():
    maps = np.stack([crops.zoom_crop(128, 64, 256, 1.0), crops.zoom_crop(64, 64, 256, 1.0)])
    points = np.array([[[1.0, 1.0], [np.nan, np.nan]], [[2.0, 2.0], [3.0, 3.0]]])
    mapped = crops.apply(maps, points)
    assert mapped[0, 0].tolist() == [2, 4]
    assert np.isnan(mapped[0, 1]).all()
    assert mapped[1].tolist() == [[8, 8], [12, 12]]


def test_pixels_of_a_face_crop_are_those_of_resize():
    box = [50, 60, 120, 170.5]
    x1, y1, x2, y2 = crops.face_window(box, 178, 218)
    expected = cv2.resize(NOISE[y1:y2, x1:x2], (256, 256))
    assert np.array_equal(crops.warp(NOISE, crops.face_crop(box, 178, 218, 256), 256), expected)


def test_other_maps_have_the_same_half_pixel_centres():
    # The same window by warpAffine: equal to resize up to its fixed-point coordinates, away from the border.
    m = crops.face_crop([50, 60, 120, 170.5], 178, 218, 256)
    smooth = cv2.GaussianBlur(NOISE, (0, 0), 3)
    resized = crops.warp(smooth, m, 256)[8:-8, 8:-8].astype(int)
    warped = cv2.warpAffine(smooth, crops.pixel_map(m), (256, 256))[8:-8, 8:-8].astype(int)
    assert np.abs(resized - warped).max() <= 1


def test_a_dot_arrives_where_its_point_does():
    picture = np.zeros((450, 450), np.uint8)
    picture[200:204, 260:264] = 255  # its centre is the point (262, 202)
    m = crops.zoom_crop(450, 450, 256, 1.4)
    crop = crops.warp(picture, m, 256).astype(float)
    y, x = np.mgrid[:256, :256] + 0.5
    centre = np.array([(x * crop).sum(), (y * crop).sum()]) / crop.sum()
    assert np.abs(centre - crops.apply(m, np.array([[262.0, 202.0]]))[0]).max() < 0.05
