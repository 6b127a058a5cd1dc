"""Predicted landmarks and groundtruth of the evaluation images, and their file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from Utils.runtime.errors import UserError, shown
from Utils.storage.files import dump_pickle, load_pickle

FARTHEST = 1e6  # pixels of the crop
_KEYS = {"prediction", "groundtruth", "is_it_test_sample"}
_REMEDY = "write it with Test.py, or see docs/testing.md for the layout"


@dataclass(frozen=True)
class Predictions:
    """Images in a fixed order; points in pixels of the 256x256 crop.

    names: (n,) str; points: (n, L, 2) float64, NaN if not detected; groundtruth: (n, G, 2) float64, NaN if
    unknown; is_test: (n,) bool, false for the regression images.
    """

    names: np.ndarray
    points: np.ndarray
    groundtruth: np.ndarray
    is_test: np.ndarray


def save_predictions(predictions: Predictions, path: Path | str) -> None:
    """Write a pickle: image name -> {'prediction': (L, 2), 'groundtruth': (G, 2), 'is_it_test_sample': bool}."""
    rows = zip(predictions.points, predictions.groundtruth, predictions.is_test.tolist(), strict=True)
    entries = [{"prediction": p, "groundtruth": g, "is_it_test_sample": t} for p, g, t in rows]
    dump_pickle(dict(zip(predictions.names.tolist(), entries, strict=True)), path)


def load_predictions(path: Path | str) -> Predictions:
    """Read what `save_predictions` writes, made by any method. Raises UserError for another layout."""
    content = load_pickle(path, _REMEDY)
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} is not a dictionary of images; {_REMEDY}")
    points, groundtruth, is_test = [], [], []
    for name, entry in content.items():
        where = f"{path}: the entry of {name}"
        if not isinstance(name, str):
            raise UserError(f"{path}: the key {shown(name)} is not an image name; {_REMEDY}")
        if not isinstance(entry, dict) or not set(entry) >= _KEYS:
            raise UserError(f"{where} lacks 'prediction', 'groundtruth' or 'is_it_test_sample'; {_REMEDY}")
        flag = entry["is_it_test_sample"]
        if not isinstance(flag, (int, np.generic)) or flag not in (0, 1):
            raise UserError(f"{where} has 'is_it_test_sample' neither true nor false; {_REMEDY}")
        points.append(_points(where, entry, "prediction"))
        groundtruth.append(_points(where, entry, "groundtruth"))
        is_test.append(bool(flag))
        if points[-1].shape != points[0].shape or groundtruth[-1].shape != groundtruth[0].shape:
            raise UserError(f"{where} has another number of points than the first image; {_REMEDY}")
    return Predictions(np.array(list(content)), np.stack(points), np.stack(groundtruth), np.array(is_test))


def _points(where: str, entry: dict, key: str) -> np.ndarray:
    """(k, 2) float64."""
    try:
        array = np.asarray(entry[key], np.float64)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{where}: '{key}' is not an array of numbers; {_REMEDY}") from None
    if array.ndim != 2 or array.shape[1] != 2:
        raise UserError(f"{where}: '{key}' has shape {array.shape}, not (points, 2); {_REMEDY}")
    if (np.abs(array) > FARTHEST).any():
        raise UserError(f"{where}: '{key}' has a point over {FARTHEST:g} pixels away; {_REMEDY}")
    return array
