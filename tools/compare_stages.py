"""Compare the errors of all stages: mean shape, bootstrap's clusters, step one's last clusters, step two.

    python tools/compare_stages.py --dataset_name Demo --experiment_name demo

For the clusters of the bootstrap and of step one, a landmark's position in a picture is that of the cluster's
keypoint, unknown without one. Pictures that were trained on have the keypoints of the pseudo-groundtruth; in all
others, detection and assignment run as in the training. Residual, movement and R2 say whether landmarks move with the
object, see Utils/movement.
"""

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
from Utils.storage.files import write_rows

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
# A landmark counts if it is missing in less than this share of the pictures: the paper's for step two, more for
# clusters, as a detector misses keypoints in many pictures.
MISSING_LIMIT, MISSING_LIMIT_OF_CLUSTERS = 0.2, 0.8


def figures(errors: Errors, movement: Movement) -> tuple[str, ...]:
    """The figures of a row; movement: of the landmarks that count."""
    if not len(errors.landmarks):
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
        ("bootstrap's clusters", bootstrap_landmarks, MISSING_LIMIT_OF_CLUSTERS),
        (
            "step one, last clusters",
            partial(first_step_landmarks, recipe=recipe_of(options.hyper)),
            MISSING_LIMIT_OF_CLUSTERS,
        ),
        ("step two", second_step_landmarks, MISSING_LIMIT),
    )
    rows: list[tuple[str, ...]] = []
    for name, landmarks_of_stage, limit in stages:
        predictions = landmarks_of_stage(database, options, experiment)
        normalisers = np.asarray(database.normalisers(predictions.groundtruth))
        if not rows:
            forward = final_percent(mean_shape_errors(predictions, normalisers))
            rows.append(("mean shape", "", f"{forward:.2f}", *[""] * 5))
        errors = evaluate(predictions, normalisers, database.ridge_samples, options.hyper.seed, limit)
        movement = explained_movement(predictions.points[:, errors.landmarks], predictions.groundtruth)
        rows.append((name, *figures(errors, movement)))
    for row in (COLUMNS, *rows):
        cells = (cell.replace("_percent", " %").replace("_pixels", " px") for cell in row[1:])
        experiment.log(f"{row[0]:<24}" + "".join(f"{cell:>12}" for cell in cells))
    write_rows([COLUMNS, *rows], experiment.logs / "Stages.csv")
    experiment.log("Landmarks that count: clusters in over 20% of the pictures; landmarks of step two in over 80%")
    experiment.log(
        f"Residual, movement, R2: how far groundtruth explains a landmark's position, in pixels of the 256x256 crop; "
        f"following: found in over {100 * OFTEN:.0f}% of the pictures with R2 over {FOLLOWS}"
    )
    experiment.log(f"Pictures and curves: {experiment.logs}")
    for path in sorted(experiment.logs.glob("*.jpg")):
        experiment.log(f"  {path}")


if __name__ == "__main__":
    main()
