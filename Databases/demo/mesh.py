"""The surface as a mesh of triangles, posed as a scene says; and the landmarks and the box of a picture."""

import dataclasses
import functools

import numpy as np

from Databases.demo.scene import Scene, pose_head, project, rotation
from Databases.demo.surface import ear_surface, head_surface, neck_surface, object_landmarks, unit

HEAD, EAR, NECK = 0, 1, 2
_HEAD_RINGS, _HEAD_SECTORS = 56, 80
_EAR_ROWS, _EAR_SECTORS = 18, 28
_NECK_ROWS, _NECK_SECTORS = 12, 36
_GRIDS = (  # rows, columns, part, direction of the triangles' corners
    (_HEAD_RINGS, _HEAD_SECTORS, HEAD, 1),
    (_EAR_ROWS, _EAR_SECTORS, EAR, -1),  # the left ear is a reflection
    (_EAR_ROWS, _EAR_SECTORS, EAR, 1),
    (_NECK_ROWS, _NECK_SECTORS, NECK, 1),
)


@dataclasses.dataclass(frozen=True)
class Template:
    """What all meshes share, V vertices and T triangles."""

    chart: np.ndarray  # (h, 2) chart positions of the head's vertices
    ear: np.ndarray  # (2, e) along and around of the vertices of one ear
    neck: np.ndarray  # (2, k) the same of the neck
    skin: np.ndarray  # (V, 3) head: chart x, chart y, 0; ears and neck: along, towards the front, across
    triangles: np.ndarray  # (T, 3)
    parts: np.ndarray  # (T,) HEAD, EAR or NECK


@functools.lru_cache(maxsize=1)
def template() -> Template:
    """Made once."""
    # Rings are denser near the muzzle, where the skin is pulled out most.
    ring = np.pi * 0.98 * np.linspace(0, 1, _HEAD_RINGS) ** 1.25
    sector = 2 * np.pi * np.arange(_HEAD_SECTORS) / _HEAD_SECTORS
    chart = np.stack([np.outer(ring, np.cos(sector)).ravel(), np.outer(ring, np.sin(sector)).ravel()], 1)
    ear_along = np.repeat(np.concatenate([[-0.25], np.linspace(0, 1, _EAR_ROWS - 1) ** 0.8]), _EAR_SECTORS)
    ear_around = np.tile(2 * np.pi * np.arange(_EAR_SECTORS) / _EAR_SECTORS, _EAR_ROWS)
    neck_along = np.repeat(np.linspace(0, 1, _NECK_ROWS), _NECK_SECTORS)
    neck_around = np.tile(2 * np.pi * np.arange(_NECK_SECTORS) / _NECK_SECTORS, _NECK_ROWS)
    triangles, parts, offset = [], [], 0
    for rows, columns, part, winding in _GRIDS:
        triangles.append(_tube_triangles(rows, columns)[:, ::winding] + offset)
        parts.append(np.full(len(triangles[-1]), part))
        offset += rows * columns
    ear = np.stack([ear_along, np.sin(ear_around), np.cos(ear_around)], 1)
    neck = np.stack([neck_along, np.sin(neck_around), np.cos(neck_around)], 1)
    skin = np.concatenate([np.pad(chart, ((0, 0), (0, 1))), ear, ear, neck])
    return Template(
        chart=chart,
        ear=np.stack([ear_along, ear_around]),
        neck=np.stack([neck_along, neck_around]),
        skin=skin.astype(np.float32),
        triangles=np.concatenate(triangles),
        parts=np.concatenate(parts),
    )


def _tube_triangles(rows: int, columns: int) -> np.ndarray:
    """Triangles (n, 3) of a grid of vertices that closes in its second direction."""
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a, b = row * columns + column, row * columns + (column + 1) % columns
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])


def build_vertices(shape: dict[str, float]) -> tuple[np.ndarray, int]:
    """Vertices (n, 3) of the whole mesh before the pose, and the number of those that are head or ears."""
    common = template()
    parts = [head_surface(common.chart, shape)]
    parts += [ear_surface(*common.ear, side, shape) for side in (-1, 1)]
    count = sum(map(len, parts))
    return np.concatenate([*parts, neck_surface(*common.neck)]), count


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
    before, after = scene.stream("box").uniform(0.01, 0.20, (2, 2)) * (high - low)
    box = np.concatenate([low - before, high + after]).clip(0, size)
    return landmarks.astype(np.float32), box.astype(np.float32)


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals (V, 3)."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    faces = np.cross(b - a, c - a)
    index = triangles.T.ravel()
    sums = [np.bincount(index, np.tile(faces[:, k], 3), len(vertices)) for k in range(3)]
    return unit(np.stack(sums, 1))


def fur_flow(vertices: np.ndarray) -> np.ndarray:
    """Unit vectors (V, 3) in which the fur lies: away from the nose, to the ears' tips, down the chest."""
    flow, start = [], 0
    for rows, columns, _, _ in _GRIDS:
        grid = vertices[start : start + rows * columns].reshape(rows, columns, 3)
        flow.append(unit(np.gradient(grid, axis=0)).reshape(-1, 3))
        start += rows * columns
    return np.concatenate(flow)
