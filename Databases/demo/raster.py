"""Which triangle each pixel sees; and pixels of textures. Nothing here knows what the triangles show."""

import cv2
import numpy as np


def rasterise(
    xy: np.ndarray, depth: np.ndarray, triangles: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Nearest front-facing triangle at each pixel of a size x size canvas.

    xy: (V, 2) canvas coordinates, depth: (V,) larger is nearer, triangles: (T, 3) counter-clockwise seen from
    the front with y down. Returns, for the n pixels that are covered: flat pixel indices (n,), triangles' indices
    (n,), barycentric weights (n, 3), depths (n,).
    """
    corners = xy[triangles]  # (T, 3, 2)
    x, y = corners[..., 0], corners[..., 1]
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    low = np.ceil(corners.min(1)).clip(0, size).astype(np.int32)
    high = np.floor(corners.max(1)).clip(-1, size - 1).astype(np.int32)
    extent = (high - low + 1).clip(0)  # int32 and float32: half the memory traffic
    kept = np.flatnonzero((area < -1e-6) & (extent.min(1) > 0))
    x, y, area, low, extent = x[kept], y[kept], area[kept], low[kept], extent[kept]

    # Edge functions w_k = a_k x + b_k y + c_k, divided by the area: barycentric weights of corners 0 and 1.
    edges = []
    for i, j in ((1, 2), (2, 0)):
        a, b = (y[:, i] - y[:, j]) / area, (x[:, j] - x[:, i]) / area
        edges.append((a, b, -a * x[:, i] - b * y[:, i]))
    table = [column.astype(np.float32) for edge in edges for column in edge]

    # All pixels of all bounding boxes at once, box after box.
    counts = extent[:, 0] * extent[:, 1]
    owner = np.repeat(np.arange(len(kept), dtype=np.int32), counts)
    position = np.arange(len(owner), dtype=np.int32) - np.repeat(
        (np.cumsum(counts) - counts).astype(np.int32), counts
    )
    width = extent[owner, 0]
    row = position // width
    px, py = position - row * width + low[owner, 0], row + low[owner, 1]
    fx, fy = px.astype(np.float32), py.astype(np.float32)
    a0, b0, c0, a1, b1, c1 = (column[owner] for column in table)
    w0, w1 = a0 * fx + b0 * fy + c0, a1 * fx + b1 * fy + c1
    w2 = 1 - w0 - w1
    inside = np.flatnonzero(np.minimum(np.minimum(w0, w1), w2) >= -1e-4)
    owner, pixel = kept[owner[inside]], py[inside] * size + px[inside]
    weights = np.stack([w0[inside], w1[inside], w2[inside]], 1)
    corner_depths = depth.astype(np.float32)[triangles]
    z = np.einsum("nk,nk->n", weights, corner_depths[owner])

    # The nearest at each pixel: the largest of depth and position in one number.
    steps = ((z - z.min(initial=0)) * np.float32(1e6)).astype(np.int64)
    nearest = np.full(size * size, -1, np.int64)
    np.maximum.at(nearest, pixel, (steps << 32) + np.arange(len(z)))
    covered = np.flatnonzero(nearest >= 0)
    chosen = nearest[covered] & 0xFFFFFFFF
    return covered, owner[chosen], weights[chosen], z[chosen]


def to_pixels(xy: np.ndarray, reach: float, size: int) -> np.ndarray:
    """Positions (n, 2), y up, to a size x size raster that shows -reach to reach; pixel i's centre is at i."""
    return (xy * [1, -1] / reach + 1) * (size / 2) - 0.5


def sample(picture: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Bilinear samples at positions (n, 2), border repeated."""
    n, columns = len(xy), 512
    padded = np.zeros((-(-n // columns) * columns, 2), np.float32)
    padded[:n] = xy
    maps = padded.reshape(-1, columns, 2)
    sampled = cv2.remap(picture, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled.reshape(-1, *picture.shape[2:])[:n]
