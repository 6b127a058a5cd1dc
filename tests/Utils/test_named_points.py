"""Named points on hand-made landmarks: a square that moves, turns, grows and bends."""

import numpy as np
import pytest

from Utils.crops import apply
from Utils.named_points import common_frame, fit, load_regressor, most_telling, to_frame
from Utils.runtime.errors import UserError

NAN = float("nan")
SHAPE = np.array([(0, 0), (40, 0), (40, 40), (0, 40), (20, 0), (40, 20), (20, 40), (0, 20)], np.float64)
POINT = np.array([[10.0, 12.0]])


def still(landmarks: np.ndarray, width: float = 100, height: float = 100) -> np.ndarray:
    """Maps from the pixels of pictures to crops that show them whole."""
    return np.tile(np.diag((1 / width, 1 / height, 1))[:2], (len(landmarks), 1, 1))


def frame_of(landmarks):
    return common_frame(landmarks, still(landmarks))


def learned(landmarks, points, names=("p",), frame=None):
    return fit(frame or frame_of(landmarks), landmarks, still(landmarks), points, list(names))


def points_in(regressor, landmarks):
    return regressor.predict(landmarks, still(landmarks))


def turned(points: np.ndarray, degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    c, s = scale * np.cos(np.deg2rad(degrees)), scale * np.sin(np.deg2rad(degrees))
    return points @ np.array([[c, s], [-s, c]]) + shift


def many(count: int, noise: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (n, 8, 2) and points (n, 1, 2): the left side moves, and the point with half of it."""
    rng = np.random.default_rng(seed)
    move = rng.normal(0, 3, count)
    landmarks = SHAPE + rng.normal(0, noise, (count, *SHAPE.shape))
    landmarks[:, [0, 3, 7], 1] += move[:, None]
    points = POINT + np.stack([0 * move, move / 2], axis=1)[:, None]
    return landmarks, points


@pytest.mark.parametrize("turn", [(0, 1, (0, 0)), (90, 1, (100, 3)), (200, 3.5, (-20, 40))])
def test_one_picture_is_enough_for_a_rigid_object(turn):
    """However the object is turned, from one annotated picture to another."""
    landmarks = np.stack([SHAPE, turned(SHAPE, *turn)])
    to_crops = np.concatenate([still(SHAPE[None], 400, 300), still(SHAPE[None], 300, 400)])
    regressor, errors, sizes = learned(landmarks[:1], POINT[None], frame=common_frame(landmarks, to_crops))
    np.testing.assert_allclose(regressor.predict(landmarks, to_crops)[0][1], turned(POINT, *turn), atol=1e-6)
    assert np.isnan(errors).all()
    np.testing.assert_allclose(sizes, [2 * 600**0.5], atol=1e-6)


def test_a_mirrored_object_is_seen_as_one():
    landmarks = np.stack([SHAPE * (1, 0.6), SHAPE * (-1, 0.6)])
    landmarks[:, 2] += ((8, 0), (-8, 0))
    regressor, _, _ = learned(landmarks[:1], POINT[None], frame=frame_of(landmarks))
    np.testing.assert_allclose(points_in(regressor, landmarks)[0][1], POINT * (-1, 1), atol=1e-6)


def test_the_error_falls_with_annotated_pictures_and_leave_one_out_tells_it():
    landmarks, points = many(400)
    frame = frame_of(landmarks)
    expected, measured = [], []
    for count in (2, 5, 20, 200):
        regressor, errors, sizes = learned(landmarks[:count], points[:count], frame=frame)
        off = points_in(regressor, landmarks[200:])[0] - points[200:]
        measured.append(np.linalg.norm(off, axis=2).mean())
        expected.append((errors * sizes[:, None]).mean())
    assert measured[3] < measured[2] < measured[1]
    assert measured[3] < 0.3
    np.testing.assert_allclose(expected[3], measured[3], rtol=0.2)


@pytest.mark.parametrize("mirror", [False, True])
def test_crops_tell_where_an_object_is_if_it_stands_alike_in_them(mirror):
    """The landmarks' noise moves and turns the frame; the crops around the objects do not move."""
    landmarks, points = (own + 20 for own in many(60, noise=3))
    if mirror:
        landmarks[::2], points[::2] = (np.abs(own[::2] - (100, 0)) for own in (landmarks, points))
    shifts = np.random.default_rng(1).normal(0, 100, (60, 1, 2))
    errors = []
    for moved in (0 * shifts, shifts):
        frame = frame_of(landmarks + moved)
        regressor, _, _ = learned((landmarks + moved)[:20], (points + moved)[:20], frame=frame)
        off = points_in(regressor, (landmarks + moved)[20:])[0] - (points + moved)[20:]
        errors.append(np.linalg.norm(off, axis=2).mean())
    assert errors[0] < 0.9 * errors[1]


def test_a_crop_that_is_far_off_tells_nothing():
    landmarks, points = (own + 20 for own in many(60, noise=3))
    regressor, _, _ = learned(landmarks, points)
    away = np.linspace(0, 200, 401)[:, None, None] * (1.0, 0.0)
    found = points_in(regressor, landmarks[:1] + away)[0] - away
    assert np.linalg.norm(found[0] - found[1]) > 0.1  # near, they do tell
    np.testing.assert_allclose(found[200:], found[-1:].repeat(201, axis=0), atol=1e-6)
    assert np.linalg.norm(np.diff(found, axis=0), axis=2).max() < 1  # without a jump


def test_missing_landmarks_ride_on_the_others():
    landmarks, points = many(60, noise=1.5)
    regressor, _, _ = learned(landmarks, points)
    gaps = landmarks.copy()
    gaps[:30, [0, 4]] = NAN
    gaps[30, 1:] = NAN
    found, confidence = points_in(regressor, gaps)
    whole, sure = points_in(regressor, landmarks)
    assert np.linalg.norm(found[:30] - whole[:30], axis=2).max() < 4
    assert (confidence[:30] < sure[:30]).all()
    assert np.isnan(found[30]).all()
    assert confidence[30] == 0
    np.testing.assert_array_equal(found[31:], whole[31:])


def test_points_may_be_annotated_in_some_pictures_only():
    landmarks, points = many(30)
    both = np.concatenate([points, points + 5], axis=1)
    both[4:, 1] = NAN
    regressor, errors, _ = learned(landmarks, both, ("p", "q"))
    assert np.isnan(errors[4:, 1]).all()
    assert regressor.counts.tolist() == [30, 4]
    both[:, 1] = NAN
    with pytest.raises(UserError, match="no annotated picture shows point q"):
        learned(landmarks, both, ("p", "q"))


def test_a_picture_with_wrong_landmarks_does_no_harm():
    landmarks, points = many(40)
    wrong = points.copy()
    wrong[7] += 300
    regressor, errors, _ = learned(landmarks, wrong)
    rest = np.arange(40) != 7
    assert np.linalg.norm(points_in(regressor, landmarks)[0] - points, axis=2)[rest].max() < 1.5
    assert errors[7] > 5


def test_pictures_that_tell_most_are_of_different_kinds():
    landmarks = np.repeat(SHAPE[None], 9, axis=0)
    landmarks[:5, 7] += (0, 6)
    landmarks[5:, 7] -= (0, 6)
    chosen = most_telling(frame_of(landmarks), landmarks, still(landmarks), 9).tolist()
    assert {i < 5 for i in chosen[:2]} == {True, False}
    assert sorted(chosen) == list(range(9))


def test_it_is_kept_and_belongs_to_its_landmarks(tmp_path):
    landmarks, points = many(20)
    regressor, _, _ = learned(landmarks, points)
    regressor.save(tmp_path / "a.pickle")
    again = load_regressor(tmp_path / "a.pickle", 8)
    assert again.names == ["p"]
    np.testing.assert_array_equal(points_in(again, landmarks)[0], points_in(regressor, landmarks)[0])
    assert points_in(again, landmarks[:0])[0].shape == (0, 1, 2)
    with pytest.raises(UserError, match="does not belong to these 9 landmarks"):
        load_regressor(tmp_path / "a.pickle", 9)


def test_without_landmarks_there_is_no_frame():
    with pytest.raises(UserError, match="no picture shows two landmarks"):
        frame_of(np.full((3, 8, 2), NAN))


def test_maps_bring_pictures_to_the_shape():
    moved = turned(SHAPE, 30, 2, (5, 6))[None]
    np.testing.assert_allclose(apply(to_frame(SHAPE, moved), moved)[0], SHAPE, atol=1e-6)
