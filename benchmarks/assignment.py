"""Time and memory of one clustering of a CelebA-sized set: k-means, thresholds, Hungarian assignment.

    python benchmarks/assignment.py                      # 160,000 pictures x 60 keypoints, 256 dimensions
    python benchmarks/assignment.py --pictures 10000 --repeats 3

Descriptors are synthetic: clusters on the unit sphere, with noise and clutter. The floor is the bare arithmetic: the
k-means of FAISS on rows in memory, a matrix product per chunk in memory, and SciPy's assignment for each image.
"""

import argparse
import resource
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from Utils.assignment import assign, squared_distances
from Utils.clustering import MAX_ROWS, kmeans
from Utils.descriptors import DescriptorStore
from Utils.runtime.process import set_up_process

DIMENSION = 256
CLUSTERS = 100


def fill(store: DescriptorStore, pictures: int, keypoints: int, batch: int = 64) -> None:
    """Most keypoints of a picture are of different clusters, the rest is clutter."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, DIMENSION), dtype=np.float32)
    for first in range(0, pictures, batch):
        count = min(batch, pictures - first)
        rows = rng.standard_normal((count, keypoints, DIMENSION), dtype=np.float32)
        cluster = rng.random((count, CLUSTERS), dtype=np.float32).argsort(axis=1)[:, :keypoints]
        real = int(0.8 * keypoints)
        rows[:, :real] = 0.8 * rows[:, :real] + centres[cluster[:, :real]]
        rows /= np.linalg.norm(rows, axis=2, keepdims=True)
        images = np.repeat(np.arange(first, first + count), keypoints)
        store.append(rows.reshape(-1, DIMENSION), np.zeros((count * keypoints, 2)), images)


def floor(descriptors: np.ndarray, pictures: int, keypoints: int) -> dict[str, float]:
    """Seconds of the bare arithmetic for the whole set, measured on the sample (the last two extrapolated)."""
    start = time.perf_counter()
    centroids = kmeans(descriptors, CLUSTERS)
    seconds = {"k-means": time.perf_counter() - start}
    chunk = torch.from_numpy(descriptors[: 16_384 // keypoints * keypoints])
    there = torch.from_numpy(centroids)
    start = time.perf_counter()
    for _ in range(20):
        distances = squared_distances(chunk, there)
    products = (time.perf_counter() - start) / 20 / len(chunk) * keypoints * pictures
    costs = distances.double().numpy().reshape(-1, keypoints, CLUSTERS)
    start = time.perf_counter()
    for cost in costs:
        linear_sum_assignment(cost)
    pairing = (time.perf_counter() - start) / len(costs) * pictures
    seconds["thresholds and assignment"] = products + pairing
    return seconds


def measure(arguments: argparse.Namespace, folder: str) -> tuple[list[dict[str, float]], float]:
    """For each repeat the seconds by stage; and the share of rows with a cluster."""
    runs = []
    with DescriptorStore(folder, DIMENSION) as store:
        start = time.perf_counter()
        fill(store, arguments.pictures, arguments.keypoints)
        print(f"filled {len(store):,} rows in {time.perf_counter() - start:.0f} s (not counted)", flush=True)
        for repeat in range(arguments.repeats):
            start = time.perf_counter()
            _, descriptors = store.sample(MAX_ROWS, repeat)
            sampled = time.perf_counter()
            centroids = kmeans(descriptors, CLUSTERS)
            clustered = time.perf_counter()
            bare = floor(descriptors, arguments.pictures, arguments.keypoints)
            del descriptors
            again = time.perf_counter()
            result = assign(store, arguments.pictures, centroids, device=arguments.device)
            end = time.perf_counter()
            seconds = {"sample": sampled - start, "k-means": clustered - sampled}
            seconds["thresholds and assignment"] = end - again
            seconds["all"] = sum(seconds.values())
            seconds |= {f"floor: {name}": value for name, value in bare.items()}
            seconds["floor: all"] = sum(bare.values())
            runs.append(seconds)
    return runs, float((result.labels >= 0).mean())


def main() -> None:
    set_up_process()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=160_000)
    parser.add_argument("--keypoints", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="where distances are computed")
    parser.add_argument("--folder", type=Path, help="where the store goes (default: the system's temporary folder)")
    arguments = parser.parse_args()
    with TemporaryDirectory(dir=arguments.folder) as folder:
        runs, assigned = measure(arguments, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{arguments.pictures:,} pictures x {arguments.keypoints} keypoints, {CLUSTERS} clusters, ", end="")
    print(f"{torch.get_num_threads()} threads, {arguments.repeats} repeats")
    print(f"{'stage':34}{'median s':>10}{'min':>9}{'max':>9}")
    for stage in runs[0]:
        values = [run[stage] for run in runs]
        print(f"{stage:34}{statistics.median(values):10.1f}{min(values):9.1f}{max(values):9.1f}")
    ratio = [run["all"] / run["floor: all"] for run in runs]
    print(f"{'all / floor':34}{statistics.median(ratio):10.2f}{min(ratio):9.2f}{max(ratio):9.2f}")
    print(f"rows with a cluster: {100 * assigned:.1f}%; peak memory of the process: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
