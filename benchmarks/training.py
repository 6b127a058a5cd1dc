"""The training loop, the bootstrap and the relabelling against the bare networks, in one run.

    python benchmarks/training.py                                  # this machine's GPU, else small on the CPU
    python benchmarks/training.py --image_size 256 --width 256 --device cuda

Rows: wall time of an iteration of the real loop, data loading running, over the same forward, backward and
optimiser step on tensors that are already there; of keypoint detection over the bare forward pass; and of the
bootstrap over one that takes a picture at a time. Ratios are medians over repeats in turn, with lowest and
highest. On a GPU the loop's rows come in bfloat16 and float32, each also with torch.compile. Below each row of a
loop: the rate of arithmetic, and how long the paper's training would take.

The rows `late / fresh` tell whether a training is as fast at its end as at its start: the same work with a network
and gradients as they are late, over that with a fresh network. Late, a detector is sure, so that its maps and
slopes hold numbers below 1e-38, which some CPUs take a hundred cycles for (Utils/runtime/process.py).
Nothing is trained for that: `make_sure` makes a detector steep, and a loss of next to no weight
(`WEIGHT_OF_LATE_LOSS`) gives gradients of that size in all layers, which is more of them than any training has.
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

from benchmarks.cpu import describe_cpu
from benchmarks.samples import PICTURES, Pictures
from Databases.database import ImageSet
from Databases.loading import gray_batches, to_input, training_batches
from Databases.samples import FirstStepSamples, SecondStepSamples
from Networks import execution
from Networks.bootstrap import BATCH_SIZE, ZOOMS, store_generic_keypoints
from Networks.fan import FAN
from Networks.first_step import first_step_losses
from Networks.relabelling import store_fan_keypoints
from Networks.second_step import second_step_losses
from Networks.superpoint import load_superpoint, sample_descriptors, score_map
from tools.superpoint.detectors import suppress_square
from Utils.descriptors import DescriptorStore
from Utils.hyperparameters import Hyperparameters, hyperparameters
from Utils.keypoints import KeypointTable
from Utils.options import Options, Paths
from Utils.runtime.process import set_up_process

SECONDS_OF_A_ROW = 10  # at least, of the floor: beside it the start of the loader does not count
ITERATIONS_OF_THE_PAPER = {"step one": 320_000, "step two": 160_000}  # batches
WEIGHT_OF_LATE_LOSS = 1e-37
SURE = 100.0  # mean distance of the logits of a sure detector from those of its keypoints
CELLS_OF_KEYPOINTS = 120  # over the threshold of a trained detector, a few around each keypoint
ROWS = ("training", "late", "detection")
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


def loop(losses, network, optimizer, batches, options: Options, weight: float = 1.0) -> None:
    """The trainings' loop: one optimiser step per batch; weight: of the loss."""
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        (weight * losses(network, batch.to(options.device), options.hyper.precision)["total"]).backward()
        optimizer.step()


def optimizer_of(name: str, network: FAN, hyper: Hyperparameters) -> torch.optim.RMSprop:
    """As `step one` or `step two` has it."""
    decay = hyper.weight_decay if name == "step one" else hyper.heatmap_weight_decay
    return torch.optim.RMSprop(network.parameters(), lr=hyper.learning_rate, weight_decay=decay, foreach=True)


def measure_training(name: str, samples, losses, network, batch_size: int, arguments, options: Options) -> None:
    """Loop with loading against the same steps on batches that are already on the device."""
    device = options.device
    optimizer = optimizer_of(name, network, options.hyper)
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


def measure_late_training(name: str, samples, losses, network, batch_size: int, arguments, options: Options) -> None:
    """The loop on batches that are there, late in a training against fresh."""
    device, count = options.device, arguments.iterations
    ready = [batch.to(device) for batch in training_batches(samples, 0, 2, batch_size, 0, device)]
    late = execution.build_fan(network.l1.out_channels, options.hyper, device)
    make_sure(late, to_input(ready[0].pictures))
    batches = [ready[i % 2] for i in range(count)]
    runs = []
    for trained, weight in ((network, 1.0), (late, WEIGHT_OF_LATE_LOSS)):
        optimizer = optimizer_of(name, trained, options.hyper)
        runs.append(partial(loop, losses, trained, optimizer, batches, options, weight))
        loop(losses, trained, optimizer, ready, options, weight)
    measure_in_turn(f"{name}, late / fresh", *runs, count, arguments, device)


