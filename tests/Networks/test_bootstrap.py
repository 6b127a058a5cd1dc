"""The bootstrap: what is said of pictures without keypoints, and the first labels."""

import numpy as np
import pytest

from Networks import bootstrap
from Networks.generic_keypoints import store_generic_keypoints
from Networks.recipes import recipe_of
from tests.Networks.test_generic_keypoints import Bright, BrightPictures
from tests.tiny import TinyDatabase, tiny_options
from Utils.descriptors import DescriptorStore
from Utils.runtime.errors import UserError
from Utils.storage.experiment import Experiment


def test_pictures_without_keypoints_are_counted_and_one_is_named(tmp_path):
    database, options = BrightPictures(False), tiny_options(tmp_path)
    database.training.boxes[2:] = [0, 0, 5, 5]
    experiment = Experiment(tmp_path, "e")
    experiment.open()
    with DescriptorStore(tmp_path) as store:
        store_generic_keypoints(Bright(), database, database.training, options, store)
        bootstrap.report_empty_pictures(store, database.training, 4, experiment)
        said = "2 of 4 pictures have no keypoint in their box, first /nowhere/002.png"
        assert said in (experiment.logs / "e.txt").read_text()
        with pytest.raises(UserError, match=f"{said}; look whether they are black"):
            bootstrap.report_empty_pictures(store, database.training, 5, experiment)


def test_the_recipe_matches_and_the_paper_assigns(tmp_path, monkeypatch):
    database = TinyDatabase(40)
    tables = {}
    for recipe in ("paper", "consensus"):
        options = tiny_options(tmp_path, f"recipe={recipe}", "number_of_clusters=8")
        experiment = Experiment(tmp_path, recipe)
        experiment.open()
        tables[recipe] = bootstrap.bootstrap(database, options, experiment, recipe_of(options.hyper))
        options.resume = True
        stored = bootstrap.bootstrap(database, options, experiment)
        np.testing.assert_array_equal(stored.points, tables[recipe].points)
    counts = tables["consensus"].cluster_counts()
    assert counts.max() <= 20  # 0.4 of 40, and pictures that are as sure as the last of these
    assert tables["paper"].cluster_counts().max() > counts.max()
