"""Error curves: one picture and its numbers."""

from pathlib import Path

import numpy as np

from Utils.evaluation import cumulative_percent
from Utils.files import writing


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
