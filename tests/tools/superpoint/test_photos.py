import numpy as np

from tools.superpoint.photos import dead_leaves, free_photos, resized


def test_free_photos_are_there_and_leaves_reproducible():
    photos = free_photos()
    assert len(photos) == 17
    assert photos["astronaut"].shape == (512, 512, 3)
    assert resized(photos["china"], 320).shape == (214, 320, 3)
    first, again = (dead_leaves(np.random.default_rng(3), 48, leaves=5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (48, 48, 3)
