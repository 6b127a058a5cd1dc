"""The rendered laboratory: kinematics, files and measures without a renderer; pictures where embreex is installed."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from Databases import DATABASES
from Databases import human36_preparation as preparation
from Databases.database import ImageSet
from tools.people import make, measure, recordings
from tools.people.cameras import CAMERAS
from tools.people.motion import move
from tools.people.skeleton import Build, make_skeleton, pose_bones, pose_joints
from tools.people.subjects import SUBJECTS
from Utils.crops import apply
from Utils.keypoints import KeypointTable
from Utils.options import default_options
from Utils.storage.files import load_pickle
from Utils.storage.videos import Video

ROOT = Path(__file__).resolve().parents[2]
SKELETON = make_skeleton(Build())
LEFT, RIGHT = [6, 7, 8, 17, 18, 19], [1, 2, 3, 25, 26, 27]
CAMERA = dataclasses.replace(CAMERAS[0], size=100, focal=115)


def joints_of(**angles: float) -> np.ndarray:
    radians = {name: value if name in ("x", "y") else np.radians(value) for name, value in angles.items()}
    return pose_joints(SKELETON, *pose_bones(SKELETON, radians))


def test_the_standing_figure_has_human36s_joints():
    joints = joints_of()
    assert joints.shape == (32, 3)
    assert joints[15, 2] == pytest.approx(1.75)  # top of the head
    assert np.allclose(joints[LEFT], joints[RIGHT] * [1, -1, 1])
    assert (joints[LEFT, 1] > 0).all()  # looking along x
    assert (np.diff(joints[[15, 14, 13, 12, 0, 1, 2, 3, 4], 2]) < 0).all()
    assert joints[19, 2] < joints[18, 2] < joints[17, 2]  # arms hang
    for a, b in ((0, 11), (13, 16), (13, 24), (19, 20), (22, 23), (27, 28), (30, 31)):
        assert np.array_equal(joints[a], joints[b])


def test_angles_move_what_they_name():
    raised = joints_of(l_arm=90)
    assert np.allclose(raised[19] - raised[17], [0.535 * 1.75 / 1.75 * raised[15, 2] / 1.75, 0, 0], atol=0.03)
    assert raised[27, 2] < raised[25, 2]  # the right one hangs
    out = joints_of(r_arm_out=90)
    assert out[27, 1] < out[25, 1] - 0.4
    assert joints_of(l_elbow=90)[19, 0] > 0.2  # forearms bend forwards, shins backwards
    assert joints_of(l_leg=45, l_knee=90)[8, 0] < joints_of(l_leg=45)[8, 0]
    turned = joints_of(yaw=180)
    assert np.allclose(turned, joints_of() * [-1, -1, 1], atol=1e-9)


@pytest.mark.parametrize("action", ["Discussion", "Waiting", "Walking"])
def test_actions_move_plausibly(action):
    poses = move(action, 500, (0, 1))
    joints = np.array([pose_joints(SKELETON, *pose_bones(SKELETON, angles)) for angles in poses])
    lengths = np.linalg.norm(joints[:, [17, 18, 25, 26, 6, 7]] - joints[:, [18, 19, 26, 27, 7, 8]], axis=2)
    assert np.ptp(lengths, axis=0).max() < 1e-9
    assert joints[:, :, 2].min() > -0.05  # nothing below the floor
    assert joints[:, [3, 8], 2].min(1).max() < 0.2  # a foot is always near it
    steps = np.linalg.norm(np.diff(joints, axis=0), axis=2).max()
    assert 0.005 < steps < 0.3  # metres per fiftieth of a second
    assert np.abs(joints[:, 0, :2]).max() < 1.3
    assert poses == move(action, 500, (0, 1))
    assert poses != move(action, 500, (0, 2))


def test_rays_go_where_points_are_seen():
    camera = CAMERAS[1]
    points = np.array([[0, 0, 1], [0.5, -0.4, 1.7], [-0.3, 0.6, 0.0]])
    pixels = camera.project(points)
    assert ((pixels > 0) & (pixels < 1000)).all()
    assert pixels[1, 1] < pixels[0, 1] < pixels[2, 1]  # up is up
    way = points - np.array(camera.place)
    assert np.allclose(camera.rays(pixels), way / np.linalg.norm(way, axis=1, keepdims=True), atol=1e-5)


def write_lab(folder: Path) -> np.ndarray:
    """Two recordings of a bright square that moves; returns its corners (frames, 2) in the video."""
    corners = np.array([[20 + i, 30] for i in range(21)])
    subjects = folder / "training" / "subjects"
    for subject, stem in (("S1", "Posing 1.1"), ("S11", "Walking 1.1")):
        video, poses, masks, silhouettes = recordings.files_of(subjects, subject, stem)
        for file in (video, poses, masks, silhouettes):
            file.parent.mkdir(parents=True, exist_ok=True)
        seen = []
        with recordings.video_writer(video) as writer:
            for x, y in corners:
                picture = np.full((100, 100, 3), 60, np.uint8)
                picture[y : y + 40, x : x + 20] = 220
                writer.add(picture)
                seen.append(picture[:, :, 0] > 100)
        recordings.write_poses(poses, np.tile(corners[:, None].astype(float), (1, 32, 1)))
        recordings.write_masks(masks, [recordings.box_of(silhouette) for silhouette in seen], 100)
        recordings.write_silhouettes(silhouettes, list(range(21)), seen)
    return corners


def test_recordings_are_prepared_and_measured(tmp_path):
    corners = write_lab(tmp_path / "people")
    summary = preparation.prepare(tmp_path / "people", tmp_path / "out", workers=0)
    assert (summary.skipped, summary.pictures) == ([], {"train": 3, "test": 1})
    boxes = load_pickle(tmp_path / "out" / "HumanBoundingBoxes.pickle")
    joints = load_pickle(tmp_path / "out" / "GroundtruthKeypoints.pickle")
    box = np.array([corners[10][0], 30, corners[10][0] + 19, 69.0])
    m = preparation.crop_of_box(box)
    assert np.allclose(boxes["/train/000001.jpg"], apply(m, box.reshape(2, 2)).ravel())
    assert np.allclose(joints["/train/000001.jpg"], apply(m, corners[10][None]))
    names = np.array(["/train/000001.jpg", "/train/000002.jpg"])
    figures = measure.figures_of(tmp_path / "people", tmp_path / "out", names)
    assert sorted(figures) == names.tolist()
    inside, beside = boxes["/train/000001.jpg"][:2] + 5, boxes["/train/000001.jpg"][:2] - 12
    on = measure.on_figure(np.array([inside, beside, inside]), np.array([0, 0, 1]), names, figures)
    assert on.tolist() == [True, False, True]  # each picture is centred on its figure

    options = default_options("Human3.6", DATABASES, ["image_size=128"], "cpu")
    database = DATABASES["Human3.6"].rules(options.hyper)
    images = ImageSet(tmp_path, names, np.array([boxes[name] for name in names]), None)
    labels = KeypointTable.from_dict(dict(zip(names, [[[16, 16, 0], [1, 1, 1], [30, 16, 2]], [[16, 16, 2]]])))
    assert measure.labels_share(labels, images, database, figures, options) == (2.0, 0.5)  # the middles alone


def test_frames_may_be_shown_for_longer(tmp_path):
    with recordings.video_writer(tmp_path / "a.mp4") as writer:
        for level in (50, 150):
            writer.add(np.full((64, 64, 3), level, np.uint8), times=7)
    assert Video(tmp_path / "a.mp4").frames == 14
    capture = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    levels = [capture.read()[1].mean() for _ in range(14)]
    assert np.allclose(levels, [50] * 7 + [150] * 7, atol=4)


def test_without_the_renderer_one_line_says_what_to_install(launcher, tmp_path):
    (tmp_path / "embreex.py").write_text("raise ImportError('No module named embreex')\n")
    script = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    outcome = launcher.run(tmp_path, ["-c", script, ROOT / "tools/people/make.py", "--output", tmp_path / "out"])
    assert outcome.code == 2, outcome
    assert outcome.errors.splitlines()[-1].startswith("error: No module named embreex; pip install -r ")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A small camera in the room; some seconds."""
    pytest.importorskip("embreex")
    pytest.importorskip("skimage")
    from tools.people.room import make_room
    from tools.people.studio import Studio

    folder = tmp_path_factory.mktemp("people") / "training" / "subjects"
    return make.Stage(folder, 0, (Studio(CAMERA, make_room(0)),))


