"""All that is to be known of a GPU, in some eight minutes; each figure is printed as soon as it is measured.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --image_size 64 --width 32 --iterations 2 --repeats 1 --seconds 0 --size 256

In this order: iterations of both steps at the paper's size in bfloat16, loading included, against the bare networks
and against the fastest matrix product; bootstrap and relabelling; memory; what CelebA would take at the paper's
length; whether an iteration ever waits for the GPU, and what waits in detection; results in float32 beside the CPU's;
an iteration with NCCL; then iterations in float32, and with torch.compile. Rows are those of benchmarks/training.py.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.samples import Pictures
from benchmarks.training import (
    ITERATIONS_OF_THE_PAPER,
    VARIANTS,
    loop,
    measure_detection,
    measure_training,
    options_of,
    seconds,
    steps_of,
)
from Databases.database import ImageSet
from Databases.loading import training_batches
from Networks.execution import uses_bfloat16
from Networks.generic_keypoints import detect_generic_keypoints
from Networks.recipes import RECIPES, recipe_of
from Networks.superpoint import load_superpoint
from Networks.training import OPTIMIZERS
from Utils.descriptors import DescriptorStore
from Utils.hyperparameters import hyperparameters
from Utils.options import Options
from Utils.runtime import distributed
from Utils.runtime.process import set_up_process

CELEBA, ROUNDS = 162_770, 31  # training pictures, clusterings of step one
TINY = ["image_size=64", "width=32", "precision=float32", "learning_rate=1e-4"]
COMPARED = 5  # iterations


def main(argv: list[str] | None = None) -> None:
    set_up_process()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--num_workers", type=int, default=min(16, os.cpu_count() or 1))
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="of a floor of detection, at least")
    parser.add_argument("--size", type=int, default=8192, help="rows of the matrices whose product is the limit")
    parser.add_argument(
        "--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS)[1:], help="timed at the end"
    )
    arguments = parser.parse_args(argv)
    device, begun = torch.device(arguments.device), time.monotonic()
    on_gpu = device.type == "cuda"
    if on_gpu and not torch.cuda.is_available():
        parser.error("this machine has no CUDA GPU, or PyTorch does not see it")
    name = torch.cuda.get_device_name(device) if on_gpu else "CPU"
    print(f"{name}, {os.cpu_count()} cores, torch {torch.__version__}, pictures {arguments.image_size}, ", end="")
    print(f"width {arguments.width}")
    with tempfile.TemporaryDirectory() as folder:
        arguments.folder = folder
        database = Pictures(Path(folder), 178, 218)
        pieces: list[tuple[str, Callable[[], None]]] = [
            ("time in bfloat16", partial(measure_all, database, arguments, device)),
            ("what waits for the device", partial(measure_waiting, database, arguments, device)),
            ("results in float32", partial(compare_results, database, arguments, device)),
            ("one process of several", partial(measure_process_group, database, arguments, device)),
            *(
                (f"time, {v}", partial(measure_iterations, database, arguments, device, v))
                for v in arguments.variants
            ),
        ]
        for title, piece in pieces:
            print(f"\n{title} (after {time.monotonic() - begun:.0f} s)", flush=True)
            try:
                piece()
            except Exception as error:  # one figure that fails takes none of the others along
                print(f"    FAILED: {type(error).__name__}: {error}", flush=True)
    print(f"\nall in {time.monotonic() - begun:.0f} s")


def measure_all(database: Pictures, arguments, device: torch.device) -> None:
    """Iterations, detection, memory, and what they add up to."""
    taken = measure_iterations(database, arguments, device, "bfloat16")
    options, table = options_of(arguments, "bfloat16", device), database.keypoints(40, arguments.image_size)
    network = steps_of(database, table, options)[0][3]
    superpoint = load_superpoint("", device)
    with peak_memory("detection", device):
        bootstrap, relabelling = measure_detection(database, table, superpoint, network, arguments, options)
    hours = {step: taken[step] * ITERATIONS_OF_THE_PAPER[step] / 3600 for step in taken}
    hours |= {"bootstrap": CELEBA * bootstrap / 3600, f"{ROUNDS} relabellings": ROUNDS * CELEBA * relabelling / 3600}
    parts = ", ".join(f"{name} {value:.1f}" for name, value in hours.items())
    print(f"CelebA at the paper's length, without clustering: {sum(hours.values()):.1f} hours ({parts})", flush=True)


def measure_iterations(database: Pictures, arguments, device: torch.device, variant: str) -> dict[str, float]:
    """Seconds of an iteration of each step."""
    options = options_of(arguments, variant, device)
    dtype = torch.bfloat16 if uses_bfloat16(device, options.hyper.precision) else torch.float32
    rate = fastest_product(arguments.size, dtype, device)
    shorter = device.type == "cuda" and dtype == torch.float32 and torch.backends.cudnn.allow_tf32
    note = "; convolutions may use TF32, which is faster" if shorter else ""
    print(f"matrix product in {str(dtype).removeprefix('torch.')}: {rate:.1f} TFLOP/s{note}")
    print(f"{'':<34}{'floor ms':>10}{'ours ms':>10}{'ratio':>8}{'lowest':>8}{'highest':>8}")
    taken = {}
    for step in steps_of(database, database.keypoints(40, arguments.image_size), options):
        with peak_memory(step[0], device):
            taken[step[0]], operations = measure_training(*step, arguments, options)
        print(f"    {operations / taken[step[0]] / 1e12 / rate:.0%} of the matrix product's rate", flush=True)
    return taken


def fastest_product(size: int, dtype: torch.dtype, device: torch.device) -> float:
    """TFLOP/s of the product of two square matrices, the best of ten."""
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    one @ other
    return 2 * size**3 / min(seconds(lambda: one @ other, device) for _ in range(10)) / 1e12


@contextlib.contextmanager
def peak_memory(what: str, device: torch.device) -> Iterator[None]:
    """Print how much of the GPU's memory the block takes at most."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    yield
    if device.type == "cuda":
        print(f"    {what}: at most {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB", flush=True)


