"""Shading, in linear light (colour squared), of all visible samples at once."""

import numpy as np

from Databases.demo.coat import skin_albedo
from Databases.demo.eyes import paint_eye
from Databases.demo.mesh import EAR, NECK
from Databases.demo.paint import smooth_step
from Databases.demo.scene import CAMERA_DISTANCE, Scene
from Databases.demo.surface import unit
from Databases.demo.visible import Samples


def shade(scene: Scene, size: int, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Colours (n, 3) in 0..1 as displayed, and how much each sample is fur (n,)."""
    albedo, bare, gloss = skin_albedo(scene, size, samples)
    normal, lit = samples.normal.copy(), samples.lit.copy()
    eyes = np.zeros(len(albedo), bool)
    for side in (-1, 1):
        inside, colour, ball, spark = paint_eye(scene, side, samples)
        albedo[inside], normal[inside], eyes[inside] = colour, ball, True
        gloss[inside], bare[inside] = 0.9, 1.0
        lit[inside[spark]] = np.maximum(lit[inside[spark]], 0.9)
    key, sky, ground, light = (
        a.astype(np.float32) for a in (scene.key_colour, scene.sky_colour, scene.ground_colour, scene.light)
    )
    view = unit(np.float32([0, 0, CAMERA_DISTANCE]) - samples.position)
    diffuse = ((normal @ light + 0.25) / 1.25).clip(0) * lit  # light wraps around fur
    up = 0.5 + 0.5 * normal[:, 1:2]
    ambient = (up * sky + (1 - up) * ground) * _occlusion(samples)[:, None]
    rim = (1 - (normal * view).sum(1).clip(0, 1)) ** 3 * (0.35 + 0.65 * up[:, 0]) * (1 - bare) * 0.55
    colour = albedo**2 * (diffuse[:, None] * key + ambient)
    colour += (rim[:, None] * (0.3 + 0.7 * albedo)) * sky
    shiny = np.flatnonzero(gloss > 0.02)
    half = unit(view[shiny] + light)
    sharpness = np.where(eyes[shiny], 240, 22)
    shine = ((normal[shiny] * half).sum(1).clip(0, 1) ** sharpness) * gloss[shiny] * (0.25 + 0.75 * lit[shiny])
    colour[shiny] += shine[:, None] * key
    return np.sqrt(colour.clip(0, 1)), 1 - bare


def _occlusion(samples: Samples) -> np.ndarray:
    """(n,) the share of the sky's light: little reaches the ears' hollows and what is below the chin."""
    along, front = samples.skin[:, 0], samples.skin[:, 1]
    ear = 1 - 0.45 * smooth_step(0.3, 1, front) * smooth_step(1.0, 0.2, along)
    neck = 1 - 0.65 * smooth_step(0.55, 0.1, along)
    return np.where(samples.part == NECK, neck, np.where(samples.part == EAR, ear, 1.0)).astype(np.float32)
