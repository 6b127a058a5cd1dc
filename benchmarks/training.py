"""Time of the training loop, the bootstrap and the relabelling, against the bare networks in the same run.

    python benchmarks/training.py                                  # this machine's GPU, else small on the CPU
    python benchmarks/training.py --image_size 256 --width 256 --device cuda

Rows: wall time of an iteration of the real loop, data loading included, against the same forward, backward and
optimiser step on tensors that are ready; and of keypoint detection against the bare forward pass. Ratios are medians
over repeats in turn, with lowest and highest. On a GPU the loop's rows come in bfloat16 and float32, each also with
torch.compile. Below each row of a loop: the rate of arithmetic, and how long the paper's training would take.
"""

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


from benchmarks.samples import PICTURES, Pictures
from Databases.database import ImageSet
from Databases.loading import gray_batches, to_input, training_batches
from Databases.samples import FirstStepSamples, SecondStepSamples
from Networks import execution
from Networks.first_step import first_step_losses
from Networks.generic_keypoints import BATCH_SIZE, detect_generic_keypoints
from Networks.relabelling import store_fan_keypoints
from Networks.second_step import second_step_losses
from Networks.superpoint import load_superpoint
from Networks.training import OPTIMIZERS
from Utils.descriptors import DescriptorStore
from Utils.hyperparameters import hyperparameters
from Utils.keypoints import KeypointTable
from Utils.options import Options, Paths
from Utils.runtime.process import set_up_process

ITERATIONS_OF_THE_PAPER = {"step one": 320_000, "step two": 160_000}  # batches
CELLS_OF_KEYPOINTS = 120  # over a trained detector's threshold, a few around each keypoint
ROWS = ("training", "detection")
VARIANTS = {
    "bfloat16": ["precision=bfloat16"],
    "float32": ["precision=float32"],
    "bfloat16+compile": ["precision=bfloat16", "compile=True"],
    "float32+compile": ["precision=float32", "compile=True"],
}


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


def loop(losses, network, optimizer, batches, options: Options) -> None:
    """The trainings' loop: one optimiser step per batch."""
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        losses(network, batch.to(options.device), options.hyper.precision)["total"].backward()
        optimizer.step()


def measure_training(
    name: str, samples, losses, network, batch_size: int, arguments, options: Options
) -> tuple[float, float]:
    """Loop with loading against the same steps on batches that are already on the device.

    Returns seconds and floating-point operations of an iteration.
    """
    device, hyper = options.device, options.hyper
    decay = hyper.weight_decay if name == "step one" else hyper.heatmap_weight_decay
    optimizer = OPTIMIZERS[hyper.optimizer](network.parameters(), lr=hyper.learning_rate, weight_decay=decay)
    count = arguments.iterations
    ready = [batch.to(device) for batch in training_batches(samples, 0, 2, batch_size, 0, device)]
    loop(losses, network, optimizer, ready, options)
    floors, ours = [], []
    for repeat in range(arguments.repeats):
        repeated = [ready[i % 2] for i in range(count)]
        floors.append(seconds(lambda batches=repeated: loop(losses, network, optimizer, batches, options), device))
        batches = training_batches(
            samples, repeat * count, (repeat + 1) * count + 2, batch_size, options.num_workers, device
        )
        loop(losses, network, optimizer, [next(batches), next(batches)], options)  # workers are up
        ours.append(seconds(lambda batches=batches: loop(losses, network, optimizer, batches, options), device))
    row(f"{name}, iteration", floors, ours, count)
    operations = floating_point_operations(losses, network, ready[0], options.hyper)
    iteration = statistics.median(ours) / count
    hours = iteration * ITERATIONS_OF_THE_PAPER[name] / 3600
    print(f"    {operations / 1e12:.2f} TFLOP, {operations / iteration / 1e12:.2f} TFLOP/s; ", end="")
    print(f"{name} of the paper's length would take {hours:.1f} hours at this speed", flush=True)
    return iteration, operations


def floating_point_operations(losses, network, batch, hyper) -> float:
    """Of the convolutions and matrix products of a forward and backward pass."""
    network = execution.copy_network(network, hyper).requires_grad_(True).train()  # not compiled, which hides them
    with FlopCounterMode(display=False) as counter:
        losses(network, batch, hyper.precision)["total"].backward()
    return counter.get_total_flops()


