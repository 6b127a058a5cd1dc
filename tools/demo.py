"""The demo, end to end: how long it will take on this machine, all stages, and how long each took.

    python tools/demo.py --dataset_name Demo --experiment_name demo --paths paths/demo.yaml

The arguments go to each script. What is done is passed over, and what was stopped goes on.
"""

import contextlib
import io
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import Test
import Train_Firststep
import Train_Secondstep
import Visualise
from Databases.database import Database
from Databases.demo.database import Demo
from Databases.samples import grid_side
from Networks.checkpoints import load_first_step, load_second_step, newest_state
from Networks.first_step import FirstStep, round_ends
from Networks.recipes import RECIPES
from Networks.second_step import SecondStep
from Networks.training import Training
from tools import compare_stages
from tools import report as page
from Utils.keypoints import KeypointTable
from Utils.options import Options, parse
from Utils.runtime.errors import exit_cleanly
from Utils.runtime.process import set_up_process
from Utils.runtime.progress import clock
from Utils.storage.experiment import Experiment

ROOT = Path(__file__).resolve().parents[1]
RENDERING = "rendering"
# The stages after it: their scripts, each with the arguments that it has beside those of all.
STAGES: dict[str, list[tuple[ModuleType, list[str]]]] = {
    "step one": [(Train_Firststep, ["--resume"])],
    "step two": [(Train_Secondstep, ["--resume"])],
    "errors and pictures": [
        (Test, []),
        *((Visualise, ["--visualisation", name]) for name in ("Step1_Keypoints", "Step1_Clusters", "Step2")),
        *((script, []) for script in (compare_stages, page)),
    ],
}
# What a stage does beside its iterations (bootstrap, new keypoints, merging, ...) takes as long as so many
# iterations of step two, as measured.
BESIDE = {"step one": 700, "step two": 500, "errors and pictures": 530}
TIMED_RUNS = 3
PICTURES = 32  # that are rendered first, and that iterations are timed with


def read(argv: Sequence[str] | None) -> Options:
    return parse(argv, __doc__.splitlines()[0], {Demo.name: Demo}, RECIPES, flags=("experiment",))


# How long it will take


def expected_seconds(argv: Sequence[str], experiment: Experiment) -> dict[str, float]:
    """Seconds by stage from where the experiment is, told from some rendered pictures and some iterations."""
    options = read(argv)
    hyper = options.hyper
    few = min(PICTURES, hyper.demo_training)
    missing, start = missing_pictures(options), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        some = read([*argv, "--set", f"demo_training={few}", "--set", "demo_test=1", "--set", "min_cluster_points=0"])
        database = Demo.open(some)
        rendered, took = missing - missing_pictures(options), time.perf_counter() - start
        first, second = seconds_per_iteration(database, some)
    first_left, second_left = iterations_left(options, experiment)
    return {
        RENDERING: (missing - rendered) * took / max(rendered, 1),
        "step one": first_left * (first * round_ends(hyper)[-1] + second * BESIDE["step one"]),
        "step two": second_left * (second * hyper.total_iterations + second * BESIDE["step two"]),
        "errors and pictures": second * BESIDE["errors and pictures"],
    }


def missing_pictures(options: Options) -> int:
    """How many of the pictures are still to be rendered."""
    there = sum(1 for _ in Demo.folder(options).glob("*/*.png"))
    return max(options.hyper.demo_training + options.hyper.demo_test - there, 0)


def iterations_left(options: Options, experiment: Experiment) -> tuple[float, float]:
    """Of each step, the share of its iterations that the experiment has not done yet."""
    states = (
        newest_state(experiment.first_step_checkpoints(), experiment.first_step_state(), load_first_step),
        newest_state(experiment.second_step_checkpoints(), experiment.second_step_state(), load_second_step),
    )
    first, second = (0 if state is None else int(state[0]["iteration"]) for state in states)
    return 1 - first / round_ends(options.hyper)[-1], max(1 - second / options.hyper.total_iterations, 0)


