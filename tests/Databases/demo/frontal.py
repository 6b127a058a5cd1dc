"""An animal that looks straight at the viewer."""

import dataclasses

import numpy as np

from Databases.demo.scene import Scene, sample_scene


def frontal_scene() -> Scene:
    """The first scene, turned to the front; the head's centre is the picture's, its radius a quarter of it."""
    frontal = {"yaw": 0.0, "pitch": 0.0, "roll": 0.0, "scale": 0.25, "centre": np.array([0.5, 0.5])}
    return dataclasses.replace(sample_scene(0, "train", 0), **frontal)
