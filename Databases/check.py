"""Check a data set before hours of training: python -m Databases.check --dataset_name ..."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from Databases import DATABASES
from Databases.database import Database, ImageSet
from Databases.tables import bad_boxes
from Utils.crops import apply
from Utils.options import parse
from Utils.runtime.errors import UserError, exit_cleanly, one_line
from Utils.runtime.parallel import parallel_map
from Utils.runtime.process import set_up_process
from Utils.runtime.progress import progress

EXAMPLES = 3  # of each problem
CROP_SIZE = 256  # errors are measured in crops of this side


@dataclass
class Finding:
    """One kind of problem in a split."""

    text: str  # "pictures with points outside"
    examples: list[str]  # names of all such pictures, or what is wrong with them
    is_fatal: bool


def check_set(database: Database, split: str, images: ImageSet, workers: int) -> list[Finding]:
    """Read every picture of a split and compare it with its box and points."""
    sizes: np.ndarray = np.zeros((len(images), 2), np.int64)
    unreadable = {}
    results = parallel_map(_read, (database, images), range(len(images)), workers)
    for i, result in progress(results, f"Reading {split} pictures", total=len(images)):
        if isinstance(result, str):
            unreadable[i] = result
        else:
            sizes[i] = result
    good = np.flatnonzero(sizes.all(1))
    bad = good[bad_boxes(images.boxes[good], sizes[good])]
    findings = [
        Finding("pictures unreadable", [unreadable[i] for i in sorted(unreadable)], True),
        Finding("boxes empty or outside the picture", images.names[bad].tolist(), True),
    ]
    if images.landmarks is not None:
        points = images.landmarks
        outside = good[((points[good] < 0) | (points[good] > sizes[good, None])).any((1, 2))]
        unknown = good[np.isnan(points[good]).all((1, 2))]
        usable = np.setdiff1d(good, bad)
        crops = [
            database.crop(images.boxes[i], width, height, CROP_SIZE)
            for i, (width, height) in zip(usable, sizes[usable].tolist())
        ]
        in_crops = apply(np.array(crops).reshape(-1, 2, 3), points[usable])
        lengths = database.normalisers(database.order_landmarks(in_crops))
        findings += [
            Finding("pictures with points outside", images.names[outside].tolist(), False),
            Finding("pictures without known points", images.names[unknown].tolist(), False),
            Finding(
                "pictures whose errors have no unit length", images.names[usable[~(lengths > 0)]].tolist(), False
            ),
        ]
    return [finding for finding in findings if finding.examples]


def _read(shared: tuple[Database, ImageSet], i: int) -> tuple[int, int] | str:
    """Width and height of a picture, or why it is unreadable."""
    database, images = shared
    try:
        height, width = database.read(images, i).shape[:2]
        return width, height
    except UserError as error:
        return one_line(error)


def describe(images: ImageSet) -> str:
    """One line about a split."""
    if not len(images):
        return "no pictures"
    points = "no points" if images.landmarks is None else f"{images.landmarks.shape[1]} points each"
    boxes = np.round(np.nanmedian(images.boxes[:, 2:] - images.boxes[:, :2], axis=0)).astype(int)
    return f"{len(images)} pictures, {points}, median box {boxes[0]}x{boxes[1]}, in {images.root}"


@exit_cleanly
def main(argv: Sequence[str] | None = None) -> int:
    set_up_process()
    options = parse(argv, __doc__, DATABASES, {})
    database = DATABASES[options.dataset_name].open(options)
    is_complete = True
    print(f"{database.name}:")
    for split, images in database.splits().items():
        print(f"  {split}: {describe(images)}")
        findings = check_set(database, split, images, options.num_workers)
        is_complete &= len(images) > 0 and not any(finding.is_fatal for finding in findings)
        for finding in findings:
            count = len(finding.examples)
            text = finding.text if count != 1 else finding.text.replace("pictures", "picture", 1)
            print(f"    {'ERROR' if finding.is_fatal else 'note'}: {count} {text}")
            for example in finding.examples[:EXAMPLES]:
                print(f"      {example}")
    if not is_complete:
        raise UserError("the data set is not complete; correct the errors above")
    print("complete")
    return 0


if __name__ == "__main__":
    main()
