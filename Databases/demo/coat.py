"""The skin's colours without light: the fur and its markings, eye rims, nose and mouth, painted in the chart."""

import cv2
import numpy as np

from Databases.demo.mesh import EAR, HEAD, NECK
from Databases.demo.paint import Chart, brush, ellipse, smooth_step, to_texture
from Databases.demo.raster import sample
from Databases.demo.scene import Scene
from Databases.demo.surface import LOWER_LID, eye_to_chart, mouth_curve
from Databases.demo.visible import Samples


def skin_albedo(scene: Scene, size: int, samples: Samples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colours (n, 3) in 0..1, bareness (n,) and gloss (n,) of head, ears and neck."""
    skin, part = samples.skin, samples.part
    head, ear, neck = (np.flatnonzero(part == k) for k in (HEAD, EAR, NECK))
    colour = np.empty((len(part), 3), np.float32)
    bare, gloss = np.zeros(len(part), np.float32), np.zeros(len(part), np.float32)
    strands = _fur_strands(scene.stream("strands"), _texture_size(size) // 2)
    colour[head], bare[head] = _head_albedo(scene, size, skin[head, :2], strands)
    colour[ear] = _ear_albedo(scene, size, skin[ear], strands)
    colour[neck] = _neck_albedo(scene, size, skin[neck], strands)
    on_nose = np.hypot(skin[head, 0], skin[head, 1] - 0.13) < 1.15 * scene.shape["nose"]
    gloss[head] = np.where(on_nose, 0.55, 0.05) * bare[head]
    return colour.clip(0.01, 1), bare, gloss


def _head_albedo(scene: Scene, size: int, chart: np.ndarray, strands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours (n, 3) and bareness (n,) at chart positions (n, 2)."""
    resolution = _texture_size(size)
    fur = sample(strands, to_texture(chart, len(strands)))
    # Strands carry the colour outwards: markings get ragged borders, as on real fur.
    carried = chart * (1 + 0.02 * fur / np.maximum(np.linalg.norm(chart, axis=1), 0.3))[:, None]
    furry = paint_coat(scene, resolution // 2).sample(carried)[:, :3] * (1 + 0.085 * fur)[:, None]
    features = paint_features(scene, resolution).sample(chart)
    bare = features[:, 3] / 255
    return (furry + (features[:, :3] - furry) * bare[:, None]) / 255, bare


def _ear_albedo(scene: Scene, size: int, skin: np.ndarray, strands: np.ndarray) -> np.ndarray:
    """Colours (n, 3) at ear positions (n, 3): along the ear, towards its front, across it."""
    coat, pale, dark, inner = scene.palette[:4] / 255
    along, front, across = skin.T
    fur = sample(strands, np.stack([across * 40 + 80, along * 60 + 40 * front + 60], 1) * (size / 128))
    hollow = smooth_step(0.12, 0.42, front + 0.06 * fur) * smooth_step(0.92, 0.76, along + 0.03 * fur)
    tip = scene.markings["dark_ears"] * smooth_step(0.35, 0.75, along + 0.05 * fur + 0.15 * (front < 0))
    back = coat + (dark - coat) * tip[:, None]
    tufts = 0.6 * smooth_step(0.5, 0.1, along + 0.1 * fur + 0.4 * front)[:, None]
    shell = inner * [1.0, 0.86, 0.84] * (1 - 0.3 * smooth_step(0.5, 1.0, front))[:, None]
    shell = shell + (pale - shell) * tufts
    return (back + (shell - back) * hollow[:, None]) * (1 + 0.08 * fur)[:, None]


def _neck_albedo(scene: Scene, size: int, skin: np.ndarray, strands: np.ndarray) -> np.ndarray:
    """Colours (n, 3) at neck positions (n, 3): along the neck, towards its front, across it."""
    coat, pale = scene.palette[:2] / 255
    along, front, across = skin.T
    fur = sample(strands, np.stack([across * 60 + 80, along * 90 + 20], 1) * (size / 128))
    chest = smooth_step(0.25, 0.75, front + 0.12 * fur) * (0.35 + 0.65 * scene.markings["pale_face"])
    return (coat + (pale - coat) * chest[:, None]) * (1 + 0.09 * fur)[:, None]


def paint_coat(scene: Scene, size: int) -> Chart:
    """The fur's colours: palette and markings."""
    coat, pale, dark = scene.palette[:3]
    marks, shape, rng = scene.markings, scene.shape, scene.stream("coat")
    chart = Chart(size, coat)
    ex, ey = shape["eye_x"], shape["eye_y"]
    chart.paint(ellipse(0, 1.7, 0.9, 0.7), 0.8 * coat, 0.3, 0.6, mirror=False)
    x, y = rng.uniform(-1.7, 1.7, (46, 1)), rng.uniform(0.55, 2.0, (46, 1))
    radius = rng.uniform(0.035, 0.075, (46, 1))
    spots = ellipse(x, y, radius, 0.8 * radius, rng.uniform(0, 3, (46, 1)))
    chart.paint(spots, dark, 0.012, marks["spots"], mirror=False)
    for k in range(3):
        top = 1.75 - 0.12 * k
        stroke = brush([(0.09 + 0.16 * k, 0.98 - 0.06 * k), (0.07 + 0.2 * k, 1.3), (0.12 + 0.24 * k, top)], 0.1)
        chart.paint(stroke, dark, 0.02, marks["stripes"])
    chart.paint(brush([(0, 1.0), (0, 1.4), (0, 1.8)], 0.09), dark, 0.02, marks["stripes"], mirror=False)
    chart.paint(ellipse(ex + 0.05, ey - 0.02, 0.42, 0.27, -0.5), dark, 0.06, marks["mask"])
    pale_cheek = [(0, 0.12), (0.26, 0.24), (0.5, 0.16), (0.85, 0.1), (1.3, 0.0), (1.5, -0.5), (1.2, -1.2), (0, -1.9)]
    chart.paint(np.array(pale_cheek), pale, 0.07, marks["pale_face"])
    chart.paint(ellipse(0, -0.15, 0.46, 0.34), pale, 0.05, 0.5 + 0.5 * marks["pale_face"], mirror=False)
    for k in range(3):
        stroke = brush([(0.72, 0.22 - 0.17 * k), (1.0, 0.16 - 0.22 * k), (1.32, 0.2 - 0.3 * k)], 0.085)
        chart.paint(stroke, dark, 0.018, marks["cheek_stripes"])
    chart.paint(brush([(0, 0.16), (0, 0.5), (0, 0.95), (0, 1.35)], 0.24), pale, 0.03, marks["blaze"], mirror=False)
    bridge = brush([(0, 0.1), (0, 0.3), (0, 0.62)], 0.26)
    chart.paint(bridge, dark, 0.05, marks["dark_bridge"], mirror=False)
    star = np.array([(0, 0.84), (0.06, 0.95), (0, 1.10), (-0.06, 0.95)])
    chart.paint(star, pale if marks["stripes"] or coat.mean() < 190 else dark, 0.01, marks["star"], mirror=False)
    chart.paint(ellipse(ex - 0.07, ey + 0.33, 0.12, 0.06, 0.3), pale, 0.018, marks["brows"])
    inner = eye_to_chart(np.array([[-1.0, 0.0]]), 1, shape)[0]
    tear = brush([inner, (inner[0] - 0.02, inner[1] - 0.14), (inner[0] + 0.06, inner[1] - 0.3)], 0.07)
    chart.paint(tear, dark, 0.012, marks["tears"])
    return chart


def paint_features(scene: Scene, size: int) -> Chart:
    """What is not fur, and sharp: rims of the eyes, nose, mouth, whisker dots."""
    shape, dark, nose_colour = scene.shape, 0.45 * scene.palette[2], scene.palette[5]
    chart = Chart(size)
    chart.pixels[..., :3] = dark  # so that soft borders do not fade through black
    rim = _eye_outline(shape) * [1.22, 1.0] + np.array([0, 0.02])
    rim[:, 1] += 0.16 * np.sign(rim[:, 1])
    chart.paint(eye_to_chart(rim, 1, shape), dark, 0.008)
    lash = np.array([(0.9, 0.1), (1.25, 0.22), (1.6, 0.42)])
    chart.paint(brush(eye_to_chart(lash, 1, shape), 0.05), dark, 0.006)
    r = shape["nose"]
    nose = np.array([(0, 0.26), (0.6, 0.27), (0.98, 0.18), (1.02, 0.02), (0.72, -0.25), (0.3, -0.62), (0, -0.75)])
    nose = np.array([0, 0.115]) + r * (nose + [0, 0.25])
    chart.paint(nose, nose_colour, 0.006)
    nostril = brush(np.array([0, 0.115]) + r * np.array([(0.28, 0.02), (0.55, 0.10), (0.8, 0.2)]), 0.42 * r)
    chart.paint(nostril, 0.25 * nose_colour, 0.006)
    chart.paint(brush([(0, 0.06), (0, -0.1), (0, -0.25)], 0.024, 0.2), 0.4 * nose_colour, 0.005, mirror=False)
    curve = mouth_curve(shape)
    chart.paint(brush(curve, 0.032, 0.6), 0.4 * dark, 0.006)
    row, column = np.divmod(np.arange(9)[:, None], 3)
    dots = ellipse(0.17 + 0.075 * column - 0.015 * row, -0.04 - 0.065 * row + 0.012 * column, 0.016, 0.016)
    chart.paint(dots, dark, 0.003, 0.9)
    return chart


def _eye_outline(shape: dict[str, float]) -> np.ndarray:
    """The lids' outline (n, 2) in eye coordinates."""
    x = np.linspace(-1, 1, 17)
    upper, lower = shape["eye_open"] * (1 - x**2), -LOWER_LID * shape["eye_open"] * (1 - x**2)
    return np.concatenate([np.stack([x, upper], 1), np.stack([x, lower], 1)[::-1]])


def _texture_size(size: int) -> int:
    """Side of the chart's texture: about one texel for each supersampled pixel."""
    return int(np.clip(4 * size, 128, 1536))


def _fur_strands(rng: np.random.Generator, size: int) -> np.ndarray:
    """Strands (size, size) float32 about zero that flow away from the chart's centre."""
    strands = rng.normal(size=(420, 40)).astype(np.float32)
    strands += 0.7 * np.repeat(rng.normal(size=(105, 20)).astype(np.float32), 4, 0).repeat(2, 1)
    radius = size / 2
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    return cv2.warpPolar(strands, (size, size), (radius, radius), radius * 1.42, flags)
