"""The figure's surface: round cones along the bones, melted together into one mesh that bends with them."""

import dataclasses

import numpy as np

from tools.people.skeleton import (
    ABDOMEN,
    BONES,
    CHEST,
    FOOT,
    FOREARM,
    HAND,
    HEAD,
    NECK,
    PARENTS,
    PELVIS,
    SHIN,
    SIDES,
    THIGH,
    UPPER_ARM,
    Skeleton,
)

CELL, HEAD_CELL = 0.011, 0.006  # metres between samples of the distance field
MELTING = 0.016  # metres over which neighbouring parts flow into each other
STIFFNESS = 0.018  # metres over which a joint's bend is spread


@dataclasses.dataclass(frozen=True)
class Part:
    """A round cone from a to b with a radius at either end; flat: how much thinner it is along each axis."""

    bone: int
    a: tuple[float, float, float]
    b: tuple[float, float, float]
    radii: tuple[float, float]
    flat: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def distance(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) -> (...): about how far outside the surface."""
        scale = 1 / np.array(self.flat, float)
        a, b, p = np.array(self.a) * scale, np.array(self.b) * scale, points * scale
        axis = b - a
        t = np.clip((p - a) @ axis / max(float(axis @ axis), 1e-9), 0, 1)
        radius = self.radii[0] + (self.radii[1] - self.radii[0]) * t
        return (np.linalg.norm(p - a - t[..., None] * axis, axis=-1) - radius) * float(np.min(self.flat))

    def bounds(self, margin: float) -> tuple[np.ndarray, np.ndarray]:
        reach = max(self.radii) * np.maximum(self.flat, 1) + margin
        return np.minimum(self.a, self.b) - reach, np.maximum(self.a, self.b) + reach


@dataclasses.dataclass(frozen=True)
class Dress:
    """What clothes and hair do to the surface. Lengths in parts of the limb; thickness in metres."""

    sleeve: float = 0.6  # 0 to 1: of the upper arm; to 2: of the forearm
    trousers: float = 1.95  # 0 to 1: of the thigh; to 2: of the shin
    loose: float = 0.012
    hair: str = "short"  # short, long, bald, tail or cap


@dataclasses.dataclass(frozen=True)
class Body:
    """A mesh at rest. vertices, normals: (V, 3); triangles: (T, 3); bones: (T,) to which a triangle belongs;
    weights: (V, 17), how far a vertex moves with each bone."""

    vertices: np.ndarray
    normals: np.ndarray
    triangles: np.ndarray
    bones: np.ndarray
    weights: np.ndarray

    def pose(self, rotations: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Vertices and normals (V, 3) of a pose, float32."""
        maps = np.concatenate([rotations, shifts[:, :, None]], 2).reshape(BONES, 12)
        blended = (self.weights @ maps.astype(np.float32)).reshape(-1, 3, 4)
        vertices = np.einsum("vij,vj->vi", blended[:, :, :3], self.vertices) + blended[:, :, 3]
        normals = np.einsum("vij,vj->vi", blended[:, :, :3], self.normals)
        return vertices, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def make_body(skeleton: Skeleton, dress: Dress) -> Body:
    """The mesh of a dressed figure."""
    trunk, head = _trunk(skeleton, dress), _head(skeleton, dress)
    pieces = [_surface(trunk, CELL, 0.0), _surface(head, HEAD_CELL, skeleton.starts[NECK][2])]
    vertices = np.concatenate([piece[0] for piece in pieces]).astype(np.float32)
    normals = np.concatenate([piece[1] for piece in pieces]).astype(np.float32)
    triangles = np.concatenate([pieces[0][2], pieces[1][2] + len(pieces[0][0])])
    near = np.concatenate(
        [_distances(trunk, pieces[0][0]), _distances(head + [p for p in trunk if p.bone == NECK], pieces[1][0])]
    )
    weights = _weights(near)
    bones = near.argmin(1)[triangles[:, 0]]
    return Body(vertices, normals, triangles.astype(np.int32), bones, weights)


