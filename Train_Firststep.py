"""Step one: discover keypoints and descriptors of an object category, without labels."""

from Databases import DATABASES
from Networks.first_step import FirstStep
from Networks.recipes import RECIPES
from Utils.options import parse
from Utils.runtime import distributed
from Utils.runtime.errors import exit_cleanly
from Utils.runtime.process import set_up_process
from Utils.storage.experiment import Experiment


@exit_cleanly
def main(argv: list[str] | None = None) -> None:
    set_up_process()
    options = parse(argv, __doc__, DATABASES, RECIPES, flags=("experiment", "resume"))
    distributed.start(options.device)
    database = DATABASES[options.dataset_name].open(options)
    database.check_cheaply()
    experiment = Experiment(options.log_path, options.experiment_name)
    with experiment.training(options, experiment.first_step_files):
        FirstStep(database, options, experiment).run()
    distributed.stop()


if __name__ == "__main__":
    main()
