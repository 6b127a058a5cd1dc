"""The room in which the cameras stand: floor, walls, and along them furniture, boxes and pictures, all textured."""

import dataclasses

import cv2
import numpy as np
from numpy.typing import ArrayLike

HALF, HEIGHT = 4.6, 3.0  # metres
TEXTURE = 256  # pixels a side
LAMPS = (  # place, and light on a surface that faces it, however far away
    ((2.6, -2.2, 2.5), (0.5, 0.48, 0.45)),
    ((-2.7, 1.9, 2.6), (0.4, 0.4, 0.42)),
    ((0.9, 2.9, 2.4), (0.22, 0.22, 0.24)),
)
AMBIENT = (0.33, 0.33, 0.35)


@dataclasses.dataclass(frozen=True)
class Room:
    """Quadrilaterals as two triangles each. vertices: (V, 3), triangles: (2n, 3); uv: (2n, 3, 2) in 0 to 1;
    textures: (n, TEXTURE, TEXTURE, 3) of each quadrilateral, 0 to 1."""

    vertices: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    textures: np.ndarray

    def colours(self, triangles: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """RGB (n, 3) where rays hit triangles (n,) at barycentric weights (n, 3)."""
        uv = np.einsum("nk,nki->ni", weights, self.uv[triangles])
        at = np.clip((uv * TEXTURE).astype(int), 0, TEXTURE - 1)
        return self.textures[triangles // 2, at[:, 1], at[:, 0]]


def make_room(seed: int) -> Room:
    """Where things stand and how they look is a function of the seed; nothing is within 2.8 m of the middle."""
    rng = np.random.default_rng((seed, 77))
    corners: list[np.ndarray] = []
    textures: list[np.ndarray] = []

    def quad(start: ArrayLike, right: ArrayLike, down: ArrayLike, texture: np.ndarray) -> None:
        origin, u, v = (np.asarray(vector, float) for vector in (start, right, down))
        corners.append(np.stack([origin, origin + u, origin + u + v, origin + v]))
        textures.append(texture)

    def box(centre: np.ndarray, size: np.ndarray, yaw: float) -> None:
        c, s = np.cos(yaw), np.sin(yaw)
        x, y = size[0] * np.array([c, s, 0]), size[1] * np.array([-s, c, 0])
        z = np.array([0, 0, size[2]])
        base = np.asarray(centre, float) - (x + y) / 2
        look = _object_texture(rng)
        for origin, u, v in (
            (base + z, x, -z),
            (base + x + z, y, -z),
            (base + x + y + z, -x, -z),
            (base + y + z, -y, -z),
        ):
            quad(origin, u, v, look if rng.random() < 0.5 else _object_texture(rng))
        quad(base + z, x, y, look)

    tiles = 4  # a texture is not repeated, so the floor has many
    step = 2 * HALF / tiles
    for i in range(tiles):
        for j in range(tiles):
            corner = np.array([-HALF + i * step, -HALF + j * step, 0])
            quad(corner, (step, 0, 0), (0, step, 0), _floor_texture(rng))
            quad(corner + [0, 0, HEIGHT], (step, 0, 0), (0, step, 0), _ceiling_texture(rng))
    for k, wall in enumerate(rng.uniform(0.35, 0.65, (4, 3))):
        turn = np.array([[0, -1], [1, 0]]) if k % 2 else np.eye(2)
        turn = turn * (1 if k < 2 else -1)

        def at(along: float, out: float, up: float, turn: np.ndarray = turn) -> np.ndarray:
            return np.array([*(turn @ [HALF - out, along]), up])

        for part in range(3):
            width = 2 * HALF / 3
            start = at(-HALF + part * width, 0, HEIGHT)
            quad(start, at(-HALF + (part + 1) * width, 0, HEIGHT) - start, (0, 0, -HEIGHT), _wall_texture(rng, wall))
        for along in np.arange(-HALF + 0.5, HALF - 0.8, 1.15).tolist():  # pictures
            if rng.random() < 0.75:
                w, h, up = rng.uniform(0.4, 0.95), rng.uniform(0.4, 0.9), rng.uniform(1.5, 2.3)
                start = at(along, 0.02, up)
                quad(start, at(along + w, 0.02, up) - start, (0, 0, -h), _picture_texture(rng))
        along = -HALF + 0.3
        while along < HALF - 0.6:  # furniture and boxes
            w, depth, tall = rng.uniform(0.35, 1.0), rng.uniform(0.3, 0.6), rng.uniform(0.3, 1.5)
            if rng.random() < 0.8:
                yaw = np.arctan2(*(turn @ [1, 0])[::-1]) + np.pi / 2 + rng.normal(0, 0.15)
                place = at(along + w / 2, depth / 2 + rng.uniform(0.1, 0.4), 0)
                box(place, np.array([w, depth, tall]), yaw)
                if rng.random() < 0.6:
                    small = np.array([w * 0.5, depth * 0.6, rng.uniform(0.15, 0.4)])
                    box(place + [0, 0, tall], small, yaw + rng.normal(0, 0.4))
            along += w + rng.uniform(0.05, 0.35)
    vertices = np.concatenate(corners)
    first = 4 * np.arange(len(corners))[:, None]
    triangles = np.stack([first + [0, 1, 2], first + [0, 2, 3]], 1).reshape(-1, 3)
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    uv = np.tile(np.stack([unit[[0, 1, 2]], unit[[0, 2, 3]]]), (len(corners), 1, 1))
    return Room(vertices, triangles, uv, np.stack(textures).astype(np.float32))


def _grain(rng: np.random.Generator, strength: float) -> np.ndarray:
    """Multiplicative mottle (TEXTURE, TEXTURE, 1) of two scales."""
    coarse = cv2.resize(rng.uniform(-1, 1, (24, 24)), (TEXTURE, TEXTURE), interpolation=cv2.INTER_CUBIC)
    return (1 + strength * (0.6 * coarse + 0.4 * rng.uniform(-1, 1, (TEXTURE, TEXTURE))))[:, :, None]


def _floor_texture(rng: np.random.Generator) -> np.ndarray:
    """Carpet tiles, 8 a side."""
    tones = rng.choice([0.3, 0.36, 0.42], (8, 8))[:, :, None] * np.array([1.05, 0.98, 0.9])
    picture = cv2.resize(tones, (TEXTURE, TEXTURE), interpolation=cv2.INTER_NEAREST)
    picture[::32], picture[:, ::32] = 0.2, 0.2
    return picture * _grain(rng, 0.15)


def _ceiling_texture(rng: np.random.Generator) -> np.ndarray:
    """Panels, 4 a side."""
    picture = np.full((TEXTURE, TEXTURE, 3), 0.72)
    picture[::64], picture[:, ::64] = 0.4, 0.4
    return picture * _grain(rng, 0.05)


def _wall_texture(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    picture = np.tile(colour, (TEXTURE, TEXTURE, 1))
    picture[:, :: int(rng.integers(24, 64))] *= 0.75
    picture[int(rng.integers(150, 200)) :: 300] *= 0.6
    picture[-10:] *= 0.5
    return picture * _grain(rng, 0.06)


def _picture_texture(rng: np.random.Generator) -> np.ndarray:
    """Shapes of many colours in a frame."""
    picture = np.tile(rng.uniform(0.2, 0.95, 3), (TEXTURE, TEXTURE, 1))
    for _ in range(int(rng.integers(8, 22))):
        colour = rng.uniform(0.05, 0.95, 3).tolist()
        x, y, w, h = (int(value) for value in rng.integers(0, TEXTURE, 4))
        if rng.random() < 0.5:
            cv2.rectangle(picture, (x, y), (x + w // 3, y + h // 3), colour, -1)
        else:
            cv2.circle(picture, (x, y), w // 6 + 4, colour, -1)
    cv2.rectangle(picture, (0, 0), (TEXTURE - 1, TEXTURE - 1), rng.uniform(0, 0.4, 3).tolist(), 14)
    return picture * _grain(rng, 0.06)


def _object_texture(rng: np.random.Generator) -> np.ndarray:
    """A side of a shelf with books, of drawers, or of a labelled box."""
    colour = rng.uniform(0.15, 0.85, 3)
    picture = np.tile(colour, (TEXTURE, TEXTURE, 1))
    kind = rng.integers(3)
    if kind == 0:
        rows = int(rng.integers(2, 5))
        for row in range(rows):
            x, top, bottom = 8, row * TEXTURE // rows + 12, (row + 1) * TEXTURE // rows - 6
            while x < TEXTURE - 12:
                w = int(rng.integers(8, 26))
                start = (x, top + int(rng.integers(0, 20)))
                cv2.rectangle(picture, start, (x + w - 2, bottom), rng.uniform(0.05, 0.95, 3).tolist(), -1)
                x += w
    elif kind == 1:
        rows = int(rng.integers(2, 6))
        for row in range(rows):
            top, bottom = row * TEXTURE // rows + 8, (row + 1) * TEXTURE // rows - 4
            cv2.rectangle(picture, (10, top), (TEXTURE - 10, bottom), (colour * 0.6).tolist(), 4)
            cv2.rectangle(
                picture, (108, (top + bottom) // 2 - 5), (148, (top + bottom) // 2 + 5), (0.9, 0.9, 0.85), -1
            )
    else:
        x, y = (int(value) for value in rng.integers(20, 90, 2))
        cv2.rectangle(picture, (x, y), (x + 120, y + 90), rng.uniform(0.6, 1, 3).tolist(), -1)
        for line in range(5):
            cv2.line(
                picture, (x + 10, y + 14 + 15 * line), (x + 110 - 12 * line, y + 14 + 15 * line), (0.1, 0.1, 0.1), 4
            )
        cv2.line(picture, (0, 0), (TEXTURE, 0), (colour * 0.5).tolist(), 12)
        cv2.line(picture, (0, 0), (0, TEXTURE), (colour * 0.5).tolist(), 12)
    return picture * _grain(rng, 0.08)
