"""Learn your own points from a few annotated pictures; or choose the pictures to annotate.

    python tools/name_points.py --dataset_name Custom --experiment_name mine --images pictures \
        --choose 10 --output to_annotate
    python tools/name_points.py --dataset_name Custom --experiment_name mine --images pictures

The first command copies the ten pictures that tell most about all others. The second learns from the annotations in
the folder of the pictures. Predict.py and LandmarkDetector then give these points beside the landmarks.
"""

import argparse
import csv
import shutil
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Databases import DATABASES
from Databases.custom import list_pictures
from Databases.custom_annotations import Annotations, read_annotations, read_point_names
from Databases.database import evenly
from Networks.inference.detector import LandmarkDetector
from Networks.recipes import RECIPES
from Networks.second_step import CONFIDENT
from Utils.named_points import Frame, common_frame, fit, most_telling
from Utils.options import Options, parse
from Utils.runtime.arguments import path_of, whole
from Utils.runtime.errors import UserError, exit_cleanly, one_line
from Utils.runtime.process import set_up_process
from Utils.runtime.progress import Progress
from Utils.storage.experiment import Experiment
from Utils.storage.files import writing

MOST_OTHERS = 300  # pictures without annotations that tell how landmarks move
MOST_CHOICES = 2000  # pictures to choose from
GROUP = 64  # pictures between two lines of progress
LONGEST_NAME = 60  # characters


def flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--input",
        type=path_of,
        metavar="DIR",
        help="folder of pictures with landmarks.csv or annotations.json (default: that of Custom)",
    )
    add("--names", metavar="A,B,...", help="names of the points (default: those in the annotations)")
    add("--threshold", type=float, default=CONFIDENT, help="confidence that counts as found (default: %(default)s)")
    add("--choose", type=whole(1), metavar="N", help="copy the N pictures that are worth annotating to --output")
    add("--output", type=path_of, metavar="DIR", help="new folder for the chosen pictures")


@exit_cleanly
def main(argv: list[str] | None = None) -> None:
    set_up_process()
    description = (__doc__ or "").splitlines()[0]
    options = parse(argv, description, DATABASES, RECIPES, ("experiment",), flags, settings=["readout=centroid"])
    given, experiment = options.own, Experiment(options.log_path, options.experiment_name)
    if (given.choose is None) != (given.output is None):
        raise UserError("--choose N and --output DIR belong together; give both or neither")
    folder = folder_of(options)
    files = list_pictures(folder)
    annotations = read_annotations(folder, files)
    detector = LandmarkDetector.from_experiment(experiment, options)
    detector.threshold = given.threshold
    experiment.open()
    if given.choose:
        chosen = choose(detector, folder, annotations, given.choose)
        copy_pictures(folder, chosen, given.output, names_of(given.names, 0))
        experiment.log(f"{given.output}: {len(chosen)} pictures to annotate, and landmarks.csv to fill")
        return
    points = annotations.landmarks
    if points is None or np.isnan(points).all():
        raise UserError(
            f"{folder} has no annotated points; write landmarks.csv or annotations.json, see docs/data.md"
        )
    names = names_of(given.names, points.shape[1]) or read_point_names(folder, files, points.shape[1])
    learn(detector, experiment, folder, annotations, names)


def folder_of(options: Options) -> Path:
    """The folder of the pictures; UserError if there is none."""
    if options.own.input is None and options.images is None and options.dataset_name != "Custom":
        raise UserError("give the folder of the annotated pictures with --input")
    folder = options.own.input or options.images or options.paths.folder("Custom_datapath")
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder of the annotated pictures with --input")
    return Path(folder)


def landmarks_of(detector: LandmarkDetector, folder: Path, annotations: Annotations, rows: np.ndarray) -> np.ndarray:
    """Landmarks (n, L, 2) of these rows of the annotations, in pixels of the pictures."""
    found = [np.zeros((0, len(detector.active), 2))]
    with Progress("Landmarks", len(rows)) as progress:
        for start in range(0, len(rows), GROUP):
            some = rows[start : start + GROUP]
            boxes = [None if np.isnan(box).any() else box for box in annotations.boxes[some]]
            found.append(detector([folder / file for file in annotations.files[some]], boxes).points)
            progress.update(len(some))
    return np.concatenate(found)