def measure_in_turn(name: str, floor, whole, count: int, arguments, device: torch.device) -> None:
    """A row of two calls, each doing the work `count` times."""
    floors, ours = [], []
    for _ in range(arguments.repeats):
        floors.append(seconds(floor, device))
        ours.append(seconds(whole, device))
    row(name, floors, ours, count)


@torch.no_grad()
def make_sure(network: FAN, pictures: torch.Tensor) -> None:
    """Bring a fresh detector to where a trained one is: far below 0 in all cells but those of keypoints.

    pictures: (N, 3, S, S) in [0, 1], on which `CELLS_OF_KEYPOINTS` cells each are over 0.5. On average the others'
    logits lie `SURE` below: at -87 to -103 the sigmoid, and its slope, is a subnormal number.
    """
    detector = network.forward_detector(network.forward_features(pictures))
    logits = torch.logit(detector.float()).flatten()
    keypoint = torch.quantile(logits, 1 - CELLS_OF_KEYPOINTS / detector[0].numel())
    steepness = SURE / (keypoint - logits[logits < keypoint]).mean()
    network.l0.weight.mul_(steepness)
    network.l0.bias.sub_(keypoint).mul_(steepness)


def floating_point_operations(losses, network, batch, hyper) -> float:
    """Of the convolutions and matrix products of a forward and backward pass."""
    with FlopCounterMode(display=False) as counter:
        losses(network, batch, hyper.precision)["total"].backward()
    return counter.get_total_flops()


def passes(floor, device: torch.device) -> int:
    """How often the pictures are to be gone through; floor: a call that goes through them so many times."""
    floor(1)
    return math.ceil(SECONDS_OF_A_ROW / seconds(lambda: floor(1), device))


