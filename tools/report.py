"""A page that shows an experiment: settings, curves, errors, keypoints, clusters and landmarks, in one file.

    python tools/report.py --dataset_name Demo --experiment_name demo

Writes report.html to the experiment's Logs, one file that needs no other. It shows errors if Test.py was run, stages
if tools/compare_stages.py was run, and curves if the training's TensorBoard files are there.
"""

import datetime
import sys
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from Databases import DATABASES
from Databases.database import Database
from Databases.samples import GRID
from Networks.checkpoints import adopt_newest, load_second_step
from Networks.inference.detector import LandmarkDetector
from Networks.inference.visualisations import VISUALISATIONS, landmark_strips
from Networks.recipes import RECIPES
from Utils.drawing.marks import TILE_STEP, palette
from Utils.drawing.plots import data_address, line_chart, read_curve, read_rows
from Utils.keypoints import KeypointTable
from Utils.options import Options, parse
from Utils.runtime.errors import exit_cleanly
from Utils.runtime.process import set_up_process
from Utils.storage.experiment import Experiment
from Utils.storage.files import writing
from Utils.storage.pictures import encode_jpeg, read_picture
from Utils.storage.scalars import Series, read_scalars

SECTIONS = ("landmarks", "errors", "training", "keypoints", "settings")
SHEET_WIDTH, STRIP_HEIGHT = 1400, 72  # pixels on the page
CLUSTERS_SHOWN = 4  # with the smallest spread, and as many with the largest
QUALITY = 82  # of JPEG
CHARTS = (  # title, tags of TensorBoard by the line's name, whether the axis is logarithmic
    ("Losses", {"total": "loss/total", "detector": "loss/detector", "descriptor": "loss/descriptor"}, True),
    ("Loss of the heatmaps", {"heatmaps": "loss/heatmaps"}, True),
    ("Learning rate", {"learning rate": "lr"}, False),
    ("Keypoints per picture", {"keypoints": "keypoints_per_picture"}, False),
    ("Clusters", {"clusters": "clusters"}, False),
    ("Labels that groundtruth explains, R2", {"R2": "labels/r2"}, False),
)


def picture_address(picture: np.ndarray, width: int = SHEET_WIDTH) -> str:
    """An RGB picture as an address, shrunk if it is wider than `width` pixels."""
    scale = min(1.0, width / picture.shape[1])
    shrunk = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return data_address(encode_jpeg(shrunk, QUALITY), "image/jpeg")


