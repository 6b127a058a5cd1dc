"""Draw the error curves of several experiments and of other methods, a picture per direction, and write one table.

    python tools/compare_experiments.py --dataset_name Demo --experiment_names a b --curve "paper=paper.csv"

Test.py must have evaluated the experiments. A curve of another method is a CSV file with the columns
landmarks,nme_percent: the mean error over the best 1, 2, 3 ... landmarks. A third column, direction, says forward
(the default) or backward in each row; one file may hold both. Writes ForwardError.jpg, BackwardError.jpg and
Errors.csv, which has these columns and the name, to --output.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from Databases import DATABASES
from Networks.recipes import RECIPES
from Utils.drawing.plots import curve_of_rows, draw_curves, final, read_curve, read_rows
from Utils.options import Options, parse
from Utils.runtime.errors import UserError, exit_cleanly
from Utils.runtime.process import set_up_process
from Utils.storage.experiment import Experiment
from Utils.storage.files import write_rows

DIRECTIONS = {"forward": "groundtruth landmarks", "backward": "discovered landmarks"}
COLUMNS = ("name", "direction", "landmarks", "nme_percent")
Curves = dict[str, dict[str, np.ndarray]]  # direction -> name -> curve


def flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--experiment_names", nargs="*", default=[], metavar="NAME", help="experiments that Test.py has evaluated")
    add("--curve", action="append", default=[], metavar="NAME=FILE", help="a curve of another method; repeatable")
    add("--output", type=Path, metavar="DIR", help="folder for the results (default: Comparison in log_path)")


def add(curves: Curves, name: str, direction: str, curve: np.ndarray) -> None:
    if name in curves[direction]:
        raise UserError(f"two {direction} curves are named {name}; give them different names")
    curves[direction][name] = curve


def add_experiment(curves: Curves, name: str, options: Options) -> None:
    """The two curves of an experiment; UserError if it was not tested or belongs to another data set."""
    experiment = Experiment(options.log_path, name)
    recorded = {str(run.get("dataset_name")) for run in experiment.recorded_runs()}
    if recorded and options.dataset_name not in recorded:
        raise UserError(f"experiment {name} is of {min(recorded)} and not of {options.dataset_name}; leave it out")
    for direction in DIRECTIONS:
        add(curves, name, direction, read_curve(experiment.logs / f"{direction.capitalize()}Error.csv"))


def add_file(curves: Curves, text: str) -> None:
    """The curves of NAME=FILE; rows without a direction are forward errors."""
    name, equals, file = text.partition("=")
    if not equals or not name or not file:
        raise UserError(f'--curve {text}: write it as "name=file.csv"')
    path = Path(file)
    if not path.is_file():
        raise UserError(f"--curve {text}: {path} does not exist; correct the path")
    rows = read_rows(path)
    if not rows:
        raise UserError(f"{path} has no rows; write the columns landmarks,nme_percent")
    directions = [row.get("direction") or "forward" for row in rows]
    for direction in dict.fromkeys(directions):
        if direction not in DIRECTIONS:
            raise UserError(f"{path}: direction {direction!r}; write forward or backward")
        own = [row for row, its in zip(rows, directions, strict=True) if its == direction]
        add(curves, name, direction, curve_of_rows(own, path))


@exit_cleanly
def main(argv: list[str] | None = None) -> None:
    set_up_process()
    options = parse(argv, __doc__.splitlines()[0], DATABASES, RECIPES, own=flags)
    given = options.own
    if not given.experiment_names and not given.curve:
        raise UserError("nothing to compare; give --experiment_names or --curve")
    curves: Curves = {direction: {} for direction in DIRECTIONS}
    for name in given.experiment_names:
        add_experiment(curves, name, options)
    for text in given.curve:
        add_file(curves, text)

    output = given.output or options.log_path / "Comparison"
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file; give a folder")
    rows = [
        (name, direction, count, f"{value:.6f}")
        for direction, named in curves.items()
        for name, curve in named.items()
        for count, value in enumerate(curve, start=1)
    ]
    write_rows([COLUMNS, *rows], output / "Errors.csv")
    for direction, named in curves.items():
        draw_curves(named, output / f"{direction.capitalize()}Error.jpg", DIRECTIONS[direction])
        for name, curve in named.items():
            print(f"{direction:9} {name:24} {final(curve)}")
    print(f"{output}: ForwardError.jpg, BackwardError.jpg, Errors.csv")


if __name__ == "__main__":
    main()
