"""The eyes: between the lids, the skin gives way to a ball with iris, pupil and catch light."""

import numpy as np

from Databases.demo.mesh import HEAD
from Databases.demo.paint import smooth_step
from Databases.demo.scene import Scene, pose_head
from Databases.demo.surface import LOWER_LID, eye_axes, head_surface, unit
from Databases.demo.visible import Samples


def paint_eye(scene: Scene, side: int, samples: Samples) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The samples (m,) between the lids of an eye, and their colours (m, 3), normals (m, 3), catch light (m,)."""
    shape = scene.shape
    offset = samples.skin[:, :2] - np.float32([side * shape["eye_x"], shape["eye_y"]])
    inside = np.flatnonzero((samples.part == HEAD) & (np.abs(offset).max(1) < 1.1 * shape["eye_size"]))
    a, b = (offset[inside] @ eye_axes(side, shape).T.astype(np.float32) / shape["eye_size"]).T
    lid = shape["eye_open"] * (1 - a**2)
    between = (b < lid) & (b > -LOWER_LID * lid)
    inside, a, b, lid = inside[between], a[between], b[between], lid[between]
    u, v = a - scene.gaze[0], b - scene.gaze[1] - 0.1 * shape["eye_open"]
    radius = np.hypot(u, v) / (0.8 * shape["iris"])  # 1: the iris' border
    colour = _iris(scene, u, v, radius)
    white = np.array([0.86, 0.82, 0.76]) * (1 - 0.4 * np.abs(a))[:, None]
    colour += (white - colour) * smooth_step(0.97, 1.06, radius)[:, None]
    colour *= (1 - 0.75 * smooth_step(0.72, 0.95, radius) * smooth_step(1.1, 1.0, radius))[:, None]
    colour *= (1 - 0.6 * smooth_step(0.35, 0.0, lid - b))[:, None]  # the upper lid's shadow
    # A second catch light, as of a window, on the side of the key light.
    spark = np.hypot(u - 0.28 * np.sign(scene.light[0]), v - 0.3) < 0.15
    colour[spark] = 0.95
    right, up = _tangents(np.array([side * shape["eye_x"], shape["eye_y"]]), shape)
    ball = unit(np.cross(right, up)) + 0.62 * (a[:, None] * right + b[:, None] * up)
    return inside, colour.clip(0.01, 1), pose_head(unit(ball), scene), spark


def _iris(scene: Scene, u: np.ndarray, v: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Colours (m, 3) of iris and pupil at eye coordinates about the pupil."""
    shape = scene.shape
    angle = np.arctan2(v, u)
    spokes = 0.5 + 0.5 * np.sin(17 * angle + 3 * np.sin(5 * angle))
    bright = (0.55 + 0.75 * smooth_step(1.0, 0.35, radius) + 0.18 * spokes) * (0.8 - 0.5 * v)
    tall = 0.62 * shape["eye_open"]
    pupil = smooth_step(1.1, 0.9, np.hypot(u / (tall * shape["pupil"]), v / tall))
    return scene.palette[4] / 255 * (bright * (1 - 0.96 * pupil))[:, None]


def _tangents(chart: np.ndarray, shape: dict[str, float]) -> np.ndarray:
    """Unit vectors (2, 3) to the right and up along the skin at a chart position (2,)."""
    points = head_surface(chart + 0.02 * np.array([[0, 0], [1, 0], [0, 1]]), shape)
    return unit(points[1:] - points[0])
