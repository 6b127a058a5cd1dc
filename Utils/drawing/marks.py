"""Shapes with subpixel positions, and sheets of pictures with marked points."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from Utils.runtime.errors import UserError
from Utils.storage.files import writing

TILE = 256  # pixels; pictures are resized before drawing, so that markers stay crisp
_GAP = 4
TILE_STEP = TILE + _GAP  # pixels from one tile of a sheet to the next
_PAPER = 255  # of all three channels: filling with a triple takes ten times as long
_DARK, _LIGHT = (20, 20, 20), (250, 250, 250)
_SUBPIXELS = 4  # cv2 draws at 1/16 pixel
_FARTHEST = 1e6  # pixels; no picture is larger
_FONT, _FONT_HEIGHT = cv2.FONT_HERSHEY_SIMPLEX, 22
_SMALLEST_TEXT = 9.0  # pixels
_ENTRY_WIDTH, _ENTRY_HEIGHT = 90, 36  # of a legend, pixels


@functools.cache
def _colours(count: int) -> np.ndarray:
    """Each colour is the one farthest (in CIE Lab) from black, white and all colours before it."""
    levels = np.linspace(0, 255, 12).round().astype(np.uint8)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = cv2.cvtColor(candidates[None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0]
    distance = np.minimum(*(np.linalg.norm(lab - lab[end], axis=1) for end in (0, -1)))
    distance[lab[:, 0] < 30] = -1  # too dark to distinguish
    chosen = []
    for _ in range(min(count, len(candidates))):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
    return candidates[chosen]


def palette(count: int) -> np.ndarray:
    """Distinct colours (count, 3) uint8 RGB; the colour of a number does not depend on `count`."""
    return np.resize(_colours(count), (count, 3))


def fill(picture: np.ndarray, corners: np.ndarray, colour: Sequence[float] | float) -> None:
    """Fill a polygon on a picture (H, W) or (H, W, C) uint8; corners (n, 2) x, y on pixel centres."""
    fixed = np.round(corners * (1 << _SUBPIXELS)).astype(np.int32)
    cv2.fillPoly(picture, [fixed], colour, cv2.LINE_AA, _SUBPIXELS)


def stroke(
    picture: np.ndarray, start: np.ndarray, end: np.ndarray, colour: Sequence[float] | float, width: int = 1
) -> None:
    """Draw a straight line on a picture (H, W) or (H, W, C) uint8; start, end: (2,) x, y on pixel centres."""
    a, b = np.round(np.stack([start, end]) * (1 << _SUBPIXELS)).astype(int).tolist()
    cv2.line(picture, a, b, colour, width, cv2.LINE_AA, _SUBPIXELS)


def write(picture: np.ndarray, text: str, left: float, middle: float, height: float = 16) -> None:
    """Write dark text with a light rim on an RGB picture; left: x of its start, middle: y of its middle, pixels."""
    scale = height / _FONT_HEIGHT
    origin = (round(left), round(middle + height / 2))
    for shade, thickness in ((_LIGHT, 3), (_DARK, 1)):
        cv2.putText(picture, text, origin, _FONT, scale, shade, thickness, cv2.LINE_AA)


def text_width(text: str, height: float = 16) -> float:
    """The width in pixels of what `write` writes."""
    return cv2.getTextSize(text, _FONT, height / _FONT_HEIGHT, 1)[0][0]


def mark(picture: np.ndarray, points: np.ndarray, colours: np.ndarray, radius: float = 4) -> np.ndarray:
    """A copy of an RGB picture (H, W, 3) with a filled, rimmed disc at each point.

    points: (n, 2) x, y in pixels, NaN are skipped; colours: (n, 3) or one (3,) uint8 RGB; radius: pixels.
    """
    border = 2 * math.ceil(radius + 2)  # OpenCV draws discs that its canvas cuts in another way
    canvas = cv2.copyMakeBorder(picture, border, border, border, border, cv2.BORDER_CONSTANT)
    inks = np.broadcast_to(np.asarray(colours), (len(points), 3)).tolist()
    for point, ink in zip(np.asarray(points, np.float64).reshape(-1, 2), inks, strict=True):
        if not (np.abs(point) < _FARTHEST).all():  # or NaN
            continue
        # OpenCV counts from the centre of the first pixel, points from its edge.
        centre = np.round((point + border - 0.5) * (1 << _SUBPIXELS)).astype(int).tolist()
        for extra, shade in ((1.6, _DARK), (0.8, _LIGHT), (0, ink)):
            size = round((radius + extra) * (1 << _SUBPIXELS))
            cv2.circle(canvas, centre, size, shade, cv2.FILLED, cv2.LINE_AA, _SUBPIXELS)
    return canvas[border:-border, border:-border].copy()


def fitted(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture (H, W, 3) whose longer side is `side` pixels."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def tile(picture: np.ndarray, points: np.ndarray, colours: np.ndarray, radius: float = 4) -> np.ndarray:
    """A picture (H, W, 3) RGB fitted into (TILE, TILE, 3), its points (n, 2) in pixels of the picture marked."""
    shown = fitted(picture, TILE)
    height, width = shown.shape[:2]
    left, top = (TILE - width) // 2, (TILE - height) // 2
    canvas = np.full((TILE, TILE, 3), _PAPER, np.uint8)
    canvas[top : top + height, left : left + width] = shown
    placed = np.asarray(points, np.float64).reshape(-1, 2) * (TILE / max(picture.shape[:2])) + (left, top)
    return mark(canvas, placed, colours, radius)


def sheet(
    pictures: Sequence[np.ndarray],
    points: Sequence[np.ndarray],
    colours: Sequence[np.ndarray] | np.ndarray,
    columns: int = 8,
    rows: int = 8,
    radius: float = 4,
) -> np.ndarray:
    """A grid of the first rows x columns pictures, RGB uint8, without empty rows and columns.

    pictures: RGB, any sizes; points: one (n, 2) per picture, in its pixels, NaN are skipped; colours: (3,) or
    (n, 3) uint8 for all pictures, or a list with such an array per picture.
    """
    count = min(len(pictures), rows * columns)
    columns = max(1, min(columns, count))
    rows = max(1, -(-count // columns))
    canvas = np.full((rows * TILE_STEP + _GAP, columns * TILE_STEP + _GAP, 3), _PAPER, np.uint8)
    each: Sequence[np.ndarray] = [colours] * count if isinstance(colours, np.ndarray) else colours
    for number in range(count):
        row, column = divmod(number, columns)
        top, left = _GAP + row * TILE_STEP, _GAP + column * TILE_STEP
        canvas[top : top + TILE, left : left + TILE] = tile(pictures[number], points[number], each[number], radius)
    return canvas


def with_legend(
    drawn: np.ndarray, picture: np.ndarray, points: np.ndarray, names: Sequence[str], colours: np.ndarray
) -> np.ndarray:
    """A sheet (H, W, 3) with a legend below it: RGB uint8, at least as wide as the picture.

    The legend shows a picture (S, S, 3) with its points (n, 2), in its pixels, and their names. All n names with
    their colours (n, 3) follow to its right, or below if the sheet is narrow.
    """
    side = len(picture)
    width = max(drawn.shape[1], side + 2 * _GAP)
    left, top = side + 4 * _GAP, 0
    entry = max(_ENTRY_WIDTH, max(text_width(name) for name in names) + _ENTRY_HEIGHT)
    if width < left + entry:
        left, top = _GAP, side + _GAP
    in_row = max(1, (width - left) // entry)
    numbers = np.arange(len(names))
    places = (left, top) + np.column_stack([numbers % in_row, numbers // in_row]) * (entry, _ENTRY_HEIGHT)
    height = max(side + _GAP, places[:, 1].max(initial=0) + _ENTRY_HEIGHT)
    below = np.full((height, width, 3), _PAPER, np.uint8)
    below[:side, _GAP : _GAP + side] = mark_named(picture, points, names, colours)
    centres = places + (14, _ENTRY_HEIGHT / 2)
    below = mark(below, centres, colours, radius=9)
    for name, (x, y) in zip(names, centres, strict=True):
        write(below, name, x + 16, y)
    margin = np.full((len(drawn), width - drawn.shape[1], 3), _PAPER, np.uint8)
    return np.concatenate([np.concatenate([drawn, margin], axis=1), below])


def mark_named(
    picture: np.ndarray, points: np.ndarray, names: Sequence[str], colours: np.ndarray, radius: float = 5
) -> np.ndarray:
    """`mark`, with each name near its point, away from the other points, where it covers least of what is drawn."""
    canvas = mark(picture, points, colours, radius)
    height = max(2.2 * radius, _SMALLEST_TEXT)
    seen = np.flatnonzero(np.isfinite(points).all(axis=1))
    taken = [np.concatenate([point - radius, point + radius]) for point in points[seen]]
    sides = np.array(picture.shape[1::-1])
    for i in seen:
        away = points[i] - points[seen].mean(axis=0)
        angles = np.arctan2(away[1], away[0]) + np.array([0, 1, -1, 2, -2, 3, -3, 4]) * np.pi / 4
        half = np.array([text_width(names[i], height), height]) / 2
        directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        reach = radius + 2 + half * np.abs(directions)
        middles = points[i] + np.concatenate([directions * (reach + k * height) for k in range(3)])
        boxes = np.concatenate([middles - half, middles + half], axis=1)
        covered = sum(_overlap(boxes, other) for other in taken) + 4 * half.prod() - _overlap(boxes, (0, 0, *sides))
        best = (covered + 0.01 * half.prod() * np.arange(len(boxes))).argmin()
        taken.append(boxes[best])
        write(canvas, names[i], boxes[best][0], middles[best][1], height)
    return canvas


def _overlap(boxes: np.ndarray, other: np.ndarray | Sequence[float]) -> np.ndarray:
    """Areas (n,) that boxes (n, 4) share with another one (4,)."""
    extent = np.minimum(boxes[:, 2:], other[2:]) - np.maximum(boxes[:, :2], other[:2])
    return extent.clip(0).prod(axis=1)


def overview(strips: Sequence[np.ndarray], names: Sequence[str]) -> np.ndarray:
    """A nearly square page of strips (H, W, 3) of one size, each under its name."""
    height, width = strips[0].shape[:2]
    step = np.array([height + _ENTRY_HEIGHT, width + 4 * _GAP])
    columns = max(1, min(len(strips), round((len(strips) * step[0] / step[1]) ** 0.5)))
    rows = -(-len(strips) // columns)
    canvas = np.full((*(step * (rows, columns)), 3), _PAPER, np.uint8)
    for number, (strip, name) in enumerate(zip(strips, names, strict=True)):
        top, left = step * (number % rows, number // rows)  # down the columns
        write(canvas, name, left + _GAP, top + _ENTRY_HEIGHT / 2, height=16)
        canvas[top + _ENTRY_HEIGHT : top + step[0], left : left + width] = strip
    return canvas


def save_picture(picture: np.ndarray, path: Path | str, durable: bool = True) -> None:
    """Write an RGB picture (H, W, 3) in the format that the name's ending tells. durable: see `writing`."""
    path = Path(path)
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix.lower() in (".jpg", ".jpeg") else []
    done, content = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise UserError(f"{path}: cannot be encoded; choose .jpg or .png")
    with writing(path, durable) as temporary:
        temporary.write_bytes(content.tobytes())
