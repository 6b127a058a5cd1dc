"""Numbers and paths of command lines."""

import argparse
from pathlib import Path

import pytest

from Utils.runtime.arguments import Parser, path_of, real, whole
from Utils.runtime.errors import UserError


@pytest.mark.parametrize("text", ["-1", "11", "x", "", "1.5", "9" * 5000])
def test_whole_numbers_within_bounds(text):
    assert whole(0, 10)("7") == 7
    with pytest.raises(argparse.ArgumentTypeError, match="whole number from 0 to 10"):
        whole(0, 10)(text)


@pytest.mark.parametrize("text", ["nan", "inf", "-0.1", "x", "2"])
def test_real_numbers_within_bounds(text):
    assert real(0.0, 1.0)("0.5") == 0.5
    with pytest.raises(argparse.ArgumentTypeError, match="number from 0.0 to 1.0"):
        real(0.0, 1.0)(text)


def test_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert path_of("~/a") == Path("/home/me/a")


def test_variables_in_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("SCRATCH", "/large")
    monkeypatch.delenv("UNSET", raising=False)
    assert path_of("$SCRATCH/Logs") == path_of("${SCRATCH}/Logs") == Path("/large/Logs")
    for text in ("$UNSET/Logs", "/a/${UNSET}", "~no_such_user/Logs"):
        with pytest.raises(UserError, match=r"(UNSET}?|~no_such_user) is not known here"):
            path_of(text)
    (tmp_path / "a$SCRATCH").mkdir()  # a name may hold a dollar
    assert path_of(f"{tmp_path}/a$SCRATCH") == tmp_path / "a$SCRATCH"
    assert path_of("/costs/5$") == Path("/costs/5$")
    monkeypatch.setenv("EMPTY", "")
    for text in ("", " ", "$EMPTY", "a\0b"):
        with pytest.raises(UserError, match="a path is empty"):
            path_of(text)


def test_mistakes_are_one_line():
    parser = Parser()
    parser.add_argument("--count", type=whole(0, 10))
    with pytest.raises(UserError, match="argument --count: -1: give a whole number from 0 to 10; see --help"):
        parser.parse_args(["--count", "-1"])
    with pytest.raises(UserError, match="unrecognized arguments: --other"):
        parser.parse_args(["--other"])
