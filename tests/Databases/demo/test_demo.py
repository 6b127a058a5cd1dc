"""The Demo set: exact groundtruth, pure functions of the seed, and a cache that mends itself."""

import dataclasses
import multiprocessing
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from Databases.demo import render as demo
from Databases.demo.render import Demo, annotate, project, render, rotation, sample_scene
from Utils.errors import UserError
from Utils.pictures import read_picture

SIZE = 32


@pytest.fixture(scope="module")
def scene() -> demo.Scene:
    frontal = {"yaw": 0.0, "pitch": 0.0, "roll": 0.0, "scale": 0.25, "centre": np.array([0.5, 0.5])}
    return dataclasses.replace(sample_scene(0, "train", 0), **frontal)


def options(folder, training: int = 6, test: int = 3, num_workers: int = 0, **settings):
    hyper = {"demo_training": training, "demo_test": test, "demo_picture_size": SIZE, "demo_seed": 0, **settings}
    return SimpleNamespace(log_path=folder, num_workers=num_workers, hyper=SimpleNamespace(**hyper))


def test_projection_by_hand(scene):
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 2, 3.5]])
    # 0.25 picture widths of 80 pixels are 20; y points up; at half the camera's distance twice as large.
    expected = [[40, 40], [60, 40], [40, 20], [80, -40]]
    np.testing.assert_allclose(project(points, scene, 80), expected)


@pytest.mark.parametrize(
    "angles, nose, top",
    [
        ((0, 0, 0), (0, 0, 1), (0, 1, 0)),
        ((90, 0, 0), (1, 0, 0), (0, 1, 0)),  # looks to the right
        ((0, 90, 0), (0, 1, 0), (0, 0, -1)),  # looks up
        ((0, 0, 90), (0, 0, 1), (-1, 0, 0)),  # leans over to the left
        ((90, 0, 90), (0, 1, 0), (-1, 0, 0)),
    ],
)
def test_rotation_by_hand(angles, nose, top):
    turned = np.array([[0, 0, 1], [0, 1, 0]]) @ rotation(*np.deg2rad(angles)).T
    np.testing.assert_allclose(turned, [nose, top], atol=1e-12)


def test_chart_directions_by_hand():
    tilt = np.deg2rad(15)  # the muzzle points downwards by this
    directions = demo.chart_directions(np.array([[0, 0], [np.pi / 2, 0], [0, tilt], [0, np.pi]]))
    expected = [[0, -np.sin(tilt), np.cos(tilt)], [1, 0, 0], [0, 0, 1], [0, np.sin(tilt), -np.cos(tilt)]]
    np.testing.assert_allclose(directions, expected, atol=1e-12)


def test_landmarks_are_the_projected_points_of_the_head_hidden_ones_too(scene):
    turned = dataclasses.replace(scene, yaw=np.deg2rad(60), roll=np.deg2rad(20))
    points = demo.object_landmarks(scene.shape) @ rotation(turned.yaw, 0, turned.roll).T
    near = 7 / (7 - points[:, 2])
    expected = 128 * (0.5 + 0.25 * near[:, None] * points[:, :2] * [1, -1])
    landmarks, _ = annotate(turned, 128)
    assert landmarks.shape == (len(demo.LANDMARKS), 2)
    assert len(demo.LANDMARKS) >= 16
    np.testing.assert_allclose(landmarks, expected, atol=1e-4)


def test_landmarks_of_a_frontal_head_mirror_each_other(scene):
    landmarks, _ = annotate(scene, 128)
    mirrored = landmarks * [-1, 1] + [128, 0]
    named = dict(zip(demo.LANDMARKS, landmarks))
    for name, point in zip(demo.LANDMARKS, mirrored):
        other = name.replace("left", "?").replace("right", "left").replace("?", "right")
        np.testing.assert_allclose(point, named[other], atol=1e-3, err_msg=name)
        if name.startswith("left"):
            assert named[name][0] < 64 < named[other][0]
    assert named["left ear tip"][1] < named["forehead"][1] < named["nose tip"][1] < named["chin"][1]


