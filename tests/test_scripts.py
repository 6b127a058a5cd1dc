"""The scripts as a user runs them, on a tiny Demo set: files, formats, what is said of mistakes. About a minute."""

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import Predict
import Test
import Train_Firststep
import Train_Secondstep
import Visualise
from tests.tiny import CONSENSUS_SETTINGS, DEMO_SETTINGS, SETTINGS
from tools import compare_stages, name_points
from Utils.storage.experiment import Experiment
from Utils.storage.files import dump_pickle, load_checkpoint, load_pickle, save_checkpoint

ROOT = Path(__file__).parents[1]


def arguments(folder: Path, *extra: str, dataset_name: str = "Demo", **settings) -> list[str]:
    paths = folder / "paths.yaml"
    if not paths.exists():
        paths.write_text(f"log_path: {folder}/Logs\npath_to_superpoint_checkpoint: ''\n")
    own = {"Demo": CONSENSUS_SETTINGS | DEMO_SETTINGS, "Custom": CONSENSUS_SETTINGS}.get(dataset_name, {})
    chosen = SETTINGS | own | settings
    sets = [part for name, value in chosen.items() for part in ("--set", f"{name}={value}")]
    common = ["--dataset_name", dataset_name, "--experiment_name", "demo", "--paths", str(paths)]
    return [*common, "--num_workers", "0", *sets, *extra]


def succeed(main, argv) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 0


def fail(main, argv, capsys) -> str:
    """The one line of a user's mistake, which ends with code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture(autouse=True)
def lenient(monkeypatch):
    """After so short a training no landmark is steady."""
    monkeypatch.setattr("Networks.inference.steadiness.STEADY", -9)


@pytest.fixture(scope="module")
def trained(make_demo):
    """A folder with an experiment that has been through all five stages."""
    return make_demo.folder


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of the experiment, to be broken."""
    shutil.copytree(trained / "Logs", tmp_path / "Logs")
    return tmp_path


def test_files_have_the_published_names(trained):
    names = {path.name for path in (trained / "Logs/demo/CheckPoints").iterdir()}
    assert {
        "SuperPointKeypoints.pickle",
        "UpdatedKeypoints6.pickle",
        "UpdatedKeypoints11.pickle",
        "demoFirstStepIteration6.pth",
        "demoFirstStepIteration11.pth",
        "EvaluateStep2Keypoints12.pickle",
    } <= names
    assert any(name.startswith("demoSecondStepEpoch") for name in names)
    logs = {path.name for path in (trained / "Logs/demo/Logs").iterdir()}
    assert {
        "demo.txt",
        "run.yaml",
        "ForwardError.jpg",
        "ForwardError.csv",
        "BackwardError.jpg",
        "BackwardError.csv",
        "Step1_Keypoints.jpg",
        "Step2.jpg",
        "Clusters",
        "Stages.csv",
        "Landmarks.csv",
        "tensorboard",
    } <= logs
    assert len(list((trained / "Logs/demo/Logs/Clusters").glob("Cluster*.jpg"))) > 5


def test_keypoints_file_has_every_training_picture(trained):
    content = load_pickle(trained / "Logs/demo/CheckPoints/SuperPointKeypoints.pickle")
    assert len(content) == 40
    for points in content.values():
        assert points.shape[1] == 3
        assert ((points[:, :2] >= 0) & (points[:, :2] < 16)).all()


def test_predictions_file_has_the_published_layout(trained):
    content = load_pickle(trained / "Logs/demo/CheckPoints/EvaluateStep2Keypoints12.pickle")
    assert len(content) == 52
    entry = next(iter(content.values()))
    assert set(entry) == {"prediction", "groundtruth", "is_it_test_sample"}
    assert entry["prediction"].shape[1] == 2
    assert entry["groundtruth"].shape == (25, 2)
    assert sum(e["is_it_test_sample"] for e in content.values()) == 12


def test_curves_are_cumulative_means(trained):
    header, *rows = (trained / "Logs/demo/Logs/ForwardError.csv").read_text().splitlines()
    assert header == "landmarks,nme_percent"
    counts, values = zip(*((int(a), float(b)) for a, b in (row.split(",") for row in rows)))
    assert counts == tuple(range(1, 26))
    assert all(a <= b + 1e-9 for a, b in zip(values, values[1:]))


