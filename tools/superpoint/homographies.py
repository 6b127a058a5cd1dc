"""Random views of a plane: homographies as (3, 3) matrices on pixel centres.

Points are (n, 2) x, y, the centre of the first pixel being (0, 0); a matrix maps points of one picture to
points of the other. DeTone et al., "SuperPoint", CVPRW 2018, section 5.2, composes them in the same way.
"""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class HomographyRange:
    """How far `random_homography` goes."""

    rotation: float = 30.0  # degrees, both ways
    scale: float = 1.4  # between 1 / scale and scale, evenly in the logarithm
    stretch: float = 1.15  # the same for width over height
    perspective: float = 0.2  # change of depth over the picture's width and height
    shift: float = 0.1  # share of the size


def random_homography(rng: np.random.Generator, width: int, height: int, reach: HomographyRange) -> np.ndarray:
    """Rotation, scale, stretch, perspective and shift about the centre of a picture; float64 (3, 3)."""
    angle = np.deg2rad(rng.uniform(-reach.rotation, reach.rotation))
    scale = np.exp(rng.uniform(-1, 1) * np.log(reach.scale))
    stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log(reach.stretch))
    tilt = rng.uniform(-reach.perspective, reach.perspective, 2) / (width, height)
    shift = rng.uniform(-reach.shift, reach.shift, 2) * (width, height)
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    middle = np.array([width - 1, height - 1]) / 2
    turn = np.array([[cosine * stretch, -sine / stretch, 0], [sine * stretch, cosine / stretch, 0], [0, 0, 1]])
    depth = np.array([[1, 0, 0], [0, 1, 0], [*tilt, 1]])
    return translation(middle + shift) @ turn @ depth @ translation(-middle)


def translation(offset: np.ndarray) -> np.ndarray:
    """The (3, 3) matrix that adds offset (2,)."""
    return np.array([[1, 0, offset[0]], [0, 1, offset[1]], [0, 0, 1]], dtype=float)


def map_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n, 2) points through a (3, 3) matrix, float64."""
    lifted = np.asarray(points, float).reshape(-1, 2) @ matrix[:, :2].T + matrix[:, 2]
    return lifted[:, :2] / lifted[:, 2:]


def warp_picture(picture: np.ndarray, matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    """What the picture shows after its points went through `matrix`; mirrored beyond the border."""
    return cv2.warpPerspective(
        picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def inside(points: np.ndarray, width: int, height: int, margin: float = 0.0) -> np.ndarray:
    """(n,) bool: points at least `margin` pixels within a picture."""
    x, y = points[:, 0], points[:, 1]
    return (x >= margin) & (y >= margin) & (x <= width - 1 - margin) & (y <= height - 1 - margin)
