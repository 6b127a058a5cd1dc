"""How many keypoints lie on the figure, before and after outliers and background are removed; and of the labels.

    python tools/people/measure.py --people people --dataset_name Human3.6 --experiment_name people

For pictures that PrePreprocessHuman.py extracted from a laboratory of make.py. A keypoint is on the figure where that
is within 3 pixels of the 450x450 picture, for a corner on an outline is found beside it.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Collection
from functools import partial
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from Databases import DATABASES
from Databases.database import Database, ImageSet
from Databases.human36 import SIZE, crop_of_box
from Databases.human36_preparation import SUBJECTS, picture_name
from Databases.samples import GRID, grid_side
from Networks.bootstrap import object_keypoints
from Networks.generic_keypoints import store_generic_keypoints
from Networks.recipes import RECIPES, recipe_of
from Networks.superpoint import load_superpoint
from tools.people.recordings import files_of, read_silhouettes
from Utils.crops import apply, invert, warp
from Utils.descriptors import DescriptorStore
from Utils.keypoints import KeypointTable
from Utils.options import Options, parse
from Utils.runtime.arguments import path_of, whole
from Utils.runtime.errors import UserError, exit_cleanly
from Utils.runtime.process import set_up_process
from Utils.storage.experiment import Experiment
from Utils.storage.files import load_pickle

SLACK = 3  # pixels of the 450x450 picture
FINE = 1024  # side of a crop whose grid cells are about a pixel of the picture


def add_own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--people", required=True, type=path_of, help="the laboratory, --output of make.py")
    parser.add_argument("--step", type=whole(1, 10**6), default=1, help="measure in every STEPth training picture")


@exit_cleanly
def main(argv: list[str] | None = None) -> None:
    set_up_process()
    options = parse(argv, __doc__.splitlines()[0], DATABASES, RECIPES, flags=("experiment",), own=add_own)
    database = DATABASES[options.dataset_name].open(options)
    images = database.training.subset(np.arange(len(database.training))[:: options.own.step])
    figures = figures_of(options.own.people, options.paths.folder("Human_datapath"), set(images.names.tolist()))
    missing = sorted(set(images.names.tolist()) - set(figures))
    if missing:
        raise UserError(f"{options.own.people} has no silhouette of {missing[0]} and {len(missing) - 1} more")
    rows = bootstrap_shares(database, images, figures, options)
    experiment = Experiment(options.log_path, options.experiment_name)
    files = [experiment.bootstrap_keypoints(), *(path for _, path in experiment.updated_keypoints_files())]
    for file in filter(Path.is_file, files):
        table = KeypointTable.load(file, grid_side(options.hyper), options.hyper.number_of_clusters)
        rows.append((file.stem, *labels_share(table.align(images.names), images, database, figures, options)))
    for title, per_picture, share in rows:
        print(f"{title:<24}{per_picture:>8.1f} per picture, {share:>6.1%} on the figure")


def figures_of(people: Path, prepared: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Picture -> the figure's silhouette as an encoded PNG of 450x450, a margin of `SLACK` included.

    Of those of `names` that the laboratory has.
    """
    figures = {}
    counts = dict.fromkeys(("train", "test"), 0)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * SLACK + 1,) * 2)
    for record_file in sorted((prepared / ".prepared").glob("S*/*/record.pickle")):
        record = load_pickle(record_file)
        subject, stem = record_file.parts[-3:-1]
        split, _ = SUBJECTS[subject]
        titles = [f"/{split}/{picture_name(counts[split] + i)}" for i in range(len(record["frames"]))]
        counts[split] += len(titles)
        rows = [i for i, title in enumerate(titles) if title in names]
        file = files_of(people / "training/subjects", subject, stem)[3]
        if not rows or not file.is_file():
            continue
        silhouettes = read_silhouettes(file, record["frames"][rows])
        for i, silhouette in zip(rows, silhouettes, strict=True):
            m = crop_of_box(record["boxes"][i])
            picture = warp(silhouette.astype(np.uint8) * 255, m, SIZE) > 127
            figures[titles[i]] = cv2.imencode(".png", cv2.dilate(picture.astype(np.uint8), kernel))[1]
    return figures


def on_figure(
    points: np.ndarray, owners: np.ndarray, names: np.ndarray, figures: dict[str, np.ndarray]
) -> np.ndarray:
    """(n,) bool of points (n, 2) in pixels of the pictures with the numbers `owners` (n,)."""
    on = np.zeros(len(points), bool)
    for number in np.unique(owners):
        rows = np.flatnonzero(owners == number)
        figure = np.asarray(cv2.imdecode(figures[names[number]], cv2.IMREAD_GRAYSCALE))
        x, y = np.clip(points[rows].astype(int), 0, [SIZE[0] - 1, SIZE[1] - 1]).T
        on[rows] = figure[y, x] > 0
    return on


def bootstrap_shares(
    database: Database, images: ImageSet, figures: dict[str, np.ndarray], options: Options
) -> list[tuple[str, float, float]]:
    """Name, keypoints per picture and their share on the figure, of what the bootstrap's stages leave."""
    fine = dataclasses.replace(options, hyper=options.hyper.model_copy(update={"image_size": FINE}))
    superpoint = load_superpoint(options.paths.optional("path_to_superpoint_checkpoint"), options.device)
    back = invert(database.crop(images.boxes[0], *SIZE, FINE))
    with tempfile.TemporaryDirectory() as folder, DescriptorStore(folder) as store:
        store_generic_keypoints(superpoint, database, images, fine, store)
        owners = store.column("image")
        on = on_figure(apply(back, store.column("point") * GRID), owners, images.names, figures)
        select = recipe_of(options.hyper).object_keypoints or partial(object_keypoints, hyper=options.hyper)
        kept = select(store, database.constant_background)
        remain = {"in the boxes": store.column("flag"), "kept as the object's": kept}
    return [
        (title, mask.sum() / len(images), float(on[mask].mean()) if mask.any() else 0.0)
        for title, mask in remain.items()
    ]


def labels_share(
    table: KeypointTable, images: ImageSet, database: Database, figures: dict[str, np.ndarray], options: Options
) -> tuple[float, float]:
    """Keypoints per picture of labels, and their share on the figure."""
    back = invert(database.crop(images.boxes[0], *SIZE, options.hyper.image_size))
    points, owners = apply(back, table.points[:, :2] * GRID), table.images()
    on = on_figure(points, owners, images.names, figures)
    return len(points) / len(images), float(on.mean())


if __name__ == "__main__":
    main()
