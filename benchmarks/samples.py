"""Time of a training sample against its floor, which decodes its pictures and warps each once.

    python benchmarks/samples.py [--repeats 5] [--samples 100] [--size 178x218]

A sample of step one has two pictures, one of step two has one. Floor and sample are timed in turn. The table shows
the median, lowest and highest ratio over the repeats.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from skimage import data as free_pictures

from Databases.database import Database, ImageSet
from Databases.normalisers import root_of_extent
from Databases.samples import FirstStepSamples, SecondStepSamples, collate_first_step, collate_second_step
from Utils.crops import face_crop
from Utils.keypoints import KeypointTable
from Utils.runtime.process import set_up_process

IMAGE_SIZE = 256
BATCH = 16
PICTURES = 64


class Pictures(Database):
    """JPEG files cut from a free photo, with a face-like box."""

    name = "Benchmark"

    def __init__(self, folder: Path, width: int, height: int) -> None:
        photo = cv2.cvtColor(cv2.resize(free_pictures.astronaut(), (1024, 1024)), cv2.COLOR_RGB2BGR)
        rng = np.random.default_rng(0)
        names = []
        for i in range(PICTURES):
            x, y = rng.integers(0, 1024 - width), rng.integers(0, 1024 - height)
            names.append(f"{i:03d}.jpg")
            cv2.imwrite(str(folder / names[-1]), photo[y : y + height, x : x + width], [cv2.IMWRITE_JPEG_QUALITY, 93])
        box = np.float32([0.2 * width, 0.25 * height, 0.8 * width, 0.85 * height])
        self.training = ImageSet(folder, np.array(names), np.tile(box, (PICTURES, 1)), None)
        self.regression = self.test = self.training

    @classmethod
    def open(cls, options):
        raise NotImplementedError

    def crop(self, box, width, height, size):
        return face_crop(box, width, height, size)

    def normalisers(self, groundtruth):
        return root_of_extent(groundtruth)

    def keypoints(self, count: int, image_size: int = IMAGE_SIZE) -> KeypointTable:
        """`count` keypoints of different clusters in each picture, on the grid of crops of `image_size` pixels."""
        rng = np.random.default_rng(1)
        lists = []
        for _ in range(PICTURES):
            cells = rng.integers(4, image_size // 4 - 4, size=(count, 2))
            clusters = rng.permutation(100)[:count]
            lists.append(np.column_stack([cells, clusters]).astype(np.float32))
        return KeypointTable.from_dict(dict(zip(self.training.names, lists, strict=True)))


def floor_seconds(database: Pictures, per_sample: int, samples: int) -> float:
    """Seconds per sample of cv2.imread and one cv2.warpAffine of each picture to 256x256."""
    matrix = np.array([[1.8, 0.3, -40.0], [-0.3, 1.8, -50.0]])
    paths = [str(database.training.path(i)) for i in range(PICTURES)]
    start = time.perf_counter()
    for i in range(samples * per_sample):
        cv2.warpAffine(cv2.imread(paths[i % PICTURES]), matrix, (IMAGE_SIZE, IMAGE_SIZE), flags=cv2.INTER_LINEAR)
    return (time.perf_counter() - start) / samples


def sample_seconds(dataset, collate, samples: int) -> float:
    """Seconds per sample, including the collation of batches of 16."""
    start = time.perf_counter()
    for first in range(0, samples, BATCH):
        collate([dataset[first + i] for i in range(BATCH)])
    return (time.perf_counter() - start) / (-(-samples // BATCH) * BATCH)


def main() -> None:
    set_up_process()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--size", default="178x218", help="of the pictures, WIDTHxHEIGHT")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    cv2.setNumThreads(1)
    print(f"pictures of {width}x{height} to {IMAGE_SIZE}x{IMAGE_SIZE}, one thread, {options.repeats} repeats")
    print(f"{'sample':<12}{'keypoints':>10}{'floor ms':>10}{'ours ms':>10}{'ratio':>8}{'lowest':>8}{'highest':>8}")
    with tempfile.TemporaryDirectory() as folder:
        database = Pictures(Path(folder), width, height)
        for count in (10, 40, 80):
            table = database.keypoints(count)
            settings = {"image_size": IMAGE_SIZE, "seed": 0}
            rows = (
                ("step one", FirstStepSamples(database, table, **settings), collate_first_step, 2),
                ("step two", SecondStepSamples(database, table, np.arange(100), **settings), collate_second_step, 1),
            )
            for name, dataset, collate, per_sample in rows:
                sample_seconds(dataset, collate, BATCH)
                pairs = [
                    (
                        floor_seconds(database, per_sample, options.samples),
                        sample_seconds(dataset, collate, options.samples),
                    )
                    for _ in range(options.repeats)
                ]
                floor, ours = (1000 * statistics.median(column) for column in zip(*pairs))
                ratios = sorted(b / a for a, b in pairs)
                middle = statistics.median(ratios)
                print(
                    f"{name:<12}{count:>10}{floor:>10.2f}{ours:>10.2f}{middle:>8.2f}{ratios[0]:>8.2f}{ratios[-1]:>8.2f}"
                )


if __name__ == "__main__":
    main()
