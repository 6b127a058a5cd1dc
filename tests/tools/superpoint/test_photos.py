import sys

import numpy as np
import pytest

from tools.superpoint.photos import dead_leaves, free_photos, resized
from Utils.runtime.errors import UserError


def test_free_photos_are_there_and_leaves_reproducible():
    photos = free_photos()
    assert len(photos) == 17
    assert photos["astronaut"].shape == (512, 512, 3)
    assert resized(photos["china"], 320).shape == (214, 320, 3)
    first, again = (dead_leaves(np.random.default_rng(3), 48, leaves=5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (48, 48, 3)


def test_a_user_s_packages_alone_are_too_few(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UserError, match="sklearn is not installed; install the packages of requirements-dev.txt"):
        free_photos.__wrapped__()
