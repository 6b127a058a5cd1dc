"""Poses of pictures, found without labels."""

import numpy as np
import pytest
from PIL import Image

from Databases.custom import Custom
from Databases.posed import POSES, TURNS, pose_maps
from Networks.consensus import poses
from Networks.consensus.poses import (
    ONE_WAY_UP,
    decision,
    find_template,
    margins_of,
    pose_by_neighbours,
    scores_by_neighbours,
    window,
)
from Networks.recipes import RECIPES
from tests.tiny import tiny_options
from Utils import crops
from Utils.hyperparameters import hyperparameters
from Utils.storage.experiment import Experiment
from Utils.storage.files import load_pickle


def test_maps_turn_about_the_middle_and_mirror_first():
    maps = pose_maps([0, TURNS // 4, TURNS // 2, TURNS, TURNS + TURNS // 4])
    corner = np.array([[0.0, 0.25]])
    moved = [np.round(crops.apply(m, corner)[0], 9).tolist() for m in maps]
    assert moved == [[0, 0.25], [0.75, 0.0], [1, 0.75], [1, 0.25], [0.75, 1]]


def test_window_is_round_and_highest_in_the_middle():
    weights = window(6)
    assert weights[0, 0] == 0
    assert weights.max() == weights[2, 2]
    np.testing.assert_allclose(weights, weights.T)


def turned(count: int, rng: np.random.Generator, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Features (count, P, F) of an object in a random turn each, and the turn (count,) that undoes it."""
    looks = rng.normal(size=(TURNS, 64))
    turn = rng.integers(TURNS, size=count)
    features = looks[(np.arange(TURNS) + turn[:, None]) % TURNS]
    return features + noise * rng.normal(size=features.shape), turn


def test_poses_of_turned_objects_are_found_up_to_one_turn_of_all():
    features, turn = turned(60, np.random.default_rng(0), 1.0)
    template = find_template(features)
    chosen = (template.unit(features) @ template.direction).argmax(axis=1)
    assert template.upright < ONE_WAY_UP * template.fit
    assert len(np.unique((chosen + turn) % TURNS)) == 1


def test_objects_that_stand_one_way_up_need_no_poses():
    features, _ = turned(1, np.random.default_rng(0), 0.0)
    several = features + np.random.default_rng(1).normal(size=(60, *features.shape[1:]))
    template = find_template(several)
    assert template.upright > 0.9 * template.fit


def test_neighbours_correct_poses_that_one_template_gets_wrong():
    """Two kinds of objects, which share nothing but a weak common part."""
    rng = np.random.default_rng(3)
    kinds = [turned(50, rng, 0.4) for _ in range(2)]
    features, turn = (np.concatenate(parts) for parts in zip(*kinds))
    template = find_template(features)
    unit = template.unit(features)
    posed = pose_by_neighbours(template, features)
    chosen = scores_by_neighbours(unit, posed, themselves=True).argmax(axis=1)
    for kind in (slice(50), slice(50, 100)):
        upright = np.bincount((chosen[kind] + turn[kind]) % TURNS)
        assert upright.max() == 50


def test_the_margin_is_over_poses_that_contradict_the_best_one():
    scores = np.zeros((1, 12))
    scores[0, [1, 2, 8]] = 0.9, 0.8, 0.5  # 2 is 30 degrees away, 8 is 150
    assert margins_of(scores, POSES["any"]).tolist() == [0.4]
    few = np.zeros((1, 10))
    few[0, [0, 1, 5]] = 0.9, 0.8, 0.7  # the last one is mirrored
    assert margins_of(few, POSES["mirrored"]).round(9).tolist() == [0.2]


@pytest.mark.parametrize(("stand", "found"), [([0], "one"), ([0, TURNS], "mirrored"), (range(TURNS), "any")])
def test_how_a_folder_stands_is_told_from_its_pictures(stand, found):
    """Objects as they are, mirrored half of the time, or turned by any angle."""
    rng = np.random.default_rng(5)
    looks = rng.normal(size=(2, TURNS, 64))  # of an object and its mirror image in each turn
    looks -= looks.mean(axis=1, keepdims=True)  # the mean over all turns tells nothing

    def features(pose: int) -> np.ndarray:
        """Of a picture that stands in a pose: turned and mirrored further it shows the other looks."""
        mirrored, turn = divmod(pose, TURNS)
        order = (np.arange(TURNS) - turn) % TURNS
        return np.concatenate([looks[mirrored][order], looks[1 - mirrored][order]])

    pictures = np.stack([features(rng.choice(list(stand))) for _ in range(80)])
    assert decision(pictures + 0.5 * rng.normal(size=pictures.shape))[0] == found


def test_a_run_killed_after_its_poses_finds_the_same_ones_again(tmp_path, monkeypatch):
    """The poses of the killed run are not taken for how the pictures stand."""
    for i in range(30):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 50, 3), 8 * i, np.uint8)).save(tmp_path / "pictures" / f"{i:02d}.png")
    looks = np.random.default_rng(0).normal(size=(256, 2 * TURNS, 16))
    monkeypatch.setattr(poses, "load_superpoint", lambda *_: None)
    monkeypatch.setattr(poses, "describe", lambda _, gray, some, __: looks[int(gray.mean())][list(some)])
    experiment = Experiment(tmp_path / "Logs", "e")
    experiment.open()
    found = []
    for _ in range(2):
        options = tiny_options(
            tmp_path / "Logs",
            dataset_name="Custom",
            experiment_name="e",
            images=tmp_path / "pictures",
            resume=True,
            hyper=hyperparameters(["poses=any"], RECIPES, Custom),
        )
        database = poses.find_poses(Custom.open(options), options, experiment)
        found.append(load_pickle(experiment.poses()))
        assert len(database.training) == len(found[-1]) < 30
    assert list(found[0]) == list(found[1])
    assert all((found[0][name] == turn).all() for name, turn in found[1].items())
