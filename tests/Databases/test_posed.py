"""Squares around boxes, and pictures that are turned and mirrored, by hand."""

import numpy as np
from PIL import Image

from Databases.database import crop_any_picture
from Databases.posed import (
    POSES,
    boxes_and_landmarks,
    contradicting,
    pose_maps,
    pose_maps_of,
    square_crop,
    squares,
)
from tests.Databases.test_custom import open_folder
from Utils import crops
from Utils.storage.experiment import Experiment
from Utils.storage.files import dump_pickle

QUARTER = np.array([[0.0, -1.0], [1.0, 0.0]])  # x to the right becomes down
MIRROR = np.array([[-1.0, 0.0], [0.0, 1.0]])


def test_a_square_holds_its_object_however_it_is_turned():
    (square,) = squares(np.array([[10.0, 20.0, 13.0, 24.0]]))  # 3 x 4, so the diagonal is 5
    assert square.tolist() == [9.0, 19.5, 14.0, 24.5]


def test_the_crop_of_a_square_may_reach_out_of_the_picture():
    crop = square_crop(np.array([0.0, 0.0, 100.0, 100.0]), 54, 0.08)
    assert crops.apply(crop, np.array([[-4.0, -4.0], [104.0, 104.0], [50.0, 50.0]])).round(9).tolist() == [
        [0, 0],
        [54, 54],
        [27, 27],
    ]


def test_a_posed_picture_has_its_object_in_the_middle_and_its_landmarks_along():
    boxes = np.array([[0.0, 10.0, 100.0, 110.0]] * 2)
    landmarks = np.array([[[60.0, 60.0], [np.nan, np.nan]]] * 2, np.float32)  # 10 to the right of the middle
    maps, sides = pose_maps_of(boxes, np.stack([QUARTER, MIRROR]))
    assert sides.tolist() == [130, 130]
    squares_there, moved = boxes_and_landmarks(boxes, landmarks, maps, sides)
    assert squares_there.tolist() == [[15, 15, 115, 115]] * 2
    assert moved[:, 0].tolist() == [[65, 75], [55, 65]]
    assert np.isnan(moved[:, 1]).all()


def test_training_pictures_are_read_in_their_poses(tmp_path):
    """A bright mark right of the middle of each picture: below it in the posed ones, where it was in all others."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(20):
        pixels = np.zeros((60, 80, 3), np.uint8)
        pixels[28:32, 43:47] = 255
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    plain = open_folder(folder, "poses=any", experiment_name="e")
    names = plain.training.names.tolist()
    dump_pickle(dict.fromkeys(names[1:], QUARTER), Experiment(tmp_path / "Logs", "e").poses())
    database = open_folder(folder, "poses=any", experiment_name="e")
    assert database.training.names.tolist() == names[1:]  # a picture of unknown pose is left out
    assert database.test.boxes.tolist() == [[-10, -20, 90, 80]] * len(database.test)

    def mark(picture: np.ndarray) -> list[float]:
        return (np.argwhere(picture[:, :, 0] > 200).mean(axis=0)[::-1] + 0.5).round(1).tolist()

    assert mark(database.read(database.training, 0)) == [65, 70]  # 130 x 130 pixels, 5 below the middle
    assert mark(database.read(database.test, 0)) == [45, 30]
    crop, to_crop = crop_any_picture(database, database.read(database.test, 0), np.array([0.0, 0, 80, 60]), 108)
    assert mark(crop) == [59, 54]
    np.testing.assert_allclose(crops.apply(to_crop, np.array([[40.0, 30.0]])), [[54, 54]])


def test_the_object_is_what_its_own_box_holds_not_the_square(tmp_path):
    """A box of 60 x 20 pixels in a square of 63, as it is and turned by a quarter."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(20):
        Image.fromarray(np.zeros((80, 100, 3), np.uint8)).save(folder / f"{i:02d}.png")
    (folder / "boxes.csv").write_text("file,x1,y1,x2,y2\n" + "".join(f"{i:02d}.png,20,30,80,50\n" for i in range(20)))
    points = np.array([[50.0, 40.0], [75.0, 40.0], [50.0, 65.0]])  # the middle, 25 to the right, 25 below
    plain = open_folder(folder, "poses=any", experiment_name="e")
    numbers = np.zeros(3, int)
    assert plain.in_box(plain.training, numbers, points).tolist() == [True, True, False]
    names = plain.training.names.tolist()
    dump_pickle(dict.fromkeys(names, QUARTER), Experiment(tmp_path / "Logs", "e").poses())
    posed = open_folder(folder, "poses=any", experiment_name="e")
    middle = (posed.training.boxes[0, :2] + posed.training.boxes[0, 2:]) / 2
    moved = posed.in_box(posed.training, numbers, points - (50, 40) + middle)
    assert moved.tolist() == [True, False, True]


def test_a_mirrored_pose_and_one_that_is_turned_by_90_degrees_contradict():
    turned, facing = pose_maps(POSES["any"]), pose_maps(POSES["mirrored"])
    assert np.flatnonzero(contradicting(turned, turned[:1])[0]).tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert np.flatnonzero(contradicting(turned, turned[11:])[0]).tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert np.flatnonzero(contradicting(facing, facing[5:6])[0]).tolist() == [0, 1, 2, 3, 4]
