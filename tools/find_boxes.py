"""Find the faces of a folder of pictures and write their boxes, as a pickle or as boxes.csv."""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Databases.custom import list_pictures
from Utils.face_boxes import are_aligned, find_face_in_file, settle_aligned
from Utils.options import available_cores
from Utils.runtime.arguments import MOST_WORKERS, Parser, path_of, whole
from Utils.runtime.errors import UserError, exit_cleanly
from Utils.runtime.parallel import parallel_map
from Utils.runtime.process import set_up_process
from Utils.runtime.progress import progress
from Utils.storage.files import dump_pickle, require_writable, writing
from Utils.storage.pictures import is_utf8


@exit_cleanly
def main() -> int:
    set_up_process()
    parser = Parser(description=__doc__)
    parser.add_argument("folder", type=path_of, help="pictures, in a tree of any depth")
    parser.add_argument("--output", type=path_of, help="a .pickle or .csv file (default: boxes.csv in the folder)")
    parser.add_argument(
        "--aligned",
        action=argparse.BooleanOptionalAction,
        help="whether all faces are at the same position, so that pictures without a box get the median box "
        "(default: decided from the boxes)",
    )
    parser.add_argument("--num_workers", type=whole(0, MOST_WORKERS), default=available_cores())
    given = parser.parse_args()
    output = given.output or given.folder / "boxes.csv"
    if output.suffix not in (".pickle", ".csv"):
        raise UserError(f"--output {output}: give a file that ends in .pickle or .csv")
    if not given.folder.is_dir():
        raise UserError(f"{given.folder} is not a folder; give the folder of the pictures")
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; give a file")
    require_writable(output.parent, "give --output in another folder")  # before the search, which takes long
    files = list_pictures(given.folder)
    boxes, sizes, faults = find_all(given.folder, files, given.num_workers)
    for fault in faults:
        print(fault, file=sys.stderr)
    if len(faults) == len(files):
        raise UserError(f"no picture in {given.folder} can be read; correct the path")
    readable = sizes[:, 0] > 0
    missed = readable & np.isnan(boxes).any(1)
    found = readable & ~missed
    print(f"{len(files)} pictures, faces found in {found.sum()}, none in {missed.sum()} ({missed.mean():.1%})")
    aligned = are_aligned(boxes[readable], sizes[readable]) if given.aligned is None else given.aligned
    if aligned:
        boxes[readable], replaced = settle_aligned(boxes[readable])
        print(f"the pictures are aligned: {replaced.sum()} have the median box")
    elif missed.any():
        print(f"without a box, the whole picture is used: {', '.join(np.array(files)[missed][:5])} ...")
    write(output, files, boxes, sizes)
    print(output)
    return 1 if faults else 0


def find_all(folder: Path, files: list[str], workers: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Boxes (n, 4), NaN without a face, picture sizes (n, 2), 0 if unreadable, and what is wrong with those."""
    boxes, sizes, faults = np.full((len(files), 4), np.nan), np.zeros((len(files), 2), int), []
    results = parallel_map(find_face_in_file, folder, files, workers)
    for i, result in progress(results, "Finding faces", total=len(files)):
        if isinstance(result, str):
            faults.append(result)
            continue
        sizes[i], box = result
        if box is not None:
            boxes[i] = box
    return boxes, sizes, faults


def write(output: Path, files: list[str], boxes: np.ndarray, sizes: np.ndarray) -> None:
    """Write a pickle, file -> box, with the whole picture for a missing box; or a table file,x1,y1,x2,y2.

    The pickle leaves out pictures of size 0; the table has empty cells for them.
    """
    boxes = np.round(boxes, 1)
    if output.suffix == ".pickle":
        whole = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
        rows = zip(files, np.where(np.isnan(boxes), whole, boxes), sizes)
        dump_pickle({file: box for file, box, size in rows if size.all()}, output)
        return
    import pandas as pd

    written = [i for i, file in enumerate(files) if is_utf8(file)]
    table = pd.DataFrame(boxes[written], columns=["x1", "y1", "x2", "y2"])
    table.insert(0, "file", [files[i] for i in written])
    with writing(output) as temporary:
        table.to_csv(temporary, index=False, quoting=csv.QUOTE_NONNUMERIC)  # names may begin with a blank


if __name__ == "__main__":
    main()
