"""Demo: an embedded data set. Animal heads of our own making, rendered with exact groundtruth.

One head is a deformable mesh: a sphere that a few offsets pull into muzzle, cheeks, brows and eye sockets,
two ears and a neck. Each picture has its own animal (shape, palette, markings), pose, light, shadows and
background, and is a pure function of (seed, split, index, size). Coordinates of the object: x to the right
of the picture, y up, z to the viewer, in units of about one head radius. The skin has a *chart*: angles
(radians) to the right and upwards from the muzzle's direction, in which shape, markings and landmarks are laid
out; a landmark is a chart position sent through the same shape and camera as the mesh, so that it is exact
also where it is hidden.
"""

import colorsys
import dataclasses
import functools
import os
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import torch.utils.data
from numpy.typing import ArrayLike

from Databases.database import REGRESSION_PICTURES, Database, ImageSet, root_of_extent
from Utils.crops import face_crop
from Utils.errors import UserError
from Utils.files import dump_pickle, load_pickle, writing
from Utils.process import set_up_process
from Utils.progress import progress

# ----------------------------------------------------------------------------------------------------------
# The animal, its pose and its light: everything that varies, drawn from one seed

RENDERER_VERSION = 4  # belongs to the cache's name: raise it with any change of what a picture shows
SPLITS = ("train", "test")
SUPERSAMPLING = 2
CAMERA_DISTANCE = 7.0  # head radii
MUZZLE_PITCH = np.deg2rad(-15.0)  # elevation of the chart's origin as seen from the head's centre

LANDMARKS = (
    "left ear tip", "left ear outer base", "left ear inner base",
    "right ear tip", "right ear outer base", "right ear inner base",
    "left eye outer corner", "left eye inner corner", "left eye upper lid",
    "right eye outer corner", "right eye inner corner", "right eye upper lid",
    "nose tip", "left nostril", "right nostril", "nose bridge", "forehead",
    "mouth centre", "left mouth corner", "right mouth corner", "chin",
    "left whisker pad", "right whisker pad", "left cheek", "right cheek",
)  # fmt: skip
# "left" is the side that is left in a frontal picture.

# coat, pale (muzzle, cheeks, chest), dark (mask, ears, stripes), inner ear, iris, nose
PALETTES = np.array(
    [
        [(214, 108, 40), (248, 234, 214), (58, 34, 26), (238, 190, 160), (212, 150, 40), (34, 26, 26)],  # fox
        [(226, 228, 232), (252, 252, 252), (120, 128, 142), (236, 204, 200), (96, 150, 190), (44, 42, 50)],
        [(150, 138, 124), (232, 222, 206), (52, 46, 42), (222, 170, 156), (138, 176, 70), (176, 92, 86)],  # tabby
        [(232, 160, 84), (252, 236, 208), (166, 84, 30), (246, 186, 160), (196, 170, 60), (214, 122, 112)],
        [(232, 212, 184), (248, 240, 226), (72, 50, 44), (208, 150, 136), (70, 140, 214), (60, 40, 40)],  # siamese
        [(164, 70, 36), (250, 236, 220), (46, 24, 24), (244, 226, 210), (92, 56, 32), (26, 22, 24)],  # red panda
        [(186, 184, 178), (244, 242, 236), (56, 56, 60), (214, 178, 168), (150, 186, 160), (150, 96, 92)],
        [(122, 118, 116), (226, 222, 214), (34, 32, 36), (190, 160, 150), (150, 106, 40), (24, 22, 24)],  # raccoon
        [(222, 186, 132), (250, 240, 218), (112, 76, 46), (244, 200, 170), (120, 78, 34), (48, 34, 30)],  # fennec
        [(62, 58, 64), (132, 124, 120), (22, 20, 24), (128, 92, 92), (226, 186, 50), (20, 18, 20)],  # panther
        [(112, 128, 150), (222, 228, 234), (48, 56, 74), (206, 172, 176), (226, 162, 56), (70, 66, 78)],
        [(140, 92, 58), (236, 214, 184), (54, 34, 24), (206, 150, 124), (170, 120, 48), (36, 26, 24)],
    ],
    np.float32,
)  # (palettes, 6, 3) RGB


@dataclasses.dataclass(frozen=True)
class Scene:
    """What one picture shows. Lengths in head radii, angles in radians unless a name says otherwise."""

    key: tuple[int, int, int]  # seed, split, index: for the streams of random numbers of the later stages
    shape: dict[str, float]
    palette: np.ndarray  # (6, 3) RGB in 0..255, rows as in PALETTES
    markings: dict[str, float]  # opacities in 0..1
    yaw: float
    pitch: float
    roll: float
    scale: float  # head radii to picture widths
    centre: np.ndarray  # (2,) where the head's centre is, in picture widths
    gaze: np.ndarray  # (2,)
    light: np.ndarray  # (3,) unit vector towards the light
    key_colour: np.ndarray  # (3,)
    sky_colour: np.ndarray  # (3,)
    ground_colour: np.ndarray  # (3,)

    def stream(self, stage: int) -> np.random.Generator:
        return np.random.default_rng([*self.key, stage])


def sample_scene(seed: int, split: str, index: int) -> Scene:
    """Draw the scene of picture `index` of `split` ("train" or "test")."""
    key = (seed, SPLITS.index(split), index)
    rng = np.random.default_rng([*key, 0])
    yaw = np.deg2rad(60.0) * (2 * rng.beta(3, 3) - 1)
    azimuth, elevation = np.deg2rad(rng.uniform(-70, 70)), np.deg2rad(rng.uniform(15, 60))
    light = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    warmth, strength = rng.uniform(-0.08, 0.12), rng.uniform(0.8, 1.15)
    ambient = rng.uniform(0.3, 0.55)
    scene = Scene(
        key=key,
        shape=_sample_shape(rng),
        palette=_sample_palette(rng),
        markings=_sample_markings(rng),
        yaw=yaw,
        pitch=np.deg2rad(np.clip(rng.normal(0, 9), -20, 20)),
        roll=np.deg2rad(np.clip(rng.normal(0, 14), -35, 35)),
        scale=rng.uniform(0.27, 0.335),
        centre=np.array([0.5, 0.58]) + rng.uniform(-0.06, 0.06, 2) - [0.05 * np.sin(yaw), 0],
        gaze=rng.normal(0, 0.12, 2).clip(-0.25, 0.25),
        light=light,
        key_colour=strength * np.array([1 + warmth, 1.0, 1 - 1.3 * warmth]),
        sky_colour=ambient * rng.uniform([0.8, 0.9, 1.0], [1.0, 1.05, 1.2]),
        ground_colour=ambient * rng.uniform([0.5, 0.4, 0.3], [0.8, 0.7, 0.55]),
    )
    return _inside(scene)


def _inside(scene: Scene) -> Scene:
    """The scene moved as little as keeps all landmarks 3% of the picture away from its border."""
    landmarks = project(pose_head(object_landmarks(scene.shape), scene), scene, 1)
    shift = (0.03 - landmarks.min(0)).clip(0) - (landmarks.max(0) - 0.97).clip(0)
    return dataclasses.replace(scene, centre=scene.centre + shift)


