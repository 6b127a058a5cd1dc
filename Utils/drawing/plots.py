"""Curves, charts and bars: everything that needs matplotlib."""

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from Utils.evaluation import cumulative_percent
from Utils.runtime.errors import UserError, one_line
from Utils.storage.files import writing
from Utils.storage.scalars import Series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES = ("-", "--", "-.", ":")  # told apart without colour


def figure(width: float, height: float) -> "Figure":
    """An empty figure of a size in inches, without pyplot's window and global state."""
    from matplotlib.figure import Figure  # slow to import

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def chart(
    lines: Mapping[str, Series],
    xlabel: str,
    ylabel: str,
    size: tuple[float, float] = (7, 5),
    logarithmic: bool = False,
) -> "Figure":
    """Lines by name, with a legend for several and marks for few points. logarithmic: only for positive values."""
    drawn = figure(*size)
    axes = drawn.add_subplot()
    for number, (name, (steps, values)) in enumerate(lines.items()):
        mark = "o" if len(steps) < 30 else None
        axes.plot(steps, values, STYLES[number % len(STYLES)], marker=mark, markersize=3, label=_literal(name))
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if logarithmic and all((values > 0).all() for _, values in lines.values()):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        axes.legend()
    return drawn


def _literal(name: str) -> str:
    """A name that matplotlib draws as it stands: no formula, and not hidden from the legend for its underscore.

    Characters that the font lacks are escaped like \\u4e2d.
    """
    from matplotlib import font_manager

    known = font_manager.get_font(font_manager.findfont(font_manager.FontProperties())).get_charmap()
    drawable = "".join(c if ord(c) in known else c.encode("unicode_escape").decode() for c in name)
    return (" " if name.startswith("_") else "") + drawable.replace("$", r"\$")


def save(drawn: "Figure", path: Path) -> None:
    """Write a figure in the format that the name's ending tells."""
    with writing(path) as temporary:
        drawn.savefig(temporary, format=path.suffix[1:])


def line_chart(lines: Mapping[str, Series], xlabel: str, ylabel: str, logarithmic: bool = False) -> str:
    """`chart` as SVG in a data address, for an HTML page's <img>."""
    content = io.BytesIO()
    drawn = chart(lines, xlabel, ylabel, (5.2, 3.2), logarithmic)
    drawn.savefig(content, format="svg", metadata={"Date": None})
    return data_address(content.getvalue(), "image/svg+xml")


def data_address(content: bytes, kind: str) -> str:
    """A file's content as a data address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


# Error curves


def write_curve(errors: np.ndarray, path: Path, landmarks: str) -> None:
    """Write the curve of normalised errors (n,): the picture to `path` (.jpg), the numbers beside it (.csv).

    landmarks: label of the axis, e.g. "groundtruth landmarks". Columns: landmarks,nme_percent.
    """
    curve = cumulative_percent(errors)
    with writing(path.with_suffix(".csv")) as temporary:
        lines = [f"{count},{value:.6f}" for count, value in enumerate(curve, start=1)]
        temporary.write_text("\n".join(["landmarks,nme_percent", *lines]) + "\n")
    draw_curves({path.stem: curve}, path, landmarks)


def write_few_annotations(rows: np.ndarray, path: Path) -> None:
    """Write rows (k, 3) of `few_annotations`: the picture to `path` (.jpg), the numbers beside it (.csv)."""
    with writing(path.with_suffix(".csv")) as temporary:
        lines = [f"{count:.0f},{mean:.6f},{spread:.6f}" for count, mean, spread in rows]
        temporary.write_text("\n".join(["annotated,mean_percent,spread_percent", *lines]) + "\n")
    drawn = chart({path.stem: (rows[:, 0], rows[:, 1])}, "annotated pictures", "forward error, % of the normaliser")
    drawn.axes[0].errorbar(rows[:, 0], rows[:, 1], rows[:, 2], fmt="none", capsize=3)
    drawn.axes[0].set_xscale("log")
    save(drawn, path)


def draw_curves(curves: Mapping[str, np.ndarray], path: Path, landmarks: str) -> None:
    """Draw curves (n,) in percent by their names in one picture (.jpg, .png, .pdf or .svg)."""
    lines = {f"{name}: {final(curve)}": (np.arange(1, len(curve) + 1), curve) for name, curve in curves.items()}
    drawn = chart(lines, f"number of {landmarks}", "mean error, % of the normaliser")
    drawn.axes[0].set_xlim(1, max([2, *map(len, curves.values())]))
    for title in lines if len(lines) == 1 else ():
        drawn.axes[0].set_title(_literal(title), loc="right", fontsize=10)
    save(drawn, path)


def final(curve: np.ndarray) -> str:
    """The last value of a curve (n,) in words."""
    return f"{curve[-1]:.2f}% over {len(curve)}" if len(curve) else "no landmarks"


def read_curve(path: Path) -> np.ndarray:
    """The cumulative curve (n,) in percent of a file of `write_curve`; UserError if it is missing or damaged."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; run Test.py for that experiment, or correct the path")
    return curve_of_rows(read_rows(path), path)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by its columns' names; UserError if it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read as a table ({one_line(error)})") from error


def curve_of_rows(rows: Sequence[Mapping[str, str]], path: Path) -> np.ndarray:
    """The curve (n,) in percent of rows with landmarks and nme_percent; UserError for anything else."""
    try:
        counts = [int(row["landmarks"]) for row in rows]
        values = np.array([float(row["nme_percent"]) for row in rows])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path} is not a curve; write the columns landmarks,nme_percent with numbers") from None
    if counts != list(range(1, len(rows) + 1)) or not np.isfinite(values).all():
        raise UserError(f"{path} is not a curve; give a row for each of 1, 2, 3 ... landmarks, with finite errors")
    return values
