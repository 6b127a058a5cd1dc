"""Write the network of step two, with its read-out, as ONNX or as a PyTorch program (.pt2), and check the file.

    python tools/export_onnx.py --dataset_name Demo --experiment_name demo --output model.onnx

Input: any number of crops (N, 3, S, S) RGB in [0, 1]. Output: points (N, L, 2) in pixels of the crop, confidence
(N, L). The file's metadata says how to crop, and the landmarks' names. The check compares the file with PyTorch.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from Databases import DATABASES
from Networks.inference import export
from Networks.inference.detector import LandmarkDetector
from Networks.recipes import RECIPES
from Utils.options import parse
from Utils.runtime.errors import UserError, exit_cleanly
from Utils.runtime.packages import require
from Utils.runtime.process import set_up_process
from Utils.storage.experiment import Experiment
from Utils.storage.files import writing

FORMATS = (".onnx", ".pt2")
FLAGS = ("experiment", "landmarks")


def flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="model.onnx or model.pt2")


@exit_cleanly
def main(argv: list[str] | None = None) -> None:
    set_up_process()
    options = parse(argv, __doc__.splitlines()[0], DATABASES, RECIPES, FLAGS, flags, settings=["readout=centroid"])
    output: Path = options.own.output
    if output.suffix not in FORMATS:
        raise UserError(f"--output {output}: give a file that ends in {' or '.join(FORMATS)}")
    if output.suffix == ".onnx":
        for package in export.PACKAGES.split():
            require(package, export.PACKAGES)
    detector = LandmarkDetector.from_experiment(Experiment(options.log_path, options.experiment_name), options)
    graph = export.graph_of(detector)
    facts = export.metadata(detector)
    with writing(output) as temporary:
        export.write(export.export_program(graph, detector.size), facts, temporary)
        difference = export.difference(temporary, graph, detector.size)
        if difference > export.TOLERANCE:
            raise UserError(f"{output} would give other landmarks than PyTorch, by {difference:.3g} pixels")
    print(f"{output}: {len(detector.names)} landmarks of crops of {detector.size}x{detector.size} pixels")
    print(f"largest difference to PyTorch: {difference:.2g} pixels")


if __name__ == "__main__":
    main()
