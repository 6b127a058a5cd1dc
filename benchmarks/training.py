"""The training loop and the relabelling against the bare network, in one run.

    python benchmarks/training.py                                  # this machine's GPU, else small on the CPU
    python benchmarks/training.py --image_size 256 --width 256 --device cuda

Rows: wall time of an iteration of the real loop, data loading running, over the same forward, backward and
optimiser step on tensors that are already there; and of keypoint detection over the bare forward pass. Ratios are
medians over repeats in turn, with lowest and highest. On a GPU also bfloat16 against float32, channels last, and
torch.compile, and how long the paper's training would take.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.samples import PICTURES, Pictures
from Databases.samples import FirstStepSamples, SecondStepSamples, gray_batches, to_input, training_batches
from Networks import training
from Networks.bootstrap import BATCH_SIZE, ZOOMS, store_generic_keypoints
from Networks.first_step import first_step_losses, store_fan_keypoints
from Networks.second_step import second_step_loss
from Networks.superpoint import load_superpoint
from Utils.descriptors import DescriptorStore
from Utils.keypoints import KeypointTable
from Utils.options import Options, Paths, hyperparameters

REPEATED = 10  # passes over the pictures in the relabelling row
ITERATIONS_OF_THE_PAPER = {"step one": 320_000, "step two": 160_000}  # batches


def seconds(work, device: torch.device) -> float:
    """Wall time of a call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def row(name: str, floors: list[float], ours: list[float], count: int) -> None:
    """Print one line: milliseconds per unit and the ratio."""
    ratios = sorted(b / a for a, b in zip(floors, ours, strict=True))
    floor, time_of_ours = 1000 * statistics.median(floors) / count, 1000 * statistics.median(ours) / count
    middle = statistics.median(ratios)
    print(
        f"{name:<34}{floor:>10.1f}{time_of_ours:>10.1f}{middle:>8.2f}{ratios[0]:>8.2f}{ratios[-1]:>8.2f}", flush=True
    )


