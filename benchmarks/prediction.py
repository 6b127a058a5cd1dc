"""What Predict.py costs against its floor, the network alone on the same number of crops.

    python benchmarks/prediction.py [--pictures 500] [--size 128] [--width 64] [--repeats 3]

It times in turn the network on batches of crops in memory, and the whole prediction: read and crop pictures, find
landmarks, write them, draw and encode annotated copies. The last line shows the ratio, and how the peak memory grows
from a tenth of the pictures to all of them.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.samples import Pictures
from Databases import DATABASES
from Databases.inputs import Inputs
from Databases.loading import to_input
from Networks.execution import INFERENCE_BATCH, build_fan
from Networks.inference.detector import LandmarkDetector
from Networks.inference.prediction import Prediction
from Utils.options import default_options
from Utils.runtime.process import set_up_process

LANDMARKS = 30


@torch.inference_mode()
def network_seconds(detector: LandmarkDetector, pictures: int) -> float:
    """Seconds of the network alone for as many crops as pictures."""
    batch = INFERENCE_BATCH["cpu"]
    crops = torch.randint(0, 255, (batch, 3, detector.size, detector.size), dtype=torch.uint8)
    start = time.perf_counter()
    for _ in range(-(-pictures // batch)):
        detector.network.forward_heatmaps(to_input(crops))
    return (time.perf_counter() - start) * pictures / (-(-pictures // batch) * batch)


def prediction_seconds(detector: LandmarkDetector, folder: Path, files: list[str]) -> float:
    with tempfile.TemporaryDirectory() as output:
        start = time.perf_counter()
        Prediction(detector, Inputs(folder, files, []), Path(output)).run()
        return time.perf_counter() - start


def peak_mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    set_up_process()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--picture_size", default="178x218")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    settings = [f"image_size={given.size}", f"width={given.width}", "readout=centroid"]
    options = default_options("Custom", DATABASES, settings, "cpu")
    network = build_fan(LANDMARKS, options.hyper, options.device).eval()
    detector = LandmarkDetector(network, DATABASES["Custom"].rules(options.hyper), options, threshold=-np.inf)
    with tempfile.TemporaryDirectory() as folder:
        width, height = map(int, given.picture_size.split("x"))
        names = Pictures(Path(folder), width, height).training.names.tolist()
        files = (names * (-(-given.pictures // len(names))))[: given.pictures]
        prediction_seconds(detector, Path(folder), files[: len(files) // 10])
        small = peak_mebibytes()
        rows: dict[str, list[float]] = {"network alone": [], "prediction": []}
        for _ in range(given.repeats):
            rows["network alone"].append(network_seconds(detector, given.pictures))
            rows["prediction"].append(prediction_seconds(detector, Path(folder), files))
    print(
        f"{given.pictures} pictures of {given.picture_size} pixels, network ({given.size}, {given.width}), ", end=""
    )
    print(f"{torch.get_num_threads()} threads")
    print(f"{'':16}{'median ms per picture':>24}{'min':>8}{'max':>8}")
    for name, seconds in rows.items():
        each = [1000 * value / given.pictures for value in seconds]
        print(f"{name:16}{statistics.median(each):24.2f}{min(each):8.2f}{max(each):8.2f}")
    ratios = [b / a for a, b in zip(*rows.values())]
    print(f"prediction / network alone: {statistics.median(ratios):.2f} (lowest {min(ratios):.2f}); ", end="")
    print(f"peak memory {small:.0f} MiB after a tenth of the pictures, {peak_mebibytes():.0f} MiB after all")


if __name__ == "__main__":
    main()
