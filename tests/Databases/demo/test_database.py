"""The data set, and its cache that mends itself."""

import multiprocessing
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from Databases.demo import cache
from Databases.demo.database import Demo, DemoSettings
from Databases.demo.mesh import annotate
from Databases.demo.render import render
from Databases.demo.scene import sample_scene
from Utils.hyperparameters import hyperparameters
from Utils.runtime.errors import UserError
from Utils.storage.pictures import read_picture

SIZE = 32


def options(folder, training: int = 6, test: int = 3, num_workers: int = 0, **settings):
    hyper = {"demo_training": training, "demo_test": test, "demo_picture_size": SIZE, "demo_seed": 0, **settings}
    return SimpleNamespace(log_path=folder, num_workers=num_workers, hyper=DemoSettings(**hyper))


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
    cv2.setNumThreads(1)  # threads of earlier tests would be missing in the forks
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
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(UserError, match=f"--set {name}={value}: must be at least"):
        hyperparameters([f"{name}={value}"], {}, Demo)


def _count_renderings(monkeypatch, stop_after: int = 10**9) -> list:
    keys: list = []

    def counted(scene, size):
        if len(keys) == stop_after:
            raise KeyboardInterrupt
        keys.append(scene.key)
        return original(scene, size)

    monkeypatch.undo()
    original = cache.render_scene
    monkeypatch.setattr(cache, "render_scene", counted)
    return keys