def test_a_saved_predictions_file_gives_the_same_errors(trained, tmp_path, capsys):
    file = trained / "Logs/demo/CheckPoints/EvaluateStep2Keypoints12.pickle"
    capsys.readouterr()
    succeed(Test.main, arguments(tmp_path, "--predictions", str(file)))
    lines = [line for line in capsys.readouterr().out.splitlines() if " error:" in line]
    assert len(lines) == 2
    logged = (trained / "Logs/demo/Logs/demo.txt").read_text()
    assert all(line in logged for line in lines)


def test_predictions_are_evaluated_without_the_data_set(trained, tmp_path, capsys):
    """The rule of CelebA, whose paths name nothing that exists."""
    rng = np.random.default_rng(0)
    content = {}
    for i in range(40):
        truth = rng.uniform(0, 256, (68, 2))
        content[f"{i}.jpg"] = {"prediction": truth[:9] + 1, "groundtruth": truth, "is_it_test_sample": i >= 30}
    dump_pickle(content, tmp_path / "other.pickle")
    argv = arguments(tmp_path, "--predictions", str(tmp_path / "other.pickle"), dataset_name="CelebA")
    (tmp_path / "paths.yaml").write_text(f"log_path: {tmp_path}/Logs\nCelebA_datapath: /nowhere\n")
    succeed(Test.main, argv)
    assert (tmp_path / "Logs/demo/Logs/ForwardError.csv").read_text().count("\n") == 69
    assert "Backward error:" in capsys.readouterr().out


def test_predictions_by_another_protocol(tmp_path, capsys):
    """Landmarks twice as far as the points: a linear map without intercept makes no error."""
    content = {
        f"{i}.jpg": {"prediction": 2 * truth, "groundtruth": truth, "is_it_test_sample": i >= 200}
        for i, truth in enumerate(np.random.default_rng(0).uniform(0, 128, (300, 5, 2)))
    }
    dump_pickle(content, tmp_path / "other.pickle")
    argv = arguments(tmp_path, "--predictions", str(tmp_path / "other.pickle"), dataset_name="CelebA")
    succeed(Test.main, [*argv, "--protocol", "mafl5"])
    logs, said = tmp_path / "Logs/demo/Logs", capsys.readouterr().out
    assert "Forward error:  0.00%" in said
    assert "Backward error" not in said
    assert (logs / "ForwardError-mafl5.csv").read_text().count("\n") == 6
    few = (logs / "FewShot-mafl5.csv").read_text().splitlines()
    assert few[0] == "annotated,mean_percent,spread_percent"
    assert [row.split(",")[0] for row in few[1:]] == ["1", "2", "5", "10", "20", "50", "100", "200"]
    assert "CelebA lacks its points; give one of paper, mafl5" in fail(
        Test.main, [*argv, "--protocol", "cub"], capsys
    )
    assert "--mirror need step two's network" in fail(Test.main, [*argv, "--mirror"], capsys)


def test_the_same_k_landmarks_in_every_program(copy, capsys):
    """The order comes from step two's training; with two landmarks, all files have these two."""
    relations = copy / "Logs/demo/CheckPoints/LandmarkRelations12.json"
    content = json.loads(relations.read_text())
    names = [f"landmark_{k}" for k in sorted(content["telling"][:2])]
    argv = arguments(copy, "--landmarks", "2")
    succeed(Test.main, argv)
    rows = (copy / "Logs/demo/Logs/Landmarks-2landmarks.csv").read_text().splitlines()[1:]
    assert [f"landmark_{row.split(',')[0]}" for row in rows] == names
    predictions = load_pickle(copy / "Logs/demo/CheckPoints/EvaluateStep2Keypoints12-2landmarks.pickle")
    assert next(iter(predictions.values()))["prediction"].shape == (2, 2)
    succeed(Visualise.main, [*argv, "--visualisation", "Step2", "--mirror"])
    assert (copy / "Logs/demo/Logs/Step2-2landmarks-mirror.jpg").stat().st_size
    assert "step two's network" in fail(Visualise.main, [*argv, "--visualisation", "Step1_Clusters"], capsys)
    picture = next((copy / "Logs/DemoData").glob("test/*.jpg"))
    succeed(Predict.main, [*argv, "--input", str(picture), "--mirror"])
    (category,) = json.loads((copy / "Logs/demo/Predictions/landmarks.json").read_text())["categories"]
    assert category["keypoints"] == names
    assert {name for pair in category["mirror"] for name in pair} <= set(names)
    count = len(content["telling"])
    argv[-1] = "999"
    assert f"--landmarks 999: {count} landmarks are found in over 80%" in fail(Test.main, argv, capsys)
    relations.unlink()
    argv[-1] = "2"
    succeed(Test.main, argv)
    assert json.loads(relations.read_text()) == content


