"""Hyperparameters: whose defaults hold, which values are refused in one line, and what a checkpoint says of them."""

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from Networks.recipes import RECIPES
from Utils.hyperparameters import FREE_AFTER_TRAINING, PRESETS, hyperparameters, setting
from Utils.runtime.errors import UserError


class BirdSettings(BaseModel):
    wings: int = Field(2, ge=0)
    pictures: Annotated[int, FREE_AFTER_TRAINING] = Field(10, ge=1)


class Birds:
    settings = BirdSettings
    defaults: dict[str, Any] = {"preset": "small", "recipe": "consensus", "number_of_clusters": 250}


def test_the_user_comes_before_the_data_set_the_preset_and_the_recipe():
    hyper = hyperparameters([], RECIPES, Birds)
    assert isinstance(hyper, BirdSettings)
    assert (hyper.wings, hyper.recipe, hyper.readout, hyper.place_weight) == (2, "consensus", "centroid", 0.03)
    assert (hyper.number_of_clusters, hyper.image_size, hyper.weight_decay) == (250, 128, 1e-5)
    assert hyper.learning_rate == 2e-3  # the preset's
    hyper = hyperparameters(["number_of_clusters=7", "readout=cell", "image_size=64"], RECIPES, Birds)
    assert (hyper.number_of_clusters, hyper.image_size, hyper.width, hyper.readout) == (7, 64, 32, "cell")
    hyper = hyperparameters(["preset=full", "recipe=paper"], RECIPES, Birds)
    assert (hyper.number_of_clusters, hyper.image_size, hyper.readout) == (250, 256, "cell")


def test_texts_become_values():
    given = ["learning_rate_steps=5,6", "total_iterations=80_000", "compile=true", "learning_rate=1e-3"]
    hyper = hyperparameters([*given, "seed=1", "seed=2"], {})
    assert hyper.learning_rate_steps == (5, 6)
    assert (hyper.total_iterations, hyper.compile, hyper.learning_rate, hyper.seed) == (80_000, True, 1e-3, 2)
    assert hyperparameters(["learning_rate_steps="], {}).learning_rate_steps == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("leraning_rate=1", "--set leraning_rate: recipe=consensus has no such .* the nearest one is learning_rate"),
        ("number_of_cluster=1", "the nearest one is number_of_clusters"),
        ("wing=1", "the nearest one is wings"),
        ("batch_size=big", "--set batch_size=big: must be a valid integer$"),
        ("learning_rate=fast", "must be a valid number$"),
        ("learning_rate=nan", "--set learning_rate=nan: must be a finite number$"),
        ("learning_rate_steps=1,x", "--set learning_rate_steps.1=x: must be a valid integer$"),
        ("learning_rate_steps=40,-3", "--set learning_rate_steps.1=-3: must be at least 0$"),
        ("batch_size", "--set batch_size: write it as NAME=VALUE$"),
        ("number_of_clusters=1", "at least 2$"),
        ("width=48", "--set width=48: must be a multiple of 32$"),
        ("confidence_fan=2", "at most 1$"),
        ("outlier_fraction=1", "below 1$"),
        ("descriptor_window=2", "must be odd"),
        ("compile=perhaps", "must be a valid boolean$"),
        ("recipe=mine", "--set recipe=mine: must be one of paper, consensus$"),
        ("preset=tiny", "--set preset=tiny: must be one of full, small, brief$"),
        ("wings=-1", "--set wings=-1: must be at least 0$"),
        ("total_iterations=" + "9" * 5000, "--set total_iterations=9{60}: "),
    ],
)
def test_bad_settings_are_named(given, message):
    with pytest.raises(UserError, match=message) as raised:
        hyperparameters([given], RECIPES, Birds)
    assert len(str(raised.value)) < 200


def test_all_bad_values_are_named_at_once():
    with pytest.raises(UserError, match="^--set width=100: must be a multiple of 32; seed=-1: must be at least 0$"):
        hyperparameters(["seed=-1", "width=100"], {})


def test_names_of_another_recipe_or_data_set_are_unknown():
    with pytest.raises(UserError, match="^--set place_weight: recipe=paper has no such hyperparameter; the nearest"):
        hyperparameters(["place_weight=1"], RECIPES)
    with pytest.raises(UserError, match="^--set wings: recipe=paper has no such hyperparameter; the nearest"):
        hyperparameters(["wings=1"], RECIPES)


def test_the_defaults_are_within_their_own_ranges():
    for recipe in RECIPES:
        for preset in PRESETS:
            hyper = hyperparameters([f"recipe={recipe}", f"preset={preset}"], RECIPES)
            assert type(hyper).model_validate(hyper.model_dump(), strict=True).model_dump() == hyper.model_dump()


def test_architecture_is_adopted_from_a_checkpoint_unless_the_user_contradicts():
    hyper = hyperparameters(["batch_size=3"], {})
    hyper.adopt({"width": 64, "image_size": 128}, "x.pth")
    assert (hyper.width, hyper.image_size) == (64, 128)
    with pytest.raises(UserError, match="x.pth was made with width=64"):
        hyperparameters(["width=32"], {}).adopt({"width": 64}, "x.pth")


def test_values_of_a_checkpoint_have_the_same_ranges_and_types():
    with pytest.raises(UserError, match="^x.pth: image_size=-64: must be at least 64; get or make the file again$"):
        hyperparameters([], {}).adopt({"image_size": -64}, "x.pth")
    with pytest.raises(UserError, match="^x.pth: width=64: must be a valid integer; get or make the file again$"):
        hyperparameters([], {}).adopt({"width": "64"}, "x.pth")


def test_free_settings_are_kept_beside_those_of_a_checkpoint():
    hyper = hyperparameters(["pictures=1", "wings=4"], RECIPES, Birds)
    assert hyper.data_set_names == ("wings", "pictures")
    hyper.adopt({"pictures": 3, "wings": 4}, "x.pth")
    assert hyper.pictures == 1
    with pytest.raises(UserError, match="^--set wings=4: x.pth was made with wings=2; leave the setting out or use"):
        hyper.adopt({"wings": 2}, "x.pth")


@pytest.mark.parametrize(
    ("name", "value", "text"), [("a", (4, 5), "a=4,5"), ("a", True, "a=true"), ("a", 0.5, "a=0.5"), ("a", "", "a=")]
)
def test_settings_in_messages_are_those_of_the_command_line(name, value, text):
    assert setting(name, value) == text
