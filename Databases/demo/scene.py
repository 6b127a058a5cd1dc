"""The animal, its pose and its light: everything that varies, drawn from one seed; and the camera that sees it."""

import colorsys
import dataclasses

import numpy as np

from Databases.demo.surface import object_landmarks

SPLITS = ("train", "test")
CAMERA_DISTANCE = 7.0  # head radii
# Each has a stream of random numbers of its own, so that a change of one leaves the others as they were.
STREAMS = ("scene", "coat", "strands", "hair", "whiskers", "background", "camera", "box")

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

    key: tuple[int, int, int]  # seed, split, index
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

    def stream(self, name: str) -> np.random.Generator:
        """The random numbers of one of STREAMS, from their beginning."""
        return _stream(self.key, name)


def _stream(key: tuple[int, int, int], name: str) -> np.random.Generator:
    return np.random.default_rng([*key, STREAMS.index(name)])


def sample_scene(seed: int, split: str, index: int) -> Scene:
    """Draw the scene of picture `index` of `split` ("train" or "test")."""
    key = (seed, SPLITS.index(split), index)
    rng = _stream(key, "scene")
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
    """Points (n, 3) of the head or ears, turned by the pose."""
    return points @ rotation(scene.yaw, scene.pitch, scene.roll).T