def test_stages_are_compared(trained):
    with (trained / "Logs/demo/Logs/Stages.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == list(compare_stages.COLUMNS)
    assert [row[0] for row in rows] == [
        "mean shape",
        "bootstrap's clusters",
        "step one, last clusters",
        "step two",
    ]
    # Of step two, whose landmarks are in most pictures; means, so that r2 is near the quotient's.
    residual, movement, r2 = (float(value) for value in rows[3][4:7])
    assert 0 < residual < 100
    assert 0 < movement < 100
    assert r2 == pytest.approx(1 - (residual / movement) ** 2, abs=0.4)


def test_each_landmark_has_a_row(trained):
    with (trained / "Logs/demo/Logs/Landmarks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    active = torch.load(newest_of_step_two(trained), weights_only=False)["active_channels"]
    assert [int(row["landmark"]) for row in rows] == sorted(active.tolist())
    assert len({row["colour"] for row in rows}) == len(rows)
    for row in rows:
        assert 0 <= float(row["found_percent"]) <= 100
    kept = [row for row in rows if row["backward_percent"]]
    log = (trained / "Logs/demo/Logs/demo.txt").read_text()
    assert f"Landmarks evaluated: {len(kept)}" in log


def newest_of_step_two(folder):
    files = (folder / "Logs/demo/CheckPoints").glob("demoSecondStepEpoch*.pth")
    return max(files, key=lambda path: int(path.stem.removeprefix("demoSecondStepEpoch")))


def test_finished_runs_are_not_written_over(trained, capsys):
    before = {p: p.stat().st_mtime_ns for p in (trained / "Logs/demo/CheckPoints").iterdir()}
    assert "--resume" in fail(Train_Firststep.main, arguments(trained), capsys)
    assert "--resume" in fail(Train_Secondstep.main, arguments(trained), capsys)
    succeed(Train_Firststep.main, arguments(trained, "--resume"))
    succeed(Train_Secondstep.main, arguments(trained, "--resume"))
    assert {p: p.stat().st_mtime_ns for p in (trained / "Logs/demo/CheckPoints").iterdir()} == before


def test_a_killed_process_resumes_to_the_same_weights(trained, launcher, tmp_path):
    """kill -9 in the middle of step one, then --resume; about 15 s."""
    shutil.copytree(trained / "Logs/DemoData", tmp_path / "Logs/DemoData")
    command = ["Train_Firststep.py", *arguments(tmp_path, minutes_between_checkpoints=0)]
    killed = launcher.run(ROOT, command, killed_at=Experiment(tmp_path / "Logs", "demo").first_step_state())
    assert killed.code == -signal.SIGKILL, killed
    resumed = launcher.run(ROOT, [*command, "--resume"])
    assert resumed.code == 0, resumed
    whole, ours = (
        load_checkpoint(Experiment(folder / "Logs", "demo").first_step_checkpoint(11))["state_dict"]
        for folder in (trained, tmp_path)
    )
    # Threads may differ between this process and the other, so that the last bits may.
    assert all(torch.allclose(whole[name], ours[name], atol=1e-4) for name in whole)


def test_a_folder_without_annotations(trained, tmp_path, capsys):
    """Custom on plain pictures: trained, and judged by what can be told without groundtruth; about 10 s."""
    pictures = tmp_path / "pictures"
    shutil.copytree(trained / "Logs/DemoData/train", pictures)
    argv = arguments(tmp_path, "--images", str(pictures), dataset_name="Custom", poses="one")
    succeed(Train_Firststep.main, argv)
    succeed(Train_Secondstep.main, argv)
    capsys.readouterr()
    succeed(Test.main, argv)
    said = capsys.readouterr().out
    assert "No groundtruth landmarks" in said
    with (tmp_path / "Logs/demo/Logs/Landmarks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert all(row["found_percent"] and not row["r2"] for row in rows)  # r2 needs groundtruth
    succeed(Visualise.main, [*argv, "--visualisation", "Step2"])
    capsys.readouterr()
    points = [*argv, "--visualisation", "Points"]
    assert "has no named points" in fail(Visualise.main, points, capsys)
    files = sorted(path.name for path in pictures.glob("*.jpg"))[:3]
    rows = [f"{file},{20 + i},30" for i, file in enumerate(files)]
    (tmp_path / "points.csv").write_text("\n".join(["file,tip_x,tip_y", *rows]))
    threshold = ["--threshold", "-9"]  # the tiny network is sure of nothing
    succeed(name_points.main, [*argv, "--annotations", str(tmp_path / "points.csv"), *threshold])
    succeed(Visualise.main, points)
    assert (tmp_path / "Logs/demo/Logs/Points.jpg").stat().st_size


def test_order_of_the_steps_is_said(tmp_path, trained, capsys):
    shutil.copytree(trained / "Logs/DemoData", tmp_path / "Logs/DemoData")
    assert "Train_Firststep.py" in fail(Train_Secondstep.main, arguments(tmp_path), capsys)
    assert "Train_Secondstep.py" in fail(Test.main, arguments(tmp_path), capsys)
    assert "Train_Firststep.py" in fail(
        Visualise.main, arguments(tmp_path, "--visualisation", "Step1_Clusters"), capsys
    )
    assert not (tmp_path / "Logs/demo").exists()


def test_damaged_checkpoints_are_named(copy, capsys):
    experiment = Experiment(copy / "Logs", "demo")
    _, path = experiment.newest_second_step()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert path.name in fail(Test.main, arguments(copy), capsys)
    path.write_bytes(b"")
    assert "is empty" in fail(Test.main, arguments(copy), capsys)
    save_checkpoint(load_checkpoint(experiment.first_step_checkpoint(11)), path)
    assert "not a checkpoint of step two" in fail(Test.main, arguments(copy), capsys)
    torch.save({"state_dict": {}, "active_channels": Code()}, path)
    assert "is refused" in fail(Test.main, arguments(copy), capsys)
    assert not Path("code_ran").exists()


class Code:
    def __reduce__(self):
        return os.mkdir, ("code_ran",)


def test_damaged_keypoints_are_named(copy, capsys):
    path = Experiment(copy / "Logs", "demo").updated_keypoints(11)
    for stale in (copy / "Logs/demo/CheckPoints").glob("demoSecond*"):
        stale.unlink()
    dump_pickle({"nobody.png": np.zeros((3, 3))}, path)
    assert "UpdatedKeypoints11.pickle" in fail(Train_Secondstep.main, arguments(copy), capsys)
    dump_pickle([1, 2], path)
    assert "not a dictionary" in fail(Train_Secondstep.main, arguments(copy), capsys)


def test_wrong_superpoint_files_are_named(tmp_path, trained, capsys):
    shutil.copytree(trained / "Logs/DemoData", tmp_path / "Logs/DemoData")
    weights = tmp_path / "weights.pth"
    (tmp_path / "paths.yaml").write_text(f"log_path: {tmp_path}/Logs\npath_to_superpoint_checkpoint: {weights}\n")
    assert "weights.pth does not exist" in fail(Train_Firststep.main, arguments(tmp_path), capsys)
    torch.save({"conv1a.weight": torch.zeros(3)}, weights)
    message = fail(Train_Firststep.main, arguments(tmp_path, "--resume"), capsys)
    assert "weights.pth does not fit the network SuperPoint" in message


def test_too_many_clusters_are_said(tmp_path, trained, capsys):
    shutil.copytree(trained / "Logs/DemoData", tmp_path / "Logs/DemoData")
    message = fail(Train_Firststep.main, arguments(tmp_path, number_of_clusters=5000), capsys)
    assert "fewer than 5000 clusters" in message
    assert not list((tmp_path / "Logs/demo/CheckPoints").iterdir())
