"""Step one: discover keypoints and descriptors of an object category, without labels."""

from Databases import DATABASES
from Networks.advice import advise
from Networks.first_step import FirstStep
from Networks.inference.visualisations import draw_keypoints
from Networks.recipes import RECIPES, recipe_of
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
    with experiment.training(options.facts(), options.resume, experiment.first_step_files):
        recipe = recipe_of(options.hyper)
        if recipe.find_poses:
            database = recipe.find_poses(database, options, experiment)
        advise(experiment, options.hyper, options.device, len(database.training), recipe.largest_cluster)
        step = FirstStep(database, options, experiment, recipe)
        if options.resume:
            step.resume()
        keypoints = step.labels()
        if distributed.is_main():
            draw_keypoints(keypoints, database, options, experiment)
        step.run(keypoints)
    distributed.stop()


if __name__ == "__main__":
    main()