@torch.inference_mode()
def measure_detection(
    database: Pictures, table: KeypointTable, superpoint, network, arguments, options: Options
) -> list[float]:
    """Keypoints and descriptors of pictures against the bare forward passes on tensors that are ready.

    Returns seconds of a picture, in the bootstrap and in relabelling.
    """
    device, hyper = options.device, options.hyper
    images = database.training
    batches = gray_batches(
        database, images, hyper.image_size, hyper.zooms_superpoint, BATCH_SIZE[device.type], 0, device
    )
    grays = [pictures for groups in batches for pictures, _, _ in groups]
    ready = [pictures.flatten(0, 1)[:, None].to(device).float() / 255 for pictures in grays]
    batch = min(execution.INFERENCE_BATCH[device.type], PICTURES)
    shape = (batch, 3, hyper.image_size, hyper.image_size)
    crops = [to_input(torch.randint(0, 255, shape, dtype=torch.uint8, device=device))] * (PICTURES // batch)
    # The weights are not trained; this threshold gives some 40 keypoints per picture.
    some = to_input(next(execution.inference_batches(database, images, options, range(8)))[0].to(device))
    detector, _ = network.eval()(some)
    threshold = torch.quantile(detector.float().flatten(), 1 - CELLS_OF_KEYPOINTS / detector[0].numel())
    hyper.adopt({"confidence_fan": float(threshold)}, "benchmark")

    def bare_superpoint(often):
        with execution.autocast(device, hyper.precision):
            for tensor in ready * often:
                superpoint(tensor)

    def bare_fan(often):
        with execution.autocast(device, hyper.precision):
            for tensor in crops * often:
                network(tensor)

    def bootstrap(often):
        with DescriptorStore(arguments.folder) as store:
            detect_generic_keypoints(superpoint, database, repeated(images, often), options, store)

    def relabel(often):
        rows = np.concatenate([table.images() + PICTURES * k for k in range(often)])
        names = np.arange(PICTURES * often).astype(str)
        previous = KeypointTable.from_flat(names, rows, np.tile(table.points, (often, 1)))
        with DescriptorStore(arguments.folder, hyper.width) as store:
            store_fan_keypoints(network, database, repeated(images, often), options, store, previous)

    taken = []
    for name, floor, whole in (
        ("bootstrap, picture", bare_superpoint, bootstrap),
        ("relabelling, picture", bare_fan, relabel),
    ):
        floor(1)
        often = max(1, math.ceil(arguments.seconds / seconds(partial(floor, 1), device)))
        whole(often)
        pairs = [
            (seconds(partial(floor, often), device), seconds(partial(whole, often), device))
            for _ in range(arguments.repeats)
        ]
        floors, ours = zip(*pairs, strict=True)
        row(name, floors, ours, often * PICTURES)
        taken.append(statistics.median(ours) / (often * PICTURES))
    return taken


def repeated(images: ImageSet, often: int) -> ImageSet:
    return images.subset(np.tile(np.arange(len(images)), often))


def main() -> None:
    set_up_process()
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument("--image_size", type=int, default=256 if on_gpu else 128)
    parser.add_argument("--width", type=int, default=256 if on_gpu else 64)
    parser.add_argument("--num_workers", type=int, default=min(16, os.cpu_count() or 1))
    parser.add_argument("--iterations", type=int, default=40 if on_gpu else 8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10, help="of a floor of detection, at least")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="default: all on a GPU, float32 on the CPU")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    arguments.variants = arguments.variants or (list(VARIANTS) if device.type == "cuda" else ["float32"])
    with tempfile.TemporaryDirectory() as folder:
        arguments.folder = folder
        for variant in arguments.variants:
            run(arguments, options_of(arguments, variant, device), variant)
    if device.type == "cuda":
        print(f"peak GPU memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def options_of(arguments, variant: str, device: torch.device) -> Options:
    """The paper's, at the arguments' size, in the arguments' folder."""
    folder = Path(arguments.folder)
    (folder / "paths.yaml").write_text(f"log_path: {folder}\n")
    settings = [f"image_size={arguments.image_size}", f"width={arguments.width}", *VARIANTS[variant]]
    return Options(
        dataset_name="Benchmark",
        experiment_name="benchmark",
        num_workers=arguments.num_workers,
        resume=False,
        paths=Paths(folder / "paths.yaml"),
        data_path=folder,
        log_path=folder,
        device=device,
        hyper=hyperparameters(settings, {}),
    )


def steps_of(database: Pictures, table: KeypointTable, options: Options) -> list[tuple]:
    """For each step: its name, samples, losses, network and batch size."""
    hyper, clusters = options.hyper, np.arange(options.hyper.number_of_clusters)
    first, second = (execution.build_fan(maps, hyper, options.device) for maps in (None, len(clusters)))
    of_first = FirstStepSamples(database, table, hyper.image_size, 0)
    of_second = SecondStepSamples(database, table, clusters, hyper.image_size, 0)
    return [
        ("step one", of_first, first_step_losses, first, 16),
        ("step two", of_second, second_step_losses, second, 32),
    ]


def run(arguments, options: Options, variant: str) -> None:
    hyper, device = options.hyper, options.device
    database = Pictures(options.log_path, 178, 218)
    table = database.keypoints(40, hyper.image_size)
    steps = steps_of(database, table, options)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    where += f", {torch.get_num_threads()} threads"
    print(f"{where}, torch {torch.__version__}, pictures {hyper.image_size}, width {hyper.width}, {variant}")
    print(f"{'':<34}{'floor ms':>10}{'ours ms':>10}{'ratio':>8}{'lowest':>8}{'highest':>8}")
    for step in steps if "training" in arguments.rows else []:
        measure_training(*step, arguments, options)
    if "detection" in arguments.rows and variant == arguments.variants[0]:
        network = steps[0][3]
        measure_detection(database, table, load_superpoint("", device), network, arguments, options)


if __name__ == "__main__":
    main()
