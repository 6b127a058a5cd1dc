"""Pictures of simple shapes whose corners, ends and crossings are known exactly.

DeTone et al., "SuperPoint", CVPRW 2018, section 4: the detector's first teacher. Ellipses and plain noise
have no corner and teach the detector to stay silent.
"""

import cv2
import numpy as np

from Utils.drawing.marks import fill, stroke

# A picture and its keypoints (n, 2), as every shape gives them.
Shape = tuple[np.ndarray, np.ndarray]
_SUBPIXELS = 4  # cv2 draws at 1/16 pixel


def render_shapes(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One random picture: gray uint8 (size, size) and its keypoints (n, 2) x, y in pixels."""
    picture = background(rng, size)
    draw = _SHAPES[int(rng.integers(len(_SHAPES)))]
    picture, points = draw(rng, picture)
    points = np.asarray(points, float).reshape(-1, 2)
    picture = finish(rng, picture)
    return picture, points[((points >= 0) & (points <= size - 1)).all(1)]


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """A soft, corner-free cloud around a random gray."""
    coarse = rng.uniform(-1, 1, (4, 4)).astype(np.float32)
    cloud = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(rng.uniform(30, 225) + rng.uniform(0, 35) * cloud, 0, 255).astype(np.uint8)


def finish(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Blur and noise as a camera has them."""
    picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.5, 1.2)))
    noise = rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(rng.uniform(0, 6))
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def other_gray(rng: np.random.Generator, gray: float, least: float = 40) -> int:
    """A gray level at least `least` away from `gray`."""
    below, above = max(gray - least, 0), max(255 - gray - least, 0)
    draw = rng.uniform(0, below + above)
    return int(draw if draw < below else gray + least + draw - below)


def ring(rng: np.random.Generator, size: int, count: int, radius: float) -> np.ndarray:
    """Corners (count, 2) around a random centre, sorted by angle and never close to each other."""
    centre = rng.uniform(0.25, 0.75, 2) * size
    angles = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * 2 * np.pi / count + rng.uniform(0, 6.3)
    reach = rng.uniform(0.5, 1, count) * radius
    return centre + np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None]


