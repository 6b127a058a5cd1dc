import sys

import pytest

from benchmarks.memory import peak

HOLD = "import time; held = bytearray({0} << 20); held[::4096] = b'x' * len(held[::4096]); time.sleep({1})"


def test_peak_adds_up_a_process_and_its_child():
    child = f"subprocess.Popen([sys.executable, '-c', {HOLD.format(100, 1.5)!r}])"
    alone, _ = peak([sys.executable, "-c", HOLD.format(100, 1)], None)
    both, _ = peak([sys.executable, "-c", f"import subprocess, sys; {child}; {HOLD.format(200, 1)}"], None)
    assert 100 < 1024 * alone < 140
    assert 300 < 1024 * both < 380


def test_what_would_take_too_long_is_stopped():
    _, seconds = peak([sys.executable, "-c", HOLD.format(1, 60)], 1)
    assert 1 <= seconds < 30


def test_a_failing_stage_is_reported():
    with pytest.raises(SystemExit, match="no such thing"):
        peak([sys.executable, "-c", "raise ValueError('no such thing')"], None)
