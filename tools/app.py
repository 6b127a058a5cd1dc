"""A page on which to try an experiment: landmarks of your pictures, and points of your own by a few clicks.

    python tools/app.py --dataset_name Custom --experiment_name mine --images pictures --names tip,base,left

Needs gradio. The page is for this machine alone, and uploads are removed once they are read.
"""

import argparse
import contextlib
import html
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Databases import DATABASES
from Databases.custom import list_pictures
from Databases.database import evenly
from Databases.inputs import find_inputs
from Networks.inference.detector import LandmarkDetector
from Networks.inference.prediction import Prediction
from Networks.recipes import RECIPES
from Networks.second_step import CONFIDENT
from tools.name_points import (
    MOST_CHOICES,
    boxes_of,
    check_names,
    crops_of,
    folder_of,
    keep,
    landmarks_of,
    mean_of,
    read_table,
)
from Utils.drawing.marks import fitted, mark_named, palette
from Utils.drawing.plots import data_address
from Utils.named_points import Regressor, common_frame, fit, most_telling
from Utils.options import parse
from Utils.runtime.arguments import add_threshold, path_of, whole
from Utils.runtime.errors import UserError, exit_cleanly, one_line
from Utils.runtime.interruption import end_if_requested
from Utils.runtime.packages import require
from Utils.runtime.process import set_up_process
from Utils.storage.experiment import Experiment
from Utils.storage.files import write_rows
from Utils.storage.pictures import encode_jpeg, read_picture

MOST_FILES, LARGEST_FILE = 100, "200mb"  # of an upload
SHOWN = 24  # pictures on the page
OTHERS = 6  # pictures that show how the points look elsewhere
WIDTH, SMALL = 800, 320  # pixels of a picture to click on, and of another one
REMOVED_AFTER = 600  # seconds after which the page's own copies go


def flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--input", type=path_of, metavar="DIR", help="folder of the pictures to annotate (default: that of Custom)")
    add("--annotations", type=path_of, metavar="FILE", help="points (default: the folder's landmarks.csv)")
    add("--names", metavar="A,B,...", help="names of the points (default: those in the annotations)")
    add("--choose", type=whole(1), default=10, metavar="N", help="pictures to annotate (default: %(default)s)")
    add_threshold(parser, CONFIDENT)
    add("--port", type=whole(1, 65535), help="of the page (default: the first free one from 7860)")


@exit_cleanly
def main(argv: list[str] | None = None) -> None:
    set_up_process()
    description = (__doc__ or "").splitlines()[0]
    options = parse(argv, description, DATABASES, RECIPES, ("experiment",), flags, settings=["readout=centroid"])
    require("gradio")
    given, experiment = options.own, Experiment(options.log_path, options.experiment_name)
    detector = LandmarkDetector.from_experiment(experiment, options)
    detector.threshold = given.threshold
    detector.learn_names(experiment)
    annotator = None
    if given.input or options.dataset_name == "Custom":
        folder = folder_of(options)
        annotator = Annotator(
            detector, experiment, folder, given.annotations or folder / "landmarks.csv", given.names
        )
        annotator.choose(given.choose)
    with serving(detector, annotator, given.port) as address:
        print(f"{address} (until Ctrl-C)", flush=True)
        while True:
            end_if_requested()
            time.sleep(0.2)


# Landmarks of uploads


def predict(detector: LandmarkDetector, uploads: list[str], folder: Path) -> tuple[str, list[str], list[str]]:
    """What was found in the uploads, which are removed: HTML, the videos' annotated copies, and the tables' files."""
    try:
        if len(uploads) > MOST_FILES:
            raise UserError(f"{len(uploads)} files; give at most {MOST_FILES} at once")
        inputs = find_inputs(uploads, leave_out=folder)
        prediction = Prediction(detector, inputs, folder)
        prediction.run()
        stem = "points" if prediction.names else "landmarks"
        content = json.loads((folder / f"{stem}.json").read_text())
        drawn = [f"<p>{html.escape(fault)}</p>" for fault in prediction.faults]
        for image in content["images"][:SHOWN]:
            if image["file_name"] in inputs.pictures:
                found = [one for one in content["annotations"] if one["image_id"] == image["id"]]
                drawn.append(overlay(read_picture(inputs.root / image["file_name"]), found, content["categories"][0]))
        videos = [str(path) for path in (folder / "pictures").rglob("*.mp4")]
        page = f'<div style="display: flex; flex-wrap: wrap; gap: 4px">{"".join(drawn)}</div>'
        return page, videos, [str(folder / f"{stem}.csv"), str(folder / f"{stem}.json")]
    finally:
        for upload in uploads:
            Path(upload).unlink(missing_ok=True)


