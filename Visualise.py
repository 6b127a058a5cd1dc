"""Draw what was learned: keypoints and clusters of step one, landmarks of step two."""

from Databases import DATABASES
from Networks.checkpoints import adopt_newest, load_first_step, load_second_step
from Networks.inference.visualisations import VISUALISATIONS
from Networks.recipes import RECIPES
from Utils.options import parse
from Utils.runtime.errors import exit_cleanly
from Utils.runtime.process import set_up_process
from Utils.storage.experiment import Experiment


@exit_cleanly
def main(argv: list[str] | None = None) -> None:
    set_up_process()
    options = parse(argv, __doc__, DATABASES, RECIPES, flags=("experiment", "visualisation", "landmarks", "mirror"))
    experiment = Experiment(options.log_path, options.experiment_name, options.variant)
    if options.visualisation in ("Step2", "Points"):
        adopt_newest(options, experiment.second_step_checkpoints(), load_second_step)
    else:
        adopt_newest(options, experiment.first_step_checkpoints(), load_first_step)
    database = DATABASES[options.dataset_name].open(options)
    VISUALISATIONS[options.visualisation](database, options, experiment)


if __name__ == "__main__":
    main()
