"""The head as a function of its shape, looking straight at the viewer: skin, ears, neck, landmarks.

The head is a sphere that a few offsets pull into muzzle, cheeks, brows and eye sockets. Its skin has a *chart*:
angles (radians) to the right and upwards from the muzzle's direction, in which shape, markings and landmarks are
laid out. A landmark is a chart position sent through the same shape and camera as the mesh, so that it is exact also
where it is hidden. A shape is a dictionary of numbers, which `scene` draws.
"""

import numpy as np

MUZZLE_PITCH = np.deg2rad(-15.0)  # elevation of the chart's origin as seen from the head's centre
LOWER_LID = 0.72  # how far an eye opens downwards, relative to upwards

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


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) or (..., 2) brought to length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


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
    axis = unit(np.array([side * shape["ear_lean"], 1.0, -0.12]))
    turn = shape["ear_turn"]
    across = np.array([side * np.cos(turn), 0.0, -np.sin(turn)])
    across = unit(across - axis * (across @ axis))
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
    return points @ eye_axes(side, shape) * shape["eye_size"] + [side * shape["eye_x"], shape["eye_y"]]


def eye_axes(side: int, shape: dict[str, float]) -> np.ndarray:
    """Unit vectors (2, 2) along an eye and upwards across it, in the chart."""
    c, s = np.cos(shape["eye_slant"]), side * np.sin(shape["eye_slant"])
    return np.array([[c, s], [-s, c]])


def mouth_curve(shape: dict[str, float]) -> np.ndarray:
    """Chart positions (n, 2) of the right half of the mouth, from its centre to its corner."""
    t = np.linspace(0, 1, 12)
    sag = -0.24 - 0.09 * np.sin(np.pi * np.minimum(t * 1.15, 1)) + (shape["smile"] + 0.02) * t**3
    return np.stack([shape["mouth"] * t, sag], 1)
