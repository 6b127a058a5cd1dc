"""Changes of light and of picture quality that leave every point where it is. Gray uint8 (H, W) pictures."""

import cv2
import numpy as np


def change_light(gray: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Another brightness, contrast, gamma and a soft light from one side; strength 1 is a strong change."""
    height, width = gray.shape
    light = gray.astype(np.float32) / 255
    light = light ** float(np.exp(rng.uniform(-0.6, 0.6) * strength))
    contrast = np.exp(rng.uniform(-0.6, 0.3) * strength)
    light = (light - 0.5) * contrast + 0.5 + rng.uniform(-0.2, 0.2) * strength
    direction = rng.uniform(0, 2 * np.pi)
    x = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(np.cos(direction))
    y = np.linspace(-1, 1, height, dtype=np.float32) * np.float32(np.sin(direction))
    light *= 1 + np.float32(rng.uniform(0, 0.4) * strength) * (x[None] + y[:, None])
    return to_uint8(light)


def add_shadows(gray: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Up to three soft ellipses that are darker or brighter than their surroundings."""
    height, width = gray.shape
    mask = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        axes = tuple(int(n) for n in rng.integers(max(height // 8, 2), max(height // 2, 3), 2))
        tone = rng.uniform(-0.6, 0.6)
        cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, float(tone), -1)
    mask = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.04, 0.15)) * height)
    return to_uint8(gray / np.float32(255) * (1 + mask))


def add_noise(gray: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """Gaussian noise of `deviation` gray levels."""
    noise = rng.standard_normal(gray.shape, dtype=np.float32) * np.float32(deviation)
    return to_uint8((gray + noise) / np.float32(255))


def compress(gray: np.ndarray, quality: int) -> np.ndarray:
    """The picture after JPEG at this quality."""
    _, code = cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)


def degrade(gray: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What cameras and files do, each with its own chance: light, shadows, blur, noise, JPEG."""
    if rng.random() < 0.9:
        gray = change_light(gray, rng)
    if rng.random() < 0.3:
        gray = add_shadows(gray, rng)
    if rng.random() < 0.4:
        gray = cv2.GaussianBlur(gray, (0, 0), float(rng.uniform(0.3, 1.3)))
    if rng.random() < 0.6:
        gray = add_noise(gray, rng, float(rng.uniform(0.5, 8)))
    if rng.random() < 0.3:
        gray = compress(gray, int(rng.integers(30, 90)))
    return gray


def to_uint8(light: np.ndarray) -> np.ndarray:
    """Values around [0, 1] -> uint8, cut off at both ends."""
    return (np.clip(light, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
