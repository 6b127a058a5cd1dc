"""Crops as affine maps of points, and the pixels that belong to them.

A map is a float64 (2, 3) matrix m: `points @ m[:, :2].T + m[:, 2]`, from picture to crop. Points are continuous: a
crop that resizes its window by a factor s maps the window's corner (x, y) to (0, 0) and (x + w, y + h) to (s w, s h).
Pixel indices are half a pixel less, see `pixel_map`; cv2.resize does the same.
"""

import cv2
import numpy as np

from Utils.runtime.errors import UserError

FACE_MARGIN_SMALL, FACE_SMALL = 8, 20  # pixels; and the box size below which the small margin is used


def face_window(box: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """The method's crop window of a face: box (4,) and the picture's size -> x1, y1, x2, y2.

    With d = ((1.2 x2 - x1) + (2 y2 - y1)) / 2 the box grows by int(8 d / 100) pixels on each side (8 where
    d < 20) and is cut off at the picture's last row and column. Right and bottom are excluded.
    """
    x1, y1, x2, y2 = (float(value) for value in box)
    d = ((1.2 * x2 - x1) + (2 * y2 - y1)) / 2
    margin = FACE_MARGIN_SMALL if d < FACE_SMALL else int(8 * d / 100)
    right, bottom = min(x2 + margin, width - 1), min(y2 + margin, height - 1)
    return int(max(x1 - margin, 0)), int(max(y1 - margin, 0)), int(right), int(bottom)


def padded_window(box: np.ndarray, width: np.ndarray | int, height: np.ndarray | int, margin: float) -> np.ndarray:
    """Box (..., 4) grown on each side by `margin` x its mean side, clipped to the picture: (..., 4) int64.

    Right and bottom are excluded.
    """
    box = np.asarray(box, np.float64)
    grown = margin * (box[..., 2] - box[..., 0] + box[..., 3] - box[..., 1]) / 2
    limits = np.stack(np.broadcast_arrays(width, height), axis=-1)
    first = np.maximum(np.floor(box[..., :2] - grown[..., None]), 0)
    last = np.minimum(np.ceil(box[..., 2:] + grown[..., None]), limits)
    return np.concatenate(np.broadcast_arrays(first, last), axis=-1).astype(np.int64)


def window_crop(window: np.ndarray | tuple[int, int, int, int], size: int) -> np.ndarray:
    """The map (2, 3) that takes a window x1, y1, x2, y2 to size x size pixels; UserError if the window is empty."""
    x1, y1, x2, y2 = (float(value) for value in window)
    if x2 - x1 < 1 or y2 - y1 < 1:
        raise UserError("a box lies outside its picture or is empty; run `python -m Databases.check` to see which")
    scale_x, scale_y = size / (x2 - x1), size / (y2 - y1)
    return np.array([[scale_x, 0.0, -x1 * scale_x], [0.0, scale_y, -y1 * scale_y]])


def face_crop(box: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
    """The map picture -> crop, (2, 3), of the method's face crop (`face_window`) to size x size pixels."""
    return window_crop(face_window(box, width, height), size)


def padded_crop(box: np.ndarray, width: int, height: int, size: int, margin: float) -> np.ndarray:
    """The map picture -> crop, (2, 3), of a box with a margin (`padded_window`)."""
    return window_crop(padded_window(box, width, height, margin), size)


def zoom_crop(width: int, height: int, size: int, zoom: float) -> np.ndarray:
    """The map picture -> crop (2, 3): zoomed about the picture's centre on its own canvas, then resized."""
    scale = np.array([zoom * size / width, zoom * size / height])
    centre = np.array([width / 2, height / 2])
    return np.column_stack([np.diag(scale), size / 2 - scale * centre])


def apply(m: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map points: m (..., 2, 3), points (..., n, 2) -> (..., n, 2). NaN stays NaN."""
    return np.asarray(points) @ np.swapaxes(m[..., :2], -1, -2) + m[..., None, :, 2]


def invert(m: np.ndarray) -> np.ndarray:
    """The map back, (..., 2, 3)."""
    if m.ndim == 2:  # one map, many times per second
        return cv2.invertAffineTransform(m)
    linear = np.linalg.inv(m[..., :2])
    return np.concatenate([linear, -linear @ m[..., 2:]], axis=-1)


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The map (..., 2, 3) that applies `inner` first, then `outer`."""
    linear = outer[..., :2] @ inner[..., :2]
    return np.concatenate([linear, outer[..., :2] @ inner[..., 2:] + outer[..., 2:]], axis=-1)


def pixel_map(m: np.ndarray) -> np.ndarray:
    """The map of pixel indices, (..., 2, 3), of a map of points: the centre of pixel i is the point i + 0.5."""
    shifted = np.array(m, np.float64)
    shifted[..., 2] += m[..., :2].sum(-1) / 2 - 0.5
    return shifted


def warp(
    picture: np.ndarray,
    m: np.ndarray,
    size: int | tuple[int, int],
    border: int = cv2.BORDER_CONSTANT,
    averages: bool = False,
) -> np.ndarray:
    """Pixels of a crop: picture (H, W[, C]), map of points (2, 3) -> (size, size[, C]), bilinear.

    size: side, or (width, height). A window of whole pixels inside the picture is resized with cv2.resize, and with
    `averages` averaged if it shrinks; other maps are applied with cv2.warpAffine. border: OpenCV's border mode, black
    by default.
    """
    width, height = size if isinstance(size, tuple) else (size, size)
    window = _whole_pixels(m, (width, height), picture.shape[1], picture.shape[0])
    if window is not None:
        x1, y1, x2, y2 = window
        shrinks = width <= x2 - x1 and height <= y2 - y1
        method = cv2.INTER_AREA if averages and shrinks else cv2.INTER_LINEAR
        return cv2.resize(picture[y1:y2, x1:x2], (width, height), interpolation=method)
    return cv2.warpAffine(picture, pixel_map(m), (width, height), flags=cv2.INTER_LINEAR, borderMode=border)


def _whole_pixels(m: np.ndarray, size: tuple[int, int], width: int, height: int) -> np.ndarray | None:
    """The window x1, y1, x2, y2 of an upright map if it consists of whole pixels inside the picture, else None."""
    if m[0, 1] or m[1, 0] or m[0, 0] <= 0 or m[1, 1] <= 0:
        return None
    corners = apply(invert(m), np.array([[0.0, 0.0], size]))
    window = np.rint(corners)
    inside = (window[0] >= 0).all() and window[1, 0] <= width and window[1, 1] <= height
    return window.astype(int).reshape(4) if inside and np.abs(corners - window).max() < 1e-6 else None