def sheet(name: str, database: Database, options: Options, experiment: Experiment) -> str:
    """A sheet of Visualise.py, drawn if it does not exist yet."""
    path = experiment.logs / f"{name}.jpg"
    if not path.is_file():
        VISUALISATIONS[name](database, options, experiment)
    return picture_address(read_picture(path))


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table, none if it does not exist."""
    return read_rows(path) if path.is_file() else []


def landmarks(detector: LandmarkDetector, experiment: Experiment) -> list[dict[str, Any]]:
    """A row per landmark: its figures in Landmarks.csv, if Test.py has written it, and a strip of test pictures."""
    known = {row.get("landmark", ""): row for row in rows_of(experiment.logs / "Landmarks.csv")}
    strips = landmark_strips(detector, detector.database.test, STRIP_HEIGHT)
    rows = []
    for k, colour, strip in zip(detector.active.tolist(), palette(len(strips)), strips, strict=True):
        figures = known.get(str(k), {})
        rows.append(
            {
                "name": k,
                "colour": f"#{bytes(colour.tolist()).hex()}",
                "strip": None if strip is None else picture_address(strip),
                "found": figures.get("found_percent", ""),
                "r2": figures.get("r2", ""),
                "backward": figures.get("backward_percent", ""),
                "steadiness": figures.get("steadiness_percent", ""),
            }
        )
    return rows


def clusters(database: Database, options: Options, experiment: Experiment) -> list[tuple[str, list[dict[str, Any]]]]:
    """The clusters of the smallest and the largest spread, with the first row of their sheets."""
    files = experiment.updated_keypoints_files()
    if not files:
        return []
    folder = experiment.logs / "Clusters"
    if not folder.is_dir():
        VISUALISATIONS["Step1_Clusters"](database, options, experiment)
    table = KeypointTable.load(files[-1][1])
    rows = []
    for k in np.flatnonzero(table.cluster_counts() > 1).tolist():
        points = table.points[table.clusters() == k, :2]
        spread = float(np.sqrt(points.var(axis=0).sum())) * GRID / options.hyper.image_size
        rows.append((spread, k, len(points)))
    rows.sort()
    shown = min(CLUSTERS_SHOWN, len(rows) // 2)
    parts = (("Clusters of the smallest spread", rows[:shown]), ("Clusters of the largest spread", rows[-shown:]))
    return [(title, [_cluster(folder, *row) for row in some]) for title, some in parts if shown]


def _cluster(folder: Path, spread: float, k: int, points: int) -> dict[str, Any]:
    strip = picture_address(read_picture(folder / f"Cluster{k}.jpg")[:TILE_STEP], SHEET_WIDTH // 2)
    return {"name": k, "points": points, "spread": f"{100 * spread:.1f}", "strip": strip}


def training_charts(experiment: Experiment) -> list[tuple[str, str]]:
    """Titles and charts of both steps, from the TensorBoard files."""
    charts = []
    for step, title in (("step1", "Step one"), ("step2", "Step two")):
        scalars = read_scalars(experiment.logs / "tensorboard" / step)
        for what, tags, logarithmic in CHARTS:
            lines = {name: scalars[tag] for name, tag in tags.items() if tag in scalars}
            if lines:
                caption = f"{title}: {what[0].lower() if what[1].islower() else what[0]}{what[1:]}"
                charts.append((caption, line_chart(lines, "iteration", what, logarithmic)))
    return charts


def error_charts(experiment: Experiment) -> tuple[list[tuple[str, str]], str]:
    """The two error curves, and the final errors in words."""
    charts, said = [], []
    for direction, what in (("Forward", "groundtruth landmarks"), ("Backward", "discovered landmarks")):
        path = experiment.logs / f"{direction}Error.csv"
        curve = read_curve(path) if path.is_file() else np.zeros(0)
        if len(curve):
            line: Series = (np.arange(1, len(curve) + 1), curve)
            title = f"{direction} error: {curve[-1]:.2f}% over {len(curve)} {what}"
            charts.append((title, line_chart({direction: line}, f"number of {what}", "mean error, %")))
            said.append(f"{direction.lower()} error {curve[-1]:.2f}%")
    return charts, ", ".join(said)


def runs(experiment: Experiment) -> list[dict[str, Any]]:
    """The recorded runs, newest first: when, command, and a table of settings and versions."""
    shown = []
    for run in reversed(experiment.recorded_runs()):
        settings = {"device": run.get("device"), **(run.get("hyperparameters") or {}), **(run.get("versions") or {})}
        shown.append({"started": run.get("started"), "command": run.get("command"), "table": list(settings.items())})
    return shown


def table_of(path: Path) -> list[list[str]]:
    """A table with its header, empty if it does not exist."""
    rows = rows_of(path)
    header = [name.replace("_percent", " %").replace("_", " ") for name in rows[0]] if rows else []
    return [header, *([cell or "" for cell in row.values()] for row in rows)] if rows else []


@exit_cleanly
def main(argv: list[str] | None = None) -> None:
    set_up_process()
    options = parse(argv, __doc__.splitlines()[0], DATABASES, RECIPES, flags=("experiment",))
    experiment = Experiment(options.log_path, options.experiment_name)
    adopt_newest(options, [experiment.newest_second_step()], load_second_step)
    database = DATABASES[options.dataset_name].open(options)
    database.check_cheaply()
    experiment.open()
    detector = LandmarkDetector.from_experiment(experiment, options, database)
    charts, errors = error_charts(experiment)
    keypoints = None
    if experiment.updated_keypoints_files():
        keypoints = sheet("Step1_Keypoints", database, options, experiment)
    points = None
    if experiment.named_points(detector.iteration).is_file():
        VISUALISATIONS["Points"](database, options, experiment)
        points = picture_address(read_picture(experiment.logs / "Points.jpg"))
    content = {
        "experiment": experiment.name,
        "dataset": options.dataset_name,
        "written": datetime.datetime.now().isoformat(sep=" ", timespec="minutes"),
        "summary": f"{len(detector.active)} landmarks" + (f", {errors}." if errors else "."),
        "sections": [(name, name.capitalize()) for name in SECTIONS],
        "sheet": sheet("Step2", database, options, experiment),
        "landmarks": landmarks(detector, experiment),
        "stages": table_of(experiment.logs / "Stages.csv"),
        "named_points": points,
        "named": table_of(experiment.logs / "NamedPoints.csv"),
        "error_charts": charts,
        "training_charts": training_charts(experiment),
        "keypoints": keypoints,
        "clusters": clusters(database, options, experiment),
        "runs": runs(experiment),
    }
    templates = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    page = jinja2.Environment(loader=templates, autoescape=True, undefined=jinja2.StrictUndefined)
    path = experiment.logs / "report.html"
    with writing(path) as temporary:
        temporary.write_text(page.get_template("report.html").render(content), encoding="utf-8")
    experiment.log(f"Report: {path}")


if __name__ == "__main__":
    main()
