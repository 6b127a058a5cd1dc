"""Run by test_process.py in processes of its own: in which threads and processes 1e-39 counts as 0.

    python -m tests.Utils.runtime.process_probe PROBE

Prints a line of JSON: how many numbers near 1e-39 survived in each place, all 0 where they count as 0.
"""

import contextlib
import json
import multiprocessing
import os
import runpy
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from Databases.demo.database import Demo
from Databases.samples import crop_batches
from tests.tiny import TinyDatabase
from Utils.hyperparameters import hyperparameters
from Utils.runtime import distributed
from Utils.runtime.parallel import parallel_map
from Utils.runtime.process import set_up_process

ROOT = Path(__file__).parents[3]
LARGE = 1 << 20  # numbers: PyTorch divides so many among its threads


def survivors(count: int = 4) -> int:
    """How many of `count` numbers 1e-39 are not 0 as a result, or count as more than 0 as an argument.

    In this thread, numpy's included; where `count` is large, in PyTorch's own threads.
    """
    product = torch.full((count,), 1e-20) * 1e-19
    made = int((product.view(torch.int32) != 0).sum())  # looks at the bits: an argument may count as 0 too
    given = torch.full((count,), 713_624, dtype=torch.int32).view(torch.float32)
    taken = int(((given * 1e30).view(torch.int32) != 0).sum())
    in_numpy = int(((np.full(4, 1e-20, np.float32) * np.float32(1e-19)).view(np.int32) != 0).sum())
    return made + taken + in_numpy


def limits() -> int:
    """Ask numpy for the limits of its kinds of numbers; how many warnings that makes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for kind in (np.float16, np.float32, np.float64, np.longdouble, np.complex64, np.complex128):
            str(np.finfo(kind))
    return len(caught)


def threads() -> int:
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else -1


def in_threads() -> dict[str, int]:
    """The main thread, PyTorch's threads, and how many threads there are beside it after large operations."""
    found = {"main": survivors(), "pool": survivors(LARGE), "warnings": limits()}
    return {**found, "started": threads() - 1}


class Nested(torch.autograd.Function):
    """Its backward pass makes another one, `depth` deep, and notes what survives in the last."""

    @staticmethod
    def forward(ctx, x: Tensor, depth: int, notes: dict) -> Tensor:
        ctx.depth, ctx.notes = depth, notes
        return x * 1.0

    @staticmethod
    def backward(ctx, gradient: Tensor):
        if ctx.depth == 0:
            ctx.notes["thread"] = threading.get_native_id()
            ctx.notes["function"] = survivors()
        else:
            with torch.enable_grad():
                inner = torch.ones(1, requires_grad=True)
                Nested.apply(inner, ctx.depth - 1, ctx.notes).backward()
        return gradient, None, None


def backward() -> dict[str, int]:
    """A backward pass: its own operations, a hook, and a Function so deep that autograd takes a new thread."""
    x = torch.full((LARGE,), 1e-19, requires_grad=True)
    found = {}
    y = x * 1e-20
    y.register_hook(lambda gradient: found.update(hook=survivors(len(gradient))))
    (y * 1e-19).sum().backward()
    found["gradient"] = int((x.grad.view(torch.int32) != 0).sum())
    notes: dict[str, int] = {}
    Nested.apply(torch.ones(1, requires_grad=True), 100, notes).backward()
    same = int(notes["thread"] == threading.get_native_id())
    return {**found, "function": notes["function"], "same thread": same}


def of_one_process() -> dict[str, int]:
    return {**in_threads(), **backward()}


class Watched(Dataset):
    """A data set that notes in a file of each process that loads from it what survives there."""

    def __init__(self, dataset: Dataset, folder: str) -> None:
        self.dataset, self.folder = dataset, folder

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index):
        note(self.folder)
        return self.dataset[index]


def note(folder: str) -> None:
    Path(folder, str(os.getpid())).write_text(str(survivors() + limits()))


def noted(folder: str) -> dict[str, int]:
    """What was noted, and in how many processes other than this one."""
    notes = {path.name: int(path.read_text()) for path in Path(folder).iterdir()}
    return {"processes": len(notes.keys() - {str(os.getpid())}), "in processes": sum(notes.values())}


@contextlib.contextmanager
def watched_loaders(folder: str) -> Iterator[None]:
    """Here each DataLoader's data set is watched."""
    original = DataLoader.__init__

    def init(self, dataset, *args, **kwargs) -> None:
        original(self, Watched(dataset, folder), *args, **kwargs)

    DataLoader.__init__ = init
    yield
    DataLoader.__init__ = original


class SlowDatabase(TinyDatabase):
    def read(self, images, i: int) -> np.ndarray:
        time.sleep(0.01)  # worth a worker, also on two cores
        return super().read(images, i)


def mapped(folder: str, _: int) -> None:
    note(folder)
    time.sleep(0.01)


def workers(method: str, folder: str) -> dict[str, dict[str, int]]:
    """Processes that load pictures for a network, that render the Demo set, and those of `parallel_map`."""
    multiprocessing.set_start_method(method)
    folders = {name: str(Path(folder, name)) for name in ("loading", "rendering", "mapping")}
    for path in folders.values():
        Path(path).mkdir()
    with watched_loaders(folders["loading"]):
        database = SlowDatabase()
        list(crop_batches(database, database.training, 64, 4, 1, torch.device("cpu")))
    with watched_loaders(folders["rendering"]):
        hyper = hyperparameters(["demo_training=4", "demo_test=1", "demo_picture_size=32"], {}, Demo)
        Demo.open(SimpleNamespace(hyper=hyper, log_path=folder, num_workers=1))
    list(parallel_map(mapped, folders["mapping"], range(50), 2))
    return {name: noted(path) for name, path in folders.items()}


def processes() -> dict[str, int]:
    """One of torchrun's: its threads, a backward pass, and the sum over all processes."""
    distributed.start(torch.device("cpu"))
    total = torch.full((LARGE,), 713_624, dtype=torch.int32).view(torch.float32)
    dist.all_reduce(total)
    found = {**of_one_process(), "sum": int((total.view(torch.int32) != 0).sum())}
    del found["started"], found["same thread"]
    parts = distributed.gather(np.array([[*found.values()]]))
    distributed.stop()
    return {**dict(zip(found, parts.sum(axis=0).tolist())), "rank": int(os.environ["RANK"])}


def scripts() -> dict[str, dict[str, int]]:
    """Each script up to its command line, in a process of its own that has imported what scripts import."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name.startswith((".", "tests")) or '__name__ == "__main__"' not in path.read_text():
            continue
        reading, writing = os.pipe()
        if os.fork() == 0:
            try:
                os.write(writing, json.dumps(after_help(path)).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            found[name] = json.loads(answer.read() or "{}")
        os.wait()
    return found


def after_help(path: Path) -> dict[str, int]:
    sys.argv = [str(path), "--help"]
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        return {**in_threads(), "code": end.code or 0}
    return {}


PROBES = {"threads": of_one_process, "workers": workers, "processes": processes}

if __name__ == "__main__":
    probe, *arguments = sys.argv[1:]
    if probe == "scripts":  # set up the process themselves
        result = scripts()
    else:
        set_up_process()
        result = PROBES[probe](*arguments)
    print(json.dumps(result) + "\n", end="", flush=True)  # one write: torchrun's processes share a pipe, unbuffered
    if probe == "threads":
        os._exit(0)  # a deep thread of autograd may still be starting, and the interpreter would abort at its end
