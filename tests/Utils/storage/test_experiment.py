"""An experiment's files: places, which is newest, and its log."""

import os
import signal
import time

import pytest
import torch
import yaml

from Utils.runtime.errors import UserError
from Utils.storage.experiment import Experiment
from Utils.storage.files import writing


@pytest.fixture
def experiment(tmp_path):
    experiment = Experiment(tmp_path, "e")
    experiment.open()
    return experiment


def test_published_names(experiment, tmp_path):
    folder = tmp_path / "e" / "CheckPoints"
    assert experiment.bootstrap_keypoints() == folder / "SuperPointKeypoints.pickle"
    assert experiment.updated_keypoints(20_000) == folder / "UpdatedKeypoints20000.pickle"
    assert experiment.merged_keypoints(7) == folder / "MergedKeypoints7.pickle"
    assert experiment.first_step_checkpoint(20_000) == folder / "eFirstStepIteration20000.pth"
    assert experiment.second_step_checkpoint(3) == folder / "eSecondStepEpoch3.pth"
    assert experiment.predictions(5) == folder / "EvaluateStep2Keypoints5.pickle"


def test_the_number_tells_the_newest_not_the_time(experiment):
    for number in (90_000, 100_000, 20_000):
        experiment.updated_keypoints(number).touch()
        time.sleep(0.01)
    os.utime(experiment.updated_keypoints(20_000))
    assert experiment.newest_updated_keypoints() == (100_000, experiment.updated_keypoints(100_000))


@pytest.mark.parametrize("place", ["CheckPoints", "CheckPoints/e", "CheckPoints/e/CheckPoints"])
def test_published_models_are_found_where_they_are_unpacked(tmp_path, place):
    folder = tmp_path / place
    folder.mkdir(parents=True)
    (folder / "eSecondStepEpoch4.pth").touch()
    (folder / "otherSecondStepEpoch9.pth").touch()
    assert Experiment(tmp_path, "e").newest_second_step() == (4, folder / "eSecondStepEpoch4.pth")


def test_the_experiment_s_own_folder_goes_first(experiment, tmp_path):
    other = tmp_path / "CheckPoints"
    other.mkdir()
    for folder in (other, experiment.checkpoints):
        (folder / "eSecondStepEpoch4.pth").touch()
    assert experiment.newest_second_step()[1].parent == experiment.checkpoints


def test_files_of_other_places_are_not_mixed_in(experiment, tmp_path):
    """Names of keypoint files do not tell the experiment: a published one beside must not be taken for ours."""
    other = tmp_path / "CheckPoints"
    other.mkdir()
    (other / "UpdatedKeypoints320000.pickle").touch()
    assert experiment.newest_updated_keypoints()[0] == 320_000
    experiment.updated_keypoints(20_000).touch()
    assert experiment.newest_updated_keypoints() == (20_000, experiment.updated_keypoints(20_000))
    assert experiment.find(experiment.updated_keypoints(320_000)) == other / "UpdatedKeypoints320000.pickle"


def test_a_damaged_run_description_is_kept_aside(experiment, tmp_path):
    (experiment.logs / "run.yaml").write_bytes(b"a: \xff")
    experiment.describe_run({})
    assert len(yaml.safe_load((experiment.logs / "run.yaml").read_text())) == 1
    assert (experiment.logs / "run.damaged.yaml").exists()


def test_left_overs_of_a_killed_process_are_removed(experiment):
    left_over = experiment.checkpoints / ".xyz.part.pth"
    left_over.touch()
    os.utime(left_over, (0, 0))
    experiment.open()
    assert not list(experiment.checkpoints.iterdir())


def test_what_another_process_writes_stays(experiment):
    """Test.py opens the experiment of a running training."""
    path = experiment.checkpoints / "a.pth"
    with writing(path) as temporary:
        temporary.write_text("half")
        experiment.open()
        Experiment(experiment.folder.parent, "e").open()
        temporary.write_text("whole")
    assert path.read_text() == "whole"


def test_what_is_missing_is_named_with_the_script_to_run(experiment):
    with pytest.raises(UserError, match="Train_Secondstep.py"):
        experiment.newest_second_step()
    with pytest.raises(UserError, match="Train_Firststep.py"):
        experiment.newest_first_step()
    with pytest.raises(UserError, match="Train_Firststep.py"):
        experiment.newest_updated_keypoints()


def test_an_earlier_run_is_not_written_over(experiment, tmp_path):
    experiment.bootstrap_keypoints().touch()
    with (
        pytest.raises(UserError, match="--resume"),
        experiment.training({}, False, experiment.first_step_files),
    ):
        pass
    with experiment.training({}, True, experiment.first_step_files):
        pass


def test_two_trainings_of_one_experiment_are_refused(experiment, tmp_path):
    other = Experiment(tmp_path, "e")
    with experiment.training({}, False, list):
        with pytest.raises(UserError, match="is being trained by another process"), other.training({}, False, list):
            pass
        other.describe_run({})  # as Test.py does beside a training
    with other.training({}, False, list):
        pass


def test_a_killed_training_frees_its_experiment(experiment, tmp_path):
    process = os.fork()
    if process == 0:
        with experiment.training({}, False, list):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    with experiment.training({}, False, list):
        pass


def test_runs_are_described(experiment, tmp_path):
    experiment.describe_run({"seed": 1993, "hyperparameters": {"width": 32}})
    experiment.describe_run({"seed": 7, "hyperparameters": {"width": 64}})
    runs = yaml.safe_load((experiment.logs / "run.yaml").read_text())
    assert [run["seed"] for run in runs] == [1993, 7]
    assert runs[0]["hyperparameters"]["width"] == 32
    assert {"torch", "faiss", "numpy", "python"} <= set(runs[0]["versions"])
    assert runs[0]["threads"] == torch.get_num_threads()


def test_the_log_is_appended_to(experiment, capsys):
    experiment.log("one")
    experiment.log("two")
    lines = (experiment.logs / "e.txt").read_text().splitlines()
    assert [line.split()[-1] for line in lines] == ["one", "two"]
    assert capsys.readouterr().out == "one\ntwo\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_log_path_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="not writable"):
        Experiment(tmp_path / "x", "e").open()


def test_a_file_in_the_place_of_log_path_is_named(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(UserError, match="not writable"):
        Experiment(tmp_path / "x", "e").open()