def measure_waiting(database: Pictures, arguments, device: torch.device) -> None:
    """Whether an iteration waits, which tests/Networks/test_absent_gpu.py denies, and the lines of detection that do.

    With both recipes; on the CPU nothing waits.
    """
    for recipe in RECIPES:
        options = tiny_options(arguments, device, f"recipe={recipe}")
        for name, samples, losses, network, batch in steps_of(database, database.keypoints(40, 64), options):
            parts = recipe_of(options.hyper)
            losses = partial(losses, recipe=parts)
            average = parts.average(network) if parts.average else None
            optimizer = OPTIMIZERS[options.hyper.optimizer](network.parameters())
            batches = training_batches(samples, 0, 3, batch, 0, device)
            loop(losses, network, optimizer, [next(batches)], options)
            with sync_debug_mode("error", device):
                loop(losses, network, optimizer, batches, options)
                if average:
                    average.follow(network, 0)
            print(f"    {recipe}, {name}: an iteration waits for nothing", flush=True)
    superpoint = load_superpoint("", device)
    with (
        DescriptorStore(arguments.folder) as store,
        warnings.catch_warnings(record=True) as caught,
        sync_debug_mode("warn", device),
    ):
        warnings.simplefilter("always")
        detect_generic_keypoints(superpoint, database, some_of(database), options, store)
    places = sorted({f"{Path(warning.filename).name}:{warning.lineno}" for warning in caught})
    print(f"    the bootstrap's detection waits at {', '.join(places) or 'no line'}", flush=True)


@contextlib.contextmanager
def sync_debug_mode(mode: str, device: torch.device) -> Iterator[None]:
    """What makes the host wait for the GPU raises or warns."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def some_of(database: Pictures) -> ImageSet:
    """As many pictures as show a difference."""
    return database.training.subset(np.arange(8))


def tiny_options(arguments, device: torch.device, *settings: str) -> Options:
    options = options_of(arguments, "float32", device)
    return replace(options, hyper=hyperparameters([*TINY, *settings], RECIPES))


def compare_results(database: Pictures, arguments, device: torch.device) -> None:
    """Losses of a few iterations and the bootstrap's keypoints, on this device and on the CPU."""
    found = {}
    for place in (device, torch.device("cpu")):
        options = tiny_options(arguments, place)
        for name, samples, losses, network, batch in steps_of(database, database.keypoints(40, 64), options):
            optimizer = OPTIMIZERS[options.hyper.optimizer](network.parameters(), lr=options.hyper.learning_rate)
            seen = []
            for one in training_batches(samples, 0, COMPARED, batch, 0, place):
                loop(losses, network, optimizer, [one], options)
                with torch.no_grad():
                    seen.append(float(losses(network, one.to(place), "float32")["total"]))
            found[place.type, name] = " ".join(f"{loss:.5f}" for loss in seen)
        with DescriptorStore(arguments.folder) as store:
            detect_generic_keypoints(load_superpoint("", place), database, some_of(database), options, store)
            mean = store.read(0, len(store)).mean(axis=0)[:4]
            digits = " ".join(f"{value:.5f}" for value in mean)
        found[place.type, "bootstrap"] = f"{len(store)} keypoints, mean descriptor {digits} ..."
    for (place_type, name), result in sorted(found.items(), key=lambda item: item[0][1]):
        print(f"    {name}, {place_type}: {result}", flush=True)


def measure_process_group(database: Pictures, arguments, device: torch.device) -> None:
    """Iterations of step one by NCCL with a single process (gloo on the CPU), beside those without."""
    options, backend = tiny_options(arguments, device), "nccl" if device.type == "cuda" else "gloo"

    def trained() -> torch.Tensor:
        """The weights after some iterations."""
        _, samples, losses, network, batch = steps_of(database, database.keypoints(40, 64), options)[0]
        optimizer = OPTIMIZERS[options.hyper.optimizer](network.parameters(), lr=options.hyper.learning_rate)
        for one in training_batches(samples, 0, COMPARED, batch, 0, device):
            optimizer.zero_grad(set_to_none=True)
            losses(network, one.to(device), "float32")["total"].backward()
            distributed.average_gradients(network.parameters())
            optimizer.step()
        return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

    alone = trained()
    meeting = f"file://{arguments.folder}/meeting"
    dist.init_process_group(backend, init_method=meeting, rank=0, world_size=1)
    try:
        gap = float((trained() - alone).abs().max())
    finally:
        distributed.stop()
    print(f"    {backend}: after {COMPARED} iterations weights differ by at most {gap:.1e}", flush=True)


if __name__ == "__main__":
    main()
