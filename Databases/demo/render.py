"""One picture of a scene."""

import cv2
import numpy as np

from Databases.demo.background import cast_on_background, draw_background
from Databases.demo.hair import draw_hair, draw_whiskers
from Databases.demo.scene import Scene, sample_scene
from Databases.demo.shading import shade
from Databases.demo.visible import visible_samples

SUPERSAMPLING = 2


def render(seed: int, split: str, index: int, size: int) -> np.ndarray:
    """Picture (size, size, 3) RGB uint8: a pure function of its arguments."""
    return render_scene(sample_scene(seed, split, index), size)


def render_scene(scene: Scene, size: int) -> np.ndarray:
    """Picture (size, size, 3) RGB uint8."""
    canvas = SUPERSAMPLING * size
    samples = visible_samples(scene, canvas)
    colour, fur = shade(scene, size, samples)
    layer: np.ndarray = np.zeros((canvas * canvas, 4), np.uint8)
    layer[samples.pixel, :3] = colour * 255 + 0.5
    layer[samples.pixel, 3] = 255
    depth = np.full(canvas * canvas, -10.0, np.float32)
    depth[samples.pixel] = samples.depth
    layer = layer.reshape(canvas, canvas, 4)
    draw_hair(scene, layer, samples, colour, fur)
    draw_whiskers(scene, layer, depth.reshape(canvas, canvas))
    layer = cv2.resize(layer, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    picture = cast_on_background(scene, draw_background(scene, size), layer[..., 3])
    picture = picture * (1 - layer[..., 3:]) + layer[..., :3]
    return _develop(scene, picture)


def _develop(scene: Scene, picture: np.ndarray) -> np.ndarray:
    """The camera's part: exposure, a little vignette, noise."""
    rng = scene.stream("camera")
    size = len(picture)
    t = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    vignette = 1 - rng.uniform(0.02, 0.14) * (t[:, None] + t[None])
    picture = picture * vignette[..., None] * rng.uniform(0.9, 1.1)
    picture = picture + rng.normal(0, rng.uniform(0.004, 0.014), picture.shape)
    return (picture * 255 + 0.5).clip(0, 255).astype(np.uint8)
