"""The published augmentation by imgaug, on the whole picture."""

from typing import Any

import numpy as np
from imgaug import augmenters as iaa

from Databases.augmentation import (
    BLUR_MAX_SIGMA,
    HUE_FACTOR,
    MULTIPLY_PER_CHANNEL,
    NOISE_MAX_SD,
    NOISE_PER_CHANNEL,
    ROTATION,
    Strength,
)
from Utils import crops


def imgaug_augment(
    picture: np.ndarray, crop: np.ndarray, size: int, strength: Strength, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The same as `augment`, by imgaug on the whole picture."""
    height, width = picture.shape[:2]
    augmenter = imgaug_augmenter(strength, int(rng.integers(2**31)))
    # Three points tell the affine map that imgaug drew.
    source = np.array([[0.0, 0.0], [width, 0.0], [0.0, height]])
    changed, moved = augmenter(image=picture, keypoints=source[None])
    target = np.asarray(moved[0], dtype=np.float64)
    columns = np.stack([(target[1] - target[0]) / width, (target[2] - target[0]) / height], axis=1)
    affine = np.column_stack([columns, target[0]])
    return crops.warp(changed, crop, size), crops.compose(crop, affine)


def imgaug_augmenter(strength: Strength, seed: int) -> Any:
    """The published augmentation as an imgaug augmenter."""
    return iaa.Sequential(
        [
            iaa.Sometimes(strength.blur, iaa.GaussianBlur((0, BLUR_MAX_SIGMA))),
            iaa.LinearContrast(strength.contrast),
            iaa.Sometimes(
                strength.noise, iaa.AdditiveGaussianNoise(scale=(0, NOISE_MAX_SD), per_channel=NOISE_PER_CHANNEL)
            ),
            iaa.Multiply(strength.multiply, per_channel=MULTIPLY_PER_CHANNEL),
            iaa.Sometimes(strength.hue, iaa.MultiplyHueAndSaturation(HUE_FACTOR)),
            iaa.Affine(
                scale={"x": strength.scale, "y": strength.scale},
                translate_percent=dict.fromkeys("xy", (-strength.shift, strength.shift)),
                rotate=(-ROTATION, ROTATION),
                order=1,
                mode={"black": "constant"}.get(strength.border, strength.border),
            ),
        ],
        random_order=False,
        seed=seed,
    )
