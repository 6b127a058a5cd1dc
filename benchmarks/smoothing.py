"""Effect of the One-Euro filter on landmarks of a video: jitter while a head rests, lag while it moves.

    python benchmarks/smoothing.py [--experiment_name demo] [--frames 60] [--paths paths/demo.yaml]

A rendered head of the demo rests for half of the video, under new noise in each frame, and then swings from side to
side. Jitter: rms distance of resting landmarks from frame to frame. Lag: the delay at which the moving landmarks fit
the unfiltered ones best.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from Databases.demo.render import render_scene
from Databases.demo.scene import sample_scene
from Networks.inference.detector import LandmarkDetector
from Utils.options import Paths
from Utils.runtime.process import set_up_process
from Utils.smoothing import OneEuro

RATE = 25.0  # frames per second
SWING = 1.2  # seconds from one side to the other and back
AMPLITUDE = 0.06  # of the picture's side


def moving_head(frames: int, size: int = 128) -> tuple[np.ndarray, int]:
    """Pictures (frames, size, size, 3), and the number of the first of them that show the head at rest."""
    scene = dataclasses.replace(sample_scene(0, "test", 3), yaw=0.2, pitch=0.0, roll=0.0)
    rest = frames // 2
    time = np.maximum(np.arange(frames) - rest, 0) / RATE
    shifts = AMPLITUDE * np.sin(2 * np.pi * time / SWING)
    pictures = []
    noise = np.random.default_rng(0)
    for shift in shifts:
        moved = dataclasses.replace(scene, centre=scene.centre + [shift, 0.0])
        grain = noise.normal(0, 3, (size, size, 3))
        pictures.append((render_scene(moved, size) + grain).clip(0, 255).astype(np.uint8))
    return np.stack(pictures), rest


def smoothed(points: np.ndarray, side: float, **settings: float) -> np.ndarray:
    """Points (frames, L, 2) through the filter."""
    smooth = OneEuro(RATE, **settings)
    return np.stack([smooth(frame, side) for frame in points])


def jitter(points: np.ndarray) -> float:
    """Rms distance in pixels from frame to frame of points (frames, L, 2)."""
    return float(np.sqrt(np.nanmean(np.square(np.diff(points, axis=0)).sum(axis=2))))


def lag(points: np.ndarray, truth: np.ndarray, most: float = 0.4) -> float:
    """Seconds by which points (frames, L, 2) follow the truth of the same shape: the delay that fits best."""
    delays = np.arange(0, most, 0.002)
    frames = np.arange(len(truth))
    x, true_x = np.nanmean(points[..., 0], axis=1), np.nanmean(truth[..., 0], axis=1)
    errors = [np.square(np.interp(frames - d * RATE, frames, true_x) - x)[5:].mean() for d in delays]
    return float(delays[int(np.argmin(errors))])


def main() -> None:
    set_up_process()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment_name", default="demo")
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--paths", default="paths/demo.yaml")
    given = parser.parse_args()
    detector = LandmarkDetector.load(Path(Paths(given.paths).require("log_path")) / given.experiment_name)
    pictures, rest = moving_head(given.frames)
    found = detector(list(pictures)).points
    points = found[:, ~np.isnan(found).any(axis=(0, 2))]  # of landmarks that are found in every frame
    side = float(pictures.shape[1])
    print(
        f"{points.shape[1]} landmarks found in all of {given.frames} frames of {side:g} pixels, {RATE:g} per second"
    )
    print(f"{'filter':34}{'jitter px':>10}{'lag ms':>9}")
    rows = [("none", points)]
    for cutoff, gain in ((1.0, 0.0), (0.5, 2.0), (0.5, 8.0), (1.0, 4.0), (1.0, 8.0), (1.0, 16.0), (2.0, 8.0)):
        filtered = smoothed(points, side, minimum_cutoff=cutoff, speed_gain=gain)
        rows.append((f"cutoff {cutoff:g} Hz, gain {gain:g}", filtered))
    rows.append(("--smooth", smoothed(points, side)))
    for name, filtered in rows:
        late = lag(filtered[rest:], points[rest:])
        print(f"{name:34}{jitter(filtered[rest // 3 : rest]):10.3f}{1000 * late:9.0f}")


if __name__ == "__main__":
    main()
