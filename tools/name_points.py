"""Learn your own points from a few annotated pictures; or choose the pictures to annotate.

    python tools/name_points.py --dataset_name Custom --experiment_name mine --images pictures \
        --choose 10 --output to_annotate
    python tools/name_points.py --dataset_name Custom --experiment_name mine --images pictures

The first command copies the ten pictures that tell most about all others. The second learns from the annotations in
the folder of the pictures. Predict.py and LandmarkDetector then give these points beside the landmarks.
"""

import argparse
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Databases import DATABASES
from Databases.custom import list_pictures
from Databases.custom_annotations import read_annotations
from Databases.database import evenly
from Databases.point_formats import read_points
from Databases.point_table import PointTable
from Networks.inference.detector import LandmarkDetector
from Networks.recipes import RECIPES
from Networks.second_step import CONFIDENT
from Utils.named_points import Regressor, common_frame, fit, most_telling
from Utils.options import Options, parse
from Utils.runtime.arguments import add_threshold, path_of, whole
from Utils.runtime.errors import UserError, exit_cleanly, one_line
from Utils.runtime.process import set_up_process
from Utils.runtime.progress import Progress
from Utils.storage.experiment import Experiment
from Utils.storage.files import write_rows, writing
from Utils.storage.pictures import picture_size, read_picture

OWN_FILES = ("landmarks.csv", "annotations.json")  # in the folder of the pictures
OUTSIDE = 0.1  # of the picture's side; a point farther outside is a mistake
MOST_OTHERS = 300  # pictures without annotations that tell how landmarks move
MOST_CHOICES = 2000  # pictures to choose from
GROUP = 64  # pictures between two lines of progress
LONGEST_NAME = 60  # characters

Boxes = dict[str, np.ndarray | None]  # (4,) of each picture, None: the detector finds one


def flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--input", type=path_of, metavar="DIR", help="folder of the pictures (default: that of Custom)")
    add(
        "--annotations",
        type=path_of,
        metavar="FILE",
        help="points, also of other tools (default: the folder's landmarks.csv or annotations.json)",
    )
    add("--names", metavar="A,B,...", help="names of the points (default: those in the annotations)")
    add_threshold(parser, CONFIDENT)
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
    names = [name.strip() for name in given.names.split(",")] if given.names else []
    check_names(names, len(names))
    table = None if given.choose else read_table(folder, files, given.annotations, names)
    boxes = boxes_of(folder, files)
    detector = LandmarkDetector.from_experiment(experiment, options)
    detector.threshold = given.threshold
    experiment.open()
    if table is not None:
        learn(detector, experiment, folder, table, boxes)
        return
    chosen = choose(detector, folder, boxes, given.choose)
    copy_pictures(folder, chosen, given.output, names)
    experiment.log(f"{given.output}: {len(chosen)} pictures to annotate, and landmarks.csv to fill")


def boxes_of(folder: Path, files: list[str]) -> Boxes:
    """The box (4,) that the folder's own files give each picture, of its first object; None without."""
    annotations = read_annotations(folder, files)
    boxes: Boxes = dict.fromkeys(files)
    for file, box in zip(annotations.files[::-1].tolist(), annotations.boxes[::-1], strict=True):
        boxes[file] = None if np.isnan(box).any() else box
    return boxes


def folder_of(options: Options) -> Path:
    """The folder of the pictures; UserError if there is none."""
    if options.own.input is None and options.images is None and options.dataset_name != "Custom":
        raise UserError("give the folder of the annotated pictures with --input")
    folder = options.own.input or options.images or options.paths.folder("Custom_datapath")
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder of the annotated pictures with --input")
    return Path(folder)


def read_table(folder: Path, files: list[str], file: Path | None, names: list[str]) -> PointTable:
    """The annotated objects of a file, or of the folder's own landmarks.csv or annotations.json.

    Raises UserError if there are none, a point is annotated nowhere, or `names` are not one for each point.
    """
    file = file or next((folder / own for own in OWN_FILES if (folder / own).is_file()), None)
    if file is None:
        raise UserError(f"{folder} has no {' or '.join(OWN_FILES)}; annotate some pictures, or give --annotations")
    table = read_points(file, folder, files)
    table = replace(table, names=names or table.names)
    check_names(table.names, table.points.shape[1])
    known = ~np.isnan(table.points).any(axis=2)
    for file_of, points in zip(table.files, table.points, strict=True):
        size = np.array(picture_size(folder / file_of))
        outside = ((points < -OUTSIDE * size) | (points > (1 + OUTSIDE) * size)).any(axis=1)
        if outside.any():
            name, (width, height) = table.names[outside.argmax()], size
            raise UserError(f"{file}: point {name} of {file_of} lies outside its {width}x{height} pixels; correct it")
    if not known.any(axis=0).all():
        nowhere = table.names[known.any(axis=0).argmin()]
        raise UserError(f"{file}: point {nowhere} is annotated in no picture; annotate it or leave it out")
    return table.subset(np.flatnonzero(known.any(axis=1)))


