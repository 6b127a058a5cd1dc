"""The lines that replace a bar when there is no terminal."""

import re

import pytest

from Utils.runtime import distributed
from Utils.runtime.progress import Progress, progress


def test_a_line_at_the_start_each_half_minute_and_at_the_end(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with Progress("Bootstrap", 100, "picture", initial=20) as shown:
        for seconds in (20, 20, 20):
            now[0] += seconds
            shown.show(loss=0.12345)
            shown.update(20)
        assert shown.n == 80
        assert shown.rate == pytest.approx(1.0)
        shown.update(20)
    start, middle, end = capsys.readouterr().err.splitlines()
    assert start.startswith("Bootstrap: 20/100 pictures, ")
    assert re.fullmatch(r"Bootstrap: 60/100 pictures, .* picture/s, 00:40 gone, 00:\d\d left, loss=0\.123", middle)
    assert re.fullmatch(r"Bootstrap: 100/100 pictures, .* picture/s, 01:00 gone, 00:00 left, loss=0\.123", end)


def test_items_pass_through(capsys):
    assert list(progress("abc", "Letters", unit="letter")) == ["a", "b", "c"]
    assert capsys.readouterr().err.splitlines()[-1].startswith("Letters: 3/3 letters, ")


def test_only_the_main_process_speaks(capsys, monkeypatch):
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    assert list(progress("abc", "Letters")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
