import numpy as np
import pytest

from Utils.predictions import Predictions, load_predictions, save_predictions
from Utils.runtime.errors import UserError
from Utils.storage.files import dump_pickle, load_pickle


def entry(landmarks=3, points=4, test=True):
    return {
        "prediction": np.full((landmarks, 2), 1.5),
        "groundtruth": np.ones((points, 2), np.float32),
        "is_it_test_sample": test,
    }


def test_round_trip(tmp_path):
    path = tmp_path / "EvaluateStep2Keypoints7.pickle"
    points = np.array([[[1, 2], [np.nan, np.nan]], [[3, 4], [5, 6.5]]])
    written = Predictions(np.array(["b", "a"]), points, np.ones((2, 3, 2)), np.array([True, False]))
    save_predictions(written, path)
    read = load_predictions(path)
    assert read.names.tolist() == ["b", "a"]
    np.testing.assert_array_equal(read.points, points)
    np.testing.assert_array_equal(read.groundtruth, written.groundtruth)
    assert read.is_test.tolist() == [True, False]
    assert load_pickle(path)["a"]["is_it_test_sample"] is False


def test_other_methods_may_write_lists_and_extra_keys(tmp_path):
    row = {"prediction": [[1, 2]], "groundtruth": [[3, 4]], "is_it_test_sample": np.bool_(True), "more": 1}
    dump_pickle({"a": row}, tmp_path / "p.pickle")
    assert load_predictions(tmp_path / "p.pickle").points.tolist() == [[[1, 2]]]


@pytest.mark.parametrize(
    "content, words",
    [
        ({}, "not a dictionary of images"),
        ([1], "not a dictionary of images"),
        ({"a": np.zeros((3, 2))}, "entry of a lacks"),
        ({"a": {"prediction": np.zeros((3, 2))}}, "entry of a lacks"),
        ({"a": entry() | {"prediction": np.zeros((3, 3))}}, r"entry of a: 'prediction' has shape \(3, 3\)"),
        ({"a": entry() | {"groundtruth": [["x", "y"]]}}, "entry of a: 'groundtruth' is not an array of numbers"),
        ({"a": entry(), "b": entry(landmarks=2)}, "entry of b has another number of points"),
        ({"a": entry(), "b": entry(points=5)}, "entry of b has another number of points"),
    ],
)
def test_odd_files(content, words, tmp_path):
    dump_pickle(content, tmp_path / "odd.pickle")
    with pytest.raises(UserError, match=words) as caught:
        load_predictions(tmp_path / "odd.pickle")
    assert "odd.pickle" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"prediction": np.array([[1, 2], [np.inf, 3], [1, 1]])},
            "entry of b: 'prediction' has a point over 1e\\+06 pixels away",
        ),
        ({"groundtruth": np.full((4, 2), 1e300)}, "entry of b: 'groundtruth' has a point over"),
        ({"prediction": [[10**400, 1]] * 3}, "entry of b: 'prediction' is not an array of numbers"),
        ({"is_it_test_sample": "yes"}, "entry of b has 'is_it_test_sample' neither true nor false"),
        ({"is_it_test_sample": 2}, "entry of b has 'is_it_test_sample' neither true nor false"),
    ],
)
def test_wrong_numbers_are_not_taken_for_right(tmp_path, change, said):
    dump_pickle({"a": entry(), "b": {**entry(), **change}}, tmp_path / "p.pickle")
    with pytest.raises(UserError, match=said):
        load_predictions(tmp_path / "p.pickle")


def test_keys_are_names(tmp_path):
    dump_pickle({"5": entry(), 5: entry()}, tmp_path / "p.pickle")
    with pytest.raises(UserError, match="the key 5 is not an image name"):
        load_predictions(tmp_path / "p.pickle")