def landmarks_of(
    detector: LandmarkDetector, folder: Path, files: list[str], boxes: list[np.ndarray | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (n, L, 2) of pictures, in their pixels, and the maps (n, 2, 3) from these to the crops, of side 1."""
    found = []
    with Progress("Landmarks", len(files)) as progress:
        for start in range(0, len(files), GROUP):
            some = slice(start, start + GROUP)
            found.append(detector([folder / file for file in files[some]], boxes[some]))
            progress.update(len(files[some]))
    return np.concatenate([own.points for own in found]), np.concatenate([own.to_crops for own in found])


def crops_of(
    detector: LandmarkDetector, folder: Path, files: list[str], boxes: list[np.ndarray | None]
) -> np.ndarray:
    """The crops (n, S, S, 3) of pictures, as the detector sees them."""
    several = zip(files, boxes, strict=True)
    return np.stack([detector.cut(read_picture(folder / file), box)[0] for file, box in several])


def learn(detector: LandmarkDetector, experiment: Experiment, folder: Path, table: PointTable, boxes: Boxes) -> None:
    """Fit the regressor of named points, keep it with the experiment, and write its errors.

    boxes: of all pictures of the folder.
    """
    others = evenly(np.array(sorted(set(boxes) - set(table.files))), MOST_OTHERS).tolist()
    own = [boxes[file] if np.isnan(box).any() else box for file, box in zip(table.files, table.boxes, strict=True)]
    each = [*own, *(boxes[file] for file in others)]
    landmarks, to_crops = landmarks_of(detector, folder, [*table.files, *others], each)
    frame, count = common_frame(landmarks, to_crops), len(table.files)
    crops = crops_of(detector, folder, table.files, own)
    learned = fit(frame, landmarks[:count], to_crops[:count], table.points, table.names, crops)
    keep(*learned, experiment, detector.iteration)


def keep(regressor: Regressor, errors: np.ndarray, sizes: np.ndarray, experiment: Experiment, iteration: int) -> None:
    """Save the regressor, and print and write to Logs/NamedPoints.csv its errors as `fit` returns them."""
    path = experiment.named_points(iteration)
    regressor.save(path)
    percent, pixels = 100 * errors, errors * sizes[:, None]
    rows = [("point", "pictures", "error_percent", "error_pixels")]
    for p, name in enumerate(regressor.names):
        rows.append((name, str(regressor.counts[p]), mean_of(percent[:, p]), mean_of(pixels[:, p])))
    rows.append(("all", str(len(percent)), mean_of(percent), mean_of(pixels)))
    write_rows(rows, experiment.logs / "NamedPoints.csv")
    for name, pictures, share, length in (("point", "pictures", "error, %", "error, px"), *rows[1:]):
        experiment.log(f"{name:<28}{pictures:>9}{share:>10}{length:>11}")
    experiment.log(
        "Error of a picture that is left out, in percent of the object's size and in pixels of the pictures"
    )
    experiment.log(f"{len(regressor.names)} points, learned from {len(percent)} objects: {path}")


def mean_of(errors: np.ndarray) -> str:
    """The mean of the known errors, empty without any."""
    known = errors[~np.isnan(errors)]
    return f"{known.mean():.2f}" if len(known) else ""


def check_names(names: list[str], count: int) -> None:
    """Raise UserError unless these are `count` usable names of points."""
    if len(names) != count:
        raise UserError(f"--names gives {len(names)} names for {count} points; give one for each")
    for name in names:
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise UserError(f"{name[:100]!r} cannot name a point; give 1 to {LONGEST_NAME} printable characters")
        if names.count(name) > 1:
            raise UserError(f"two points are named {name}; give each its own name, with --names A,B,...")


# Choosing


def choose(detector: LandmarkDetector, folder: Path, boxes: Boxes, count: int) -> list[str]:
    """The files that tell most about the landmarks of all pictures, most telling first; boxes as in `learn`."""
    if len(boxes) < count:
        raise UserError(f"--choose {count}: {folder} has only {len(boxes)} pictures; choose fewer")
    files = evenly(np.array(sorted(boxes)), max(MOST_CHOICES, count)).tolist()
    seen = landmarks_of(detector, folder, files, [boxes[file] for file in files])
    return [files[i] for i in most_telling(common_frame(*seen), *seen, count)]


def copy_pictures(folder: Path, files: list[str], output: Path, names: list[str]) -> None:
    """Copy pictures to a new folder, with a landmarks.csv that waits for their points."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output {output} exists and is not an empty folder; give a new folder")
    try:
        for file in files:
            with writing(output / file, durable=False) as temporary:
                shutil.copyfile(folder / file, temporary)
        columns = [f"{name}_{axis}" for name in names or ["point_0"] for axis in "xy"]
        write_rows([["file", *columns], *([file, *[""] * len(columns)] for file in files)], output / "landmarks.csv")
    except OSError as error:
        raise UserError(f"--output {output}: {one_line(error)}; give another folder") from error


if __name__ == "__main__":
    main()
