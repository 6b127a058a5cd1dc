"""Pictures of a posed figure in the room: rays through pixels, three lamps, shadows on the figure and the floor."""

import dataclasses

import cv2
import numpy as np

from tools.people.cameras import Camera
from tools.people.room import AMBIENT, LAMPS, Room
from tools.people.skeleton import HEAD
from tools.people.subjects import Figure
from tools.people.tracing import Mesh

EPSILON = 2e-3  # metres that a ray to a lamp starts off its surface
CORNERS = ((-0.3, -0.1), (0.1, -0.3), (0.3, 0.1), (-0.1, 0.3))  # of a pixel, where outlines are sampled
ROOM_CORNERS = CORNERS[::2]
SHADOW_STEP = 3  # pixels between samples of the shadow on the floor


@dataclasses.dataclass(frozen=True)
class PosedFigure:
    """A figure at one moment, for any number of cameras."""

    figure: Figure
    vertices: np.ndarray  # (V, 3)
    normals: np.ndarray  # (V, 3)
    mesh: Mesh


def pose_figure(figure: Figure, rotations: np.ndarray, shifts: np.ndarray) -> PosedFigure:
    """The surface of a pose of `pose_bones`."""
    vertices, normals = figure.body.pose(rotations, shifts)
    return PosedFigure(figure, vertices, normals, Mesh(vertices, figure.body.triangles))


