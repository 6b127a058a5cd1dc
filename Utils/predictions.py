"""Predicted landmarks and groundtruth of the evaluation images, and their file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from Utils.runtime.errors import UserError, shown
from Utils.storage.files import dump_pickle, load_pickle

FARTHEST = 1e6  # pixels from a crop of 256 pixels that a groundtruth point may lie
_REMEDY = "write it with Test.py, or see docs/testing.md for the layout"


@dataclass(frozen=True)
class Predictions:
    """Images in a fixed order; points in pixels of the 256x256 crop.

    names: (n,) str; points: (n, L, 2) float64, NaN = not detected; groundtruth: (n, G, 2) float64, NaN =
    unknown; is_test: (n,) bool, false for the regression images.
    """

    names: np.ndarray
    points: np.ndarray
    groundtruth: np.ndarray
    is_test: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.names)
        for array, dimensions in ((self.points, 3), (self.groundtruth, 3), (self.is_test, 1)):
            if len(array) != count or array.ndim != dimensions:
                raise ValueError(f"an array of shape {array.shape} for {count} images")


def save_predictions(predictions: Predictions, path: Path | str) -> None:
    """Write a pickle: image name -> {'prediction': (L, 2), 'groundtruth': (G, 2), 'is_it_test_sample': bool}."""
    rows = zip(predictions.points, predictions.groundtruth, predictions.is_test.tolist(), strict=True)
    entries = [{"prediction": p, "groundtruth": g, "is_it_test_sample": t} for p, g, t in rows]
    dump_pickle(dict(zip(predictions.names.tolist(), entries, strict=True)), path)


def load_predictions(path: Path | str) -> Predictions:
    """Read what `save_predictions` writes, made by any method. Raises UserError for another layout."""
    content = load_pickle(path, _REMEDY)
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} holds no dictionary of images; {_REMEDY}")
    columns: list[list] = [[], [], []]
    for name, entry in content.items():
        try:
            row = (entry["prediction"], entry["groundtruth"], entry["is_it_test_sample"])
        except (TypeError, KeyError, IndexError):
            raise UserError(
                f"{path}: the entry of {name} lacks 'prediction', 'groundtruth' or 'is_it_test_sample'; {_REMEDY}"
            ) from None
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    odd = [name for name in content if not isinstance(name, str)]
    if odd:
        raise UserError(f"{path}: the key {shown(odd[0])} is no image name; {_REMEDY}")
    names = np.array(list(content))
    for name, value in zip(names, columns[2], strict=True):
        if not isinstance(value, (bool, np.bool_, int, np.integer)) or value not in (0, 1):
            raise UserError(f"{path}: 'is_it_test_sample' of {name} is neither true nor false; {_REMEDY}")
    points = _stacked(path, names, columns[0], "prediction")
    groundtruth = _stacked(path, names, columns[1], "groundtruth")
    return Predictions(names, points, groundtruth, np.array([bool(value) for value in columns[2]]))


def _stacked(path: Path | str, names: np.ndarray, values: list, what: str) -> np.ndarray:
    """(n, k, 2) float64 of n arrays (k, 2)."""
    arrays = []
    for name, value in zip(names, values, strict=True):
        try:
            array = np.asarray(value, np.float64)
        except (TypeError, ValueError, OverflowError):
            raise UserError(f"{path}: the {what} of {name} is no array of numbers; {_REMEDY}") from None
        if array.ndim != 2 or array.shape[1] != 2:
            raise UserError(f"{path}: the {what} of {name} has shape {array.shape}, not (points, 2); {_REMEDY}")
        beyond = np.abs(np.nan_to_num(array, nan=0.0, posinf=np.inf, neginf=np.inf)) > FARTHEST
        if beyond.any():
            raise UserError(
                f"{path}: the {what} of {name} has {array[beyond][0]:g}, which is no place in a crop of 256 pixels; "
                f"{_REMEDY}"
            )
        arrays.append(array)
        first, count = len(arrays[0]), len(array)
        if count != first:
            raise UserError(f"{path}: the {what} of {name} has {count} points, that of {names[0]} {first}; {_REMEDY}")
    return np.stack(arrays)