@torch.inference_mode()
def measure_detection(
    database: Pictures, table: KeypointTable, superpoint, network, arguments, options: Options
) -> None:
    """Keypoints and descriptors of pictures against the bare forward passes on tensors that are already there."""
    device, hyper = options.device, options.hyper
    images = database.training
    batches = gray_batches(database, images, hyper.image_size, ZOOMS, BATCH_SIZE[device.type], 0, device)
    grays = [pictures for groups in batches for pictures, _, _ in groups]
    there = [pictures.flatten(0, 1)[:, None].to(device).float() / 255 for pictures in grays]
    batch = min(execution.INFERENCE_BATCH[device.type], PICTURES)
    shape = (batch, 3, hyper.image_size, hyper.image_size)
    some = to_input(next(execution.inference_batches(database, images, options, range(8)))[0].to(device))
    crops = [to_input(torch.randint(0, 255, shape, dtype=torch.uint8, device=device))] * (PICTURES // batch)

    def bare_superpoint(often):
        with execution.autocast(device, hyper.precision):
            for tensor in there * often:
                superpoint(tensor)

    def bare_fan(often):
        with execution.autocast(device, hyper.precision):
            for tensor in crops * often:
                network(tensor)

    def bootstrap(often):
        with DescriptorStore(arguments.folder) as store:
            store_generic_keypoints(superpoint, database, repeated(images, often), options, store)

    def picture_by_picture(often):
        for pictures in grays * often:
            for zooms in pictures:
                one_picture(superpoint, zooms, device, hyper.confidence_superpoint, hyper.nms_superpoint)

    def relabelling_with(labeller):
        """The weights are not trained: that many cells over the threshold give some 40 keypoints."""
        detector, _ = labeller.eval()(some)
        cells = CELLS_OF_KEYPOINTS / detector[0].numel()
        threshold = float(torch.quantile(detector.float().flatten(), 1 - cells))

        def relabel(often):
            rows = np.concatenate([table.images() + PICTURES * k for k in range(often)])
            names = np.arange(PICTURES * often).astype(str)
            previous = KeypointTable.from_flat(names, rows, np.tile(table.points, (often, 1)))
            hyper.adopt({"confidence_fan": threshold}, "benchmark")
            with DescriptorStore(arguments.folder, hyper.width) as store:
                store_fan_keypoints(labeller, database, repeated(images, often), options, store, previous)

        return relabel

    sure = execution.copy_network(network, hyper)
    make_sure(sure, some)
    relabel = relabelling_with(network)
    for name, floor, whole in (
        ("bootstrap, picture", bare_superpoint, bootstrap),
        ("relabelling, picture", bare_fan, relabel),
        ("relabelling, late / fresh", relabel, relabelling_with(sure)),
        ("bootstrap / picture by picture", picture_by_picture, bootstrap),
    ):
        often = passes(floor, device)
        whole(often)
        measure_in_turn(name, partial(floor, often), partial(whole, often), often * PICTURES, arguments, device)


def repeated(images: ImageSet, often: int) -> ImageSet:
    return images.subset(np.tile(np.arange(len(images)), often))


def one_picture(network, zooms: torch.Tensor, device: torch.device, confidence: float, half_side: int) -> None:
    """A bootstrap without batches: each zoom (H, W) uint8 through the network alone, points suppressed one by one.

    Reading and zooming the picture, mapping the points to zoom 1 and storing them are left out.
    """

    def suppressed(found: np.ndarray) -> np.ndarray:
        """Of rows x, y, score, those whose squares no better one's meets."""
        return found[suppress_square(found[:, :2], found[:, 2], 2 * half_side - 1, len(found))]

    found, volumes = [], []
    for gray in zooms:
        logits, descriptors = network((gray.to(device).float() / 255)[None, None])
        scores = score_map(logits)[0].float().cpu().numpy()
        y, x = np.nonzero(scores > confidence)
        found.append(suppressed(np.column_stack([x, y, scores[y, x]])))
        volumes.append(descriptors.float())
    points = torch.from_numpy(suppressed(np.concatenate(found))[:, :2]).float().to(device)
    sample_descriptors(volumes[0], points).cpu()


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
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="default: all on a GPU, float32 on the CPU")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    arguments.variants = arguments.variants or (list(VARIANTS) if device.type == "cuda" else ["float32"])
    with tempfile.TemporaryDirectory() as folder:
        arguments.folder = folder
        (Path(folder) / "paths.yaml").write_text(f"log_path: {folder}\n")
        for variant in arguments.variants:
            settings = [f"image_size={arguments.image_size}", f"width={arguments.width}", *VARIANTS[variant]]
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
            run(arguments, options, variant, Path(folder))
    if device.type == "cuda":
        print(f"peak GPU memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def run(arguments, options: Options, variant: str, folder: Path) -> None:
    hyper, device = options.hyper, options.device
    database = Pictures(folder, 178, 218)
    table = database.keypoints(40, hyper.image_size)
    network = execution.build_fan(None, hyper, device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else describe_cpu()
    where += f", {torch.get_num_threads()} threads"
    print(f"{where}, torch {torch.__version__}, pictures {hyper.image_size}, width {hyper.width}, {variant}")
    print(f"{'':<34}{'floor ms':>10}{'ours ms':>10}{'ratio':>8}{'lowest':>8}{'highest':>8}")
    clusters = np.arange(hyper.number_of_clusters)
    of_first = FirstStepSamples(database, table, hyper.image_size, 0, "fast")
    of_second = SecondStepSamples(database, table, clusters, hyper.image_size, 0, "fast")
    second = execution.build_fan(len(clusters), hyper, device)
    for step in (
        ("step one", of_first, first_step_losses, network, 16),
        ("step two", of_second, second_step_losses, second, 32),
    ):
        if "training" in arguments.rows:
            measure_training(*step, arguments, options)
        if "late" in arguments.rows:
            measure_late_training(*step, arguments, options)
    if "detection" in arguments.rows and variant == arguments.variants[0]:
        measure_detection(database, table, load_superpoint("", device), network, arguments, options)


if __name__ == "__main__":
    main()