class Studio:
    """What one camera sees of the room, made once, and of figures in it."""

    def __init__(self, camera: Camera, room: Room) -> None:
        self.camera = camera
        size = camera.size
        mesh = Mesh(room.vertices, room.triangles)
        total = np.zeros((size * size, 3), np.float32)
        self.lit = [np.zeros((size * size, 3), np.float32) for _ in LAMPS]  # each lamp's share of the picture
        self.places = np.zeros((size * size, 3), np.float32)
        grid = _grid(0, 0, size, size)
        for offset in ROOM_CORNERS:
            directions = camera.rays(grid + offset)
            triangles, weights, distances, normals = mesh.hits(np.array(camera.place), directions)
            places = np.array(camera.place, np.float32) + directions * distances[:, None]
            albedo = room.colours(triangles, weights)
            normals /= np.linalg.norm(normals, axis=1, keepdims=True)
            normals *= -np.sign(np.einsum("ni,ni->n", normals, directions))[:, None]
            total += albedo * AMBIENT / len(ROOM_CORNERS)
            for lit, (lamp, strength) in zip(self.lit, LAMPS, strict=True):
                share = _incidence(places, normals, np.array(lamp)) * ~mesh.blocked(
                    places + EPSILON * normals, np.array(lamp)
                )
                lit += albedo * share[:, None] * np.array(strength, np.float32) / len(ROOM_CORNERS)
            self.places += places / len(ROOM_CORNERS)
        self.linear = total + sum(self.lit)
        self.background = _developed(self.linear).reshape(size, size, 3)

    def photograph(self, posed: PosedFigure) -> tuple[np.ndarray, np.ndarray]:
        """The picture (size, size, 3) uint8 and where the figure is in it (size, size) bool."""
        size = self.camera.size
        picture, silhouette = self.background.copy(), np.zeros((size, size), bool)
        self._shade_floor(picture, posed)
        places = self.camera.project(posed.vertices)
        x1, y1 = np.clip(np.floor(places.min(0)).astype(int) - 2, 0, size)
        x2, y2 = np.clip(np.ceil(places.max(0)).astype(int) + 3, 0, size)
        if x2 <= x1 or y2 <= y1:
            return picture, silhouette
        grid = _grid(x1, y1, x2, y2)
        colours, seen, depth = self._look(posed, grid)
        window = picture[y1:y2, x1:x2].reshape(-1, 3)
        window[seen] = _developed(colours[seen])
        outline = _outline(seen.reshape(y2 - y1, x2 - x1), depth.reshape(y2 - y1, x2 - x1)).ravel()
        self._soften(posed, grid[outline], window, outline)
        picture[y1:y2, x1:x2] = window.reshape(y2 - y1, x2 - x1, 3)
        silhouette[y1:y2, x1:x2] = seen.reshape(y2 - y1, x2 - x1)
        return picture, silhouette

    def _soften(self, posed: PosedFigure, pixels: np.ndarray, window: np.ndarray, outline: np.ndarray) -> None:
        """Several rays for the pixels in which something ends."""
        if not len(pixels):
            return
        samples = (pixels[:, None] + np.array(CORNERS)).reshape(-1, 2)
        colours, seen, _ = self._look(posed, samples)
        behind = pixels.astype(int)
        linear = np.repeat(self.linear[behind[:, 1] * self.camera.size + behind[:, 0]], len(CORNERS), 0)
        linear[seen] = colours[seen]
        window[outline] = _developed(linear.reshape(-1, len(CORNERS), 3).mean(1))

    def _look(self, posed: PosedFigure, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Light (n, 3) that comes from the figure, whether it is seen (n,), and its distance (n,)."""
        directions = self.camera.rays(pixels)
        triangles, weights, distances, _ = posed.mesh.hits(np.array(self.camera.place), directions)
        hit = np.flatnonzero(triangles >= 0)
        colours = np.zeros((len(pixels), 3), np.float32)
        colours[hit] = _light(posed, triangles[hit], weights[hit], directions[hit])
        return colours, triangles >= 0, np.where(triangles >= 0, distances, 0)

    def _shade_floor(self, picture: np.ndarray, posed: PosedFigure) -> None:
        """Take from the floor the light of the lamps that the figure stands before."""
        size, thrown = self.camera.size, []
        for lamp, _ in LAMPS:
            way = posed.vertices[::7] - np.array(lamp)
            thrown.append(np.array(lamp) + way * (lamp[2] / np.maximum(-way[:, 2:], 0.3)))
        places = self.camera.project(np.concatenate(thrown))
        x1, y1 = np.clip(np.floor(places.min(0)).astype(int) - 6, 0, size)
        x2, y2 = np.clip(np.ceil(places.max(0)).astype(int) + 7, 0, size)
        rows, columns = np.arange(y1, y2, SHADOW_STEP), np.arange(x1, x2, SHADOW_STEP)
        if len(rows) < 2 or len(columns) < 2:
            return
        floor = self.places.reshape(size, size, 3)[rows][:, columns].reshape(-1, 3)
        on_floor = np.flatnonzero(floor[:, 2] < 0.02)
        origins = floor[on_floor] + np.array([0, 0, EPSILON], np.float32)
        window = self.linear.reshape(size, size, 3)[y1:y2, x1:x2].copy()
        for lit, (lamp, _) in zip(self.lit, LAMPS, strict=True):
            shade = np.zeros(len(floor), np.float32)
            shade[on_floor] = posed.mesh.blocked(origins, np.array(lamp))
            smooth = cv2.GaussianBlur(shade.reshape(len(rows), len(columns)), (0, 0), 1.0)
            smooth = cv2.resize(smooth, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR)
            window -= smooth[:, :, None] * lit.reshape(size, size, 3)[y1:y2, x1:x2]
        picture[y1:y2, x1:x2] = _developed(window.reshape(-1, 3)).reshape(window.shape)


def _light(posed: PosedFigure, triangles: np.ndarray, weights: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """What n points of the figure send towards the camera: (n, 3)."""
    body = posed.figure.body
    corners = body.triangles[triangles]

    def between(values: np.ndarray) -> np.ndarray:
        return np.einsum("nk,nki->ni", weights, values[corners])

    albedo = posed.figure.painter(body.bones[triangles], between(body.vertices))
    places, normals = between(posed.vertices), between(posed.normals)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    sky = 0.75 + 0.25 * normals[:, 2:]
    light = albedo * np.array(AMBIENT, np.float32) * sky
    for lamp, strength in LAMPS:
        share = _incidence(places, normals, np.array(lamp))
        bright = np.flatnonzero(share > 0)
        share[bright] *= ~posed.mesh.blocked(places[bright] + 4 * EPSILON * normals[bright], np.array(lamp))
        light += albedo * share[:, None] * np.array(strength, np.float32)
    glossy = body.bones[triangles] == HEAD
    rim = (1 + np.einsum("ni,ni->n", normals, directions)).clip(0, 1) ** 3
    return light * (1 - 0.25 * rim[:, None]) + 0.02 * glossy[:, None]


def _incidence(places: np.ndarray, normals: np.ndarray, lamp: np.ndarray) -> np.ndarray:
    """Cosine (n,) between normals and the way to a lamp, 0 for surfaces that face away."""
    way = (lamp - places).astype(np.float32)
    return np.maximum(np.einsum("ni,ni->n", way, normals), 0) / np.linalg.norm(way, axis=1).clip(1e-3)


def _outline(seen: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Pixels whose neighbours are of another surface: of the background, or 3 cm nearer or farther."""
    kernel = np.ones((3, 3), np.uint8)
    far, near = cv2.dilate(depth, kernel), cv2.erode(depth, kernel)
    edge = cv2.dilate(seen.astype(np.uint8), kernel) != cv2.erode(seen.astype(np.uint8), kernel)
    return edge | (seen & (far - near > 0.03))


def _developed(linear: np.ndarray) -> np.ndarray:
    """Light -> uint8, bright parts compressed."""
    return (255 * np.clip(linear / (0.35 + 0.72 * linear), 0, 1) + 0.5).astype(np.uint8)


def _grid(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    """Centres (n, 2) of the pixels of a window, row by row."""
    x, y = np.meshgrid(np.arange(x1, x2) + 0.5, np.arange(y1, y2) + 0.5)
    return np.stack([x.ravel(), y.ravel()], 1)
