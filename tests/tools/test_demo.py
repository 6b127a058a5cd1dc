"""The demo's account of its time: what it says before, and after. The runs themselves are those of `make_demo`."""

import re
import shutil
from types import SimpleNamespace

import pytest

from tests.tiny import CONSENSUS_SETTINGS, DEMO_SETTINGS, SETTINGS
from tools import demo
from Utils.storage.experiment import Experiment


def arguments(folder, logs=None, **settings) -> list[str]:
    """Tiny; the paths file goes into the folder, and so does what the run makes, unless it goes to `logs`."""
    paths = folder / "paths.yaml"
    paths.write_text(f"log_path: {logs or folder / 'Logs'}\n")
    pairs = [f"{name}={value}" for name, value in (SETTINGS | CONSENSUS_SETTINGS | DEMO_SETTINGS | settings).items()]
    sets = [word for pair in pairs for word in ("--set", pair)]
    return ["--dataset_name", "Demo", "--experiment_name", "demo", "--paths", str(paths), "--num_workers", "0", *sets]


def table(log: str) -> dict[str, tuple[int, int]]:
    """Stage -> expected and taken seconds, of the last run."""
    row = re.compile(r":\d\d ([a-z][a-z ]*[a-z]) +(\d+):(\d\d) +(\d+):(\d\d)$", re.MULTILINE)
    rows = row.findall(log.rpartition("took\n")[2])
    return {name: (60 * int(a) + int(b), 60 * int(c) + int(d)) for name, a, b, c, d in rows}


def experiment_of(folder) -> Experiment:
    return Experiment(folder / "Logs", "demo")


def test_the_log_says_what_was_expected_and_what_each_stage_took(make_demo):
    log = (experiment_of(make_demo.folder).logs / "demo.txt").read_text()
    assert re.search(r"The demo takes about \d+:\d\d .*: rendering \d+:\d\d, step one \d+:\d\d, ", log)
    rows = table(log)
    assert list(rows) == ["rendering", *demo.STAGES, "all"]
    for column in (0, 1):
        *parts, total = (row[column] for row in rows.values())
        assert total > 0
        assert abs(total - sum(parts)) <= len(parts) / 2  # each is rounded


def test_a_run_that_was_stopped_is_expected_to_go_on(make_demo, tmp_path):
    """Of the tiny demo's iterations, 11 of step one and 12 of step two."""
    options = demo.read(arguments(tmp_path))
    assert demo.iterations_left(options, experiment_of(tmp_path)) == (1, 1)
    assert demo.iterations_left(options, experiment_of(make_demo.folder)) == (0, 0)
    stopped = experiment_of(tmp_path)
    stopped.open()
    shutil.copy(experiment_of(make_demo.folder).first_step_checkpoint(6), stopped.checkpoints)
    assert demo.iterations_left(options, stopped) == pytest.approx((5 / 11, 1))


def test_expected_times_are_those_of_what_is_left(make_demo, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "seconds_per_iteration", lambda database, options: (3.0, 2.0))
    monkeypatch.setattr(demo, "iterations_left", lambda options, experiment: (0.5, 0.25))
    monkeypatch.setattr(demo, "BESIDE", {"step one": 10, "step two": 4, "errors and pictures": 5})
    shutil.copytree(make_demo.folder / "Logs/DemoData", tmp_path / "Logs/DemoData")
    assert demo.expected_seconds(arguments(tmp_path), experiment_of(tmp_path)) == {
        "rendering": 0,
        "step one": 0.5 * (11 * 3 + 10 * 2),
        "step two": 0.25 * (12 * 2 + 4 * 2),
        "errors and pictures": 5 * 2,
    }


def test_pictures_that_are_not_rendered_yet_count(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "seconds_per_iteration", lambda database, options: (0.0, 0.0))
    monkeypatch.setattr(demo, "PICTURES", 4)
    argv = arguments(tmp_path, demo_training=9, demo_test=3)
    before = demo.expected_seconds(argv, experiment_of(tmp_path))
    assert demo.missing_pictures(demo.read(argv)) == 12 - 4 - 1
    assert 0 < before["rendering"] < 60


def test_to_tell_the_time_changes_nothing(make_demo, tmp_path):
    def files():
        return {path: path.stat().st_mtime_ns for path in make_demo.folder.rglob("*") if path.is_file()}

    options = demo.read(arguments(tmp_path, make_demo.folder / "Logs"))
    before = files()
    first, second = demo.seconds_per_iteration(demo.Demo.open(options), options)
    assert 0 < first < 60
    assert 0 < second < 60
    assert files() == before


def test_a_stage_that_fails_ends_the_demo(tmp_path, monkeypatch, capsys):
    """With its code, and without what comes after it."""
    monkeypatch.setattr("sys.argv", ["demo.py"])
    monkeypatch.setattr(demo, "expected_seconds", lambda argv, experiment: {"rendering": 0.0})
    monkeypatch.setattr(demo.Demo, "open", lambda options: None)
    ran = []

    def script(name: str, code: int):
        def main(argv):
            ran.append((name, argv[-1]))
            raise SystemExit(code)

        return SimpleNamespace(__file__=str(demo.ROOT / f"{name}.py"), main=main)

    stages = {"one": [(script("A", 0), ["--resume"]), (script("B", 2), ["x"])], "two": [(script("C", 0), [])]}
    monkeypatch.setattr(demo, "STAGES", stages)
    with pytest.raises(SystemExit) as end:
        demo.main(arguments(tmp_path))
    assert end.value.code == 2
    assert ran == [("A", "--resume"), ("B", "x")]
    assert "> python B.py --dataset_name Demo" in capsys.readouterr().out
