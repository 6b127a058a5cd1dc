"""Time and memory of one agreement of a CelebA-sized set: `Networks.consensus.agreement.agree`.

    python benchmarks/agreement.py                     # 160,000 pictures, 100 clusters, 4 candidates each
    python benchmarks/agreement.py --pictures 20000

Candidates are synthetic: the first lies near the mean shape, the others anywhere.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from Networks.consensus.agreement import agree
from Networks.consensus.candidates import CANDIDATES
from Utils.runtime.process import set_up_process


def main() -> None:
    set_up_process()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=160_000)
    parser.add_argument("--clusters", type=int, default=100)
    arguments = parser.parse_args()
    rng, size = np.random.default_rng(0), (arguments.pictures, arguments.clusters)
    shape = rng.uniform(0.2, 0.8, (arguments.clusters, 2))
    places = rng.random((*size, CANDIDATES, 2), dtype=np.float32)
    places[:, :, 0] = shape + 0.03 * rng.standard_normal((*size, 2), dtype=np.float32)
    similarity = -np.sort(-rng.random((*size, CANDIDATES), dtype=np.float32), axis=2)
    start = time.perf_counter()
    agree(places, similarity)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{size[0]:,} pictures, {size[1]} clusters: {seconds:.0f} s; peak memory of the process: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
