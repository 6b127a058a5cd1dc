"""What the camera sees of the mesh: place, normal, skin and light of the surface at each pixel."""

import dataclasses

import cv2
import numpy as np

from Databases.demo.mesh import build_vertices, fur_flow, pose_vertices, template, vertex_normals
from Databases.demo.raster import rasterise, to_pixels
from Databases.demo.scene import Scene, project
from Databases.demo.surface import unit


@dataclasses.dataclass(frozen=True)
class Samples:
    """The surface at the n pixels that the animal covers."""

    pixel: np.ndarray  # (n,) flat index
    part: np.ndarray  # (n,) HEAD, EAR or NECK
    depth: np.ndarray  # (n,) larger is nearer
    position: np.ndarray  # (n, 3)
    normal: np.ndarray  # (n, 3) of length 1
    flow: np.ndarray  # (n, 3) where the fur points
    skin: np.ndarray  # (n, 3) as in the mesh's template
    lit: np.ndarray  # (n,) share of the light's rays that arrive


def visible_samples(scene: Scene, canvas: int) -> Samples:
    """The samples of a canvas x canvas picture."""
    common = template()
    triangles = common.triangles
    vertices, head_count = build_vertices(scene.shape)
    vertices = pose_vertices(vertices, head_count, scene)
    normals = vertex_normals(vertices, triangles)
    pixel, owner, weights, depth = rasterise(
        project(vertices, scene, canvas) - 0.5, vertices[:, 2], triangles, canvas
    )
    attributes = np.concatenate([vertices, normals, fur_flow(vertices), common.skin], 1).astype(np.float32)
    corners = triangles[owner]
    at = sum(attributes[corners[:, k]] * weights[:, k : k + 1] for k in range(3))
    position = at[:, :3]
    lit = cast_shadows(vertices, triangles, scene.light, position)
    soft = np.zeros((2, canvas * canvas), np.float32)
    soft[0, pixel], soft[1, pixel] = lit, 1
    soft = cv2.GaussianBlur(soft.reshape(2, canvas, canvas).transpose(1, 2, 0), (0, 0), canvas / 170).reshape(-1, 2)
    lit = soft[pixel, 0] / soft[pixel, 1]
    return Samples(
        pixel=pixel,
        part=common.parts[owner],
        depth=depth.astype(np.float32),
        position=position,
        normal=unit(at[:, 3:6]),
        flow=at[:, 6:9],
        skin=at[:, 9:12],
        lit=lit,
    )


def cast_shadows(vertices: np.ndarray, triangles: np.ndarray, light: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How much light reaches points (n, 3): 0..1, from a depth map seen from the light."""
    size, reach = 144, 2.6
    right = unit(np.cross([0.0, 1.0, 0.0], light))
    frame = np.stack([right, np.cross(light, right)])

    def place(p: np.ndarray) -> np.ndarray:
        return to_pixels(p @ frame.T, reach, size)

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
