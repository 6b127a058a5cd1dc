import numpy as np

from tools.superpoint.photometry import add_noise, change_light, degrade, to_uint8


def test_no_strength_changes_nothing():
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(change_light(gray, np.random.default_rng(0), strength=0.0), gray)
    np.testing.assert_array_equal(add_noise(gray, np.random.default_rng(0), 0.0), gray)


def test_rounds_and_cuts_off():
    assert to_uint8(np.float32([-1, 0.5, 2])).tolist() == [0, 128, 255]


def test_noise_has_the_deviation_told():
    noisy = add_noise(np.full((200, 200), 128, np.uint8), np.random.default_rng(0), 5.0)
    assert abs(noisy.std() - 5) < 0.15


def test_light_keeps_the_order_of_gray_levels_of_a_row_of_equal_light():
    gray = np.repeat(np.linspace(60, 190, 32).astype(np.uint8)[None], 4, 0)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        changed = change_light(gray, rng).astype(int)
        assert changed.shape == gray.shape
        assert changed[1, 31] > changed[1, 0]


def test_same_generator_same_picture():
    gray = np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8)
    np.testing.assert_array_equal(degrade(gray, np.random.default_rng(3)), degrade(gray, np.random.default_rng(3)))
