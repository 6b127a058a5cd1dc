"""Curves of several experiments and of elsewhere: one table, one picture per direction, wrong files named."""

import csv

import pytest

from tools import compare_experiments
from Utils.storage.experiment import Experiment

CURVE = "landmarks,nme_percent\n1,2.0\n2,2.5\n3,4.0\n"


@pytest.fixture
def folder(tmp_path):
    """Two experiments as Test.py leaves them; the second has one landmark fewer."""
    for name, rows in (("a", CURVE), ("b", CURVE.rpartition("3,")[0])):
        logs = Experiment(tmp_path / "Logs", name).logs
        logs.mkdir(parents=True)
        for direction in ("Forward", "Backward"):
            (logs / f"{direction}Error.csv").write_text(rows)
        (logs / "run.yaml").write_text("- dataset_name: Demo\n")
    (tmp_path / "paths.yaml").write_text(f"log_path: {tmp_path}/Logs\n")
    return tmp_path


def compare(folder, *words, dataset_name: str = "Demo") -> int:
    with pytest.raises(SystemExit) as end:
        compare_experiments.main(
            ["--dataset_name", dataset_name, "--paths", str(folder / "paths.yaml"), *map(str, words)]
        )
    return end.value.code


def test_one_table_and_two_pictures(folder, capsys):
    (folder / "paper.csv").write_text(
        "direction,landmarks,nme_percent\nbackward,1,7.5\nforward,1,3.25\nbackward,2,8\n"
    )
    words = ("--experiment_names", "a", "b", "--curve", f"the paper={folder}/paper.csv")
    assert compare(folder, *words) == 0
    with (folder / "Logs/Comparison/Errors.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["name", "direction", "landmarks", "nme_percent"]
    assert len(rows) == 3 + 2 + 1 + 3 + 2 + 2
    assert [row for row in rows if row[0] == "the paper"] == [
        ["the paper", "forward", "1", "3.250000"],
        ["the paper", "backward", "1", "7.500000"],
        ["the paper", "backward", "2", "8.000000"],
    ]
    said = capsys.readouterr().out
    assert "4.00% over 3" in said
    assert "8.00% over 2" in said
    for direction in ("Forward", "Backward"):
        assert (folder / f"Logs/Comparison/{direction}Error.jpg").stat().st_size > 5000


def test_what_does_not_fit_is_one_line(folder, capsys):
    (folder / "odd.csv").write_text("x,y\n1,2\n")
    (folder / "gap.csv").write_text("landmarks,nme_percent\n1,2\n3,4\n")
    (folder / "sideways.csv").write_text("landmarks,nme_percent,direction\n1,2,sideways\n")
    cases = [
        ((), "nothing to compare"),
        (("--experiment_names", "c"), "run Test.py for that experiment"),
        (("--experiment_names", "a", "a"), "two forward curves are named a"),
        (("--curve", "paper"), 'write it as "name=file.csv"'),
        (("--curve", f"p={folder}/none.csv"), "none.csv does not exist"),
        (("--curve", f"p={folder}/odd.csv"), "write the columns landmarks,nme_percent"),
        (("--curve", f"p={folder}/gap.csv"), "give a row for each of 1, 2, 3"),
        (("--curve", f"p={folder}/sideways.csv"), "write forward or backward"),
        (("--experiment_names", "a", "--output", folder / "odd.csv"), "is a file; give a folder"),
    ]
    for words, message in cases:
        assert compare(folder, *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert compare(folder, "--experiment_names", "a", dataset_name="CelebA") == 2
    assert "experiment a is of Demo and not of CelebA" in capsys.readouterr().err
    assert not (folder / "Logs/Comparison").exists()
