"""Tables of boxes and points by picture name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from Utils.runtime.errors import UserError
from Utils.storage.files import load_pickle

SMALLEST_INSIDE = 1 / 3  # share of a box's area; with less inside the picture, the box belongs to another one
SMALLEST_BOX = 2  # pixels; a smaller one is in other units, or of a point


def load_table(file: Path, remedy: str) -> dict[str, Any]:
    """A pickle of picture name -> numbers."""
    table = load_pickle(file, remedy)
    if not isinstance(table, Mapping) or not all(isinstance(name, str) for name in table):
        raise UserError(f"{file} is not a dictionary of picture names; make or download it again")
    return dict(table)


def rows_of(
    table: Mapping[str, Any],
    names: Sequence[str],
    shape: tuple[int, ...],
    what: str,
    file: Path,
    remedy: str,
    dtype: type = np.float32,
) -> np.ndarray:
    """The rows (n, *shape) of `names` in a table that comes from `file`; NaN is unknown.

    Raises UserError if a name is missing or a row has another shape.
    """
    missing = [name for name in names if name not in table]
    if missing:
        raise UserError(f"{file} has no {what} for {counted(missing, 'picture')}, first {missing[0]}; {remedy}")
    rows: np.ndarray = np.empty((len(names), *shape), dtype)
    for i, name in enumerate(names):
        try:
            rows[i] = np.asarray(table[name], dtype).reshape(shape)
        except (TypeError, ValueError, OverflowError):
            expected = "x".join(map(str, shape))
            raise UserError(f"{file}: the {what} of {name} is not {expected} numbers; {remedy}") from None
    return rows


def bad_boxes(boxes: np.ndarray, size: np.ndarray | tuple[int, int] | None = None) -> np.ndarray:
    """Indices of boxes (n, 4) that are empty, unknown or, given picture sizes (2,) or (n, 2), mostly outside.

    A detector's box may extend a little beyond the picture.
    """
    boxes = np.asarray(boxes, np.float64)
    extent = boxes[:, 2:] - boxes[:, :2]
    good = np.isfinite(boxes).all(1) & (extent >= SMALLEST_BOX).all(1)
    if size is not None:
        inside = np.minimum(boxes[:, 2:], np.asarray(size)) - np.maximum(boxes[:, :2], 0)
        with np.errstate(invalid="ignore"):
            good &= (inside > 0).all(1) & (inside.prod(1) >= SMALLEST_INSIDE * extent.prod(1))
    return np.flatnonzero(~good)


def counted(items: Sequence | np.ndarray, one: str, many: str = "") -> str:
    """`1 picture`, `3 pictures`."""
    return f"{len(items)} {one if len(items) == 1 else many or one + 's'}"