def test_landmarks_agree_with_the_rendered_surface(scene):
    """Where a landmark of the skin is visible, the rasterised skin there has the landmark's chart position."""
    canvas = 256
    samples = demo._visible_samples(scene, canvas)
    landmarks, _ = annotate(scene, canvas)
    for name, chart in {"nose tip": (0, 0.15), "forehead": (0, 0.95), "right whisker pad": (0.22, -0.10)}.items():
        x, y = landmarks[demo.LANDMARKS.index(name)]
        i = np.flatnonzero(samples["pixel"] == int(y) * canvas + int(x))
        # One pixel is 1/64 head radius; the skin is at most steep enough to make that 0.03 radians.
        np.testing.assert_allclose(samples["skin"][i, :2], [chart], atol=0.03, err_msg=name)


def test_landmarks_follow_pose_scale_and_shift(scene):
    before, _ = annotate(scene, 128)
    moved, _ = annotate(dataclasses.replace(scene, centre=np.array([0.6, 0.4])), 128)
    np.testing.assert_allclose(moved - before, np.tile([12.8, -12.8], (len(before), 1)), atol=1e-3)
    smaller, _ = annotate(dataclasses.replace(scene, scale=0.125), 128)
    np.testing.assert_allclose(smaller - 64, (before - 64) / 2, atol=1e-3)
    rolled, _ = annotate(dataclasses.replace(scene, roll=np.pi / 2), 128)  # counter-clockwise
    np.testing.assert_allclose(rolled - 64, (before - 64)[:, ::-1] * [1, -1], atol=1e-3)
    right, _ = annotate(dataclasses.replace(scene, yaw=0.5), 128)
    nose, bridge = demo.LANDMARKS.index("nose tip"), demo.LANDMARKS.index("nose bridge")
    assert right[nose, 0] - before[nose, 0] > right[bridge, 0] - before[bridge, 0] > 5
    twice, _ = annotate(scene, 256)
    np.testing.assert_allclose(twice, 2 * before, atol=1e-3)


def test_rasteriser_keeps_the_nearer_triangle_and_weighs_the_corners():
    xy = np.array([[0, 0], [0, 4], [4, 0], [0, 0], [0, 4], [4, 0]], float)
    depth = np.array([1, 1, 1, 0, 0, 4], float)  # the second one is nearer where x > 1
    pixel, owner, weights, z = demo.rasterise(xy, depth, np.array([[0, 1, 2], [3, 4, 5]]), 6)
    assert sorted(pixel) == [y * 6 + x for y in range(5) for x in range(5 - y)]
    at = {int(p): k for k, p in enumerate(pixel)}
    assert owner[at[0]] == owner[at[12]] == 0
    assert owner[at[2]] == owner[at[3]] == owner[at[8]] == 1
    np.testing.assert_allclose(weights[at[6 + 2]], [0.25, 0.25, 0.5], atol=1e-6)
    np.testing.assert_allclose(z[at[8]], 2, atol=1e-5)
    assert len(demo.rasterise(xy, depth, np.array([[0, 2, 1]]), 6)[0]) == 0  # seen from behind


def test_pictures_are_pure_functions_of_seed_split_and_index():
    first = render(0, "train", 1, SIZE)
    assert first.shape == (SIZE, SIZE, 3)
    assert first.dtype == np.uint8
    np.random.seed(1)  # noqa: NPY002 - must not matter
    np.testing.assert_array_equal(render(0, "train", 1, SIZE), first)
    for other in [(1, "train", 1), (0, "test", 1), (0, "train", 2)]:
        assert np.abs(render(*other, SIZE).astype(int) - first).mean() > 5


def test_scenes_vary_as_promised():
    scenes = [sample_scene(0, "train", i) for i in range(300)]
    yaw = np.rad2deg([s.yaw for s in scenes])
    assert np.abs(yaw).max() <= 60
    assert min(yaw.max(), -yaw.min()) > 45
    assert yaw.std() > 20
    assert np.rad2deg([s.pitch for s in scenes]).std() > 6
    assert np.rad2deg([s.roll for s in scenes]).std() > 11
    assert len({s.palette.tobytes() for s in scenes}) == 300


def test_boxes_are_as_loose_as_a_detectors():
    gaps = []
    for i in range(60):
        landmarks, box = annotate(sample_scene(0, "train", i), 100)
        gaps.append(np.concatenate([landmarks.min(0) - box[:2], box[2:] - landmarks.max(0)]))
    assert (np.std(gaps, axis=0) > 1.5).all()  # pixels of 100: no side tells where the head ends


