"""Step two: learn one heatmap per cluster of step one, and merge clusters that coincide."""

from Databases import DATABASES
from Networks.checkpoints import adopt_newest, load_first_step
from Networks.inference.detector import LandmarkDetector
from Networks.inference.steadiness import training_steadiness
from Networks.recipes import RECIPES, recipe_of
from Networks.second_step import SecondStep
from Utils.drawing.reports import report_failure
from Utils.options import parse
from Utils.runtime import distributed
from Utils.runtime.errors import exit_cleanly
from Utils.runtime.process import set_up_process
from Utils.storage.experiment import Experiment


@exit_cleanly
def main(argv: list[str] | None = None) -> int:
    set_up_process()
    options = parse(argv, __doc__, DATABASES, RECIPES, flags=("experiment", "resume"))
    distributed.start(options.device)
    experiment = Experiment(options.log_path, options.experiment_name)
    experiment.newest_updated_keypoints()  # step one comes first: say so before anything is written
    adopt_newest(options, experiment.first_step_checkpoints(), load_first_step)
    database = DATABASES[options.dataset_name].open(options)
    database.check_cheaply()
    with experiment.training(options.facts(), options.resume, experiment.second_step_files):
        step = SecondStep.from_first_step(database, options, experiment, recipe_of(options.hyper))
        if options.resume:
            step.resume()
        step.run()
        detector = LandmarkDetector.of_training(step)
        measured = training_steadiness(detector)
        failed = report_failure(experiment, measured.found, measured.steady())
        if not experiment.relations(step.iteration).exists():
            detector.learn_relations(experiment)
    distributed.stop()
    return int(failed)


if __name__ == "__main__":
    main()
