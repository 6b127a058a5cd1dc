"""Augmentation: its distributions against imgaug's on the same picture, its geometry by known points."""

from dataclasses import replace

import numpy as np

from Databases import augmentation
from Databases.augmentation import (
    FIRST_STEP,
    SECOND_STEP,
    Strength,
    augment,
    change_colours,
    draw_affine,
)
from tests.Databases.imgaug_reference import imgaug_augment, imgaug_augmenter
from Utils import crops

DRAWS = 300


def picture_of(width=60, height=48):
    """Smooth colours with some detail."""
    y, x = np.mgrid[:height, :width]
    channels = [90 + 60 * np.sin(x / 9), 120 + 50 * np.cos(y / 7), 100 + 40 * np.sin((x + y) / 5)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def colour_statistics(change) -> np.ndarray:
    """Per draw: mean and deviation of each channel, and how rough the picture is."""
    rows = []
    for seed in range(DRAWS):
        changed = change(np.random.default_rng(seed)).astype(np.float64)
        rough = np.abs(np.diff(changed, axis=1)).mean()
        rows.append([*changed.mean((0, 1)), *changed.std((0, 1)), rough])
    return np.array(rows)


def test_colours_are_distributed_as_imgaug_s():
    """Means within 4 standard errors and quantiles close."""
    picture, strength = picture_of(), SECOND_STEP  # the first step's ranges are narrower

    def by_imgaug(rng):
        augmenter = imgaug_augmenter(strength, int(rng.integers(2**31)))
        del augmenter[-1]  # the affine map is compared on its own
        return augmenter(image=picture)

    ours = colour_statistics(lambda rng: change_colours(picture, strength, rng))
    theirs = colour_statistics(by_imgaug)
    error = np.sqrt((ours.var(0) + theirs.var(0)) / DRAWS)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 4 * error + 0.7).all()
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.25, atol=0.3)
    quantiles = [0.1, 0.5, 0.9]
    spread = theirs.std(0)
    difference = np.quantile(ours, quantiles, axis=0) - np.quantile(theirs, quantiles, axis=0)
    assert (np.abs(difference) < 0.45 * spread + 1).all()


def test_geometry_is_distributed_as_imgaug_s():
    """The four corners of the picture, moved by 300 draws of both."""
    width, height, strength = 60, 48, FIRST_STEP
    picture = picture_of(width, height)
    crop = crops.zoom_crop(width, height, 64, 1.0)
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)
    ours, theirs = [], []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        ours.append(crops.apply(crops.compose(crop, draw_affine(width, height, strength, rng)), corners))
        _, to_crop = imgaug_augment(picture, crop, 64, strength, np.random.default_rng(seed))
        theirs.append(crops.apply(to_crop, corners))
    ours, theirs = np.array(ours), np.array(theirs)
    error = np.sqrt((ours.var(0) + theirs.var(0)) / DRAWS)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 4 * error).all()
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.2)


def test_points_follow_the_pixels():
    """Bright blobs are found where the point map says."""
    height, width = 80, 100
    spots = np.array([[30.0, 30.0], [70.0, 30.0], [50.0, 55.0]])
    crop = crops.face_crop(np.array([15, 15, 85, 70]), width, height, 96)
    strength = augmentation.Strength(blur=0, contrast=(1, 1), noise=0, multiply=(1, 1), hue=0, scale=(0.8, 1.2))
    for seed in range(10):
        for spot in spots:
            y, x = np.mgrid[:height, :width] + 0.5
            glow = 250 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 8)
            picture = np.repeat(glow.astype(np.uint8)[..., None], 3, axis=2)
            pixels, to_crop = augment(picture, crop, 96, strength, np.random.default_rng(seed))
            expected = crops.apply(to_crop, spot[None])[0]
            if (expected < 10).any() or (expected > 86).any():
                continue
            weight = pixels[..., 0].astype(np.float64)
            y, x = np.mgrid[:96, :96] + 0.5
            found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
            np.testing.assert_allclose(found, expected, atol=0.6)


def test_outside_of_the_picture_is_black():
    picture = np.full((40, 40, 3), 200, np.uint8)
    strength = augmentation.Strength(blur=0, contrast=(0.85, 1.3), noise=0, multiply=(1, 1), hue=0, scale=(0.5, 0.5))
    pixels, to_crop = augment(picture, crops.zoom_crop(40, 40, 64, 1.0), 64, strength, np.random.default_rng(1))
    corners = crops.apply(to_crop, np.array([[0.0, 0.0], [40.0, 40.0]]))
    assert np.ptp(corners[:, 0]) < 64
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert pixels[32, 32].min() > 150


def test_a_picture_that_leaves_the_crop_gives_a_black_crop():
    picture = np.full((40, 40, 3), 200, np.uint8)
    far = np.array([[1.0, 0, 500.0], [0, 1.0, 500.0]])
    pixels, _ = augment(picture, far, 64, FIRST_STEP, np.random.default_rng(1))
    assert pixels.max() == 0


def test_hue_of_a_pure_colour():
    red = np.zeros((4, 4, 3), np.uint8) + np.uint8([200, 100, 100])  # hue 0, saturation 127.5
    changed = augmentation._change_hue(red, 0.5)
    # Half the saturation: 200 * (1 - 0.25) = 150.
    assert np.abs(changed[0, 0].astype(int) - [200, 150, 150]).max() <= 2
    green = np.zeros((4, 4, 3), np.uint8) + np.uint8([0, 200, 0])  # hue 120 degrees -> 60: yellow
    changed = augmentation._change_hue(green, 0.5)[0, 0].astype(int)
    assert abs(changed[0] - changed[1]) <= 4
    assert changed[2] < changed[0]


def test_a_reflecting_border_leaves_no_black_that_would_tell_the_crop():
    """A white picture far too small for its crop: black around it, or white everywhere."""
    picture = np.full((40, 40, 3), 255, np.uint8)
    crop = np.array([[0.5, 0.0, 20.0], [0.0, 0.5, 20.0]])
    still = Strength(blur=0, contrast=(1, 1), noise=0, multiply=(1, 1), hue=0, scale=(1, 1))
    for border, least in (("black", 0), ("reflect", 255)):
        pixels, _ = augment(picture, crop, 64, replace(still, border=border), np.random.default_rng(0))
        assert pixels.min() == least


def test_the_shift_is_that_of_the_strength():
    wide = replace(FIRST_STEP, scale=(1, 1), shift=0.3)
    rng = np.random.default_rng(0)
    centres = np.stack([draw_affine(100, 100, wide, rng) @ (50, 50, 1) for _ in range(400)]) - 50
    assert 28 < np.abs(centres).max() <= 30
