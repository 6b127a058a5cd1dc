"""Brushes, and the chart they paint on."""

import cv2
import numpy as np
from numpy.typing import ArrayLike

from Databases.demo.raster import sample, to_pixels
from Databases.demo.surface import unit
from Utils.drawing.marks import fill

CHART_REACH = 2.4  # radians from the chart's centre to the border of its texture


class Chart:
    """A texture over the chart; four channels, RGB and opacity."""

    def __init__(self, size: int, colour: np.ndarray | None = None) -> None:
        self.size = size
        self.pixels = np.zeros((size, size, 4), np.float32)
        if colour is not None:
            self.pixels[:] = (*colour, 255)

    def paint(
        self,
        outlines: np.ndarray,
        colour: np.ndarray,
        softness: float = 0.0,
        opacity: float = 1.0,
        mirror: bool = True,
    ) -> None:
        """Fill an outline (n, 2) in the chart, or several (m, n, 2), and with `mirror` their reflections too.

        `softness` is the standard deviation of the border's blur in radians.
        """
        if opacity <= 0:
            return
        sigma = softness * self.size / (2 * CHART_REACH)
        outlines = outlines.reshape(-1, *outlines.shape[-2:])
        for sign in (1, -1) if mirror else (1,):
            self._fill(to_texture(outlines * [sign, 1], self.size), colour, sigma, opacity)

    def _fill(self, outlines: np.ndarray, colour: np.ndarray, sigma: float, opacity: float) -> None:
        low = np.floor(outlines.min((0, 1)) - 3 * sigma - 2).clip(0, self.size).astype(int)
        high = np.ceil(outlines.max((0, 1)) + 3 * sigma + 3).clip(0, self.size).astype(int)
        if (high <= low).any():
            return
        # Wide blurs on a coarse mask: same look, less arithmetic.
        coarse = max(1.0, sigma / 1.5)
        width, height = (int(np.ceil(n / coarse)) for n in high - low)
        mask: np.ndarray = np.zeros((height, width), np.uint8)
        for outline in (outlines - low + 0.5) / coarse - 0.5:
            fill(mask, outline, 255)
        if sigma > 0.3:
            mask = cv2.GaussianBlur(mask, (0, 0), sigma / coarse, borderType=cv2.BORDER_REPLICATE)
        if coarse > 1:
            mask = cv2.resize(mask, (int(high[0] - low[0]), int(high[1] - low[1])))
        target = self.pixels[low[1] : high[1], low[0] : high[0]]
        alpha = mask[..., None] * np.float32(opacity / 255)
        target += (np.array([*colour, 255], np.float32) - target) * alpha

    def sample(self, chart: np.ndarray) -> np.ndarray:
        """Channels (n, 4) float32 at chart positions (n, 2)."""
        return sample(self.pixels, to_texture(chart, self.size))


def to_texture(chart: np.ndarray, size: int) -> np.ndarray:
    """Pixels (n, 2) of chart positions (n, 2) in a texture of the chart, size x size."""
    return to_pixels(chart, CHART_REACH, size)


def ellipse(x: ArrayLike, y: ArrayLike, rx: ArrayLike, ry: ArrayLike, angle: ArrayLike = 0.0) -> np.ndarray:
    """Outline (32, 2) of an ellipse, or outlines (m, 32, 2) where the arguments are (m, 1)."""
    t = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    u, v = rx * np.cos(t), ry * np.sin(t)
    return np.stack([x + c * u - s * v, y + s * u + c * v], -1)


def brush(points: list[tuple[float, float]] | np.ndarray, width: float, taper: float = 1.0) -> np.ndarray:
    """Outline of a brush stroke along a polyline; `taper` 1 thins both ends, 0 none."""
    knots = np.asarray(points, float)
    t = np.linspace(0, len(knots) - 1, 8 * len(knots))
    curve = np.stack([np.interp(t, np.arange(len(knots)), knots[:, k]) for k in (0, 1)], 1)
    curve[1:-1] = (curve[:-2] + 2 * curve[1:-1] + curve[2:]) / 4
    along = np.gradient(curve, axis=0)
    normal = unit(np.stack([-along[:, 1], along[:, 0]], 1))
    profile = 1 - taper + taper * np.sqrt(np.sin(np.pi * np.linspace(0.02, 0.98, len(t))))
    half = 0.5 * width * profile[:, None] * normal
    return np.concatenate([curve + half, (curve - half)[::-1]])


def smooth_step(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """Smooth step from 0 at `low` to 1 at `high`, either of which may be the larger one."""
    t = ((x - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)
