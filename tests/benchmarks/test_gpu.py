"""The benchmark of a GPU, on the CPU at tiny size, so that it runs where a GPU is lent for minutes."""

import re

import pytest
import torch.distributed as dist

from benchmarks import gpu
from benchmarks.training import VARIANTS

TINY = "--device cpu --image_size 64 --width 32 --iterations 1 --repeats 1 --seconds 0 --size 64 --num_workers 0"
TITLES = ["time in bfloat16", "what waits for the device", "results in float32", "one process of several"]


@pytest.fixture
def small(monkeypatch):
    for module in ("samples", "training"):
        monkeypatch.setattr(f"benchmarks.{module}.PICTURES", 8)
    monkeypatch.setattr(gpu, "COMPARED", 2)
    fast = ["precision=float32", "zooms_superpoint=1"]  # many a CPU takes minutes for bfloat16
    monkeypatch.setitem(VARIANTS, "bfloat16", fast)
    monkeypatch.setitem(VARIANTS, "float32", fast)
    monkeypatch.setattr(gpu, "TINY", [*gpu.TINY, "zooms_superpoint=1"])


def test_every_figure_is_printed(small, capsys):
    """15 s."""
    gpu.main([*TINY.split(), "--variants"])
    said = capsys.readouterr().out
    assert "FAILED" not in said
    assert re.findall(r"^(.+) \(after \d+ s\)$", said, re.MULTILINE) == TITLES
    rows = re.findall(
        r"^(step one, iteration|step two, iteration|bootstrap|relabelling)\D+([\d.]+)", said, re.MULTILINE
    )
    assert len(rows) == 4
    assert all(float(time) > 0 for _, time in rows)
    assert said.count("an iteration waits for nothing") == 4
    losses = re.findall(r"step (?:one|two), cpu: ([\d.]+) ([\d.]+)$", said, re.MULTILINE)
    assert len(losses) == 2
    assert "weights differ by at most 0.0e+00" in said
    assert re.search(r"without clustering: [\d.]+ hours \(step one", said)
    assert not dist.is_initialized()


def test_what_fails_takes_nothing_else_along(small, capsys, monkeypatch):
    def fail(*_):
        raise RuntimeError("no kernel image")

    for name in ("measure_all", "measure_waiting", "compare_results"):
        monkeypatch.setattr(gpu, name, fail)
    gpu.main([*TINY.split(), "--variants"])
    said = capsys.readouterr().out
    assert said.count("FAILED: RuntimeError: no kernel image") == 3
    assert "gloo: after 2 iterations" in said


def test_without_a_gpu_one_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "this machine has no CUDA GPU" in capsys.readouterr().err
