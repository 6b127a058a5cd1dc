"""A cluttered place behind the animal, and the animal's shadow on it."""

import colorsys
from collections.abc import Callable

import cv2
import numpy as np

from Databases.demo.paint import ellipse
from Databases.demo.scene import Scene
from Utils.drawing.marks import fill, stroke

Colours = Callable[..., np.ndarray]  # spread of the hue, saturation, value -> a drawn RGB (3,), 0 to 255


def draw_background(scene: Scene, size: int) -> np.ndarray:
    """A cluttered place (size, size, 3), float32 in 0..1: bokeh, foliage, a room, hills or a wall."""
    rng = scene.stream("background")
    canvas = 2 * size
    draw, hues = _PLACES[rng.integers(len(_PLACES))]
    hue = rng.choice(hues) + rng.normal(0, 0.03)

    def colour(spread: float = 0.06, saturation: tuple = (0.1, 0.55), value: tuple = (0.2, 0.9)) -> np.ndarray:
        rgb = colorsys.hsv_to_rgb((hue + rng.normal(0, spread)) % 1, rng.uniform(*saturation), rng.uniform(*value))
        return np.array(rgb) * 255

    ramp = np.linspace(0, 1, canvas)[:, None, None]
    picture = np.ascontiguousarray(np.broadcast_to(colour() * (1 - ramp) + colour() * ramp, (canvas, canvas, 3)))
    picture = picture.astype(np.uint8)
    blur = draw(picture, rng, colour)
    picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    picture = cv2.GaussianBlur(picture, (0, 0), blur * size / 128)
    return picture.astype(np.float32) / 255


def cast_on_background(scene: Scene, background: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Darken the background where the animal stands in its light."""
    size = len(background)
    shift = np.array([[1, 0, -0.16 * size * scene.light[0]], [0, 1, 0.12 * size * scene.light[1]]], np.float32)
    shadow = cv2.warpAffine(opacity, shift, (size, size), borderMode=cv2.BORDER_REPLICATE)
    shadow = cv2.GaussianBlur(shadow, (0, 0), 0.035 * size)
    return background * (1 - 0.5 * shadow[..., None])


def _bokeh(picture: np.ndarray, rng: np.random.Generator, colour: Colours) -> float:
    n = len(picture)
    for _ in range(10):
        _blend_disc(picture, rng.uniform(0, n, 2), rng.uniform(0.15, 0.4) * n, colour(0.1), 0.5)
    for _ in range(40):
        _blend_disc(
            picture, rng.uniform(0, n, 2), rng.uniform(0.02, 0.09) * n, colour(0.08, (0.15, 0.6), (0.6, 1)), 0.5
        )
    return rng.uniform(1.5, 2.2)


def _blend_disc(picture: np.ndarray, centre: np.ndarray, radius: float, rgb: np.ndarray, opacity: float) -> None:
    low = np.floor(centre - radius - 1).clip(0).astype(int)
    high = np.ceil(centre + radius + 2).clip(0, len(picture)).astype(int)
    patch = picture[low[1] : high[1], low[0] : high[0]]
    if patch.size:
        over = patch.copy()
        cv2.circle(
            over,
            np.round((centre - low) * 16).astype(int).tolist(),
            int(radius * 16),
            rgb.tolist(),
            -1,
            cv2.LINE_AA,
            4,
        )
        patch[:] = cv2.addWeighted(over, opacity, patch, 1 - opacity, 0)


def _foliage(picture: np.ndarray, rng: np.random.Generator, colour: Colours) -> float:
    n = len(picture)
    for depth in np.linspace(0, 1, 260):
        x, y = rng.uniform(0, n, 2)
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.16) * n
        leaf = ellipse(x, y, length / 2, length * rng.uniform(0.1, 0.22), angle)
        rgb = colour(0.03, (0.35, 0.75), (0.12 + 0.25 * depth, 0.3 + 0.55 * depth))
        fill(picture, leaf, rgb.tolist())
        tip = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        stroke(picture, [x, y] - tip, [x, y] + tip, (0.75 * rgb).tolist())
    return rng.uniform(1.3, 2.4)


def _room(picture: np.ndarray, rng: np.random.Generator, colour: Colours) -> float:
    n = len(picture)
    for _ in range(rng.integers(12, 26)):
        corner, extent = rng.uniform(-0.1, 1, 2) * n, rng.uniform(0.06, 0.35, 2) * n
        low, high = corner.astype(int).tolist(), (corner + extent).astype(int).tolist()
        cv2.rectangle(picture, low, high, colour(0.15).tolist(), -1)
        if rng.random() < 0.5:
            cv2.rectangle(picture, low, high, colour(0.15, value=(0.05, 0.5)).tolist(), int(rng.integers(2, 6)))
    for _ in range(rng.integers(3, 9)):
        _blend_disc(picture, rng.uniform(0, n, 2), rng.uniform(0.03, 0.1) * n, colour(0.3), 0.95)
    return rng.uniform(1.3, 2.2)


def _hills(picture: np.ndarray, rng: np.random.Generator, colour: Colours) -> float:
    n = len(picture)
    x = np.arange(0, n + 8, 8)
    for level in np.linspace(0.3, 0.95, 5):
        ridge = sum(rng.uniform(0.01, 0.05) * np.sin(x / n * f + rng.uniform(0, 7)) for f in (4, 9, 21, 47))
        line = np.stack([x, (level + ridge) * n], 1)
        hill = np.concatenate([line, [[n + 8, n], [0, n]]])
        rgb = colour(0.04, (0.2, 0.55), (0.75 - 0.5 * level, 0.95 - 0.5 * level))
        fill(picture, hill, rgb.tolist())
        for _ in range(24):
            px = rng.uniform(0, n)
            py = np.interp(px, x, line[:, 1]) + rng.uniform(-0.02, 0.2) * n
            tree = np.array([(-0.5, 0.3), (0, -1.3), (0.5, 0.3)]) * rng.uniform(0.02, 0.06) * n + [px, py]
            fill(picture, tree, (rgb * rng.uniform(0.55, 1.2)).clip(0, 255).tolist())
    return rng.uniform(1.3, 2.0)


def _wall(picture: np.ndarray, rng: np.random.Generator, colour: Colours) -> float:
    n = len(picture)
    rows = int(rng.integers(5, 10))
    height = n / rows
    base = colour()
    for row in range(rows + 1):
        for column in range(-1, rows):
            low = np.array([(column + 0.5 * (row % 2)) * 1.7 * height, row * height]) + 2
            rgb = (base * rng.uniform(0.75, 1.2) + rng.normal(0, 6, 3)).clip(0, 255)
            high = low + [1.7 * height - 4, height - 4]
            cv2.rectangle(picture, low.astype(int).tolist(), high.astype(int).tolist(), rgb.tolist(), -1)
    return rng.uniform(1.2, 1.9)


# With the hues that each place may have.
_PLACES = (
    (_bokeh, (0.07, 0.12, 0.3, 0.55, 0.62, 0.9)),
    (_foliage, (0.08, 0.14, 0.24, 0.3, 0.36)),
    (_room, (0.05, 0.1, 0.15, 0.5, 0.58, 0.65)),
    (_hills, (0.1, 0.25, 0.33, 0.45, 0.56, 0.6)),
    (_wall, (0.02, 0.06, 0.1, 0.13, 0.6)),
)