def overlay(picture: np.ndarray, found: list[dict[str, Any]], category: dict[str, Any]) -> str:
    """A picture with its points as HTML; each tells its name and confidence under the mouse."""
    height, width = picture.shape[:2]
    radius = 0.012 * max(height, width)
    parts = []
    for one in found:
        points = np.reshape(one["keypoints"], (-1, 3))
        several = zip(category["keypoints"], points, one["confidence"], palette(len(points)), strict=True)
        for name, (x, y, seen), confidence, colour in several:
            if seen:
                label, short = html.escape(name), html.escape(name.removeprefix("landmark_"))
                parts.append(
                    f'<circle cx="{x}" cy="{y}" r="{radius}" fill="#{bytes(colour.tolist()).hex()}" stroke="black">'
                    f"<title>{label}: {confidence:.2f}</title></circle>"
                    f'<text x="{x + radius}" y="{y - radius}" font-size="{2 * radius}" fill="white" stroke="black" '
                    f'stroke-width="{radius / 3}" paint-order="stroke">{short}</text>'
                )
    address = data_address(encode_jpeg(fitted(picture, WIDTH), 85), "image/jpeg")
    return (
        f'<svg viewBox="0 0 {width} {height}" style="width: 32%; min-width: 300px">'
        f'<image href="{address}" width="{width}" height="{height}"/>{"".join(parts)}</svg>'
    )


# Annotation


class Annotator:
    """The points of some pictures of a folder as they are being annotated; path: the table that keeps them."""

    def __init__(
        self, detector: LandmarkDetector, experiment: Experiment, folder: Path, path: Path, names: str | None
    ) -> None:
        self.detector, self.experiment, self.folder, self.path = detector, experiment, folder, path
        self.all = list_pictures(folder)
        self.names = [name.strip() for name in names.split(",")] if names else []
        self.points: dict[str, np.ndarray] = {}  # (P, 2) of each chosen picture, in its pixels
        self.chosen: list[str] = []
        if path.suffix != ".csv":
            raise UserError(f"{path}: the page saves a .csv; convert the file with tools/convert_points.py")
        if path.is_file():
            table = read_table(folder, self.all, path, self.names)
            self.names = table.names
            self.points = dict(zip(table.files, table.points, strict=True))
        elif not self.names:
            raise UserError(f"{path} does not exist yet; name the points with --names A,B,...")
        check_names(self.names, len(self.names))

    def choose(self, count: int) -> None:
        """Find the landmarks of the folder, and choose the pictures that tell most; those annotated stay."""
        some = evenly(np.array(self.all), MOST_CHOICES).tolist()
        self.files = sorted({*some, *self.points})
        self.boxes = boxes_of(self.folder, self.files)
        boxes = list(self.boxes.values())
        self.landmarks, self.to_crops = landmarks_of(self.detector, self.folder, self.files, boxes)
        self.frame = common_frame(self.landmarks, self.to_crops)
        telling = most_telling(self.frame, self.landmarks, self.to_crops, min(count, len(self.files)))
        self.chosen = list(dict.fromkeys([*self.points, *(self.files[i] for i in telling)]))
        for file in self.chosen:
            self.points.setdefault(file, np.full((len(self.names), 2), np.nan))

    def draw(self, file: str, points: np.ndarray | None = None, side: int = WIDTH) -> tuple[np.ndarray, float]:
        """A picture as it is shown, with its points, or other ones (P, 2), and its scale."""
        picture = read_picture(self.folder / file)
        scale = side / max(picture.shape[:2])
        shown, radius = scale * (self.points[file] if points is None else points), 5 * side / WIDTH
        return mark_named(fitted(picture, side), shown, self.names, palette(len(self.names)), radius), scale

    def following(self, file: str, name: str) -> tuple[str, str]:
        """The picture and point to click on after these: the next that are missing, else the same."""
        rest = self.chosen[self.chosen.index(file) + 1 :]
        later = self.names[self.names.index(name) + 1 :]
        for one, names in [(file, later), *((one, self.names) for one in rest)]:
            for other in names:
                if np.isnan(self.points[one][self.names.index(other)]).any():
                    return one, other
        return file, name

    def learn(self) -> tuple[Regressor, np.ndarray, np.ndarray] | None:
        """The regressor of all annotated points, its errors and the objects' sizes; None if a point is unknown."""
        annotated = [file for file in self.chosen if not np.isnan(self.points[file]).all()]
        points = np.array([self.points[file] for file in annotated]).reshape(-1, len(self.names), 2)
        if np.isnan(points).all(axis=(0, 2)).any():
            return None
        rows = [self.files.index(file) for file in annotated]
        crops = self._crops(annotated)
        return fit(self.frame, self.landmarks[rows], self.to_crops[rows], points, self.names, crops)

    def _crops(self, files: list[str]) -> np.ndarray:
        return crops_of(self.detector, self.folder, files, [self.boxes[file] for file in files])

    def others(self) -> tuple[list[np.ndarray], str]:
        """Other pictures with the points as learned so far, and the error of a picture that is left out."""
        learned = self.learn()
        if learned is None:
            return [], "Click on every point in one picture, to see all others."
        regressor, errors, sizes = learned
        rest = [i for i, file in enumerate(self.files) if np.isnan(self.points.get(file, np.nan)).all()]
        some = evenly(np.array(rest, int), OTHERS)
        files = [self.files[i] for i in some]
        crops = self._crops(files) if files else None
        points, _ = regressor.predict(self.landmarks[some], self.to_crops[some], crops)
        shown = [self.draw(file, own, SMALL)[0] for file, own in zip(files, points, strict=True)]
        known = f"{mean_of(100 * errors)} % of the object's size, {mean_of(errors * sizes[:, None])} pixels"
        said = known if np.isfinite(errors).any() else "known after two pictures"
        return shown, f"Pictures annotated: {len(errors)}. Error of a picture that is left out: {said}."

    def save(self) -> str:
        """Write the table, and learn the points for Predict.py if each has a picture; returns what was written."""
        rows = [
            [file, *points.ravel().tolist()] for file, points in self.points.items() if not np.isnan(points).all()
        ]
        header = ["file", *(f"{name}_{axis}" for name in self.names for axis in "xy")]
        write_rows([header, *(["" if value != value else value for value in row] for row in rows)], self.path)
        learned = self.learn()
        if learned is not None:
            self.experiment.open()
            keep(*learned, self.experiment, self.detector.iteration)
            self.detector.regressor = learned[0]
        return f"Saved: {self.path}. Pictures annotated: {len(rows)}."