def learn(
    detector: LandmarkDetector, experiment: Experiment, folder: Path, annotations: Annotations, names: list[str]
) -> None:
    """Fit the regressor of named points, keep it with the experiment, and write its errors."""
    points = annotations.landmarks
    assert points is not None
    check_names(names, points.shape[1], detector.names)
    nowhere = [name for name, own in zip(names, points.swapaxes(0, 1), strict=True) if np.isnan(own).all()]
    if nowhere:
        raise UserError(f"point {nowhere[0]} is annotated in no picture of {folder}; annotate it or leave it out")
    annotated = ~np.isnan(points).any(axis=2).all(axis=1)
    others = evenly(np.flatnonzero(~annotated), MOST_OTHERS)
    rows = np.concatenate([np.flatnonzero(annotated), others])
    landmarks = landmarks_of(detector, folder, annotations, rows)
    count = int(annotated.sum())
    regressor, errors, sizes = fit(common_frame(landmarks), landmarks[:count], points[rows[:count]], names)
    regressor.save(experiment.named_points(detector.iteration))
    report(experiment, names, regressor.counts, 100 * errors, sizes)
    experiment.log(
        f"{len(names)} points, learned from {count} pictures: {experiment.named_points(detector.iteration)}"
    )


def report(
    experiment: Experiment, names: list[str], counts: np.ndarray, percent: np.ndarray, sizes: np.ndarray
) -> None:
    """Print and write to Logs/NamedPoints.csv the errors (n, P) of pictures that were left out in turn."""
    pixels = percent / 100 * sizes[:, None]
    rows = [("point", "pictures", "error_percent", "error_pixels")]
    for p, name in enumerate(names):
        rows.append((name, str(counts[p]), mean_of(percent[:, p]), mean_of(pixels[:, p])))
    rows.append(("all", str(len(percent)), mean_of(percent), mean_of(pixels)))
    with writing(experiment.logs / "NamedPoints.csv") as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    for name, pictures, share, length in (("point", "pictures", "error, %", "error, px"), *rows[1:]):
        experiment.log(f"{name:<28}{pictures:>9}{share:>10}{length:>11}")
    experiment.log(
        "Error of a picture that is left out, in percent of the object's size and in pixels of the pictures"
    )


def mean_of(errors: np.ndarray) -> str:
    """The mean of the known errors, empty without any."""
    known = errors[~np.isnan(errors)]
    return f"{known.mean():.2f}" if len(known) else ""


def names_of(words: str | None, count: int) -> list[str]:
    """The names that the user gave, [] without any; checked by `check_names` for `count` points if that is not 0."""
    names = [name.strip() for name in words.split(",")] if words else []
    if names:
        check_names(names, count or len(names), [])
    return names


def check_names(names: list[str], count: int, taken: list[str]) -> None:
    """Raise UserError unless these are `count` usable names of points."""
    if len(names) != count:
        raise UserError(f"--names gives {len(names)} names for {count} points; give one for each")
    for name in names:
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise UserError(f"{name[:100]!r} cannot name a point; give 1 to {LONGEST_NAME} printable characters")
        if names.count(name) > 1 or name in taken:
            raise UserError(f"two points are named {name}; give each its own name, with --names A,B,...")


# Choosing


def choose(detector: LandmarkDetector, folder: Path, annotations: Annotations, count: int) -> list[str]:
    """The files that tell most about the landmarks of all pictures, most telling first."""
    files = annotations.files
    if len(set(files.tolist())) < count:
        raise UserError(f"--choose {count}: {folder} has only {len(set(files.tolist()))} pictures; choose fewer")
    _, first = np.unique(files, return_index=True)  # one object of each picture
    rows = evenly(first, max(MOST_CHOICES, count))
    landmarks = landmarks_of(detector, folder, annotations, rows)
    frame: Frame = common_frame(landmarks)
    return [str(files[rows[i]]) for i in most_telling(frame, landmarks, count)]


def copy_pictures(folder: Path, files: list[str], output: Path, names: list[str]) -> None:
    """Copy pictures to a new folder, with a landmarks.csv that waits for their points."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output {output} exists and is not an empty folder; give a new folder")
    try:
        for file in files:
            with writing(output / file, durable=False) as temporary:
                shutil.copyfile(folder / file, temporary)
        with (
            writing(output / "landmarks.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as table,
        ):
            columns = [f"{name}_{axis}" for name in names or ["point_0"] for axis in "xy"]
            csv.writer(table).writerows([["file", *columns], *([file, *[""] * len(columns)] for file in files)])
    except OSError as error:
        raise UserError(f"--output {output}: {one_line(error)}; give another folder") from error


if __name__ == "__main__":
    main()
