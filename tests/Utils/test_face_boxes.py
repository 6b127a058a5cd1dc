import numpy as np
import pytest

from Utils import face_boxes
from Utils.runtime.errors import UserError
from Utils.storage.pictures import write_jpeg

ASTRONAUT = np.array([177.0, 58, 270, 178])  # by hand: brows to chin, a third more for the forehead


def test_intersection_over_union_by_hand():
    a = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    b = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]])
    assert np.allclose(face_boxes.intersection_over_union(a, b), [1, 50 / 150, 0])


def test_median_box_stands_in_where_none_is_found_or_one_elsewhere():
    boxes = np.array([[10, 10, 50, 50], [12, 10, 52, 50], [14, 10, 54, 50], [np.nan] * 4, [80, 80, 90, 90]])
    settled, replaced = face_boxes.settle_aligned(boxes)
    median = np.array([13.0, 10, 53, 50])
    assert replaced.tolist() == [False, False, False, True, True]
    assert np.allclose(settled[3:], median)
    assert np.allclose(settled[0], [11.5, 10, 51.5, 50])


def test_no_face_at_all_is_an_error():
    with pytest.raises(UserError, match="no face was found"):
        face_boxes.settle_aligned(np.full((3, 4), np.nan))


def test_alignment_is_told_from_sizes_and_places():
    boxes = np.array([[10.0, 10, 50, 50], [12, 10, 52, 50], [np.nan] * 4])
    same, other = np.full((3, 2), 100), np.array([[100, 100], [100, 100], [90, 100]])
    assert face_boxes.are_aligned(boxes, same)
    assert not face_boxes.are_aligned(boxes, other)
    apart = np.array([[0.0, 0, 20, 20], [40, 40, 60, 60], [80, 80, 100, 100]])
    assert not face_boxes.are_aligned(apart, same)


def test_no_face_in_noise():
    noise = np.random.default_rng(0).integers(0, 255, (80, 70, 3)).astype(np.uint8)
    assert face_boxes.find_face(noise) is None


def test_a_face_is_found_where_it_is():
    skimage_data = pytest.importorskip("skimage.data")
    picture = skimage_data.astronaut()  # a portrait that scikit-image ships
    assert face_boxes.intersection_over_union(face_boxes.find_face(picture), ASTRONAUT) > 0.8
    mirrored = face_boxes.find_face(np.ascontiguousarray(picture[:, ::-1]))
    expected = np.array([512 - 270.0, 58, 512 - 177, 178])
    assert face_boxes.intersection_over_union(mirrored, expected) > 0.75
    assert face_boxes.find_face(picture[:, :100]) is None


def test_a_face_in_a_file_with_the_picture_s_size(tmp_path):
    skimage_data = pytest.importorskip("skimage.data")
    (tmp_path / "sub").mkdir()
    write_jpeg(skimage_data.astronaut()[:, :400], tmp_path / "sub" / "a.jpg")
    size, box = face_boxes.find_face_in_file(tmp_path, "sub/a.jpg")
    assert size == (400, 512)  # width, height
    assert face_boxes.intersection_over_union(box, ASTRONAUT) > 0.8
    write_jpeg(np.full((90, 70, 3), 99, np.uint8), tmp_path / "plain.jpg")
    assert face_boxes.find_face_in_file(tmp_path, "plain.jpg") == ((70, 90), None)
    assert "none.jpg does not exist" in face_boxes.find_face_in_file(tmp_path, "none.jpg")