def test_a_figure_is_where_its_joints_are_and_its_front_is_not_its_back(stage):
    from tools.people.studio import pose_figure
    from tools.people.subjects import make_figure

    studio, figure = stage.studios[0], make_figure(SUBJECTS["S6"])
    towards = np.arctan2(CAMERA.place[1], CAMERA.place[0])
    pictures = []
    for yaw in (towards, towards + np.pi):
        bones = pose_bones(figure.skeleton, {"yaw": yaw})
        picture, silhouette = studio.photograph(pose_figure(figure, *bones))
        x, y = CAMERA.project(pose_joints(figure.skeleton, *bones))[[0, 2, 7, 12, 14, 18, 26]].astype(int).T
        assert silhouette[y, x].all()
        assert 300 < silhouette.sum() < 2000
        far = cv2.dilate(silhouette.astype(np.uint8), np.ones((3, 3))) == 0
        assert np.array_equal(picture[:30][far[:30]], studio.background[:30][far[:30]])  # above the floor's shadow
        pictures.append(picture.astype(float))
    both = silhouette & (np.abs(pictures[0] - pictures[1]).max(2) > 25)
    assert both.sum() > 40
    assert studio.background.std() > 30  # cluttered


def test_a_take_is_filmed_again_the_same(stage):
    take = make.Take("S11", "Walking", 1, 60, 50)
    make.film(stage, take)
    files = recordings.files_of(stage.subjects, "S11", take.stem(CAMERA.name))
    first = [file.read_bytes() for file in files[:1]]
    assert Video(files[0]).frames == len(preparation.read_pose(files[1])) == 60
    make.film(stage, take)
    assert [file.read_bytes() for file in files[:1]] == first
    record = preparation.survey(preparation.Recording("S11", files[0].stem, *files[:3]), 0)
    assert record["frames"].tolist() == [0, 50]
