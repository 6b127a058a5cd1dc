"""Compare the errors of all stages: mean shape, bootstrap's clusters, step one's last clusters, step two.

    python tools/compare_stages.py --dataset_name Demo --experiment_name demo

In the rows of bootstrap and step one, a landmark's place in a picture is that of its cluster's keypoint there,
unknown where the picture has none; clusters count that are missing in less than 80% of the pictures, in step two
landmarks that are missing in less than 20%. In regression images that are training images too, keypoints are those
of the pseudo-groundtruth; in all others, detection and assignment run as in the training. Residual, movement and R2
tell whether landmarks move with the object, see Utils/movement.
"""

import csv
import sys
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from Databases import DATABASES
from Networks.checkpoints import adopt_newest, load_second_step
from Networks.inference.stages import bootstrap_landmarks, first_step_landmarks, second_step_landmarks
from Networks.recipes import RECIPES, recipe_of
from Utils.evaluation import Errors, evaluate, final_percent, mean_shape_errors
from Utils.movement import FOLLOWS, OFTEN, Movement, explained_movement
from Utils.options import parse
from Utils.runtime.errors import exit_cleanly
from Utils.runtime.process import set_up_process
from Utils.storage.experiment import Experiment
from Utils.storage.files import writing

HEADER = ("stage", "landmarks", "forward %", "backward %", "residual px", "movement px", "R2", "following")
COLUMNS = (
    "stage",
    "landmarks",
    "forward_percent",
    "backward_percent",
    "residual_pixels",
    "movement_pixels",
    "r2",
    "following",
)


def figures(errors: Errors, movement: Movement) -> tuple[str, ...]:
    """A row of the table without its name; movement: of the landmarks that count."""
    if len(errors.landmarks) == 0:
        return ("0", f"{errors.forward_percent:.2f}", *[""] * 4, "0")
    means = movement.means()
    return (
        str(len(errors.landmarks)),
        f"{errors.forward_percent:.2f}",
        f"{errors.backward_percent:.2f}",
        f"{means['residual']:.1f}",
        f"{means['movement']:.1f}",
        f"{means['r2']:.2f}",
        str(movement.following().sum()),
    )


@exit_cleanly
def main(argv: list[str] | None = None) -> None:
    set_up_process()
    options = parse(argv, __doc__.splitlines()[0], DATABASES, RECIPES, flags=("experiment",))
    experiment = Experiment(options.log_path, options.experiment_name)
    adopt_newest(options, [experiment.newest_second_step()], load_second_step)  # all stages must be there
    database = DATABASES[options.dataset_name].open(options)
    experiment.open()

    stages = (
        ("bootstrap's clusters", bootstrap_landmarks),
        ("step one, last clusters", partial(first_step_landmarks, recipe=recipe_of(options.hyper))),
        ("step two", second_step_landmarks),
    )
    rows: list[tuple[str, ...]] = []
    for name, landmarks_of_stage in stages:
        predictions, limit = landmarks_of_stage(database, options, experiment)
        normalisers = np.asarray(database.normalisers(predictions.groundtruth))
        if not rows:
            forward = final_percent(mean_shape_errors(predictions, normalisers))
            rows.append(("mean shape", "", f"{forward:.2f}", *[""] * 5))
        errors = evaluate(predictions, normalisers, database.ridge_samples, options.hyper.seed, limit)
        movement = explained_movement(predictions.points[:, errors.landmarks], predictions.groundtruth)
        rows.append((name, *figures(errors, movement)))
    for row in (HEADER, *rows):
        experiment.log(f"{row[0]:<24}" + "".join(f"{cell:>12}" for cell in row[1:]))
    with writing(experiment.logs / "Stages.csv") as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows((COLUMNS, *rows))
    experiment.log("Landmarks that count: of clusters, those in over 20% of the pictures; of step two, in over 80%")
    experiment.log(
        f"Residual, movement, R2: how far groundtruth explains where a landmark is, in pixels of the 256x256 crop; "
        f"following: found in over {100 * OFTEN:.0f}% of the pictures with R2 over {FOLLOWS}"
    )
    experiment.log(f"Pictures and curves: {experiment.logs}")
    for path in sorted(experiment.logs.glob("*.jpg")):
        experiment.log(f"  {path}")


if __name__ == "__main__":
    main()
