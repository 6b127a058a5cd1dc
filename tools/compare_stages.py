"""Compare the errors of all stages: mean shape, bootstrap's clusters, step one's last clusters, step two.

    python tools/compare_stages.py --dataset_name Demo --experiment_name demo

In the rows of bootstrap and step one, a landmark's place in a picture is that of its cluster's keypoint there,
unknown where the picture has none; clusters count that are missing in less than 80% of the pictures, in step two
landmarks that are missing in less than 20%. In regression images that are training images too, keypoints are those
of the pseudo-groundtruth; in all others, detection and assignment run as in the training.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from Databases import DATABASES
from Networks.stages import bootstrap_landmarks, first_step_landmarks, second_step_landmarks
from Utils.errors import exit_cleanly
from Utils.evaluation import evaluate, final_percent, mean_shape_errors
from Utils.experiment import Experiment
from Utils.files import writing
from Utils.options import parse
from Utils.process import set_up_process

STAGES = (
    ("bootstrap's clusters", bootstrap_landmarks),
    ("step one, last clusters", first_step_landmarks),
    ("step two", second_step_landmarks),
)


@exit_cleanly
def main(argv: list[str] | None = None) -> None:
    set_up_process()
    options = parse(argv, __doc__.splitlines()[0], DATABASES, flags=("experiment",))
    database = DATABASES[options.dataset_name].open(options)
    experiment = Experiment(options.log_path, options.experiment_name)
    experiment.newest_second_step()  # all stages must be there
    experiment.open()

    rows = []
    for name, landmarks_of_stage in STAGES:
        predictions, limit = landmarks_of_stage(database, options, experiment)
        normalisers = np.asarray(database.normalisers(predictions.groundtruth))
        if not rows:
            forward = final_percent(mean_shape_errors(predictions, normalisers))
            rows.append(("mean shape", "", f"{forward:.2f}", ""))
        errors = evaluate(predictions, normalisers, database.ridge_samples, options.hyper.seed, limit)
        backward = f"{errors.backward_percent:.2f}" if len(errors.landmarks) else ""
        rows.append((name, str(len(errors.landmarks)), f"{errors.forward_percent:.2f}", backward))
    header = ("stage", "landmarks", "forward %", "backward %")
    for row in (header, *rows):
        experiment.log(f"{row[0]:<26}{row[1]:>10}{row[2]:>12}{row[3]:>12}")
    with writing(experiment.logs / "Stages.csv") as temporary:
        lines = [
            "stage,landmarks,forward_percent,backward_percent",
            *(",".join(f'"{c}"' for c in row) for row in rows),
        ]
        temporary.write_text("\n".join(lines) + "\n")
    experiment.log("Landmarks that count: of clusters, those in over 20% of the pictures; of step two, in over 80%")
    experiment.log(f"Pictures and curves: {experiment.logs}")
    for path in sorted(experiment.logs.glob("*.jpg")):
        experiment.log(f"  {path}")


if __name__ == "__main__":
    main()