def _sample_shape(rng: np.random.Generator) -> dict[str, float]:
    ranges = {
        "width": (0.93, 1.06),
        "height": (0.84, 0.95),
        "muzzle_length": (0.20, 0.46),
        "muzzle_width": (0.40, 0.52),
        "muzzle_drop": (0.0, 0.14),
        "pads": (0.02, 0.10),
        "cheek": (0.05, 0.30),
        "cheek_point": (1.1, 2.0),
        "brow": (0.02, 0.08),
        "chin": (0.05, 0.14),
        "eye_x": (0.45, 0.55),
        "eye_y": (0.50, 0.60),
        "eye_size": (0.19, 0.245),
        "eye_open": (0.55, 0.85),
        "eye_slant": (-0.02, 0.35),
        "iris": (0.74, 0.92),
        "pupil": (0.30, 0.85),
        "nose": (0.13, 0.17),
        "mouth": (0.30, 0.38),
        "smile": (-0.02, 0.07),
        "ear_height": (0.60, 0.90),
        "ear_width": (0.36, 0.50),
        "ear_round": (0.0, 0.75),
        "ear_x": (0.60, 0.76),
        "ear_lean": (0.15, 0.55),
        "ear_turn": (0.05, 0.55),
        "ear_bend": (-0.15, 0.2),
    }
    return {name: float(rng.uniform(low, high)) for name, (low, high) in ranges.items()}


def _sample_palette(rng: np.random.Generator) -> np.ndarray:
    first, second = rng.integers(0, len(PALETTES), 2)
    mix = rng.beta(0.5, 0.5, (6, 1)) * 0.35
    palette = PALETTES[first] * (1 - mix) + PALETTES[second] * mix
    hue, saturation, value = rng.normal(0, 0.012), rng.uniform(0.85, 1.2), rng.uniform(0.92, 1.06)
    jittered = []
    for colour in palette / 255:
        h, s, v = colorsys.rgb_to_hsv(*colour)
        jittered.append(colorsys.hsv_to_rgb((h + hue) % 1, min(s * saturation, 1), min(v * value, 1)))
    return np.array(jittered, np.float32) * 255


def _sample_markings(rng: np.random.Generator) -> dict[str, float]:
    def sometimes(probability: float, low: float, high: float) -> float:
        return float(rng.uniform(low, high) * (rng.random() < probability))

    return {
        "pale_face": sometimes(0.9, 0.6, 1.0),
        "mask": sometimes(0.35, 0.4, 0.9),
        "blaze": sometimes(0.45, 0.4, 0.95),
        "stripes": sometimes(0.55, 0.5, 0.95),
        "cheek_stripes": sometimes(0.5, 0.4, 0.9),
        "spots": sometimes(0.3, 0.5, 0.9),
        "brows": sometimes(0.85, 0.5, 0.95),
        "star": sometimes(0.6, 0.6, 1.0),
        "tears": sometimes(0.55, 0.4, 0.9),
        "dark_ears": sometimes(0.7, 0.5, 1.0),
        "dark_bridge": sometimes(0.3, 0.3, 0.7),
    }


# ----------------------------------------------------------------------------------------------------------
# Shape: chart -> head's surface, ears, neck


def chart_directions(chart: np.ndarray) -> np.ndarray:
    """Unit vectors (n, 3) of chart positions (n, 2): azimuthal equidistant about the muzzle's direction."""
    angle = np.linalg.norm(chart, axis=1)
    ratio = np.sinc(angle / np.pi)  # sin(angle) / angle
    x, y, z = chart[:, 0] * ratio, chart[:, 1] * ratio, np.cos(angle)
    c, s = np.cos(MUZZLE_PITCH), np.sin(MUZZLE_PITCH)
    return np.stack([x, c * y + s * z, -s * y + c * z], 1)


def _bump(directions: np.ndarray, centre: tuple[float, float], width: float, power: float = 2.0) -> np.ndarray:
    """Weight (n,) that falls from 1 at a chart position; `width` in radians, a higher power has a flatter top."""
    cosine = directions @ chart_directions(np.array([centre]))[0]
    return np.exp(-((np.arccos(cosine.clip(-1, 1)) / width) ** power))


def head_surface(chart: np.ndarray, shape: dict[str, float]) -> np.ndarray:
    """Points (n, 3) of the head's skin at chart positions (n, 2)."""
    d = chart_directions(chart)
    points = d * [shape["width"], shape["height"], 0.88]

    def pull(centre: tuple[float, float], width: float, offset: tuple[float, float, float], power: float = 2.0):
        points[:] += _bump(d, centre, width, power)[:, None] * np.array(offset)

    def pull_pair(centre: tuple[float, float], width: float, offset: tuple[float, float, float], power: float = 2.0):
        for side in (-1, 1):
            pull((side * centre[0], centre[1]), width, (side * offset[0], offset[1], offset[2]), power)

    pull((0, -0.02), shape["muzzle_width"], (0, -shape["muzzle_drop"], shape["muzzle_length"]), 3.0)
    pull_pair((0.17, -0.12), 0.17, (shape["pads"], -0.02, shape["pads"]))
    pull((0, 0.13), 0.14, (0, 0.03, 0.09), 3.0)  # the nose
    pull((0, -0.42), 0.2, (0, -shape["chin"], shape["chin"]))
    pull((0, 0.55), 0.28, (0, 0, -0.07))  # between the eyes
    pull((0, 1.0), 0.5, (0, 0.05, 0.05))
    eye = (shape["eye_x"], shape["eye_y"])
    pull_pair(eye, 0.26, (0.02, 0, -0.09))
    pull_pair(eye, 0.15, (0.01, 0, 0.05))
    pull_pair((eye[0] - 0.03, eye[1] + 0.27), 0.17, (0, 0.01, shape["brow"]))
    pull_pair((1.05, -0.40), 0.42, (shape["cheek"], -0.35 * shape["cheek"], 0), shape["cheek_point"])
    return points


def ear_surface(along: np.ndarray, around: np.ndarray, side: int, shape: dict[str, float]) -> np.ndarray:
    """Points (n, 3) of an ear's shell; `along` is 0 at the base and 1 at the tip.

    `around` (radians) is 0 on the outer rim, pi on the inner one, and between them passes over the hollow front.
    `side` is -1 for the ear that is left in a frontal picture, else 1.
    """
    base = 0.95 * head_surface(np.array([[side * shape["ear_x"], 1.18]]), shape)[0]
    axis = _unit(np.array([side * shape["ear_lean"], 1.0, -0.12]))
    turn = shape["ear_turn"]
    across = np.array([side * np.cos(turn), 0.0, -np.sin(turn)])
    across = _unit(across - axis * (across @ axis))
    front = np.cross(axis, across) * -side
    inside = along.clip(0, 1)
    rounded, pointed = np.sqrt(1 - inside**2), 1 - inside**1.35
    half_width = shape["ear_width"] * (shape["ear_round"] * rounded + (1 - shape["ear_round"]) * pointed)
    hollow = np.where(np.sin(around) > 0, 0.45, 0.8) * np.abs(np.sin(around))
    depth = shape["ear_bend"] * inside**2 - half_width * hollow + 0.12 * (1 - along)
    return (
        base
        + shape["ear_height"] * along[:, None] * axis
        + (half_width * np.cos(around))[:, None] * across
        + depth[:, None] * front
    )


