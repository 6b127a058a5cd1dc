"""The demo's list of commands. That all of them run is seen by `make_demo`."""

from types import SimpleNamespace

import pytest

from tools import demo


def test_a_stage_that_fails_ends_the_demo(tmp_path, monkeypatch, capsys):
    """With its code, and without what comes after it."""
    paths = tmp_path / "paths.yaml"
    paths.write_text(f"log_path: {tmp_path}/Logs\n")
    monkeypatch.setattr("sys.argv", ["demo.py"])
    ran = []

    def script(name: str, code: int):
        def main(argv):
            ran.append((name, argv[-1]))
            raise SystemExit(code)

        return SimpleNamespace(__file__=str(demo.ROOT / f"{name}.py"), main=main)

    stages = ((script("A", 0), ("--resume",)), (script("B", 2), ("x",)), (script("C", 0), ()))
    monkeypatch.setattr(demo, "STAGES", stages)
    with pytest.raises(SystemExit) as end:
        demo.main(["--dataset_name", "Demo", "--experiment_name", "demo", "--paths", str(paths)])
    assert end.value.code == 2
    assert ran == [("A", "--resume"), ("B", "x")]
    assert "> python B.py --dataset_name Demo" in capsys.readouterr().out


def test_time_taken_is_said(monkeypatch, capsys):
    stage = SimpleNamespace(__file__=str(demo.ROOT / "A.py"), main=lambda argv: None)
    monkeypatch.setattr("sys.argv", ["demo.py"])
    monkeypatch.setattr(demo, "STAGES", ((stage, ("--resume",)),))
    with pytest.raises(SystemExit):
        demo.main(
            ["--dataset_name", "Demo", "--experiment_name", "demo", "--paths", str(demo.ROOT / "paths/demo.yaml")]
        )
    assert capsys.readouterr().out.endswith("\nTime taken:\n00:00 A.py --resume\n")
