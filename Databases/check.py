"""Say before hours of training whether a data set is complete: python -m Databases.check --dataset_name ..."""

import sys
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


@dataclass
class Finding:
    """One kind of thing that was found in a split."""

    text: str  # such as "pictures missing"
    count: int
    examples: list[str]
    fatal: bool


def check_set(database: Database, split: str, images: ImageSet, workers: int) -> list[Finding]:
    """Read every picture of a split and compare it with its box and points."""
    findings: list[Finding] = []

    def add(text: str, indices: np.ndarray, fatal: bool, examples: Sequence[str] | None = None) -> None:
        if len(indices):
            shown = examples or [str(images.names[i]) for i in indices[:EXAMPLES]]
            findings.append(Finding(text, len(indices), list(shown), fatal))

    if not len(images):
        return [Finding("pictures at all", 0, [], True)]
    missing = images.missing()
    add("pictures missing", missing, True)
    present = np.setdiff1d(np.arange(len(images)), missing)
    sizes, unreadable = _read_all(database, split, images, present, workers)
    add(
        "pictures unreadable",
        np.array(sorted(unreadable)),
        True,
        [unreadable[i] for i in sorted(unreadable)][:EXAMPLES],
    )
    good = present[sizes[present, 0] > 0]
    add("boxes empty or outside the picture", good[bad_boxes(images.boxes[good], sizes[good])], True)
    if images.landmarks is not None:
        points, limits = images.landmarks[good], sizes[good][:, None]
        with np.errstate(invalid="ignore"):
            outside = ((points < 0) | (points > limits)).any((1, 2))
        add("pictures with points outside", good[outside], False)
        add("pictures without known points", good[np.isnan(points).all((1, 2))], False)
        usable = np.setdiff1d(good, good[bad_boxes(images.boxes[good], sizes[good])])
        normalisers = _normalisers(database, images.boxes[usable], images.landmarks[usable], sizes[usable])
        add("pictures whose errors have no unit length", usable[~(normalisers > 0)], False)
    return findings


def _normalisers(database: Database, boxes: np.ndarray, landmarks: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(n,) of pictures with boxes (n, 4), landmarks (n, G, 2) and sizes (n, 2) width, height."""
    maps = [database.crop(box, int(width), int(height), 256) for box, (width, height) in zip(boxes, sizes)]
    if not maps:
        return np.zeros(0)
    return database.normalisers(database.order_landmarks(apply(np.stack(maps), landmarks)))


def _read_all(
    database: Database, split: str, images: ImageSet, indices: np.ndarray, workers: int
) -> tuple[np.ndarray, dict[int, str]]:
    """Sizes (n, 2) width, height, zero where not read, and for each unreadable picture why."""
    sizes, unreadable = np.zeros((len(images), 2), np.int64), {}
    results = parallel_map(_read, (database, images), indices.tolist(), workers)
    for k, result in progress(results, f"Reading {split} pictures", total=len(indices)):
        if isinstance(result, str):
            unreadable[int(indices[k])] = result
        else:
            sizes[indices[k]] = result
    return sizes, unreadable


def _read(shared: tuple[Database, ImageSet], i: int) -> tuple[int, int] | str:
    database, images = shared
    try:
        height, width = database.read(images, i).shape[:2]
        return width, height
    except UserError as error:
        return one_line(error)


def describe(images: ImageSet) -> str:
    """One line on what a split has."""
    if not len(images):
        return "0 pictures"
    points = "no points" if images.landmarks is None else f"{images.landmarks.shape[1]} points each"
    boxes = np.round(np.nanmedian(images.boxes[:, 2:] - images.boxes[:, :2], axis=0)).astype(int)
    return f"{len(images)} pictures, {points}, median box {boxes[0]}x{boxes[1]}, in {images.root}"


@exit_cleanly
def main(argv: Sequence[str] | None = None) -> int:
    set_up_process()
    options = parse(argv, __doc__, DATABASES, {})
    database = DATABASES[options.dataset_name].open(options)
    fatal = 0
    print(f"{database.name}:")
    for split, images in database.splits().items():
        print(f"  {split}: {describe(images)}")
        for finding in check_set(database, split, images, options.num_workers):
            fatal += finding.fatal
            text = finding.text if finding.count != 1 else finding.text.replace("pictures", "picture", 1)
            print(f"    {'ERROR' if finding.fatal else 'note'}: {finding.count} {text}")
            for example in finding.examples:
                print(f"      {example}")
    if fatal:
        print("error: the data set is not complete; mend what is listed above", file=sys.stderr)
        return 2
    print("complete")
    return 0


if __name__ == "__main__":
    main()