def loop(losses, network, optimizer, batches, device) -> None:
    """The trainings' loop: one optimiser step per batch."""
    for batch in batches:
        loss = losses(network, batch.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def measure_training(name: str, samples, losses, network, batch_size: int, arguments, options: Options) -> None:
    """Loop with loading against the same steps on batches that are already on the device."""
    device = options.device
    optimizer = training.build_optimizer(network, options.hyper)
    count = arguments.iterations
    ready = [batch.to(device) for batch in training_batches(samples, 0, 2, batch_size, 0, device)]
    loop(losses, network, optimizer, ready, device)
    floors, ours = [], []
    for repeat in range(arguments.repeats):
        repeated = [ready[i % 2] for i in range(count)]
        floors.append(seconds(lambda batches=repeated: loop(losses, network, optimizer, batches, device), device))
        batches = training_batches(
            samples, repeat * count, (repeat + 1) * count + 2, batch_size, options.num_workers, device
        )
        loop(losses, network, optimizer, [next(batches), next(batches)], device)  # workers are up
        ours.append(seconds(lambda batches=batches: loop(losses, network, optimizer, batches, device), device))
    row(f"{name}, iteration", floors, ours, count)
    hours = statistics.median(ours) / count * ITERATIONS_OF_THE_PAPER[name] / 3600
    print(f"    {name} of the paper's length would take {hours:.1f} hours at this speed")


@torch.inference_mode()
def measure_detection(
    database: Pictures, table: KeypointTable, superpoint, network, arguments, options: Options
) -> None:
    """Keypoints and descriptors of pictures against the bare forward passes on tensors that are already there."""
    device, size = options.device, options.hyper.image_size
    batch = BATCH_SIZE[device.type]
    images = database.training
    groups = [g for gs in gray_batches(database, images, size, ZOOMS, batch, 0) for g in gs]
    gray = [g[0].flatten(0, 1)[:, None].to(device).float() / 255 for g in groups]
    crops = [
        to_input(torch.randint(0, 255, (16, 3, size, size), dtype=torch.uint8).to(device))
        for _ in range(PICTURES // 16)
    ]

    def bare_superpoint():
        with training.autocast(device, options.hyper.precision):
            for tensor in gray:
                superpoint(tensor)

    # A FAN's pass takes milliseconds: so many pictures that the start of the loader does not count.
    often = images.subset(np.tile(np.arange(PICTURES), REPEATED))
    rows = np.concatenate([table.images() + PICTURES * k for k in range(REPEATED)])
    previous = KeypointTable.from_flat(np.arange(len(often)).astype(str), rows, np.tile(table.points, (REPEATED, 1)))

    def bare_fan():
        with training.autocast(device, options.hyper.precision):
            for _ in range(REPEATED):
                for tensor in crops:
                    network(tensor)

    def bootstrap():
        with DescriptorStore(arguments.folder) as store:
            store_generic_keypoints(superpoint, database, images, options, store)

    def relabel():
        with DescriptorStore(arguments.folder, options.hyper.width) as store:
            store_fan_keypoints(network, database, often, options, store, previous)

    for name, bare, whole, count in (
        ("bootstrap, picture", bare_superpoint, bootstrap, len(images)),
        ("relabelling, picture", bare_fan, relabel, len(often)),
    ):
        bare(), whole()
        floors, ours = [], []
        for _ in range(arguments.repeats):
            floors.append(seconds(bare, device))
            ours.append(seconds(whole, device))
        row(name, floors, ours, count)


def main() -> None:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument("--image_size", type=int, default=256 if on_gpu else 128)
    parser.add_argument("--width", type=int, default=256 if on_gpu else 64)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--num_workers", type=int, default=min(16, os.cpu_count() or 1))
    parser.add_argument("--iterations", type=int, default=40 if on_gpu else 8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    settings = [f"{name}={getattr(arguments, name)}" for name in ("image_size", "width", "precision", "compile")]
    with tempfile.TemporaryDirectory() as folder:
        arguments.folder = folder
        (Path(folder) / "paths.yaml").write_text(f"log_path: {folder}\n")
        options = Options(
            dataset_name="Benchmark",
            experiment_name="benchmark",
            num_workers=arguments.num_workers,
            resume=False,
            paths=Paths(Path(folder) / "paths.yaml"),
            data_path=Path(folder),
            log_path=Path(folder),
            device=device,
            hyper=hyperparameters(settings, {}),
        )
        run(arguments, options, Path(folder))
    if on_gpu:
        print(f"peak GPU memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def run(arguments, options: Options, folder: Path) -> None:
    hyper = options.hyper
    database = Pictures(folder, 178, 218)
    table = database.keypoints(40, hyper.image_size)
    network = training.build_fan(None, hyper, options.device)
    second = training.build_fan(hyper.number_of_clusters, hyper, options.device)
    where = (
        torch.cuda.get_device_name(options.device)
        if options.device.type == "cuda"
        else f"{torch.get_num_threads()} threads"
    )
    print(f"{where}, torch {torch.__version__}, pictures {hyper.image_size}, width {hyper.width}, {hyper.precision}")
    print(f"{'':<34}{'floor ms':>10}{'ours ms':>10}{'ratio':>8}{'lowest':>8}{'highest':>8}")
    samples = FirstStepSamples(database, table, hyper.image_size, 0, "fast")

    def first_losses(net, batch):
        return first_step_losses(net, batch, hyper.precision)["total"]

    def second_losses(net, batch):
        return second_step_loss(net, batch, hyper.precision)

    measure_training("step one", samples, first_losses, network, 16, arguments, options)
    samples = SecondStepSamples(database, table, np.arange(hyper.number_of_clusters), hyper.image_size, 0, "fast")
    measure_training("step two", samples, second_losses, second, 32, arguments, options)
    measure_detection(database, table, load_superpoint("", options.device), network, arguments, options)


if __name__ == "__main__":
    main()
