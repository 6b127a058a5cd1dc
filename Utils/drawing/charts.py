"""Line charts as pictures in a text, for pages that are one file."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

Series = tuple[np.ndarray, np.ndarray]  # steps (n,), values (n,)
STYLES = ("-", "--", "-.", ":")  # told apart without colour


def read_scalars(folder: Path) -> dict[str, Series]:
    """The scalars of a TensorBoard folder by tag, sorted by step; of a step that is there twice the later one.

    Empty where there is no such folder or it holds none.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # slow to import

    if not folder.is_dir():
        return {}
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    scalars = {}
    for tag in events.Tags()["scalars"]:
        values = {event.step: event.value for event in events.Scalars(tag)}
        steps = np.array(sorted(values))
        scalars[tag] = (steps, np.array([values[step] for step in steps.tolist()]))
    return scalars


def line_chart(lines: Mapping[str, Series], xlabel: str, ylabel: str, logarithmic: bool = False) -> str:
    """Lines by name as an SVG picture, a data address for an HTML page's <img>."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    for number, (name, (steps, values)) in enumerate(lines.items()):
        few = len(steps) < 30
        axes.plot(steps, values, STYLES[number % len(STYLES)], marker="o" if few else None, markersize=3, label=name)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if logarithmic and all((values > 0).all() for _, values in lines.values()):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        axes.legend()
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    return data_address(content.getvalue(), "image/svg+xml")


def data_address(content: bytes, kind: str) -> str:
    """Bytes of a file as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
