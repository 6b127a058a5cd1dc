"""The four fixed cameras, and which way their pixels look."""

import dataclasses

import numpy as np

SIZE = 1000  # pixels a side


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole. Metres, z up; focal length and side of the square picture in pixels.

    The centre of pixel (i, j) is at (i + 0.5, j + 0.5).
    """

    name: str
    place: tuple[float, float, float]
    target: tuple[float, float, float]
    focal: float
    size: int = SIZE

    def rotation(self) -> np.ndarray:
        """Rows: right, down and forwards of the picture."""
        forwards = np.subtract(self.target, self.place)
        forwards /= np.linalg.norm(forwards)
        right = np.cross(forwards, [0, 0, 1])
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(forwards, right), forwards])

    def project(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) metres -> (..., 2) pixels."""
        local = (points - np.array(self.place)) @ self.rotation().T
        return self.focal * local[..., :2] / local[..., 2:] + self.size / 2

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Unit directions (n, 3) float32 of places (n, 2) in the picture."""
        local = np.concatenate([(pixels - self.size / 2) / self.focal, np.ones((len(pixels), 1))], 1)
        directions = local @ self.rotation()
        return (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)


CAMERAS = (  # named as the data set's
    Camera("54138969", (3.5, 3.3, 1.55), (0, 0, 0.95), 1150),
    Camera("55011271", (3.4, -3.6, 1.45), (0, 0.05, 0.95), 1145),
    Camera("58860488", (-3.6, 3.5, 1.65), (0.05, 0, 0.92), 1148),
    Camera("60457274", (-3.4, -3.4, 1.5), (0, 0, 0.95), 1142),
)