def _trunk(skeleton: Skeleton, dress: Dress) -> list[Part]:
    """Everything below the head."""
    build, s, e = skeleton.build, skeleton.starts, skeleton.ends
    size = build.height / 1.75
    g, loose = build.girth * size, dress.loose
    z = s[PELVIS][2]

    def at(x: float, y: float, up: float) -> tuple[float, float, float]:
        return (x * size, y * size, z + up * size)

    hips, broad, belly = 0.075 * build.hips, 0.085 * build.shoulders, build.belly
    parts = [
        Part(PELVIS, at(-0.01, -hips, 0), at(-0.01, hips, 0), (0.1 * g + loose,) * 2, (0.95, 1, 1)),
        Part(PELVIS, at(-0.04, -0.06, -0.03), at(-0.04, 0.06, -0.03), (0.082 * g + loose,) * 2),
        Part(ABDOMEN, at(0, -0.045, 0.08), at(0, 0.045, 0.08), (0.098 * g + loose,) * 2, (0.9, 1, 1)),
        Part(ABDOMEN, at(0, -0.04, 0.16), at(0, 0.04, 0.16), (0.095 * g + loose,) * 2, (0.9, 1, 1)),
        Part(CHEST, at(0, -0.055, 0.28), at(0, 0.055, 0.28), (0.11 * g + loose,) * 2, (0.9, 1, 1.1)),
        Part(CHEST, at(-0.01, -broad, 0.38), at(-0.01, broad, 0.38), (0.095 * g + loose,) * 2, (0.85, 1, 1)),
        Part(NECK, at(-0.005, 0, 0.45), at(0.02, 0, 0.62), (0.058 * g, 0.052 * g)),
    ]
    if belly:
        parts.append(Part(ABDOMEN, at(belly, 0, 0.07), at(belly, 0, 0.13), (0.1 * g + loose,) * 2))
    for side in SIDES:
        shoulder = tuple(s[UPPER_ARM[side]])
        parts.append(Part(CHEST, shoulder, at(0, 0.03 * side, 0.49), (0.052 * g + loose, 0.05 * g)))
        sleeves = ((UPPER_ARM, (0.054, 0.042), dress.sleeve), (FOREARM, (0.044, 0.029), dress.sleeve - 1))
        legs = ((THIGH, (0.086, 0.057), dress.trousers), (SHIN, (0.056, 0.04), dress.trousers - 1))
        for limb, (thick, thin), covered in (*sleeves, *legs):
            a, b = s[limb[side]], e[limb[side]]
            parts.append(Part(limb[side], tuple(a), tuple(b), (thick * g, thin * g)))
            if covered > 0.02:
                end = a + min(covered, 1) * (b - a)
                hem = thick + (thin - thick) * min(covered, 1)
                parts.append(Part(limb[side], tuple(a), tuple(end), (thick * g + loose, hem * g + 1.3 * loose)))
        knee, ankle = s[SHIN[side]], e[SHIN[side]]
        calf = knee + 0.3 * (ankle - knee) - [0.018 * size, 0, 0]
        parts.append(Part(SHIN[side], tuple(calf), tuple(calf + 0.2 * (ankle - knee)), (0.047 * g, 0.035 * g)))
        parts += _hand(s[HAND[side]], e[HAND[side]], HAND[side], size) + _shoe(ankle, FOOT[side], size)
    return parts


def _hand(wrist: np.ndarray, tip: np.ndarray, bone: int, size: float) -> list[Part]:
    along = (tip - wrist) / np.linalg.norm(tip - wrist)
    palm = wrist + 0.035 * size * along
    knuckles = wrist + 0.08 * size * along
    parts = [Part(bone, tuple(palm), tuple(knuckles), (0.03 * size, 0.032 * size), (1.15, 0.75, 0.9))]
    for x, reach in ((-0.022, 0.14), (0.0, 0.16), (0.022, 0.145)):
        finger = knuckles + [x * size, 0, 0]
        parts.append(Part(bone, tuple(finger), tuple(finger + (reach - 0.07) * size * along), (0.011 * size,) * 2))
    thumb = wrist + 0.03 * size * along + [0.025 * size, 0, 0]
    return [*parts, Part(bone, tuple(thumb), tuple(thumb + 0.055 * size * (along + [0.6, 0, 0])), (0.014, 0.011))]


def _shoe(ankle: np.ndarray, bone: int, size: float) -> list[Part]:
    x, y, _ = ankle
    side = np.sign(y)

    def at(dx: float, dy: float, dz: float) -> tuple[float, float, float]:
        return (x + dx * size, y + side * dy * size, dz * size)

    return [
        Part(bone, at(-0.03, 0, 0.042), at(0.08, 0.008, 0.045), (0.042 * size, 0.045 * size), (1, 0.95, 1)),
        Part(bone, at(0.08, 0.008, 0.036), at(0.17, 0.016, 0.032), (0.045 * size, 0.036 * size), (1, 1.05, 0.85)),
        Part(bone, tuple(ankle), at(0.02, 0, 0.06), (0.045 * size, 0.042 * size)),
    ]


