"""Peak memory of each stage on a data set of CelebA's size, all processes together.

    python benchmarks/memory.py                                # 162,770 pictures x 60 keypoints, a small network
    python benchmarks/memory.py --image_size 256 --width 256 --seconds 120

It makes a folder like a CelebA download, with lists, boxes and keypoints, in which every picture is a hard link to
one of a few free pictures. It runs the scripts on this folder and, several times a second, adds up the proportional
set sizes (PSS: shared pages count once) of a script and its workers. Linux only. Stages that would take hours are
stopped after `--seconds`, when their memory no longer grows. The store of descriptors needs 1 kB of disk per keypoint
in `--folder`.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.assignment import CLUSTERS, fill
from benchmarks.samples import PICTURES, Pictures
from Databases import DATABASES
from Networks.recipes import RECIPES, recipe_of
from Networks.second_step import EPOCHS_BETWEEN_MERGES, SecondStep
from Utils.assignment import cluster
from Utils.clustering import inliers, outlier_scores
from Utils.descriptors import DescriptorStore
from Utils.keypoints import KeypointTable
from Utils.options import parse
from Utils.runtime.process import set_up_process
from Utils.storage.experiment import Experiment
from Utils.storage.files import dump_pickle

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENT = "memory"
MAFL = 1000  # pictures for the regression, and as many for the test


def make_data_set(folder: Path, pictures: int) -> None:
    """A CelebA download with `pictures` training pictures, and MAFL's lists and points."""
    images, lists = folder / "CelebA" / "img_align_celeba_hq", folder / "data" / "CelebA"
    images.mkdir(parents=True)
    lists.mkdir(parents=True)
    Pictures(images, 178, 218)
    names = [f"{i:06d}.jpg" for i in range(1, pictures + MAFL + 1)]
    for i, name in enumerate(names):
        os.link(images / f"{i % PICTURES:03d}.jpg", images / name)
    parts = [0] * pictures + [2] * MAFL
    (lists / "list_eval_partition.txt").write_text("".join(f"{n} {p}\n" for n, p in zip(names, parts, strict=True)))
    (lists / "mafl_training.txt").write_text("\n".join(names[:MAFL]))
    (lists / "mafl_testing.txt").write_text("\n".join(names[pictures:]))
    rng = np.random.default_rng(0)
    boxes = np.float32([30, 40, 150, 190]) + rng.uniform(-9, 9, (len(names), 4)).astype(np.float32)
    dump_pickle(dict(zip(names, boxes, strict=True)), lists / "CelebABoundingBoxes.pickle")
    points = rng.uniform(50, 140, (2 * MAFL, 68, 2))
    of_mafl = names[:MAFL] + names[pictures:]
    dump_pickle(dict(zip(of_mafl, points, strict=True)), lists / "MaflGroundtruthLandmarks.pickle")
    (folder / "paths.yaml").write_text(f"CelebA_datapath: {folder / 'CelebA'}\nlog_path: {folder / 'Logs'}\n")


def make_keypoints(experiment: Experiment, pictures: int, keypoints: int, grid: int) -> None:
    """The bootstrap's keypoints: of each picture `keypoints` on the grid, of different clusters."""
    rng = np.random.default_rng(1)
    points = np.empty((pictures, keypoints, 3), np.float32)
    points[..., :2] = rng.integers(0, grid, (pictures, keypoints, 2))
    for row in points:
        row[:, 2] = rng.permutation(CLUSTERS)[:keypoints]
    names = np.array([f"{i:06d}.jpg" for i in range(1, pictures + 1)])
    table = KeypointTable.from_flat(names, np.repeat(np.arange(pictures), keypoints), points.reshape(-1, 3))
    experiment.checkpoints.mkdir(parents=True, exist_ok=True)
    table.save(experiment.bootstrap_keypoints())