def test_landmarks_and_boxes_lie_in_the_picture():
    for i in range(60):
        landmarks, box = annotate(sample_scene(0, "test", i), 100)
        assert landmarks.min() > 2.99
        assert landmarks.max() < 97.01
        assert box.min() >= 0
        assert box.max() <= 100
        assert (landmarks > box[:2]).all()
        assert (landmarks < box[2:]).all()
        assert (box[2:] - box[:2] > 35).all()


def test_open_renders_what_was_asked_for(tmp_path):
    state = torch.get_rng_state()
    database = Demo.open(options(tmp_path))
    assert torch.equal(torch.get_rng_state(), state)
    assert [len(s) for s in (database.training, database.regression, database.test)] == [6, 6, 3]
    database.check_cheaply()
    np.testing.assert_array_equal(database.read(database.test, 2), render(0, "test", 2, SIZE))
    landmarks, box = annotate(sample_scene(0, "train", 5), SIZE)
    np.testing.assert_array_equal(database.training.landmarks[5], landmarks)
    np.testing.assert_array_equal(database.regression.boxes[5], box)


def test_normaliser_is_the_root_of_the_extent(tmp_path):
    database = Demo.open(options(tmp_path, 1, 1))
    np.testing.assert_allclose(database.normalisers(np.array([[[0.0, 0], [4, 0], [2, 9]]])), [6])


def test_the_cache_is_used_and_grows(tmp_path, monkeypatch):
    Demo.open(options(tmp_path))
    rendered = _count_renderings(monkeypatch)
    Demo.open(options(tmp_path, 4, 2))
    assert rendered == []
    database = Demo.open(options(tmp_path, 8))
    assert rendered == [(0, 0, 6), (0, 0, 7)]
    assert len(database.training) == 8
    Demo.open(options(tmp_path))
    assert len(rendered) == 2


def test_damaged_files_are_rendered_again(tmp_path, monkeypatch):
    database = Demo.open(options(tmp_path))
    whole = database.training.path(2).read_bytes()
    database.training.path(0).unlink()
    database.training.path(1).write_bytes(b"")
    database.training.path(2).write_bytes(whole[:100])
    (database.test.root / "test.pickle").write_bytes(b"no list")
    rendered = _count_renderings(monkeypatch)
    again = Demo.open(options(tmp_path))
    assert rendered == [(0, 0, 0), (0, 0, 1), (0, 0, 2)]
    assert again.training.path(2).read_bytes() == whole
    np.testing.assert_array_equal(again.test.landmarks, database.test.landmarks)


def test_a_killed_rendering_goes_on_where_it_ended(tmp_path, monkeypatch):
    rendered = _count_renderings(monkeypatch, stop_after=4)
    with pytest.raises(KeyboardInterrupt):
        Demo.open(options(tmp_path))
    rendered = _count_renderings(monkeypatch)
    database = Demo.open(options(tmp_path))
    assert rendered[:2] == [(0, 0, 4), (0, 0, 5)]
    assert len(rendered) == 2 + 3
    for i in range(6):
        np.testing.assert_array_equal(read_picture(database.training.path(i)), render(0, "train", i, SIZE))


def test_two_at_once_and_workers_give_the_same_files(tmp_path):
    alone = Demo.open(options(tmp_path / "alone"))
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=Demo.open, args=(options(tmp_path / "both", num_workers=w),)) for w in (0, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    for images in (alone.training, alone.test):
        for i in range(len(images)):
            other = tmp_path / "both" / images.path(i).relative_to(tmp_path / "alone")
            assert other.read_bytes() == images.path(i).read_bytes()
    assert not list(tmp_path.rglob("*.part*"))


@pytest.mark.parametrize("name, value", [("demo_training", 0), ("demo_picture_size", 8), ("demo_seed", -1)])
def test_impossible_settings_are_refused(tmp_path, name, value):
    with pytest.raises(UserError, match=f"--set {name}={value}: .* at least"):
        Demo.open(options(tmp_path, **{name: value}))
    assert not list(tmp_path.iterdir())


def _count_renderings(monkeypatch, stop_after: int = 10**9) -> list:
    keys: list = []

    def counted(scene, size):
        if len(keys) == stop_after:
            raise KeyboardInterrupt
        keys.append(scene.key)
        return original(scene, size)

    monkeypatch.undo()
    original = demo.render_scene
    monkeypatch.setattr(demo, "render_scene", counted)
    return keys