def _head(skeleton: Skeleton, dress: Dress) -> list[Part]:
    """Skull, jaw, nose, ears and hair; sizes of heads differ less than those of bodies."""
    size = (skeleton.build.height / 1.75) ** 0.5
    top = skeleton.ends[HEAD]

    def at(x: float, y: float, down: float) -> tuple[float, float, float]:
        return (top[0] + x * size, top[1] + y * size, top[2] - down * size)

    def ball(x: float, y: float, down: float, r: float, flat: tuple[float, float, float] = (1, 1, 1)) -> Part:
        return Part(HEAD, at(x, y, down), at(x, y, down), (r * size,) * 2, flat)

    parts = [
        ball(0, 0, 0.1, 0.1, (0.98, 0.78, 1)),
        ball(0.035, 0, 0.165, 0.064, (0.9, 0.9, 0.95)),
        Part(HEAD, at(0.055, 0, 0.205), at(0.062, 0, 0.205), (0.024 * size,) * 2, (1, 1.3, 1)),
        Part(HEAD, at(0.094, 0, 0.11), at(0.108, 0, 0.152), (0.009 * size, 0.016 * size)),
        Part(NECK, tuple(skeleton.starts[NECK]), at(0.0, 0, 0.17), (0.054 * size, 0.052 * size)),
    ]
    parts += [ball(0.0, side * 0.08, 0.125, 0.03, (0.8, 0.35, 1)) for side in SIDES]
    hair = {
        "short": [ball(-0.014, 0, 0.09, 0.104, (1, 0.84, 1))],
        "long": [
            ball(-0.014, 0, 0.09, 0.108, (1, 0.86, 1)),
            Part(HEAD, at(-0.06, -0.035, 0.15), at(-0.07, -0.035, 0.3), (0.055 * size, 0.035 * size)),
            Part(HEAD, at(-0.06, 0.035, 0.15), at(-0.07, 0.035, 0.3), (0.055 * size, 0.035 * size)),
        ],
        "tail": [
            ball(-0.014, 0, 0.09, 0.104, (1, 0.84, 1)),
            Part(HEAD, at(-0.115, 0, 0.08), at(-0.14, 0, 0.22), (0.034 * size, 0.014 * size)),
        ],
        "cap": [
            ball(-0.01, 0, 0.085, 0.106, (1, 0.83, 0.98)),
            Part(HEAD, at(0.07, -0.03, 0.075), at(0.07, 0.03, 0.075), (0.075 * size,) * 2, (1, 0.8, 0.12)),
        ],
        "bald": [],
    }[dress.hair]
    return parts + hair


def _surface(parts: list[Part], cell: float, floor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, normals and triangles of melted parts; nothing below `floor` (metres)."""
    from skimage.measure import marching_cubes

    bounds = [part.bounds(3 * MELTING) for part in parts]
    low, high = np.min([b[0] for b in bounds], 0), np.max([b[1] for b in bounds], 0)
    low[2] = max(low[2], floor - 3 * cell)
    shape = np.ceil((high - low) / cell).astype(int) + 1
    axes = [low[i] + cell * np.arange(shape[i]) for i in range(3)]
    mass = np.zeros(shape, np.float32)
    for part, (a, b) in zip(parts, bounds, strict=True):
        window = tuple(
            slice(max(int((a[i] - low[i]) / cell), 0), max(int(np.ceil((b[i] - low[i]) / cell)) + 1, 0))
            for i in range(3)
        )
        points = np.stack(np.meshgrid(*(axes[i][window[i]] for i in range(3)), indexing="ij"), -1)
        mass[window] += np.exp(-np.minimum(part.distance(points) / MELTING * 2, 30)).clip(max=1e6)
    field = -np.log(mass + 1e-9)
    field[:, :, 0] = np.maximum(field[:, :, 0], 1.0)  # closed where the floor cuts it
    vertices, triangles, normals, _ = marching_cubes(field, 0.0)
    return low + cell * vertices, -normals, triangles


def _distances(parts: list[Part], points: np.ndarray) -> np.ndarray:
    """(V, 3) -> (V, 17): how far outside each bone's parts, large where a bone has none."""
    distances = np.full((len(points), BONES), 9.0)
    for part in parts:
        distances[:, part.bone] = np.minimum(distances[:, part.bone], part.distance(points))
    return distances


def _weights(distances: np.ndarray) -> np.ndarray:
    """Of each vertex's nearest bone and the bones that this one is jointed to, by distance: (V, 17)."""
    jointed = np.eye(BONES, dtype=bool)
    for bone, parent in enumerate(PARENTS):
        if parent >= 0:
            jointed[bone, parent] = jointed[parent, bone] = True
    nearest = distances.argmin(1)
    weights = np.exp(-np.minimum((distances - distances.min(1, keepdims=True)) / STIFFNESS, 30))
    weights *= jointed[nearest]
    weights[weights < 0.02] = 0
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