def processes(root: int) -> list[int]:
    """A process and all running processes that it started, directly or not."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def proportional_set_size(process: int) -> int:
    """Bytes; 0 if the process has ended."""
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)


def peak(command: list[str], seconds: float | None) -> tuple[float, float]:
    """Run a command, for at most `seconds` if given; returns its peak memory in GiB and the time it ran."""
    start, most = time.perf_counter(), 0
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said, start_new_session=True) as process,
    ):
        while process.poll() is None:
            most = max(most, sum(map(proportional_set_size, processes(process.pid))))
            if seconds is not None and time.perf_counter() - start > seconds:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
                return most / 2**30, time.perf_counter() - start
            time.sleep(0.2)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{said.read().decode(errors='replace')[-3000:]}")
    return most / 2**30, time.perf_counter() - start


def cluster_generic(folder: str, pictures: int, keypoints: int) -> None:
    """What the bootstrap does with its descriptors."""
    with DescriptorStore(folder) as store:
        fill(store, pictures, keypoints)
        among = inliers(outlier_scores(store, 0), 0.4)
        cluster(store, pictures, CLUSTERS, 0, among=among)


def finish_epoch(arguments: list[str]) -> None:
    """From the newest state of step two: the end of an epoch that merges clusters, with its checkpoint."""
    options = parse(arguments, "", DATABASES, RECIPES, flags=("experiment", "resume"))
    experiment = Experiment(options.log_path, options.experiment_name)
    step = SecondStep.from_first_step(
        DATABASES["CelebA"].open(options), options, experiment, recipe_of(options.hyper)
    )
    step.resume()
    step.epoch += (step.epoch + 1) % EPOCHS_BETWEEN_MERGES
    step.finish_epoch()


def main() -> None:
    set_up_process()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=162_770)
    parser.add_argument("--keypoints", type=int, default=60, help="per picture")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--num_workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=90, help="after which the long stages are stopped")
    parser.add_argument("--folder", type=Path, help="for the data (default: the system's temporary folder)")
    parser.add_argument("--stages", nargs="*", help="names, or their beginnings; default: all that apply")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        make_data_set(Path(folder), arguments.pictures)
        measure(arguments, Path(folder))


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Run the stages in turn and print a line for each."""
    small = arguments.image_size <= 64 and arguments.width <= 32
    experiment = Experiment(folder / "Logs", EXPERIMENT)
    common = ["--dataset_name", "CelebA", "--experiment_name", EXPERIMENT, "--paths", str(folder / "paths.yaml")]
    common += ["--data_path", str(folder / "data"), "--num_workers", str(arguments.num_workers), "--device", "cpu"]
    settings = {"image_size": arguments.image_size, "width": arguments.width, "number_of_clusters": CLUSTERS}
    # Few iterations, so that relabelling comes at once, or more than there is time for.
    first = {"iterations_first": 20 if small else 10**6, "clustering_rounds": 0, "confidence_fan": 0.5}
    second = {"total_iterations": 10**6, "minutes_between_checkpoints": 0.2, "iterations_before_merging": 0}

    def command(script: str, *flags: str, **hyper: float) -> list[str]:
        pairs = [f"{name}={value}" for name, value in {**settings, **hyper}.items()]
        return [sys.executable, script, *common, *flags, *(word for pair in pairs for word in ("--set", pair))]

    def run(name: str, what: list[str], seconds: float | None = None) -> None:
        if arguments.stages and not name.startswith(tuple(arguments.stages)):
            return
        memory, took = peak(what, seconds)
        print(f"{name:<48}{memory:>8.2f}{took:>8.0f}{'' if seconds is None else '  stopped'}", flush=True)

    def call(function: str) -> list[str]:
        return [sys.executable, "-c", f"from benchmarks.memory import *\nset_up_process()\n{function}"]

    print(f"{arguments.pictures:,} pictures x {arguments.keypoints} keypoints; network: pictures of ", end="")
    print(f"{arguments.image_size}, width {arguments.width}; at most {arguments.num_workers} workers")
    print(f"{'stage':<48}{'GiB':>8}{'s':>8}", flush=True)
    run("bootstrap, detection", command("Train_Firststep.py"), arguments.seconds)
    if small:
        of_set = f"{arguments.pictures}, {arguments.keypoints}"
        run("bootstrap, outliers and clusters", call(f"cluster_generic({str(folder)!r}, {of_set})"))
    shutil.rmtree(experiment.checkpoints.parent, ignore_errors=True)
    make_keypoints(experiment, arguments.pictures, arguments.keypoints, arguments.image_size // 4)
    if small:
        run("step one, training and new keypoints", command("Train_Firststep.py", "--resume", **first))
        run("step two, training", command("Train_Secondstep.py", **second), arguments.seconds)
        resumed = command("", "--resume", **second)[2:]
        run("step two, merging", call(f"finish_epoch({resumed!r})"))
        run("evaluation", command("Test.py"))
    else:
        run("step one, training", command("Train_Firststep.py", "--resume", **first), arguments.seconds)


if __name__ == "__main__":
    main()
