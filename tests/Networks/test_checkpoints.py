"""Checkpoints by hand: wrong fields, the newest of several, what a resumed run may change, and whose tensors fit."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from Databases import DATABASES
from Networks.checkpoints import (
    adopt_newest,
    adopt_settings,
    check_checkpoint,
    check_resumed,
    clusters_from_state,
    clusters_to_state,
    load_first_step,
    load_optimizer,
    load_second_step,
    newest_state,
)
from Networks.recipes import RECIPES
from Utils.hyperparameters import hyperparameters
from Utils.runtime.errors import UserError
from Utils.storage.files import load_checkpoint, save_checkpoint

NAN = float("nan")
SOUND = {
    "state_dict": {"l1.weight": torch.zeros(5, 32, 1, 1), "l1.bias": torch.zeros(5)},
    "training_state_dict": {"l1.bias": torch.zeros(5)},
    "iteration": 12,
    "centroid": torch.ones(5, 32),
    "threshold": torch.ones(5),
    "relabelled": True,
    "active_channels": np.array([0, 4]),
    "epoch": 3,
    "epoch_start": 9,
    "labels": "MergedKeypoints12.pickle",
    "hyperparameters": {"width": 32, "learning_rate_steps": (8, 10), "recipe": "paper", "odd": None},
    "dataset_name": "Demo",
}


@pytest.mark.parametrize("active", [[0, 4], (4,), torch.tensor([1, 2]), np.array([[3]])])
def test_sound_checkpoints_pass(active):
    check_checkpoint({**SOUND, "active_channels": active}, "f")
    check_checkpoint({"state_dict": {}, "centroid": None, "threshold": None, "hyperparameters": None}, "f")


BAD = [
    ("state_dict", [1], "state_dict: must be a"),
    ("state_dict", {"a": torch.tensor([[0.0, NAN]])}, "a contains NaN or infinity"),
    ("state_dict", {"a": torch.zeros(3, dtype=torch.int64)}, "'a' is not a tensor of real numbers"),
    ("state_dict", {"a": 3}, "'a' is not a tensor"),
    *(("iteration", value, "must be a valid integer") for value in (1.5, "3", True, None, [1])),
    ("iteration", -1, "iteration=-1: must be at least 0"),
    ("centroid", torch.tensor([[1.0, NAN]]), "contains NaN or infinity"),
    ("centroid", torch.ones(5), r"has the shape \(5,\)"),
    ("centroid", "text", "is a str, not an array"),
    ("threshold", torch.tensor([1, 1, 1, 1, float("inf")]), "contains NaN or infinity"),
    ("relabelled", "yes", "must be a valid boolean"),
    *(
        ("active_channels", v, "must be (a valid list|a valid integer|at least 0)")
        for v in (5, "ab", [1.5], [-1], [True], None, [[1]], np.array([0.5]))
    ),
    ("active_channels", [], "at least 1 item"),
    *(("labels", value, "must") for value in (5, "../a.pickle", "a.pth", "a\n.pickle")),
    ("hyperparameters", [1], "must be a valid dictionary"),
    ("dataset_name", 7, "=7: must be a valid string"),
]


@pytest.mark.parametrize(("field", "value", "said"), BAD, ids=range(len(BAD)))
def test_bad_fields_are_named(field, value, said):
    with pytest.raises(UserError, match=f"^f: .*{said}.*; get or make the file again$") as raised:
        check_checkpoint({**SOUND, field: value}, "f")
    assert field in str(raised.value)
    assert len(str(raised.value)) < 300


WEIGHTS = {"l1.weight": torch.zeros(7, 64, 1, 1)}
FAN = {"state_dict": WEIGHTS}


def run_of(*settings: str, dataset_name: str = "CelebA"):
    """Options of a run, as far as checkpoints concern them."""
    hyper = hyperparameters(settings, RECIPES, DATABASES[dataset_name])
    return SimpleNamespace(dataset_name=dataset_name, hyper=hyper)


def made_with(*settings: str, dataset_name: str = "CelebA"):
    """What a checkpoint says of the run that made it."""
    return {
        "dataset_name": dataset_name,
        "hyperparameters": run_of(*settings, dataset_name=dataset_name).hyper.model_dump(),
    }


def files(folder, checkpoints: dict[int, int], state: int | None):
    """Checkpoints number -> iteration, and the state between two at an iteration; as `newest_state` takes them."""
    paths = []
    for number, iteration in checkpoints.items():
        paths.append((number, folder / f"{number}.pth"))
        save_checkpoint({"iteration": iteration}, paths[-1][1])
    if state is not None:
        save_checkpoint({"iteration": state}, folder / "state.pth")
    return paths, folder / "state.pth"


@pytest.mark.parametrize(
    ("checkpoints", "state", "newest"),
    [
        ({1: 10, 2: 20}, 25, "state.pth"),
        ({1: 10, 2: 20}, 15, "2.pth"),  # of a run that was killed just after the checkpoint
        ({1: 10, 2: 20}, None, "2.pth"),
        ({}, 5, "state.pth"),
    ],
)
def test_newest_state_is_that_of_the_most_iterations(tmp_path, checkpoints, state, newest):
    content, path = newest_state(*files(tmp_path, checkpoints, state), load_checkpoint)
    assert path.name == newest
    assert content["iteration"] == max([*checkpoints.values(), state or 0])


def test_without_files_there_is_no_newest_state(tmp_path):
    assert newest_state(*files(tmp_path, {}, None), load_checkpoint) is None


def test_only_the_last_checkpoint_is_read(tmp_path):
    """Those before it may be damaged."""
    paths, state = files(tmp_path, {1: 10, 2: 20}, None)
    paths[0][1].write_bytes(b"damaged")
    assert newest_state(paths, state, load_checkpoint)[0]["iteration"] == 20


def test_what_may_change_on_resume():
    before = made_with("clustering_rounds=3", "learning_rate_steps=4,5")
    check_resumed(run_of("clustering_rounds=9", "learning_rate_steps=4,5"), before, "f")
    check_resumed(run_of("width=32"), {}, "f")  # a published checkpoint does not say
    with pytest.raises(
        UserError, match="f was made with learning_rate_steps=4,5; this run has learning_rate_steps=4,6"
    ):
        check_resumed(run_of("learning_rate_steps=4,6"), before, "f")


def test_all_settings_in_which_a_resumed_run_differs_are_named():
    before = made_with("width=32", "seed=5", "compile=true")
    with pytest.raises(UserError, match="give --set width=32 --set seed=5 or use another experiment"):
        check_resumed(run_of(), before, "f")
    with pytest.raises(UserError, match="--dataset_name LS3D: f was made with --dataset_name CelebA"):
        check_resumed(run_of(dataset_name="LS3D"), before, "f")


def test_the_network_of_a_checkpoint_need_not_be_told_again():
    options = run_of()
    adopt_settings(options, FAN, "f")
    assert (options.hyper.width, options.hyper.image_size) == (64, 256)  # published ones are of the paper's pictures
    adopt_settings(options, FAN | {"hyperparameters": {"image_size": 128, "seed": 5}}, "f")
    assert (options.hyper.width, options.hyper.image_size, options.hyper.seed) == (64, 128, 1993)
    with pytest.raises(UserError, match="--set width=32: f was made with width=64"):
        adopt_settings(run_of("width=32"), FAN, "f")


def test_the_pictures_of_a_checkpoint_need_not_be_told_again():
    content = FAN | made_with("width=64", "image_size=128", "working_size=300", dataset_name="Custom")
    options = run_of("normalise_by=1,2", dataset_name="Custom")
    adopt_settings(options, content, "f")
    assert (options.hyper.working_size, options.hyper.image_size) == (300, 128)
    assert options.hyper.normalise_by == "1,2"  # how errors are told may differ
    with pytest.raises(UserError, match="--set working_size=400: f was made with working_size=300"):
        adopt_settings(run_of("working_size=400", dataset_name="Custom"), content, "f")
    with pytest.raises(UserError, match="--dataset_name Demo: f was made with --dataset_name Custom"):
        adopt_settings(run_of(dataset_name="Demo"), content, "f")


def test_landmarks_are_read_as_in_their_training():
    content = FAN | made_with("width=64", "recipe=paper", dataset_name="Demo")
    options = run_of(dataset_name="Demo")
    adopt_settings(options, content, "f")
    assert options.hyper.readout == "centroid"  # step one reads no maps
    adopt_settings(options, content | {"active_channels": [0]}, "f")
    assert options.hyper.readout == "cell"
    options = run_of("readout=centroid", dataset_name="Demo")
    adopt_settings(options, content | {"active_channels": [0]}, "f")
    assert options.hyper.readout == "centroid"


def test_settings_are_those_of_the_newest_checkpoint(tmp_path):
    for number, size in ((1, 64), (2, 128)):
        save_checkpoint(FAN | made_with("width=64", f"image_size={size}"), tmp_path / f"{number}.pth")
    options = run_of()
    adopt_newest(options, [], load_checkpoint)
    assert options.hyper.image_size == 256
    adopt_newest(options, [(n, tmp_path / f"{n}.pth") for n in (1, 2)], load_checkpoint)
    assert options.hyper.image_size == 128


def test_names_of_earlier_versions_are_passed_over_on_resume():
    check_resumed(run_of(), {"hyperparameters": {"relabelling": "match", "width": 256}}, "f")
    with pytest.raises(UserError, match="f was made with width=64; this run has width=256"):
        check_resumed(run_of(), {"hyperparameters": {"relabelling": "match", "width": 64}}, "f")


@pytest.mark.parametrize("saved", [{"image_size": "128"}, {"image_size": 128.0}, {"image_size": None}])
def test_values_of_the_wrong_type_are_refused(saved):
    with pytest.raises(UserError, match="f: .*get or make the file again"):
        adopt_settings(run_of(), FAN | {"hyperparameters": saved}, "f")


@pytest.mark.parametrize(
    "weights",
    [{"conv1.weight": torch.zeros(1)}, {"l1.weight": torch.zeros(7, 64)}, {"l1.weight": torch.zeros(7, 48, 1, 1)}],
)
def test_state_dict_of_another_network(weights):
    with pytest.raises(UserError, match="f: state_dict holds no FAN"):
        adopt_settings(run_of(), {"state_dict": weights}, "f")


def test_clusters_come_back_as_they_were():
    centroids, thresholds = torch.rand(3, 4).numpy(), torch.rand(3).numpy()
    back = clusters_from_state(clusters_to_state(centroids, thresholds))
    assert [part.tolist() for part in back] == [centroids.tolist(), thresholds.tolist()]
    assert clusters_from_state(clusters_to_state(None, None)) == (None, None)
    published = clusters_from_state({"centroid": torch.ones(2, 2, dtype=torch.float64)})
    assert published[0].dtype == "float32"
    assert published[1] is None


def test_checkpoints_of_the_other_step_are_refused(tmp_path):
    save_checkpoint({"state_dict": {}, "active_channels": [0]}, tmp_path / "second.pth")
    save_checkpoint({"state_dict": {}, "optimizer": {}, "iteration": 1, "centroid": None}, tmp_path / "first.pth")
    assert load_first_step(tmp_path / "first.pth")["iteration"] == 1
    with pytest.raises(UserError, match="second.pth has no iteration, so it is not a checkpoint of step one"):
        load_first_step(tmp_path / "second.pth")
    with pytest.raises(UserError, match="first.pth has no active_channels, so it is not a checkpoint of step two"):
        load_second_step(tmp_path / "first.pth")


@pytest.mark.parametrize("state", [None, {}, {"state": {}, "param_groups": []}])
def test_state_of_another_optimizer(state):
    optimizer = torch.optim.RMSprop([torch.zeros(1, requires_grad=True)])
    with pytest.raises(UserError, match="f: its optimizer does not fit this network"):
        load_optimizer(optimizer, state, "f")
