"""The data set."""

from types import SimpleNamespace

import numpy as np
import pytest

from Databases.demo.database import Demo, DemoSettings
from Utils.hyperparameters import hyperparameters
from Utils.runtime.errors import UserError


def options(folder, training: int = 6, test: int = 3):
    return SimpleNamespace(log_path=folder, hyper=DemoSettings(demo_training=training, demo_test=test))


def test_open_gives_what_was_asked_for(tmp_path):
    database = Demo.open(options(tmp_path))
    assert [len(s) for s in (database.training, database.regression, database.test)] == [6, 6, 3]
    database.check_cheaply()
    assert database.read(database.test, 2).shape == (128, 128, 3)
    assert database.training.path(5) == tmp_path / "DemoData/train/000005.jpg"
    fewer = Demo.open(options(tmp_path, 4, 1))
    np.testing.assert_array_equal(fewer.training.landmarks, database.training.landmarks[:4])


def test_normaliser_is_the_root_of_the_extent(tmp_path):
    database = Demo.open(options(tmp_path, 1, 1))
    np.testing.assert_allclose(database.normalisers(np.array([[[0.0, 0], [4, 0], [2, 9]]])), [6])


@pytest.mark.parametrize("value, message", [(0, "must be at least 1"), (1001, "must be at most 1000")])
def test_impossible_settings_are_refused(value, message):
    with pytest.raises(UserError, match=f"--set demo_training={value}: {message}"):
        hyperparameters([f"demo_training={value}"], {}, Demo)
