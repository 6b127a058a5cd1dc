"""Free photos that installed packages carry: what our own SuperPoint learns from.

Every picture is in the public domain, CC0, or CC BY (the two of scikit-learn); data/SuperPoint/README.md
lists them. Nothing is downloaded.
"""

import functools
from pathlib import Path

import cv2
import numpy as np

from Utils.drawing.marks import fill
from Utils.runtime.errors import UserError
from Utils.storage.pictures import read_picture

_SCIKIT_IMAGE = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)
_SCIKIT_LEARN = ("china.jpg", "flower.jpg")
_MATPLOTLIB = ("grace_hopper.jpg",)

# Pictures of people, animals and places matter most to us; textures and flat pictures matter least.
_WEIGHTS = {
    "astronaut": 4.0,
    "grace_hopper": 4.0,
    "chelsea": 3.0,
    "camera": 3.0,
    "china": 3.0,
    "coffee": 2.0,
    "rocket": 1.5,
    "brick": 0.5,
    "clock_motion": 0.5,
    "grass": 0.5,
    "gravel": 0.5,
    "hubble_deep_field": 0.5,
    "retina": 0.5,
    "text": 0.5,
}

LONGEST_SIDES = (768, 544, 384, 272, 192)  # the sizes at which a photo is labelled and shown
RENDERED = 16  # pictures of dead leaves beside the photos


@functools.cache  # half a minute, and every stage wants them
def all_pictures(seed: int) -> list[tuple[np.ndarray, float]]:
    """The free photos and rendered dead leaves at all sizes, each with its chance; RGB uint8."""
    photos = [(picture, photo_weight(name)) for name, picture in free_photos().items()]
    photos += [(dead_leaves(np.random.default_rng([seed, k]), 640), 0.7) for k in range(RENDERED)]
    return [(resized(picture, side), chance) for picture, chance in photos for side in LONGEST_SIDES]


@functools.cache
def free_photos() -> dict[str, np.ndarray]:
    """Name -> RGB uint8 (H, W, 3), in a fixed order. Raises UserError where a package or its pictures are missing."""
    try:
        import matplotlib
        import skimage
        import sklearn
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; install the packages of requirements-dev.txt") from error

    folders = (
        (Path(skimage.__file__).parent / "data", _SCIKIT_IMAGE),
        (Path(sklearn.__file__).parent / "datasets" / "images", _SCIKIT_LEARN),
        (Path(matplotlib.get_data_path()) / "sample_data", _MATPLOTLIB),
    )
    photos = {}
    for folder, names in folders:
        for name in names:
            if not (folder / name).is_file():
                raise UserError(f"{folder / name} is missing; install the packages of requirements-dev.txt again")
            photos[Path(name).stem] = read_picture(folder / name)
    return photos


def photo_weight(name: str) -> float:
    """How often a photo is drawn, relative to the others."""
    return _WEIGHTS.get(name, 1.0)


def dead_leaves(rng: np.random.Generator, size: int, leaves: int = 90) -> np.ndarray:
    """RGB uint8 (size, size, 3): shapes of all sizes hide each other, each cut from another photo.

    Lee, Mumford, Huang, "Occlusion models for natural images", IJCV 2001: sizes r drawn with density r^-3
    give edges and corners as frequent as in photos.
    """
    photos = list(free_photos().values())
    canvas = _patch(rng, photos, size)
    smallest, largest = size / 40, size / 3
    for _ in range(leaves):
        radius = 1 / np.sqrt(rng.uniform(1 / largest**2, 1 / smallest**2))
        mask = np.zeros((size, size), np.uint8)
        centre, turn = rng.uniform(0, size, 2), rng.uniform(0, 360)
        corners = int(rng.integers(2, 7))
        if corners == 2:
            axes = (int(radius), int(radius * rng.uniform(0.4, 1)) + 1)
            cv2.ellipse(mask, tuple(int(n) for n in centre), axes, turn, 0, 360, 255, -1, cv2.LINE_AA)
        else:
            angles = np.deg2rad(turn + 360 / corners * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)))
            outline = centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
            fill(mask, outline, 255)
        leaf = _patch(rng, photos, size) * rng.uniform(0.4, 1.3) + rng.uniform(-50, 50, 3)
        share = mask[..., None] / np.float32(255)
        canvas = canvas * (1 - share) + np.clip(leaf, 0, 255) * share
    return cv2.GaussianBlur(canvas, (0, 0), 0.7).astype(np.uint8)


def _patch(rng: np.random.Generator, photos: list[np.ndarray], size: int) -> np.ndarray:
    """A random piece of a random photo, often enlarged and hence smooth, as RGB float32 (size, size, 3)."""
    photo = photos[int(rng.integers(len(photos)))]
    height, width = photo.shape[:2]
    side = int(rng.uniform(0.1, 0.8) * min(height, width))
    x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
    return cv2.resize(photo[y : y + side, x : x + side], (size, size)).astype(np.float32)


def resized(picture: np.ndarray, longest: int) -> np.ndarray:
    """The picture with its longer side brought to `longest` pixels."""
    height, width = picture.shape[:2]
    scale = longest / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