def crossings(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Where segments starts[i]-ends[i] and starts[j]-ends[j] cross, i < j; (n, 2)."""
    i, j = np.triu_indices(len(starts), 1)
    r, s = (ends - starts)[i], (ends - starts)[j]
    between = starts[j] - starts[i]
    area = r[:, 0] * s[:, 1] - r[:, 1] * s[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (between[:, 0] * s[:, 1] - between[:, 1] * s[:, 0]) / area
        u = (between[:, 0] * r[:, 1] - between[:, 1] * r[:, 0]) / area
    hit = (np.abs(area) > 1e-9) & (t > 0) & (t < 1) & (u > 0) & (u < 1)
    return starts[i][hit] + t[hit, None] * r[hit]


def polygon(rng: np.random.Generator, picture: np.ndarray) -> Shape:
    """A filled polygon of 3 to 7 corners (triangles and quads among them)."""
    size = len(picture)
    corners = ring(rng, size, int(rng.integers(3, 8)), rng.uniform(0.2, 0.5) * size)
    fill(picture, corners, other_gray(rng, float(picture.mean())))
    return picture, corners


def polygons(rng: np.random.Generator, picture: np.ndarray) -> Shape:
    """Several small polygons in their own places; later ones hide earlier ones."""
    size = len(picture)
    kept = np.zeros((0, 2))
    for _ in range(int(rng.integers(2, 6))):
        corners = ring(rng, size, int(rng.integers(3, 6)), rng.uniform(0.12, 0.3) * size)
        corners += rng.uniform(-0.25, 0.25, 2) * size
        hull = corners.astype(np.float32)
        hidden = [cv2.pointPolygonTest(hull, (float(x), float(y)), True) > -3 for x, y in kept]
        kept = np.concatenate([kept[~np.array(hidden, bool)], corners])
        fill(picture, corners, other_gray(rng, float(picture.mean())))
    return picture, kept


def lines(rng: np.random.Generator, picture: np.ndarray) -> Shape:
    """Straight lines: their ends and crossings."""
    size, count = len(picture), int(rng.integers(2, 7))
    starts, ends = rng.uniform(0.05, 0.95, (2, count, 2)) * size
    long = np.hypot(*(ends - starts).T) > 0.2 * size
    starts, ends = starts[long], ends[long]
    for start, end in zip(starts, ends):
        gray = other_gray(rng, float(picture.mean()), 60)
        stroke(picture, start, end, gray, int(rng.integers(1, 4)))
    return picture, np.concatenate([starts, ends, crossings(starts, ends)])


def star(rng: np.random.Generator, picture: np.ndarray) -> Shape:
    """Lines that meet in one point."""
    size = len(picture)
    tips = ring(rng, size, int(rng.integers(3, 8)), rng.uniform(0.25, 0.5) * size)
    centre = tips.mean(0)
    gray, width = other_gray(rng, float(picture.mean()), 60), int(rng.integers(1, 4))
    for tip in tips:
        stroke(picture, centre, tip, gray, width)
    return picture, np.concatenate([centre[None], tips])


def checkerboard(rng: np.random.Generator, picture: np.ndarray) -> Shape:
    """A checkerboard seen at an angle, every field with its own gray; inner and outer corners."""
    size = len(picture)
    rows, columns = (int(n) for n in rng.integers(2, 7, 2))
    spread = ring(rng, size, 4, rng.uniform(0.5, 0.8) * size)
    grid = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float32)
    matrix = cv2.getPerspectiveTransform(grid, spread.astype(np.float32))
    nodes = np.stack(np.meshgrid(np.arange(columns + 1.0), np.arange(rows + 1.0)), -1).reshape(-1, 1, 2)
    nodes = cv2.perspectiveTransform(nodes, matrix).reshape(rows + 1, columns + 1, 2)
    dark = other_gray(rng, float(picture.mean()), 30)
    light = other_gray(rng, dark, 60)
    for row, column in np.ndindex(rows, columns):
        gray = (dark if (row + column) % 2 else light) + rng.uniform(-12, 12)
        corners = nodes[[row, row, row + 1, row + 1], [column, column + 1, column + 1, column]]
        fill(picture, corners, int(np.clip(gray, 0, 255)))
    return picture, nodes.reshape(-1, 2)


def stripes(rng: np.random.Generator, picture: np.ndarray) -> Shape:
    """Bands across a quad: the ends of every border between two bands."""
    size = len(picture)
    count = int(rng.integers(3, 8))
    corners = ring(rng, size, 4, rng.uniform(0.5, 0.8) * size)
    t = np.sort(np.concatenate([[0, 1], (np.arange(1, count) + rng.uniform(-0.3, 0.3, count - 1)) / count]))
    upper = corners[0] + t[:, None] * (corners[1] - corners[0])
    lower = corners[3] + t[:, None] * (corners[2] - corners[3])
    gray = float(picture.mean())
    for k in range(count):
        gray = other_gray(rng, gray, 30)
        fill(picture, np.stack([upper[k], upper[k + 1], lower[k + 1], lower[k]]), int(gray))
    return picture, np.concatenate([upper, lower])


def cube(rng: np.random.Generator, picture: np.ndarray) -> Shape:
    """Three visible faces of a box; their seven corners."""
    size = len(picture)
    turn, tilt = rng.uniform(0.3, 1.2), rng.uniform(0.3, 1.0)
    edge = rng.uniform(0.18, 0.35, 3)[:, None] * size
    axes = edge * np.array(
        [
            [np.cos(turn), np.sin(turn) * np.sin(tilt)],
            [-np.sin(turn), np.cos(turn) * np.sin(tilt)],
            [0, np.cos(tilt)],
        ]
    )
    roll = rng.uniform(0, 2 * np.pi)
    axes = axes @ np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    front = rng.uniform(0.35, 0.65, 2) * size
    gray = float(picture.mean())
    points = [front]
    for a, b in ((0, 1), (1, 2), (2, 0)):
        gray = other_gray(rng, gray, 30)
        fill(picture, np.stack([front, front + axes[a], front + axes[a] + axes[b], front + axes[b]]), int(gray))
        points += [front + axes[a], front + axes[a] + axes[b]]
    return picture, np.stack(points)


def ellipses(rng: np.random.Generator, picture: np.ndarray) -> Shape:
    """A filled ellipse, perhaps with a smaller one inside; no outlines cross, so no keypoint."""
    size = len(picture)
    centre = tuple(int(n) for n in rng.uniform(0.1, 0.9, 2) * size * (1 << _SUBPIXELS))
    axes, turn = rng.uniform(0.1, 0.35, 2) * size * (1 << _SUBPIXELS), rng.uniform(0, 180)
    gray = float(picture.mean())
    for share in (1.0, rng.uniform(0.3, 0.7))[: int(rng.integers(1, 3))]:
        gray = other_gray(rng, gray)
        reach = tuple(int(n) for n in axes * share)
        cv2.ellipse(picture, centre, reach, turn, 0, 360, gray, -1, cv2.LINE_AA, _SUBPIXELS)
    return picture, np.zeros((0, 2))


def noise(rng: np.random.Generator, picture: np.ndarray) -> Shape:
    """Nothing but noise; no keypoint."""
    rough = rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(rng.uniform(5, 40))
    return np.clip(picture + rough, 0, 255).astype(np.uint8), np.zeros((0, 2))


_SHAPES = (polygon, polygons, lines, star, checkerboard, stripes, cube, ellipses, noise)
