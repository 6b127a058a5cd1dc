import numpy as np

from Databases.demo.render import render

SIZE = 32


def test_pictures_are_pure_functions_of_seed_split_and_index():
    first = render(0, "train", 1, SIZE)
    assert first.shape == (SIZE, SIZE, 3)
    assert first.dtype == np.uint8
    np.random.seed(1)  # noqa: NPY002 - must not matter
    np.testing.assert_array_equal(render(0, "train", 1, SIZE), first)
    for other in [(1, "train", 1), (0, "test", 1), (0, "train", 2)]:
        assert np.abs(render(*other, SIZE).astype(int) - first).mean() > 5
