"""Rays and triangles, by Embree."""

from typing import Any

import numpy as np


class Mesh:
    """Triangles that rays can be cast at. vertices: (V, 3), triangles: (T, 3)."""

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self.triangles = triangles
        self._scene: Any = EmbreeScene()
        self._mesh = TriangleMesh(self._scene, vertices.astype(np.float32), triangles.astype(np.int32))

    def hits(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, ...]:
        """First hits of n rays. Returns triangles (n,), -1 where there is none; barycentric weights (n, 3);
        distances (n,); and normals of the triangles (n, 3), not unit."""
        found = self._scene.run(_rows(origins, len(directions)), directions.astype(np.float32), output=1)
        u, v = found["u"], found["v"]
        return found["primID"], np.stack([1 - u - v, u, v], 1), found["tfar"], found["Ng"]

    def blocked(self, origins: np.ndarray, target: np.ndarray) -> np.ndarray:
        """(n,) bool: whether something stands between n points and `target` (3,)."""
        origins = np.ascontiguousarray(origins, np.float32)
        directions = (target - origins).astype(np.float32)
        found = self._scene.run(origins, directions, dists=np.ones(len(origins), np.float32), query="OCCLUDED")
        return np.asarray(found) == 0


def _rows(origins: np.ndarray, count: int) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(np.asarray(origins, np.float32), (count, 3)))