def neck_surface(along: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Points (n, 3) of neck and chest; `along` runs from 0 inside the head to 1 below the picture."""
    radius = 0.60 + 0.75 * along**1.5
    return np.stack(
        [
            1.08 * radius * np.cos(around),
            -0.15 - 2.6 * along,
            -0.42 - 0.15 * along + 0.85 * radius * np.sin(around),
        ],
        1,
    )


def object_landmarks(shape: dict[str, float]) -> np.ndarray:
    """The landmarks (len(LANDMARKS), 3) of an animal that looks straight at the viewer."""
    ear_along, ear_around = np.array([1.0, 0.12, 0.12]), np.array([0.0, 0.0, np.pi])
    ears = [ear_surface(ear_along, ear_around, side, shape) for side in (-1, 1)]
    eyes = []
    for side in (-1, 1):
        corners = eye_to_chart(np.array([[side, 0.0], [-side, 0.0], [0.0, shape["eye_open"]]]), side, shape)
        eyes.append(head_surface(corners, shape))
    mouth = mouth_curve(shape)
    nose = shape["nose"]
    rest = np.array(
        [
            (0, 0.15), (-0.55 * nose, 0.12), (0.55 * nose, 0.12), (0, 0.48), (0, 0.95),
            mouth[0], mouth[-1] * [-1, 1], mouth[-1], (0, -0.47),
            (-0.22, -0.10), (0.22, -0.10), (-1.05, -0.40), (1.05, -0.40),
        ]
    )  # fmt: skip
    return np.concatenate([*ears, *eyes, head_surface(rest, shape)])


def eye_to_chart(points: np.ndarray, side: int, shape: dict[str, float]) -> np.ndarray:
    """Eye coordinates (n, 2), corners at x = -1 and 1 before the slant, to chart positions (n, 2)."""
    return points @ _eye_axes(side, shape) * shape["eye_size"] + [side * shape["eye_x"], shape["eye_y"]]


def _eye_axes(side: int, shape: dict[str, float]) -> np.ndarray:
    c, s = np.cos(shape["eye_slant"]), side * np.sin(shape["eye_slant"])
    return np.array([[c, s], [-s, c]])


def mouth_curve(shape: dict[str, float]) -> np.ndarray:
    """Chart positions (n, 2) of the right half of the mouth, from its centre to its corner."""
    t = np.linspace(0, 1, 12)
    sag = -0.24 - 0.09 * np.sin(np.pi * np.minimum(t * 1.15, 1)) + (shape["smile"] + 0.02) * t**3
    return np.stack([shape["mouth"] * t, sag], 1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


HEAD, EAR, NECK = 0, 1, 2
_HEAD_RINGS, _HEAD_SECTORS = 56, 80
_EAR_ROWS, _EAR_SECTORS = 18, 28
_NECK_ROWS, _NECK_SECTORS = 12, 36


@functools.lru_cache(maxsize=1)
def _template() -> dict[str, np.ndarray]:
    """What all meshes share: chart and ear parameters of the vertices, triangles and their parts."""
    # Rings are denser near the muzzle, where the skin is pulled out most.
    ring = np.pi * 0.98 * np.linspace(0, 1, _HEAD_RINGS) ** 1.25
    sector = 2 * np.pi * np.arange(_HEAD_SECTORS) / _HEAD_SECTORS
    chart = np.stack([np.outer(ring, np.cos(sector)).ravel(), np.outer(ring, np.sin(sector)).ravel()], 1)
    ear_along = np.repeat(np.concatenate([[-0.25], np.linspace(0, 1, _EAR_ROWS - 1) ** 0.8]), _EAR_SECTORS)
    ear_around = np.tile(2 * np.pi * np.arange(_EAR_SECTORS) / _EAR_SECTORS, _EAR_ROWS)
    neck_along = np.repeat(np.linspace(0, 1, _NECK_ROWS), _NECK_SECTORS)
    neck_around = np.tile(2 * np.pi * np.arange(_NECK_SECTORS) / _NECK_SECTORS, _NECK_ROWS)
    grids = [
        (_HEAD_RINGS, _HEAD_SECTORS, HEAD, 1),
        (_EAR_ROWS, _EAR_SECTORS, EAR, -1),  # the left ear is a reflection
        (_EAR_ROWS, _EAR_SECTORS, EAR, 1),
        (_NECK_ROWS, _NECK_SECTORS, NECK, 1),
    ]
    triangles, parts, offset = [], [], 0
    for rows, columns, part, winding in grids:
        triangles.append(_tube_triangles(rows, columns)[:, ::winding] + offset)
        parts.append(np.full(len(triangles[-1]), part))
        offset += rows * columns
    ear = np.stack([ear_along, np.sin(ear_around), np.cos(ear_around)], 1)
    neck = np.stack([neck_along, np.sin(neck_around), np.cos(neck_around)], 1)
    skin = np.concatenate([np.pad(chart, ((0, 0), (0, 1))), ear, ear, neck])
    return {
        "chart": chart,
        "ear": np.stack([ear_along, ear_around]),
        "neck": np.stack([neck_along, neck_around]),
        "skin": skin.astype(np.float32),
        "triangles": np.concatenate(triangles),
        "parts": np.concatenate(parts),
    }


def _tube_triangles(rows: int, columns: int) -> np.ndarray:
    """Triangles (n, 3) of a grid of vertices that closes in its second direction."""
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a, b = row * columns + column, row * columns + (column + 1) % columns
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])


def build_vertices(shape: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (n, 3) of the whole mesh before the pose, and the number of those that are head or ears."""
    template = _template()
    parts = [head_surface(template["chart"], shape)]
    parts += [ear_surface(*template["ear"], side, shape) for side in (-1, 1)]
    count = sum(map(len, parts))
    return np.concatenate([*parts, neck_surface(*template["neck"])]), count


# ----------------------------------------------------------------------------------------------------------
# Pose and camera


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation matrix (3, 3): first yaw (positive: to the picture's right), then pitch (up), then roll."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return tilt @ nod @ turn


def project(points: np.ndarray, scene: Scene, size: float) -> np.ndarray:
    """Posed points (n, 3) to picture coordinates (n, 2), perspective; pixel i covers [i, i + 1]."""
    nearness = CAMERA_DISTANCE / (CAMERA_DISTANCE - points[:, 2:])
    xy = scene.centre + scene.scale * nearness * points[:, :2] * [1, -1]
    return xy * size


def pose_head(points: np.ndarray, scene: Scene) -> np.ndarray:
    return points @ rotation(scene.yaw, scene.pitch, scene.roll).T


def pose_vertices(vertices: np.ndarray, head_count: int, scene: Scene) -> np.ndarray:
    """Turn head and ears by the pose; the neck follows halfway."""
    neck = vertices[head_count:] @ rotation(0.5 * scene.yaw, 0, 0.3 * scene.roll).T
    return np.concatenate([pose_head(vertices[:head_count], scene), neck])


def annotate(scene: Scene, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (len(LANDMARKS), 2) and box (x1, y1, x2, y2) in picture pixels, without rendering.

    The box holds head and ears about as loosely as a detector's would: each side has a margin of its own, of 1 to
    20% of the extent. It is cut at the picture's border.
    """
    landmarks = project(pose_head(object_landmarks(scene.shape), scene), scene, size)
    vertices, head_count = build_vertices(scene.shape)
    outline = project(pose_head(vertices[:head_count], scene), scene, size)
    low, high = outline.min(0), outline.max(0)
    before, after = scene.stream(7).uniform(0.01, 0.20, (2, 2)) * (high - low)
    box = np.concatenate([low - before, high + after]).clip(0, size)
    return landmarks.astype(np.float32), box.astype(np.float32)


# ----------------------------------------------------------------------------------------------------------
# Rasteriser


def rasterise(
    xy: np.ndarray, depth: np.ndarray, triangles: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Nearest front-facing triangle at each pixel of a size x size canvas.

    xy: (V, 2) canvas coordinates, depth: (V,) larger is nearer, triangles: (T, 3) counter-clockwise seen from
    the front with y down. Returns, for the n pixels that are covered: flat pixel indices (n,), triangles' indices
    (n,), barycentric weights (n, 3), depths (n,).
    """
    corners = xy[triangles]  # (T, 3, 2)
    x, y = corners[..., 0], corners[..., 1]
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    low = np.ceil(corners.min(1)).clip(0, size).astype(np.int32)
    high = np.floor(corners.max(1)).clip(-1, size - 1).astype(np.int32)
    extent = (high - low + 1).clip(0)  # int32 and float32: half the memory traffic
    kept = np.flatnonzero((area < -1e-6) & (extent.min(1) > 0))
    x, y, area, low, extent = x[kept], y[kept], area[kept], low[kept], extent[kept]

    # Edge functions w_k = a_k x + b_k y + c_k, divided by the area: barycentric weights of corners 0 and 1.
    edges = []
    for i, j in ((1, 2), (2, 0)):
        a, b = (y[:, i] - y[:, j]) / area, (x[:, j] - x[:, i]) / area
        edges.append((a, b, -a * x[:, i] - b * y[:, i]))
    table = [column.astype(np.float32) for edge in edges for column in edge]

    # All pixels of all bounding boxes at once, box after box.
    counts = extent[:, 0] * extent[:, 1]
    owner = np.repeat(np.arange(len(kept), dtype=np.int32), counts)
    position = np.arange(len(owner), dtype=np.int32) - np.repeat(
        (np.cumsum(counts) - counts).astype(np.int32), counts
    )
    width = extent[owner, 0]
    row = position // width
    px, py = position - row * width + low[owner, 0], row + low[owner, 1]
    fx, fy = px.astype(np.float32), py.astype(np.float32)
    a0, b0, c0, a1, b1, c1 = (column[owner] for column in table)
    w0, w1 = a0 * fx + b0 * fy + c0, a1 * fx + b1 * fy + c1
    w2 = 1 - w0 - w1
    inside = np.flatnonzero(np.minimum(np.minimum(w0, w1), w2) >= -1e-4)
    owner, pixel = kept[owner[inside]], py[inside] * size + px[inside]
    weights = np.stack([w0[inside], w1[inside], w2[inside]], 1)
    corner_depths = depth.astype(np.float32)[triangles]
    z = np.einsum("nk,nk->n", weights, corner_depths[owner])

    # The nearest at each pixel: the largest of depth and position in one number.
    steps = ((z - z.min(initial=0)) * np.float32(1e6)).astype(np.int64)
    nearest = np.full(size * size, -1, np.int64)
    np.maximum.at(nearest, pixel, (steps << 32) + np.arange(len(z)))
    covered = np.flatnonzero(nearest >= 0)
    chosen = nearest[covered] & 0xFFFFFFFF
    return covered, owner[chosen], weights[chosen], z[chosen]


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals (V, 3)."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    faces = np.cross(b - a, c - a)
    index = triangles.T.ravel()
    sums = [np.bincount(index, np.tile(faces[:, k], 3), len(vertices)) for k in range(3)]
    return _unit(np.stack(sums, 1))


# ----------------------------------------------------------------------------------------------------------
# Skin: coat and features, painted in the chart

CHART_REACH = 2.4  # radians from the chart's centre to the border of its texture


class Chart:
    """A texture over the chart; four channels, RGB and opacity."""

    def __init__(self, size: int, colour: np.ndarray | None = None) -> None:
        self.size = size
        self.pixels = np.zeros((size, size, 4), np.float32)
        if colour is not None:
            self.pixels[:] = (*colour, 255)

    def to_texture(self, chart: np.ndarray) -> np.ndarray:
        return (chart * [1, -1] / CHART_REACH + 1) * (self.size / 2) - 0.5

    def paint(
        self,
        outlines: np.ndarray,
        colour: np.ndarray,
        softness: float = 0.0,
        opacity: float = 1.0,
        mirror: bool = True,
    ) -> None:
        """Fill an outline (n, 2) in the chart, or several (m, n, 2), and with `mirror` their reflections too.

        `softness` is the standard deviation of the border's blur in radians.
        """
        if opacity <= 0:
            return
        sigma = softness * self.size / (2 * CHART_REACH)
        outlines = outlines.reshape(-1, *outlines.shape[-2:])
        for sign in (1, -1) if mirror else (1,):
            self._fill(self.to_texture(outlines * [sign, 1]), colour, sigma, opacity)

    def _fill(self, outlines: np.ndarray, colour: np.ndarray, sigma: float, opacity: float) -> None:
        low = np.floor(outlines.min((0, 1)) - 3 * sigma - 2).clip(0, self.size).astype(int)
        high = np.ceil(outlines.max((0, 1)) + 3 * sigma + 3).clip(0, self.size).astype(int)
        if (high <= low).any():
            return
        # Wide blurs on a coarse mask: same look, less arithmetic.
        coarse = max(1.0, sigma / 1.5)
        width, height = (int(np.ceil(n / coarse)) for n in high - low)
        mask = np.zeros((height, width), np.uint8)
        points = np.round((outlines - low + 0.5) / coarse * 16 - 8).astype(np.int32)
        for outline in points:
            cv2.fillPoly(mask, [outline], 255, cv2.LINE_AA, 4)
        if sigma > 0.3:
            mask = cv2.GaussianBlur(mask, (0, 0), sigma / coarse, borderType=cv2.BORDER_REPLICATE)
        if coarse > 1:
            mask = cv2.resize(mask, (int(high[0] - low[0]), int(high[1] - low[1])))
        target = self.pixels[low[1] : high[1], low[0] : high[0]]
        alpha = mask[..., None] * np.float32(opacity / 255)
        target += (np.array([*colour, 255], np.float32) - target) * alpha

    def sample(self, chart: np.ndarray) -> np.ndarray:
        """Channels (n, 4) float32 at chart positions (n, 2)."""
        return _sample(self.pixels, self.to_texture(chart)).astype(np.float32)


def _sample(picture: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Bilinear samples at positions (n, 2), border repeated."""
    n, columns = len(xy), 512
    padded = np.zeros((-(-n // columns) * columns, 2), np.float32)
    padded[:n] = xy
    maps = padded.reshape(-1, columns, 2)
    sampled = cv2.remap(picture, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled.reshape(-1, *picture.shape[2:])[:n]


def ellipse(x: ArrayLike, y: ArrayLike, rx: ArrayLike, ry: ArrayLike, angle: ArrayLike = 0.0) -> np.ndarray:
    """Outline (32, 2) of an ellipse, or outlines (m, 32, 2) where the arguments are (m, 1)."""
    t = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    u, v = rx * np.cos(t), ry * np.sin(t)
    return np.stack([x + c * u - s * v, y + s * u + c * v], -1)


def brush(points: list[tuple[float, float]] | np.ndarray, width: float, taper: float = 1.0) -> np.ndarray:
    """Outline of a brush stroke along a polyline; `taper` 1 thins both ends, 0 none."""
    knots = np.asarray(points, float)
    t = np.linspace(0, len(knots) - 1, 8 * len(knots))
    curve = np.stack([np.interp(t, np.arange(len(knots)), knots[:, k]) for k in (0, 1)], 1)
    curve[1:-1] = (curve[:-2] + 2 * curve[1:-1] + curve[2:]) / 4
    along = np.gradient(curve, axis=0)
    normal = _unit(np.stack([-along[:, 1], along[:, 0]], 1))
    profile = 1 - taper + taper * np.sqrt(np.sin(np.pi * np.linspace(0.02, 0.98, len(t))))
    half = 0.5 * width * profile[:, None] * normal
    return np.concatenate([curve + half, (curve - half)[::-1]])


def paint_coat(scene: Scene, size: int) -> Chart:
    """The fur's colours: palette and markings."""
    coat, pale, dark = scene.palette[:3]
    marks, shape, rng = scene.markings, scene.shape, scene.stream(1)
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
    upper, lower = shape["eye_open"] * (1 - x**2), -0.72 * shape["eye_open"] * (1 - x**2)
    return np.concatenate([np.stack([x, upper], 1), np.stack([x, lower], 1)[::-1]])


def _texture_size(size: int) -> int:
    """Side of the chart's texture: about one texel for each supersampled pixel."""
    return int(np.clip(4 * size, 128, 1536))


def fur_noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Strands (size, size) float32 about zero that flow away from the chart's centre."""
    strands = rng.normal(size=(420, 40)).astype(np.float32)
    strands += 0.7 * np.repeat(rng.normal(size=(105, 20)).astype(np.float32), 4, 0).repeat(2, 1)
    radius = size / 2
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    return cv2.warpPolar(strands, (size, size), (radius, radius), radius * 1.42, flags)


# ----------------------------------------------------------------------------------------------------------
# Shading, in linear light (colour squared), of the n visible samples at once


def shade(scene: Scene, size: int, samples: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Colours (n, 3) in 0..1 as displayed, and how much each sample is fur (n,)."""
    albedo, bare, gloss = _albedo(scene, size, samples)
    normal, lit = samples["normal"].copy(), samples["lit"].copy()
    eyes = np.zeros(len(albedo), bool)
    for side in (-1, 1):
        inside, colour, ball, spark = _eye(scene, side, samples)
        albedo[inside], normal[inside], eyes[inside] = colour, ball, True
        gloss[inside], bare[inside] = 0.9, 1.0
        lit[inside[spark]] = np.maximum(lit[inside[spark]], 0.9)
    key, sky, ground, light = (
        a.astype(np.float32) for a in (scene.key_colour, scene.sky_colour, scene.ground_colour, scene.light)
    )
    view = _unit(np.float32([0, 0, CAMERA_DISTANCE]) - samples["position"])
    diffuse = ((normal @ light + 0.25) / 1.25).clip(0) * lit  # light wraps around fur
    up = 0.5 + 0.5 * normal[:, 1:2]
    ambient = (up * sky + (1 - up) * ground) * samples["occlusion"][:, None]
    rim = (1 - (normal * view).sum(1).clip(0, 1)) ** 3 * (0.35 + 0.65 * up[:, 0]) * (1 - bare) * 0.55
    colour = albedo**2 * (diffuse[:, None] * key + ambient)
    colour += (rim[:, None] * (0.3 + 0.7 * albedo)) * sky
    shiny = np.flatnonzero(gloss > 0.02)
    half = _unit(view[shiny] + light)
    sharpness = np.where(eyes[shiny], 240, 22)
    shine = ((normal[shiny] * half).sum(1).clip(0, 1) ** sharpness) * gloss[shiny] * (0.25 + 0.75 * lit[shiny])
    colour[shiny] += shine[:, None] * key
    return np.sqrt(colour.clip(0, 1)), 1 - bare


def _albedo(scene: Scene, size: int, samples: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colours (n, 3) in 0..1, bareness (n,) and gloss (n,) of head, ears and neck."""
    skin, part = samples["skin"], samples["part"]
    head, ear, neck = (np.flatnonzero(part == k) for k in (HEAD, EAR, NECK))
    albedo = np.empty((len(part), 3), np.float32)
    bare, gloss = np.zeros(len(part), np.float32), np.zeros(len(part), np.float32)
    strands = fur_noise(scene.stream(2), _texture_size(size) // 2)
    albedo[head], bare[head] = _head_albedo(scene, size, skin[head, :2], strands)
    albedo[ear] = _ear_albedo(scene, size, skin[ear], strands)
    albedo[neck] = _neck_albedo(scene, size, skin[neck], strands)
    on_nose = np.hypot(skin[head, 0], skin[head, 1] - 0.13) < 1.15 * scene.shape["nose"]
    gloss[head] = np.where(on_nose, 0.55, 0.05) * bare[head]
    return albedo.clip(0.01, 1), bare, gloss


def _head_albedo(scene: Scene, size: int, chart: np.ndarray, strands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours (n, 3) and bareness (n,) at chart positions (n, 2)."""
    resolution = _texture_size(size)
    fur = _sample(strands, (chart * [1, -1] / CHART_REACH + 1) * (resolution / 4) - 0.5)
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
    fur = _sample(strands, np.stack([across * 40 + 80, along * 60 + 40 * front + 60], 1) * (size / 128))
    hollow = _step(0.12, 0.42, front + 0.06 * fur) * _step(0.92, 0.76, along + 0.03 * fur)
    tip = scene.markings["dark_ears"] * _step(0.35, 0.75, along + 0.05 * fur + 0.15 * (front < 0))
    back = coat + (dark - coat) * tip[:, None]
    tufts = 0.6 * _step(0.5, 0.1, along + 0.1 * fur + 0.4 * front)[:, None]
    shell = inner * [1.0, 0.86, 0.84] * (1 - 0.3 * _step(0.5, 1.0, front))[:, None]
    shell = shell + (pale - shell) * tufts
    return (back + (shell - back) * hollow[:, None]) * (1 + 0.08 * fur)[:, None]


def _neck_albedo(scene: Scene, size: int, skin: np.ndarray, strands: np.ndarray) -> np.ndarray:
    """Colours (n, 3) at neck positions (n, 3): along the neck, towards its front, across it."""
    coat, pale = scene.palette[:2] / 255
    along, front, across = skin.T
    fur = _sample(strands, np.stack([across * 60 + 80, along * 90 + 20], 1) * (size / 128))
    chest = _step(0.25, 0.75, front + 0.12 * fur) * (0.35 + 0.65 * scene.markings["pale_face"])
    return (coat + (pale - coat) * chest[:, None]) * (1 + 0.09 * fur)[:, None]


def _step(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """Smooth step from 0 at `low` to 1 at `high`, either of which may be the larger one."""
    t = ((x - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def _eye(
    scene: Scene, side: int, samples: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The samples (m,) between the lids of an eye, and their colours (m, 3), normals (m, 3), catch light (m,)."""
    shape = scene.shape
    offset = samples["skin"][:, :2] - np.float32([side * shape["eye_x"], shape["eye_y"]])
    inside = np.flatnonzero((samples["part"] == HEAD) & (np.abs(offset).max(1) < 1.1 * shape["eye_size"]))
    a, b = (offset[inside] @ _eye_axes(side, shape).T.astype(np.float32) / shape["eye_size"]).T
    lid = shape["eye_open"] * (1 - a**2)
    between = (b < lid) & (b > -0.72 * lid)
    inside, a, b, lid = inside[between], a[between], b[between], lid[between]
    u, v = a - scene.gaze[0], b - scene.gaze[1] - 0.1 * shape["eye_open"]
    colour = _iris(scene, u, v)
    white = np.array([0.86, 0.82, 0.76]) * (1 - 0.4 * np.abs(a))[:, None]
    radius = np.hypot(u, v) / (0.8 * shape["iris"])
    colour += (white - colour) * _step(0.97, 1.06, radius)[:, None]
    colour *= (1 - 0.75 * _step(0.72, 0.95, radius) * _step(1.1, 1.0, radius))[:, None]
    colour *= (1 - 0.6 * _step(0.35, 0.0, lid - b))[:, None]  # the upper lid's shadow
    # A second catch light, as of a window, on the side of the key light.
    spark = np.hypot(u - 0.28 * np.sign(scene.light[0]), v - 0.3) < 0.15
    colour[spark] = 0.95
    right, up = _tangents(np.array([side * shape["eye_x"], shape["eye_y"]]), shape)
    ball = _unit(np.cross(right, up)) + 0.62 * (a[:, None] * right + b[:, None] * up)
    return inside, colour.clip(0.01, 1), pose_head(_unit(ball), scene), spark


def _iris(scene: Scene, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Colours (m, 3) of iris and pupil at eye coordinates about the pupil."""
    shape = scene.shape
    angle = np.arctan2(v, u)
    spokes = 0.5 + 0.5 * np.sin(17 * angle + 3 * np.sin(5 * angle))
    radius = np.hypot(u, v) / (0.8 * shape["iris"])
    bright = (0.55 + 0.75 * _step(1.0, 0.35, radius) + 0.18 * spokes) * (0.8 - 0.5 * v)
    tall = 0.62 * shape["eye_open"]
    pupil = _step(1.1, 0.9, np.hypot(u / (tall * shape["pupil"]), v / tall))
    return scene.palette[4] / 255 * (bright * (1 - 0.96 * pupil))[:, None]


def _tangents(chart: np.ndarray, shape: dict[str, float]) -> np.ndarray:
    """Unit vectors (2, 3) to the right and up along the skin at a chart position (2,)."""
    points = head_surface(chart + 0.02 * np.array([[0, 0], [1, 0], [0, 1]]), shape)
    return _unit(points[1:] - points[0])


def cast_shadows(vertices: np.ndarray, triangles: np.ndarray, light: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How much light reaches points (n, 3): 0..1, from a depth map seen from the light."""
    size, reach = 144, 2.6
    right = _unit(np.cross([0.0, 1.0, 0.0], light))
    frame = np.stack([right, np.cross(light, right)])

    def place(p: np.ndarray) -> np.ndarray:
        return (p @ frame.T * [1, -1] / reach + 1) * (size / 2) - 0.5

    covered, _, _, depth = rasterise(place(vertices), vertices @ light, triangles, size)
    nearest = np.full((size, size), -10.0, np.float32)
    nearest.flat[covered] = depth
    xy, depth = place(points), points @ light
    lit = np.zeros(len(points), np.float32)
    for dx, dy in ((-0.7, -0.3), (0.3, -0.7), (0.7, 0.3), (-0.3, 0.7)):
        column = np.round(xy[:, 0] + dx).astype(np.intp).clip(0, size - 1)
        row = np.round(xy[:, 1] + dy).astype(np.intp).clip(0, size - 1)
        lit += nearest[row, column] < depth + 0.07
    return lit / 4


# ----------------------------------------------------------------------------------------------------------
# Hair, whiskers, background


def draw_hair(
    scene: Scene, layer: np.ndarray, samples: dict[str, np.ndarray], colour: np.ndarray, fur: np.ndarray
) -> None:
    """Short strokes along the fur's flow over the layer (S, S, 4), premultiplied by its opacity."""
    size = len(layer)
    rng = scene.stream(3)
    roots = np.flatnonzero((fur > 0.9) & (rng.random(len(fur)) < 12 * size / max(len(fur), 1)))
    roots = roots[np.argsort(samples["depth"][roots])]
    length = np.array([0.085, 0.07, 0.15])[samples["part"][roots]]
    chart = samples["skin"][roots]
    from_nose = np.hypot(chart[:, 0], chart[:, 1])
    length = np.where(samples["part"][roots] == HEAD, 0.02 + 0.07 * _step(0.25, 1.2, from_nose), length)
    hollow = (samples["part"][roots] == EAR) & (chart[:, 1] > 0.3)
    length = np.where(hollow, 0.06, length) * rng.uniform(0.6, 1.3, len(roots))
    jitter = rng.uniform(-0.5, 0.5, (len(roots), 2))
    way = _unit(samples["flow"][roots] + 0.35 * samples["normal"][roots] + rng.normal(0, 0.14, (len(roots), 3)))
    start = np.stack([samples["pixel"][roots] % size, samples["pixel"][roots] // size], 1) - jitter
    stop = start + way[:, :2] * [1, -1] * (length * scene.scale * size)[:, None]
    tone = (colour[roots] * rng.uniform(0.84, 1.17, (len(roots), 1)) * 255).clip(0, 255)
    start, stop = (np.round(ends * 16).astype(int).tolist() for ends in (start, stop))
    for a, b, rgb in zip(start, stop, tone.tolist()):
        cv2.line(layer, a, b, (*rgb, 255), 1, cv2.LINE_AA, 4)


def draw_whiskers(scene: Scene, layer: np.ndarray, depth: np.ndarray) -> None:
    """Whiskers over the layer (S, S, 4) where they are nearer than what is drawn; depth: (S, S)."""
    size = len(layer)
    rng = scene.stream(4)
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


def draw_background(scene: Scene, size: int) -> np.ndarray:
    """A cluttered place (size, size, 3), float32 in 0..1: bokeh, foliage, a room, hills or a wall."""
    rng = scene.stream(5)
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


def _bokeh(picture, rng, colour) -> float:
    n = len(picture)
    for _ in range(10):
        _blend_disc(picture, rng.uniform(0, n, 2), rng.uniform(0.15, 0.4) * n, colour(0.1), 0.5)
    for _ in range(40):
        _blend_disc(
            picture, rng.uniform(0, n, 2), rng.uniform(0.02, 0.09) * n, colour(0.08, (0.15, 0.6), (0.6, 1)), 0.5
        )
    return rng.uniform(1.5, 2.2)


def _blend_disc(picture, centre, radius: float, rgb, opacity: float) -> None:
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


def _foliage(picture, rng, colour) -> float:
    n = len(picture)
    for depth in np.linspace(0, 1, 260):
        x, y = rng.uniform(0, n, 2)
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.16) * n
        leaf = ellipse(x, y, length / 2, length * rng.uniform(0.1, 0.22), angle)
        rgb = colour(0.03, (0.35, 0.75), (0.12 + 0.25 * depth, 0.3 + 0.55 * depth))
        points = np.round(leaf * 16).astype(np.int32)
        cv2.fillPoly(picture, [points], rgb.tolist(), cv2.LINE_AA, 4)
        tip = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        ends = (np.round((np.array([x, y]) + s * tip) * 16).astype(int).tolist() for s in (-1, 1))
        cv2.line(picture, *ends, (0.75 * rgb).tolist(), 1, cv2.LINE_AA, 4)
    return rng.uniform(1.3, 2.4)


def _room(picture, rng, colour) -> float:
    n = len(picture)
    for _ in range(rng.integers(12, 26)):
        corner, extent = rng.uniform(-0.1, 1, 2) * n, rng.uniform(0.06, 0.35, 2) * n
        low, high = corner.astype(int).tolist(), (corner + extent).astype(int).tolist()
        cv2.rectangle(picture, low, high, colour(0.15).tolist(), -1)
        if rng.random() < 0.5:
            cv2.rectangle(picture, low, high, colour(0.15, value=(0.05, 0.5)).tolist(), rng.integers(2, 6))
    for _ in range(rng.integers(3, 9)):
        _blend_disc(picture, rng.uniform(0, n, 2), rng.uniform(0.03, 0.1) * n, colour(0.3), 0.95)
    return rng.uniform(1.3, 2.2)


def _hills(picture, rng, colour) -> float:
    n = len(picture)
    x = np.arange(0, n + 8, 8)
    for level in np.linspace(0.3, 0.95, 5):
        ridge = sum(rng.uniform(0.01, 0.05) * np.sin(x / n * f + rng.uniform(0, 7)) for f in (4, 9, 21, 47))
        line = np.stack([x, (level + ridge) * n], 1)
        hill = np.concatenate([line, [[n + 8, n], [0, n]]])
        rgb = colour(0.04, (0.2, 0.55), (0.75 - 0.5 * level, 0.95 - 0.5 * level))
        cv2.fillPoly(picture, [np.round(hill * 16).astype(np.int32)], rgb.tolist(), cv2.LINE_AA, 4)
        for _ in range(24):
            px = rng.uniform(0, n)
            py = np.interp(px, x, line[:, 1]) + rng.uniform(-0.02, 0.2) * n
            tree = np.array([(-0.5, 0.3), (0, -1.3), (0.5, 0.3)]) * rng.uniform(0.02, 0.06) * n + [px, py]
            points = np.round(tree * 16).astype(np.int32)
            cv2.fillPoly(picture, [points], (rgb * rng.uniform(0.55, 1.2)).clip(0, 255).tolist(), cv2.LINE_AA, 4)
    return rng.uniform(1.3, 2.0)


def _wall(picture, rng, colour) -> float:
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


# ----------------------------------------------------------------------------------------------------------
# One picture


def render(seed: int, split: str, index: int, size: int) -> np.ndarray:
    """Picture (size, size, 3) RGB uint8: a pure function of its arguments."""
    return render_scene(sample_scene(seed, split, index), size)


def render_scene(scene: Scene, size: int) -> np.ndarray:
    """Picture (size, size, 3) RGB uint8."""
    canvas = SUPERSAMPLING * size
    samples = _visible_samples(scene, canvas)
    colour, fur = shade(scene, size, samples)
    layer = np.zeros((canvas * canvas, 4), np.uint8)
    layer[samples["pixel"], :3] = colour * 255 + 0.5
    layer[samples["pixel"], 3] = 255
    depth = np.full(canvas * canvas, -10.0, np.float32)
    depth[samples["pixel"]] = samples["depth"]
    layer = layer.reshape(canvas, canvas, 4)
    draw_hair(scene, layer, samples, colour, fur)
    draw_whiskers(scene, layer, depth.reshape(canvas, canvas))
    layer = cv2.resize(layer, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    picture = _cast_on_background(scene, draw_background(scene, size), layer[..., 3])
    picture = picture * (1 - layer[..., 3:]) + layer[..., :3]
    return _develop(scene, picture)


def _visible_samples(scene: Scene, canvas: int) -> dict[str, np.ndarray]:
    """Position, normal, skin coordinates, light ... of the surface at each pixel that the animal covers."""
    template = _template()
    triangles = template["triangles"]
    vertices, head_count = build_vertices(scene.shape)
    vertices = pose_vertices(vertices, head_count, scene)
    normals = vertex_normals(vertices, triangles)
    pixel, owner, weights, depth = rasterise(
        project(vertices, scene, canvas) - 0.5, vertices[:, 2], triangles, canvas
    )
    attributes = np.concatenate([vertices, normals, _flow(vertices), template["skin"]], 1).astype(np.float32)
    corners = triangles[owner]
    at = sum(attributes[corners[:, k]] * weights[:, k : k + 1] for k in range(3))
    position, part = at[:, :3], template["parts"][owner]
    lit = cast_shadows(vertices, triangles, scene.light, position)
    soft = np.zeros((2, canvas * canvas), np.float32)
    soft[0, pixel], soft[1, pixel] = lit, 1
    soft = cv2.GaussianBlur(soft.reshape(2, canvas, canvas).transpose(1, 2, 0), (0, 0), canvas / 170).reshape(-1, 2)
    lit = soft[pixel, 0] / soft[pixel, 1]
    skin = at[:, 9:12]
    # Little light from the sky reaches the ears' hollows and what is below the chin.
    below = _step(0.55, 0.1, skin[:, 0])
    occlusion = np.where(part == EAR, 1 - 0.45 * _step(0.3, 1, skin[:, 1]) * _step(1.0, 0.2, skin[:, 0]), 1.0)
    occlusion = np.where(part == NECK, 1 - 0.65 * below, occlusion).astype(np.float32)
    return {
        "pixel": pixel,
        "part": part,
        "depth": depth.astype(np.float32),
        "position": position,
        "normal": _unit(at[:, 3:6]),
        "flow": at[:, 6:9],
        "skin": skin,
        "lit": lit,
        "occlusion": occlusion,
    }


def _flow(vertices: np.ndarray) -> np.ndarray:
    """Unit vectors (V, 3) in which the fur lies: away from the nose, to the ears' tips, down the chest."""
    flow, start = [], 0
    for rows, columns in (
        (_HEAD_RINGS, _HEAD_SECTORS),
        *[(_EAR_ROWS, _EAR_SECTORS)] * 2,
        (_NECK_ROWS, _NECK_SECTORS),
    ):
        grid = vertices[start : start + rows * columns].reshape(rows, columns, 3)
        flow.append(_unit(np.gradient(grid, axis=0)).reshape(-1, 3))
        start += rows * columns
    return np.concatenate(flow)


def _cast_on_background(scene: Scene, background: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Darken the background where the animal stands in its light."""
    size = len(background)
    shift = np.float32([[1, 0, -0.16 * size * scene.light[0]], [0, 1, 0.12 * size * scene.light[1]]])
    shadow = cv2.warpAffine(opacity, shift, (size, size), borderMode=cv2.BORDER_REPLICATE)
    shadow = cv2.GaussianBlur(shadow, (0, 0), 0.035 * size)
    return background * (1 - 0.5 * shadow[..., None])


def _develop(scene: Scene, picture: np.ndarray) -> np.ndarray:
    """The camera's part: exposure, a little vignette, noise."""
    rng = scene.stream(6)
    size = len(picture)
    t = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    vignette = 1 - rng.uniform(0.02, 0.14) * (t[:, None] + t[None])
    picture = picture * vignette[..., None] * rng.uniform(0.9, 1.1)
    picture = picture + rng.normal(0, rng.uniform(0.004, 0.014), picture.shape)
    return (picture * 255 + 0.5).clip(0, 255).astype(np.uint8)


# ----------------------------------------------------------------------------------------------------------
# The data set and its cache


class Renderings(torch.utils.data.Dataset):
    """Pictures to be rendered in worker processes: index, PNG file's bytes, landmarks and box of each."""

    def __init__(self, seed: int, split: str, size: int, indices: np.ndarray, missing: np.ndarray) -> None:
        """`missing` (n,) tells for which of the indices (n,) the file is wanted; else its bytes are empty."""
        self.seed, self.split, self.size = seed, split, size
        self.indices, self.missing = indices, missing

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> tuple[int, torch.Tensor, np.ndarray, np.ndarray]:
        scene = sample_scene(self.seed, self.split, int(self.indices[i]))
        # A tensor travels in shared memory: bytes would fill the pipe, and a worker whose parent is killed
        # would wait for ever to get rid of them.
        content = torch.zeros(0, dtype=torch.uint8)
        if self.missing[i]:
            content = torch.from_numpy(cv2.imencode(".png", render_scene(scene, self.size)[..., ::-1])[1])
        return int(self.indices[i]), content, *annotate(scene, self.size)


def render_split(folder: Path, seed: int, split: str, count: int, size: int, num_workers: int) -> ImageSet:
    """The first `count` pictures of a split as files `<split>/000000.png` ... below `folder`, rendered where missing.

    A picture's file appears whole or not at all, and the split's list, `<split>.pickle`, after its last
    picture; so a rendering that was killed goes on where it ended, and two at once only do the same work twice.
    """
    names = np.array([f"{split}/{i:06d}.png" for i in range(count)])
    list_file = folder / f"{split}.pickle"
    known = _read_list(list_file)
    listed = min(count, len(known["bytes"]))
    lengths = _file_lengths(folder / split, count)
    missing = lengths == 0
    missing[:listed] |= lengths[:listed] != known["bytes"][:listed]
    wanted = np.flatnonzero(missing | (np.arange(count) >= listed))
    if len(wanted):
        known = {name: _lengthened(rows, count) for name, rows in known.items()}
        renderings = Renderings(seed, split, size, wanted, missing[wanted])
        loader = torch.utils.data.DataLoader(
            renderings,
            batch_size=None,
            collate_fn=_as_is,
            num_workers=num_workers if missing.sum() > num_workers else 0,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # leaves the global random state alone
        )
        for i, content, landmarks, box in progress(loader, f"Rendering the Demo set, {split}", len(wanted)):
            if len(content):
                with writing(folder / names[i]) as temporary:
                    temporary.write_bytes(content.numpy().tobytes())
            known["landmarks"][i], known["boxes"][i] = landmarks, box
            known["bytes"][i] = len(content) or lengths[i]
        dump_pickle(known, list_file)
    return ImageSet(folder, names, known["boxes"][:count], known["landmarks"][:count], size=(size, size))


def _lengthened(rows: np.ndarray, count: int) -> np.ndarray:
    """A copy with at least `count` rows."""
    return np.concatenate([rows, np.zeros((max(count - len(rows), 0), *rows.shape[1:]), rows.dtype)])


def _as_is(item: Any) -> Any:
    return item


def _start_worker(_: int) -> None:
    set_up_process()
    cv2.setNumThreads(0)


def _read_list(file: Path) -> dict[str, np.ndarray]:
    """Landmarks, boxes and file lengths of the pictures that are done; empty where there is no sound list."""
    empty = {
        "landmarks": np.zeros((0, len(LANDMARKS), 2), np.float32),
        "boxes": np.zeros((0, 4), np.float32),
        "bytes": np.zeros(0, np.int64),
    }
    try:
        known = load_pickle(file)
        count = len(known["bytes"])
        sound = all(known[name].shape == (count, *rows.shape[1:]) for name, rows in empty.items())
    except (UserError, KeyError, TypeError, AttributeError):
        sound = False  # it is made again
    return {name: known[name] for name in empty} if sound else empty


def _file_lengths(folder: Path, count: int) -> np.ndarray:
    """Bytes of the files 000000.png ... of a folder, 0 where one does not exist."""
    lengths = np.zeros(count, np.int64)
    if folder.is_dir():
        for entry in os.scandir(folder):
            stem, _, suffix = entry.name.partition(".")
            if suffix == "png" and stem.isdecimal() and int(stem) < count:
                lengths[int(stem)] = entry.stat().st_size
    return lengths


class Demo(Database):
    """Animal heads of our own making, rendered on first use below the log path."""

    name = "Demo"
    settings: ClassVar[dict[str, Any]] = {
        "demo_training": 1000,  # pictures
        "demo_test": 200,
        "demo_picture_size": 128,  # pixels
        "demo_seed": 0,  # of the pictures, apart from the training's seed
        # A training for two CPU cores and ten minutes.
        "image_size": 64,
        "width": 64,
        "number_of_clusters": 30,
        "batch_size": 8,
        "confidence_fan": 0.1,  # after so short a training the detector is unsure
        "iterations_first": 1500,
        "clustering_rounds": 3,
        "iterations_per_scheduler_step": 50,
        "gradient_accumulation": 1,
        "total_iterations": 3500,
        "learning_rate_steps": (2500, 3100),
        "iterations_before_merging": 1200,
        "min_cluster_points": 150,
    }

    def __init__(self, training: ImageSet, test: ImageSet) -> None:
        self.training, self.test = training, test
        self.regression = training.subset(np.arange(min(REGRESSION_PICTURES, len(training))))

    @classmethod
    def open(cls, options: Any) -> "Demo":
        hyper = options.hyper
        for name, least in {"demo_training": 1, "demo_test": 1, "demo_picture_size": 32, "demo_seed": 0}.items():
            if getattr(hyper, name) < least:
                raise UserError(f"--set {name}={getattr(hyper, name)}: the value must be at least {least}")
        size, seed = hyper.demo_picture_size, hyper.demo_seed
        folder = Path(options.log_path) / "DemoData" / f"renderer{RENDERER_VERSION}_seed{seed}_size{size}"
        counts = {"train": hyper.demo_training, "test": hyper.demo_test}
        return cls(*(render_split(folder, seed, split, counts[split], size, options.num_workers) for split in SPLITS))

    def crop(self, box: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
        return face_crop(box, width, height, size)

    def normalisers(self, groundtruth: np.ndarray) -> np.ndarray:
        """sqrt(w h) of the landmarks' extent: the eyes' distance would vanish at large yaw."""
        return root_of_extent(groundtruth)