def seconds_per_iteration(database: Database, options: Options) -> tuple[float, float]:
    """Of step one and of step two, of an experiment that is thrown away."""
    with TemporaryDirectory() as folder:
        options = replace(options, log_path=Path(folder))
        experiment = Experiment(folder, options.experiment_name)
        experiment.open()
        keypoints = arbitrary_keypoints(database, options)
        first = FirstStep(database, options, experiment)
        iterations = max(PICTURES // first.batch_size, 1)
        first.train(keypoints, iterations)  # memory is allocated, libraries are loaded
        of_first = timed(first, lambda: first.train(keypoints, first.iteration + 2 * iterations))
        first.relabelled = True  # as if its round had ended
        first.save_checkpoint()
        keypoints.save(experiment.updated_keypoints(first.iteration))
        second = SecondStep(database, options, experiment)
        second.train_epoch()
        second.finish_epoch()
        of_second = timed(second, second.train_epoch, second.finish_epoch)
        for training in (first, second):
            training.scalars.close()
    return of_first, of_second


def arbitrary_keypoints(database: Database, options: Options) -> KeypointTable:
    """Keypoints of different clusters, about as many as labels have, anywhere in the pictures."""
    hyper = options.hyper
    count = round(hyper.match_fraction * hyper.number_of_clusters)
    rng = np.random.default_rng(0)
    lists = [
        np.column_stack(
            [
                rng.integers(0, grid_side(hyper), (count, 2)),
                rng.permutation(hyper.number_of_clusters)[:count],
            ]
        ).astype(np.float32)
        for _ in range(len(database.training))
    ]
    return KeypointTable.from_lists(database.training.names, lists)


def timed(training: Training, train: Callable[[], None], after: Callable[[], None] = lambda: None) -> float:
    """Seconds per iteration of what `train` does: the least of some runs, as their loaders start anew each time."""
    found = []
    for _ in range(TIMED_RUNS):
        before, start = training.iteration, time.perf_counter()
        train()
        found.append((time.perf_counter() - start) / max(training.iteration - before, 1))
        after()
    return min(found)


# The stages


def run(script: ModuleType, argv: Sequence[str]) -> None:
    """As if it were called by itself; ends this process with its code where it fails."""
    file = Path(str(script.__file__))
    sys.argv = [str(file.relative_to(ROOT)), *argv]  # what the experiment's log says of it
    print(f"\n> python {' '.join(sys.argv)}", flush=True)
    try:
        script.main(argv)
    except SystemExit as end:
        if end.code:
            raise


def report(experiment: Experiment, expected: dict[str, float], took: dict[str, float]) -> None:
    """The table of the stages, in the experiment's log too."""
    experiment.log(f"{'':<24}{'expected':>12}{'took':>12}")
    for stage, seconds in took.items():
        experiment.log(f"{stage:<24}{clock(expected[stage]):>12}{clock(seconds):>12}")
    experiment.log(f"{'all':<24}{clock(sum(expected.values())):>12}{clock(sum(took.values())):>12}")


@exit_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    set_up_process()
    argv = sys.argv[1:] if argv is None else argv
    options = read(argv)
    experiment = Experiment(options.log_path, options.experiment_name)
    experiment.open()
    expected = expected_seconds(argv, experiment)
    experiment.log(
        f"The demo takes about {clock(sum(expected.values()))} (minutes:seconds) on this machine: "
        + ", ".join(f"{stage} {clock(seconds)}" for stage, seconds in expected.items())
    )
    took = {}
    start = time.perf_counter()
    Demo.open(options)
    took[RENDERING] = time.perf_counter() - start
    for stage, scripts in STAGES.items():
        start = time.perf_counter()
        for script, more in scripts:
            run(script, [*argv, *more])
        took[stage] = time.perf_counter() - start
    report(experiment, expected, took)


if __name__ == "__main__":
    main()
