"""Error curves: one picture and its numbers, and several experiments in one."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from Utils.evaluation import cumulative_percent
from Utils.runtime.errors import UserError, one_line
from Utils.storage.files import writing


def write_curve(errors: np.ndarray, path: Path | str, landmarks: str) -> None:
    """Write the curve of normalised errors (n,): the picture to `path` (.jpg), the numbers beside it (.csv).

    landmarks: what is counted, for the axis, e.g. "groundtruth landmarks". Columns: landmarks,nme_percent.
    """
    path = Path(path)
    curve = cumulative_percent(errors)
    with writing(path.with_suffix(".csv")) as temporary:
        lines = [f"{count},{value:.6f}" for count, value in enumerate(curve, start=1)]
        temporary.write_text("\n".join(["landmarks,nme_percent", *lines]) + "\n")
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)  # no window and no global state
    axes = figure.add_subplot()
    axes.plot(np.arange(1, len(curve) + 1), curve, color="#1f4e9c", linewidth=2, marker="o", markersize=3)
    axes.set(xlabel=f"number of {landmarks}", ylabel="mean error, % of the normaliser")
    axes.set_xlim(1, max(2, len(curve)))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if len(curve):
        axes.set_title(f"{curve[-1]:.2f}% over {len(curve)}", loc="right", fontsize=10)
    with writing(path) as temporary:
        figure.savefig(temporary, format="jpg")


def read_curve(path: Path | str) -> np.ndarray:
    """The cumulative curve (n,) in percent of a file with columns landmarks,nme_percent, as `write_curve` makes it.

    Raises UserError where it is missing or none.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist; run Test.py of that experiment, or correct the path")
    return curve_of_rows(read_rows(path), path)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by its columns' names; UserError where it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read as a table ({one_line(error)})") from error


def curve_of_rows(rows: Sequence[Mapping[str, str]], path: Path) -> np.ndarray:
    """The curve (n,) in percent of rows with landmarks and nme_percent; UserError where they are none."""
    try:
        counts, values = (
            [int(row["landmarks"]) for row in rows],
            np.array([float(row["nme_percent"]) for row in rows]),
        )
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path} is no curve; write the columns landmarks,nme_percent with numbers") from None
    if counts != list(range(1, len(rows) + 1)) or not np.isfinite(values).all():
        raise UserError(f"{path} is no curve; give a row for each of 1, 2, 3 ... landmarks, with finite errors")
    return values


def draw_curves(curves: Mapping[str, np.ndarray], path: Path, landmarks: str) -> None:
    """Draw curves (n,) in percent by their names in one picture (.jpg, .png, .pdf or .svg), with a legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    styles = ("-", "--", "-.", ":")
    for number, (name, curve) in enumerate(curves.items()):
        final = f"{curve[-1]:.2f}% over {len(curve)}" if len(curve) else "no landmarks"
        counts = np.arange(1, len(curve) + 1)
        axes.plot(counts, curve, styles[number % len(styles)], linewidth=2, label=f"{name}: {final}")
    axes.set(xlabel=f"number of {landmarks}", ylabel="mean error, % of the normaliser")
    axes.set_xlim(1, max([2, *map(len, curves.values())]))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    with writing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:])
