"""Random changes of a picture's light and geometry (the paper, section 3 and supplementary), fused with its crop.

The published order is blur, contrast, noise, multiply, hue and saturation on the whole picture, then an affine
map, then the crop. Here only the part of the picture that the crop will show is changed, and the affine map and
the crop are one warp: the same distributions at a fraction of the time. Tests compare it with imgaug.

Points live in continuous picture coordinates: pixel i covers [i, i + 1).
"""

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np

from Utils import crops

NOISE_MAX_SD = 0.05 * 255
NOISE_PER_CHANNEL = 0.5  # probabilities
MULTIPLY_PER_CHANNEL = 0.2
BLUR_MAX_SIGMA = 0.5  # pixels
SHIFT = 0.05  # of the picture's size
ROTATION = 40.0  # degrees
HUE_FACTOR = (0.5, 1.5)
# Of the warps that test how steady landmarks are: large enough that errors of a cell of the maps do not decide.
SMALL_ROTATION, SMALL_SCALE, SMALL_SHIFT = 20.0, (0.9, 1.1), 0.1
CONTRAST_CENTRE = 127
NOISE_TABLE = 1 << 21  # numbers
BLUR_SIDE = 5  # pixels of the kernel
HUE_LEVELS = 180  # of OpenCV's 8-bit HSV
BORDERS = {"black": cv2.BORDER_CONSTANT, "reflect": cv2.BORDER_REFLECT_101}
LEVELS = np.arange(256, dtype=np.float32)


@dataclass(frozen=True)
class Strength:
    """What differs between the two steps and recipes: probabilities and ranges.

    Black beyond the picture's border, and small shifts, tell a network where the crop was, so that it may learn
    places in the crop instead of parts of the object.
    """

    blur: float
    contrast: tuple[float, float]
    noise: float
    multiply: tuple[float, float]
    hue: float
    scale: tuple[float, float]
    shift: float = SHIFT  # at most so much of the picture's size
    rotation: float = ROTATION  # degrees, at most
    wrong_pose: float = 0.0  # step two's share of pictures in a pose that is not theirs, which have no keypoints
    border: str = "black"  # what lies outside the picture, a key of `BORDERS`


FIRST_STEP = Strength(blur=0.3, contrast=(0.85, 1.3), noise=0.5, multiply=(0.9, 1.1), hue=0.3, scale=(0.8, 1.2))
SECOND_STEP = Strength(blur=0.5, contrast=(0.75, 1.5), noise=1.0, multiply=(0.8, 1.2), hue=0.5, scale=(0.7, 1.3))


