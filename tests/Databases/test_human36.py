import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock

from Databases import human36_preparation as preparation
from Databases.human36 import Human36
from tests.recordings import FRAMES, pose_of, write_recording
from Utils.crops import apply, warp
from Utils.hyperparameters import hyperparameters
from Utils.options import Paths
from Utils.runtime.errors import UserError
from Utils.storage.files import load_pickle
from Utils.storage.pictures import read_picture

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """A download, which stays as it is."""
    folder = tmp_path_factory.mktemp("recorded") / "Human3.6M"
    subjects = folder / "training" / "subjects"
    write_recording(subjects / "S1", "Posing 1.222", 1)
    write_recording(subjects / "S1", "Directions.111", 0)
    write_recording(subjects / "S1", "Eating.111", 9)  # not of the protocol
    write_recording(subjects / "S5", "Waiting.111", 2, videos="Video")
    write_recording(subjects / "S11", "Walking 1.111", 3)
    write_recording(subjects / "S4", "Walking 1.111", 3)  # nor is this subject
    return folder


@pytest.fixture(scope="module")
def whole(recorded, tmp_path_factory) -> Path:
    """What one process makes of it, which stays as it is."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    preparation.prepare(recorded, folder, workers=1)
    return folder


@pytest.fixture
def download(recorded, tmp_path) -> Path:
    """A copy of the download, to be changed."""
    return Path(shutil.copytree(recorded, tmp_path / "Human3.6M"))


def snapshot(folder: Path) -> dict[str, bytes]:
    files = [f for f in folder.rglob("*") if f.is_file() and ".prepared" not in f.parts]
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


def test_preparation_numbers_pictures_in_sorted_order(recorded, whole, tmp_path):
    """With two processes as with one."""
    summary = preparation.prepare(recorded, tmp_path / "out", workers=2)
    assert snapshot(tmp_path / "out") == snapshot(whole)
    assert summary.skipped == []
    # 6 frames each; the second of Waiting has an empty mask; S11 gives frames 0 and 50
    assert summary.pictures == {"train": 17, "test": 2}
    assert (summary.recordings, summary.extracted, summary.left_out) == (4, 4, 1)
    assert sorted(os.listdir(tmp_path / "out" / "images" / "train")) == [f"{i:06d}.jpg" for i in range(17)]
    boxes = load_pickle(tmp_path / "out" / "HumanBoundingBoxes.pickle")
    joints = load_pickle(tmp_path / "out" / "GroundtruthKeypoints.pickle")
    assert list(boxes) == list(joints)
    assert list(boxes) == [f"/train/{i:06d}.jpg" for i in range(17)] + ["/test/000000.jpg", "/test/000001.jpg"]
    # The box is 39 x 79 about (59.5, 69.5); 1.5 * 79 video pixels become 450.
    scale = 450 / 118.5
    expected = [225 - 19.5 * scale, 225 - 39.5 * scale, 225 + 19.5 * scale, 225 + 39.5 * scale]
    assert np.allclose(boxes["/train/000003.jpg"], expected)
    # Directions of S1 comes first: its frame 30 is picture 3. S5's third picture is its frame 30.
    assert np.allclose(joints["/train/000003.jpg"], (pose_of(0)[30] - [59.5, 69.5]) * scale + 225, atol=1e-3)
    assert np.allclose(joints["/train/000014.jpg"], (pose_of(2)[30] - [59.5, 69.5]) * scale + 225, atol=1e-3)
    assert np.allclose(joints["/test/000001.jpg"], (pose_of(3)[50] - [59.5, 69.5]) * scale + 225, atol=1e-3)
    picture = read_picture(tmp_path / "out" / "images" / "train" / "000003.jpg")
    assert picture.shape == (450, 450, 3)
    assert np.abs(picture[10:-10, 10:-10].astype(int) - (60 + 3 * 30)).max() <= 6  # all of frame 30


def test_crop_of_a_box_by_hand():
    # 300 high: 450 video pixels become 450, the box's centre (100, 200) the picture's
    maps = preparation.crop_of_box(np.array([[50, 50, 150, 350], [50, 50, 150, 200]]))
    assert np.allclose(maps[0], [[1, 0, 125], [0, 1, 25]])
    assert np.allclose(apply(maps[1], np.array([[100.0, 125], [100 + 112.5, 125 - 112.5]])), [[225, 225], [450, 0]])
    video = np.full((400, 300, 3), 200, np.uint8)
    picture = warp(video, maps[0], (450, 450))
    assert picture[24, 225].tolist() == [0, 0, 0]  # above the video
    assert picture[25, 225].tolist() == [200, 200, 200]
    assert picture[225, 124].max() == 0
    assert picture[225, 125].min() == 200


def test_a_second_run_skips_what_is_done_and_repairs_what_is_cut_off(download, tmp_path):
    out = tmp_path / "out"
    preparation.prepare(download, out, workers=1)
    before = snapshot(out)
    assert preparation.prepare(download, out, workers=1).extracted == 0
    cut = out / "images" / "train" / "000007.jpg"
    cut.write_bytes(cut.read_bytes()[:100])
    (out / "images" / "test" / "000001.jpg").unlink()
    (out / "HumanBoundingBoxes.pickle").unlink()
    assert preparation.prepare(download, out, workers=2).extracted == 1
    assert snapshot(out) == before


@pytest.mark.parametrize("stopped_in", ["write_jpeg", "_link"])
def test_a_run_that_was_stopped_is_completed(recorded, whole, tmp_path, monkeypatch, stopped_in):
    stopped = tmp_path / "stopped"
    real, calls = getattr(preparation, stopped_in), []

    def stop_at_the_ninth(*arguments):
        calls.append(arguments)
        if len(calls) == 9:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(preparation, stopped_in, stop_at_the_ninth)
        with pytest.raises(KeyboardInterrupt):
            preparation.prepare(recorded, stopped, workers=1)
    preparation.prepare(recorded, stopped, workers=1)
    assert snapshot(stopped) == snapshot(whole)


def test_without_hard_links_pictures_are_copied(recorded, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation.os, "link", refuse_links)
    preparation.prepare(recorded, tmp_path / "copied", workers=1)
    assert snapshot(tmp_path / "copied") == snapshot(whole)


def refuse_links(*_):
    raise PermissionError


def test_a_recording_that_arrives_later_takes_its_place(download, whole, tmp_path):
    late = download / "training" / "subjects" / "S1" / "Videos" / "Directions.111.mp4"
    late.rename(tmp_path / "kept.mp4")
    out = tmp_path / "out"
    summary = preparation.prepare(download, out, workers=1)
    assert summary.skipped == [f"S1/Directions.111: {late} does not exist"]
    assert summary.pictures == {"train": 11, "test": 2}
    (tmp_path / "kept.mp4").rename(late)
    assert preparation.prepare(download, out, workers=1).extracted == 1
    assert snapshot(out) == snapshot(whole)


def test_unusable_recordings_are_named_and_skipped(download, tmp_path):
    subjects = download / "training" / "subjects"
    write_recording(subjects / "S6", "Greeting.1", 4, frames=(60, 58, 60))
    write_recording(subjects / "S7", "Greeting.1", 5)
    (subjects / "S7" / "Videos" / "Greeting.1.mp4").write_bytes(b"no video")
    write_recording(subjects / "S8", "Greeting.1", 5)
    (subjects / "S8" / "MyPoseFeatures" / "D2_Positions" / "Greeting.1.cdf").write_bytes(b"no poses")
    write_recording(subjects / "S9", "Greeting.1", 5)
    masks = subjects / "S9" / "MySegmentsMat" / "ground_truth_bb" / "Greeting.1.mat"
    masks.write_bytes(masks.read_bytes()[:2000])
    (subjects / "S5" / "MySegmentsMat" / "ground_truth_bb" / "Waiting.111.mat").unlink()
    summary = preparation.prepare(download, tmp_path / "out", workers=2)
    assert [line.split(":")[0] for line in summary.skipped] == [
        "S5/Waiting.111",
        "S6/Greeting.1",
        "S7/Greeting.1",
        "S8/Greeting.1",
        "S9/Greeting.1",
    ]
    assert "Waiting.111.mat does not exist" in summary.skipped[0]
    assert "video 60 frames, pose 58, masks 60" in summary.skipped[1]
    assert "Greeting.1.mp4 is no" in summary.skipped[2]
    assert "Greeting.1.cdf cannot be read" in summary.skipped[3]
    assert "Greeting.1.mat cannot be read" in summary.skipped[4]
    assert summary.pictures == {"train": 12, "test": 2}
    assert "S6/Greeting.1" not in str(preparation.prepare(download, tmp_path / "b", 2, frame_tolerance=2).skipped)


def test_the_script_reports_and_its_exit_code_tells(launcher, download, tmp_path):
    command = [ROOT / "PrePreprocessHuman.py", "--path_to_extract_dataset", tmp_path / "out", "--num_workers", 0]
    (download / "training" / "subjects" / "S1" / "MyPoseFeatures" / "D2_Positions" / "Posing 1.222.cdf").unlink()
    outcome = launcher.run(tmp_path, [*command, "--path_to_Human", download])
    assert outcome.code == 1, outcome
    assert "11 train, 2 test pictures of 3 videos (3 extracted now)" in outcome.output
    assert "skipped S1/Posing 1.222" in outcome.output
    outcome = launcher.run(tmp_path, [*command, "--path_to_Human", tmp_path / "no"])
    assert outcome.code == 2, outcome
    assert outcome.errors.startswith("error: --path_to_Human")


def test_a_folder_without_subjects_is_named(tmp_path):
    with pytest.raises(UserError, match="has no training/subjects/S"):
        preparation.prepare(tmp_path, tmp_path / "out", workers=1)


def test_box_of_a_mask_by_hand():
    mask = np.zeros((10, 12), np.uint8)
    mask[3:6, 2] = 1
    mask[4, 2:9] = 1
    assert preparation.box_of_mask(mask) == (2, 3, 8, 5)
    assert preparation.box_of_mask(0 * mask) == (0, 0, 0, 0)


# The loader


@pytest.fixture
def prepared(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "out")
    (tmp_path / "main.yaml").write_text(f"Human_datapath: {tmp_path / 'out'}\n")
    return tmp_path


def open_tree(prepared, *settings) -> Human36:
    hyper = hyperparameters(settings, {}, Human36)
    return Human36.open(SimpleNamespace(paths=Paths(prepared / "main.yaml"), hyper=hyper, protocol="paper"))


def test_regression_pictures_are_as_many_as_is_asked_for(prepared):
    regression = open_tree(prepared, "regression_step=8").regression
    assert regression.names.tolist() == ["/train/000000.jpg", "/train/000008.jpg", "/train/000016.jpg"]
    with pytest.raises(UserError, match="--set regression_step=0: must be at least 1"):
        open_tree(prepared, "regression_step=0")


def test_loader_reads_what_the_preparation_writes(prepared):
    database = open_tree(prepared)
    database.check_cheaply()
    assert database.defaults["number_of_clusters"] == 250
    assert (database.ridge_samples, database.constant_background) == (800, True)
    assert len(database.training) == 17
    assert database.regression.names.tolist() == ["/train/000000.jpg"]  # every 50th
    assert database.test.names.tolist() == ["/test/000000.jpg", "/test/000001.jpg"]
    assert database.test.landmarks.shape == (2, 32, 2)
    assert database.read(database.test, 1).shape == (450, 450, 3)


def test_zoom_crop_by_hand(prepared):
    database = open_tree(prepared)
    m = database.crop(database.training.boxes[0], 450, 450, 256)
    scale = 1.4 * 256 / 450
    assert np.allclose(m, [[scale, 0, 128 - 225 * scale], [0, scale, 128 - 225 * scale]])
    assert warp(database.read(database.training, 0), m, 256).shape == (256, 256, 3)


def test_left_and_right_in_picture_order():
    names = np.arange(32.0)
    points = np.zeros((3, 32, 2))
    points[:, :, 1] = names  # y tells which joint it was
    points[:, [1, 2], 0] = 10  # right of 6 and 7
    points[1, [6, 7], 0] = 20  # not in the second picture
    points[2, 7, 0] = 20  # and in the third the legs are in order
    body = {1: 6, 25: 17, 18: 26, 27: 19, 20: 28, 29: 21, 30: 22, 31: 23}
    legs = {2: 7, 3: 8, 4: 9, 5: 10}
    expected = np.tile(names, (3, 1))
    for row, pairs in ((0, {**body, **legs}), (2, body)):
        for a, b in pairs.items():
            expected[row, [a, b]] = b, a
    database = Human36.__new__(Human36)
    ordered = database.order_landmarks(points)
    assert np.array_equal(ordered[:, :, 1], expected)
    assert np.array_equal(points[0, :, 1], names)  # what came in is as it was


def test_normaliser_is_the_distance_of_the_shoulders():
    points = np.zeros((1, 32, 2))
    points[0, 25], points[0, 17] = (10, 10), (40, 50)
    assert Human36.__new__(Human36).normalisers(points).tolist() == [50]


def test_what_is_missing_is_named(prepared):
    out = prepared / "out"
    (out / "images" / "train" / "000016.jpg").unlink()
    with pytest.raises(UserError, match=r"1 picture of the training list .* first .*images/train/000016\.jpg"):
        open_tree(prepared).check_cheaply()
    (out / "GroundtruthKeypoints.pickle").unlink()
    with pytest.raises(UserError, match=r"GroundtruthKeypoints\.pickle does not exist; run PrePreprocessHuman\.py"):
        open_tree(prepared)


def test_a_video_that_breaks_off_is_named_and_its_numbers_are_not_left_empty(download, tmp_path, monkeypatch):
    subjects = download / "training" / "subjects"
    write_recording(subjects / "S1", "Directions.111", 0, frames=(35, FRAMES, FRAMES))
    monkeypatch.setattr(preparation, "Video", lambda _: SimpleNamespace(frames=FRAMES))
    summary = preparation.prepare(download, tmp_path / "out", workers=1)
    assert len(summary.skipped) == 1
    assert summary.skipped[0].startswith("S1/Directions.111: ")
    assert summary.skipped[0].endswith("Directions.111.mp4 breaks off at frame 35")
    assert summary.pictures == {"train": 11, "test": 2}
    assert sorted(os.listdir(tmp_path / "out" / "images" / "train")) == [f"{i:06d}.jpg" for i in range(11)]


def test_one_process_at_a_time_writes_a_folder(recorded, tmp_path):
    output = tmp_path / "out"
    (output / ".prepared").mkdir(parents=True)
    with FileLock(output / ".prepared" / ".lock"), pytest.raises(UserError, match="another process is writing"):
        preparation.prepare(recorded, output, workers=1)
    assert preparation.prepare(recorded, output, workers=1).extracted == 4