# The page


@contextlib.contextmanager
def serving(detector: LandmarkDetector, annotator: Annotator | None, port: int | None = None) -> Iterator[str]:
    """Serve the page to this machine until the block ends; gives its address."""
    with tempfile.TemporaryDirectory() as own:
        os.environ["GRADIO_TEMP_DIR"] = own  # where uploads go
        page = build(detector, annotator, Path(own))
        options = {"max_file_size": LARGEST_FILE, "footer_links": [], "prevent_thread_lock": True, "quiet": True}
        try:
            _, address, _ = page.launch(server_name="127.0.0.1", server_port=port, **options)
        except OSError as error:
            raise UserError(f"no page can be served ({one_line(error)}); give another --port") from error
        try:
            yield address
        finally:
            page.close()


@contextlib.contextmanager
def told(gradio: Any) -> Iterator[None]:
    """The page shows a mistake in one line."""
    try:
        yield
    except UserError as error:
        raise gradio.Error(one_line(error)) from None


def build(detector: LandmarkDetector, annotator: Annotator | None, own: Path) -> Any:
    """The page, not started. own: folder for results, which are removed with it."""
    gradio = require("gradio")

    def dropped(uploads: list[str]) -> tuple[str, Any, list[str]]:
        with told(gradio):
            page, videos, files = predict(detector, uploads, Path(tempfile.mkdtemp(dir=own)))
        return page, gradio.Video(videos[0] if videos else None, visible=bool(videos)), files

    with gradio.Blocks(title="Landmarks", analytics_enabled=False, delete_cache=(60, REMOVED_AFTER)) as page:
        with gradio.Tab("Landmarks"):
            uploads = gradio.File(file_count="multiple", label="Pictures or a video", elem_id="uploads")
            found = gradio.HTML(elem_id="found")
            video = gradio.Video(label="Annotated video", interactive=False, visible=False)
            files = gradio.File(label="Tables", file_count="multiple", interactive=False)
            uploads.upload(dropped, uploads, [found, video, files])
        if annotator is not None:
            with gradio.Tab("Annotate"):
                _annotation(gradio, annotator)
    return page


def _annotation(gradio: Any, annotator: Annotator) -> None:
    def show(file: str, name: str) -> list[Any]:
        return [file, name, annotator.draw(file)[0]]

    def clicked(file: str, name: str, event: Any) -> list[Any]:
        scale = annotator.draw(file)[1]
        annotator.points[file][annotator.names.index(name)] = np.array(event.index) / scale
        following = annotator.following(file, name)
        if following[0] == file and following[1] != name:
            return [*show(*following), gradio.skip(), gradio.skip()]
        with told(gradio):
            return [*show(*following), *annotator.others()]

    def removed(file: str, name: str) -> list[Any]:
        annotator.points[file][annotator.names.index(name)] = np.nan
        return show(file, name)

    clicked.__annotations__["event"] = gradio.SelectData

    def saved() -> str:
        with told(gradio):
            return annotator.save()

    start = annotator.chosen[0], annotator.names[0]
    if not np.isnan(annotator.points[start[0]][0]).any():
        start = annotator.following(*start)
    with gradio.Row():
        picture = gradio.Image(
            annotator.draw(start[0])[0], buttons=[], interactive=False, elem_id="picture", format="png", scale=3
        )
        with gradio.Column():
            file = gradio.Dropdown(annotator.chosen, value=start[0], label="Picture", interactive=True)
            name = gradio.Radio(annotator.names, value=start[1], label="Click on", elem_id="name")
            remove, save = gradio.Button("Remove this point"), gradio.Button("Save", elem_id="save")
            said = gradio.Markdown(elem_id="said")
    others = gradio.Gallery(label="Other pictures", columns=OTHERS, height=SMALL, interactive=False)
    quiet = {"show_progress": "hidden"}  # a bar would lie over the picture, and take the next click
    picture.select(clicked, [file, name], [file, name, picture, others, said], **quiet)
    file.input(show, [file, name], [file, name, picture], **quiet)
    remove.click(removed, [file, name], [file, name, picture], **quiet)
    save.click(saved, None, said)


if __name__ == "__main__":
    main()
