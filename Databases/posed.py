"""Pictures of objects in any pose: square surroundings, and pictures that are turned and mirrored."""

from collections.abc import Sequence

import numpy as np

from Utils import crops

TURNS = 12  # of 30 degrees; twice as many poses, the second half mirrored
POSES = {  # by how the objects of a folder stand: the poses that one may have, first as it is
    "one": [0],
    "mirrored": [0, 1, 11, 2, 10, 12, 13, 23, 14, 22],  # within 60 degrees
    "any": list(range(TURNS)),
}
SURROUNDINGS = 1.3  # side of a posed picture, in sides of the object's square


def pose_maps(poses: Sequence[int]) -> np.ndarray:
    """The point maps (P, 2, 3) of a crop of side 1 onto itself: mirrored from pose `TURNS` on, and turned."""
    mirrored, turn = np.divmod(np.asarray(poses), TURNS)
    angle = 2 * np.pi * turn / TURNS
    cos, sin, sign = np.cos(angle), np.sin(angle), 1 - 2 * mirrored
    linear = np.stack([np.stack([sign * cos, -sin], 1), np.stack([sign * sin, cos], 1)], 1)
    return np.concatenate([linear, (0.5 - linear @ np.full(2, 0.5))[:, :, None]], axis=2)


def contradicting(poses: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Which poses, maps (P, 2, 3), contradict each pose (n, 2, 3), (n, P) bool: mirrored, or 90 degrees or more away.

    The product is twice the cosine of the angle between two turns, and 0 between a turn and a mirrored one.
    """
    return np.einsum("pij,nij->np", poses[:, :, :2], pose[:, :, :2]) < 1e-9


def squares(boxes: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) -> the squares (n, 4) about the same centres that hold the objects however they are turned."""
    boxes = np.asarray(boxes, np.float64)
    half = np.hypot(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])[:, None] / 2
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def square_crop(box: np.ndarray, size: int, margin: float) -> np.ndarray:
    """The map picture -> crop (2, 3) of a square box (4,) grown by a margin, which may reach out of the picture."""
    side = (1 + margin) * (box[2] - box[0])
    corner = (box[:2] + box[2:]) / 2 - side / 2
    return np.column_stack([np.eye(2) * size / side, -corner * size / side])


def pose_maps_of(boxes: np.ndarray, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps (n, 2, 3) from pictures to the posed ones, and the sides (n,) of these in pixels.

    boxes: (n, 4) squares about the objects; turns: (n, 2, 2), how each is turned and mirrored about its centre.
    """
    sides = np.rint(SURROUNDINGS * (boxes[:, 2] - boxes[:, 0])).clip(min=16)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    shift = sides[:, None] / 2 - np.einsum("nij,nj->ni", turns, centres)
    return np.concatenate([turns, shift[:, :, None]], axis=2), sides.astype(np.int64)


def boxes_and_landmarks(
    boxes: np.ndarray, landmarks: np.ndarray | None, maps: np.ndarray, sides: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """The squares (n, 4) and landmarks (n, G, 2) of pictures in their posed versions."""
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    middle = np.repeat(sides[:, None] / 2, 2, axis=1)
    moved = None if landmarks is None else crops.apply(maps, landmarks.astype(np.float64)).astype(np.float32)
    return np.concatenate([middle - half, middle + half], axis=1), moved
