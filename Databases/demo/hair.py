"""What stands out from the skin: short hair all over, and whiskers."""

import cv2
import numpy as np

from Databases.demo.mesh import EAR, HEAD
from Databases.demo.paint import smooth_step
from Databases.demo.scene import Scene, pose_head, project
from Databases.demo.surface import head_surface, unit
from Databases.demo.visible import Samples


def draw_hair(scene: Scene, layer: np.ndarray, samples: Samples, colour: np.ndarray, fur: np.ndarray) -> None:
    """Short strokes along the fur's flow over the layer (S, S, 4), premultiplied by its opacity."""
    size = len(layer)
    rng = scene.stream("hair")
    roots = np.flatnonzero((fur > 0.9) & (rng.random(len(fur)) < 12 * size / max(len(fur), 1)))
    roots = roots[np.argsort(samples.depth[roots])]
    length = np.array([0.085, 0.07, 0.15])[samples.part[roots]]
    chart = samples.skin[roots]
    from_nose = np.hypot(chart[:, 0], chart[:, 1])
    length = np.where(samples.part[roots] == HEAD, 0.02 + 0.07 * smooth_step(0.25, 1.2, from_nose), length)
    hollow = (samples.part[roots] == EAR) & (chart[:, 1] > 0.3)
    length = np.where(hollow, 0.06, length) * rng.uniform(0.6, 1.3, len(roots))
    jitter = rng.uniform(-0.5, 0.5, (len(roots), 2))
    way = unit(samples.flow[roots] + 0.35 * samples.normal[roots] + rng.normal(0, 0.14, (len(roots), 3)))
    start = np.stack([samples.pixel[roots] % size, samples.pixel[roots] // size], 1) - jitter
    stop = start + way[:, :2] * [1, -1] * (length * scene.scale * size)[:, None]
    tone = (colour[roots] * rng.uniform(0.84, 1.17, (len(roots), 1)) * 255).clip(0, 255)
    start, stop = (np.round(ends * 16).astype(int).tolist() for ends in (start, stop))
    for a, b, rgb in zip(start, stop, tone.tolist()):
        cv2.line(layer, a, b, (*rgb, 255), 1, cv2.LINE_AA, 4)


def draw_whiskers(scene: Scene, layer: np.ndarray, depth: np.ndarray) -> None:
    """Whiskers over the layer (S, S, 4) where they are nearer than what is drawn; depth: (S, S)."""
    size = len(layer)
    rng = scene.stream("whiskers")
    side = np.repeat([-1, 1], 4)
    row = np.tile(np.arange(4), 2)
    roots = np.stack([side * (0.24 + 0.03 * (row % 2)), -0.05 - 0.055 * row], 1)
    rise = 0.16 - 0.13 * row + rng.normal(0, 0.03, 8)
    reach = np.stack([side * rng.uniform(0.45, 0.65, 8), rise, np.full(8, 0.1)], 1)
    t = np.linspace(0, 1, 14)[:, None, None]
    points = head_surface(roots, scene.shape) + reach * t + np.array([0, -0.16, -0.22]) * t**2  # (14, 8, 3)
    points = pose_head(points.reshape(-1, 3), scene)
    xy = project(points, scene, size) - 0.5
    column, line = np.round(xy.T).astype(int).clip(0, size - 1)
    seen = (points[:, 2] > depth[line, column] - 0.04).reshape(14, 8)
    xy = np.round(xy * 16).astype(int).reshape(14, 8, 2)
    tone = 235.0 if scene.palette[1].mean() > 120 else 190.0
    colour = (*(tone * (0.45 + 0.36 * scene.key_colour)).clip(0, 255).tolist(), 255)
    for k, whisker in np.argwhere(seen[:-1] & seen[1:]).tolist():
        ends = xy[k : k + 2, whisker].tolist()
        cv2.line(layer, *ends, colour, 1, cv2.LINE_AA, 4)
