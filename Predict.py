"""Landmarks and named points on any pictures and videos: tables, COCO keypoints, and annotated copies."""

import argparse
import sys
from pathlib import Path

from Databases import DATABASES
from Databases.custom_annotations import read_boxes_of_objects
from Databases.inputs import find_inputs
from Databases.point_formats import EXPORTED
from Networks.inference.detector import LandmarkDetector
from Networks.inference.prediction import Prediction
from Networks.recipes import RECIPES
from Networks.second_step import CONFIDENT
from Utils.options import parse
from Utils.runtime.arguments import add_threshold
from Utils.runtime.errors import exit_cleanly
from Utils.runtime.process import set_up_process
from Utils.storage.experiment import Experiment
from Utils.storage.records import claim_folder


def flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--input", required=True, nargs="+", metavar="INPUT", help="a picture, a folder, a video or a glob")
    add(
        "--boxes",
        metavar="FILE",
        help="file,x1,y1,x2,y2 of each object (default: a face, or the whole picture)",
    )
    add("--output", metavar="DIR", help="folder for the results (default: Predictions in the experiment's folder)")
    add_threshold(parser, CONFIDENT)
    add(
        "--format",
        nargs="+",
        choices=EXPORTED,
        default=[],
        metavar="ENDING",
        help=f"write the points for other tools too: {', '.join(EXPORTED)}",
    )
    add("--smooth", action="store_true", help="smooth the landmarks of videos over time")


@exit_cleanly
def main(argv: list[str] | None = None) -> int:
    set_up_process()
    options = parse(
        argv, __doc__, DATABASES, RECIPES, ("experiment", "landmarks", "mirror"), flags, settings=["readout=centroid"]
    )
    given, experiment = options.own, Experiment(options.log_path, options.experiment_name)
    output = Path(given.output) if given.output else experiment.folder / "Predictions"
    inputs = find_inputs(given.input, leave_out=output)
    files = [*inputs.pictures, *inputs.videos]
    boxes = read_boxes_of_objects(Path(given.boxes), files) if given.boxes else {}
    detector = LandmarkDetector.from_experiment(experiment, options)
    detector.threshold = given.threshold
    detector.learn_names(experiment)
    claim_folder(output, {**options.facts(), "iteration": detector.iteration, "landmarks": detector.names})

    prediction = Prediction(detector, inputs, output, boxes, given.smooth, given.format)
    pictures, objects = prediction.run()
    for fault in sorted(prediction.faults):
        print(fault, file=sys.stderr)
    print(f"{objects} objects in {pictures} pictures and frames; damaged files: {len(prediction.faults)}")
    own = ["points.csv", "points.json"] if detector.regressor else []
    print(f"{output}: {', '.join([*own, *prediction.exported, 'landmarks.csv, landmarks.json'])} and pictures/")
    return 1 if prediction.faults else 0


if __name__ == "__main__":
    main()