def augment(
    picture: np.ndarray, crop: np.ndarray, size: int, strength: Strength, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Augment a picture and crop it.

    picture: (H, W, 3) uint8; crop: (2, 3) point map picture -> crop; size: pixels of the crop's side.
    Returns the crop (size, size, 3) uint8 and the (2, 3) point map from the picture to it.
    """
    height, width = picture.shape[:2]
    to_crop = crops.compose(crop, draw_affine(width, height, strength, rng))
    left, top, right, bottom = _visible_region(to_crop, size, width, height)
    region = change_colours(picture[top:bottom, left:right], strength, rng)
    shift = np.array([[1.0, 0.0, left], [0.0, 1.0, top]])
    return crops.warp(region, crops.compose(to_crop, shift), size, BORDERS[strength.border]), to_crop


def draw_affine(width: int, height: int, strength: Strength, rng: np.random.Generator) -> np.ndarray:
    """A random (2, 3) point map of the picture onto itself: rotate, scale per axis, shift, about the centre."""
    scale_x, scale_y = rng.uniform(*strength.scale, size=2)
    shift_x, shift_y = rng.uniform(-strength.shift, strength.shift, size=2) * (width, height)
    angle = np.deg2rad(rng.uniform(-strength.rotation, strength.rotation))
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.array([[scale_x * cos, -scale_x * sin], [scale_y * sin, scale_y * cos]])
    centre = np.array([width / 2, height / 2])
    offset = centre - linear @ centre + (shift_x, shift_y)
    return np.column_stack([linear, offset])


def draw_similarity(size: int, rng: np.random.Generator) -> np.ndarray:
    """A small random (2, 3) point map of a size x size crop: rotation, scale and shift, about the centre."""
    angle = np.deg2rad(rng.uniform(-SMALL_ROTATION, SMALL_ROTATION))
    scale = rng.uniform(*SMALL_SCALE)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    centre = np.array([size / 2, size / 2])
    return np.column_stack([linear, centre - linear @ centre + rng.uniform(-SMALL_SHIFT, SMALL_SHIFT, size=2) * size])


def _visible_region(to_crop: np.ndarray, size: int, width: int, height: int) -> tuple[int, int, int, int]:
    """The part of the picture that the crop shows: left, top, right, bottom (excluded); at least one pixel."""
    margin = BLUR_SIDE  # what bilinear sampling and blur reach beyond
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]], dtype=np.float64)
    source = crops.apply(crops.invert(to_crop), corners)
    left, top = np.floor(source.min(axis=0)).astype(int) - margin
    right, bottom = np.ceil(source.max(axis=0)).astype(int) + margin
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return left, top, max(min(right, width), left + 1), max(min(bottom, height), top + 1)


def change_colours(picture: np.ndarray, strength: Strength, rng: np.random.Generator) -> np.ndarray:
    """Blur, contrast, noise, brightness, hue and saturation: (H, W, 3) uint8 -> new (H, W, 3) uint8."""
    if rng.random() < strength.blur:
        sigma = rng.uniform(0, BLUR_MAX_SIGMA)
        if sigma > 1e-3:
            picture = cv2.GaussianBlur(picture, (BLUR_SIDE, BLUR_SIDE), sigma, borderType=cv2.BORDER_REFLECT_101)
    contrast = CONTRAST_CENTRE + np.float32(rng.uniform(*strength.contrast)) * (LEVELS - CONTRAST_CENTRE)
    factors = _multipliers(strength, rng)
    if rng.random() < strength.noise:
        picture = _add_noise(cv2.LUT(picture, _table(contrast)), rng)
        picture = _look_up(picture, LEVELS[:, None] * factors)
    else:
        picture = _look_up(picture, np.clip(contrast, 0, 255)[:, None] * factors)
    if rng.random() < strength.hue:
        picture = _change_hue(picture, rng.uniform(*HUE_FACTOR))
    return picture


def _multipliers(strength: Strength, rng: np.random.Generator) -> np.ndarray:
    """(3,) brightness factors of the channels, mostly one for all, (1,)."""
    per_channel = rng.random() < MULTIPLY_PER_CHANNEL
    return rng.uniform(*strength.multiply, size=3 if per_channel else 1).astype(np.float32)


def _table(values: np.ndarray) -> np.ndarray:
    """Look-up table of 8-bit levels."""
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def _look_up(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Put a picture (H, W, 3) through a table of one column per channel (256, 3) or for all (256, 1)."""
    return cv2.LUT(picture, _table(values)[None])


@functools.cache
def _noise_table() -> np.ndarray:
    """Standard normal numbers, drawn once: fresh ones for each picture would cost more than all else here."""
    return np.random.default_rng(0).standard_normal(NOISE_TABLE, dtype=np.float32)


def _add_noise(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise, a stretch of the table that begins at random: (H, W, 3) uint8 -> the same."""
    deviation = rng.uniform(0, NOISE_MAX_SD)
    per_channel = rng.random() < NOISE_PER_CHANNEL
    shape = (*picture.shape[:2], 3 if per_channel else 1)
    count = math.prod(shape)
    table = _noise_table()
    if count > len(table):
        table = np.resize(table, 2 * count)
    start = int(rng.integers(len(table) - count + 1))
    noise = table[start : start + count].reshape(shape)
    if not per_channel:
        noise = cv2.merge([noise, noise, noise])
    return cv2.addWeighted(picture, 1.0, noise, deviation, 0.0, dtype=cv2.CV_8U)


def _change_hue(picture: np.ndarray, factor: float) -> np.ndarray:
    """Multiply hue (going round the colour circle) and saturation of an RGB picture by one factor."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    hue = np.mod(LEVELS * factor, HUE_LEVELS).astype(np.uint8)
    saturation = _table(LEVELS * factor)
    table = np.stack([hue, saturation, LEVELS.astype(np.uint8)], axis=1).reshape(1, 256, 3)
    return cv2.cvtColor(cv2.LUT(hsv, table), cv2.COLOR_HSV2RGB)
