"""Check a data set before hours of training: python -m Databases.check --dataset_name ..."""

from collections.abc import Mapping, Sequence

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


def check_set(database: Database, split: str, images: ImageSet, workers: int) -> tuple[dict[str, list[str]], ...]:
    """Read every picture of a split and compare it with its box and points.

    Returns the errors and the notes: kind of problem -> the names of all such pictures, or what is wrong with them.
    """
    sizes: np.ndarray = np.zeros((len(images), 2), np.int64)
    unreadable = []
    results = parallel_map(_read, (database, images), range(len(images)), workers)
    for i, result in progress(results, f"Reading {split} pictures", total=len(images)):
        if isinstance(result, str):
            unreadable.append(result)
        else:
            sizes[i] = result
    good = np.flatnonzero(sizes.all(1))
    bad = good[bad_boxes(images.boxes[good], sizes[good])]
    errors = {"pictures unreadable": unreadable, "boxes empty or outside the picture": images.names[bad].tolist()}
    if images.landmarks is None:
        return errors, {}
    points = images.landmarks
    outside = good[((points[good] < 0) | (points[good] > sizes[good, None])).any((1, 2))]
    unknown = good[np.isnan(points[good]).all((1, 2))]
    usable = np.setdiff1d(good, bad)
    crops = [database.crop(images.boxes[i], int(sizes[i, 0]), int(sizes[i, 1]), CROP_SIZE) for i in usable]
    in_crops = apply(np.array(crops).reshape(-1, 2, 3), points[usable])
    lengths = database.normalisers(database.order_landmarks(in_crops))
    return errors, {
        "pictures with points outside": images.names[outside].tolist(),
        "pictures without known points": images.names[unknown].tolist(),
        "pictures whose errors have no unit length": images.names[usable[~(lengths > 0)]].tolist(),
    }


def _read(shared: tuple[Database, ImageSet], i: int) -> tuple[int, int] | str:
    """Width and height of a picture, or why it is unreadable."""
    database, images = shared
    try:
        height, width = database.read(images, i).shape[:2]
        return width, height
    except UserError as error:
        return one_line(error)


def report(kind: str, problems: Mapping[str, Sequence[str]]) -> None:
    """Print the number of examples of each problem, and some of them."""
    for text, examples in problems.items():
        if examples:
            text = text if len(examples) > 1 else text.replace("pictures", "picture", 1)
            print(f"    {kind}: {len(examples)} {text}", *examples[:EXAMPLES], sep="\n      ")


def describe(images: ImageSet) -> str:
    """One line about a split."""
    if not len(images):
        return "no pictures"
    points = "no points" if images.landmarks is None else f"{images.landmarks.shape[1]} points each"
    boxes = images.boxes[np.isfinite(images.boxes).all(axis=1)]
    sides = np.median(boxes[:, 2:] - boxes[:, :2], axis=0) if len(boxes) else np.zeros(2)
    return f"{len(images)} pictures, {points}, median box {sides[0]:.0f}x{sides[1]:.0f}, in {images.root}"


@exit_cleanly
def main(argv: Sequence[str] | None = None) -> int:
    set_up_process()
    options = parse(argv, __doc__, DATABASES, {}, ("protocol",))
    database = DATABASES[options.dataset_name].open(options)
    is_complete = not database.left_out
    print(f"{database.name}:")
    report("ERROR", {"pictures left out": database.left_out})
    for split, images in database.splits().items():
        print(f"  {split}: {describe(images)}")
        errors, notes = check_set(database, split, images, options.num_workers)
        is_complete &= len(images) > 0 and not any(errors.values())
        report("ERROR", errors)
        report("note", notes)
    if not is_complete:
        raise UserError("the data set is not complete; correct the errors above")
    print("complete")
    return 0


if __name__ == "__main__":
    main()
