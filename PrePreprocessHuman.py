"""Extract pictures, boxes and joints from a download of Human3.6M."""

from pathlib import Path

from Databases.human36_preparation import Summary, prepare
from Utils.options import available_cores
from Utils.runtime.arguments import MOST_WORKERS, Parser, path_of, whole
from Utils.runtime.errors import UserError, exit_cleanly
from Utils.runtime.process import set_up_process


@exit_cleanly
def main() -> int:
    set_up_process()
    parser = Parser(description=__doc__)
    parser.add_argument("--path_to_Human", required=True, type=path_of, help="folder with training/subjects/S*")
    parser.add_argument("--path_to_extract_dataset", required=True, type=path_of, help="folder to write to")
    parser.add_argument(
        "--num_workers", type=whole(0, MOST_WORKERS), default=available_cores(), help="videos at a time"
    )
    parser.add_argument(
        "--frame_tolerance",
        type=whole(0, 10**6),
        default=0,
        metavar="N",
        help="lengths may differ by N frames (default: 0)",
    )
    given = parser.parse_args()
    if not given.path_to_Human.is_dir():
        raise UserError(f"--path_to_Human {given.path_to_Human} is not a directory; correct the path")
    summary = prepare(given.path_to_Human, given.path_to_extract_dataset, given.num_workers, given.frame_tolerance)
    report(summary, given.path_to_extract_dataset)
    return 1 if summary.skipped else 0


def report(summary: Summary, output: Path) -> None:
    """Print what was extracted and what was skipped."""
    counts = ", ".join(f"{count} {split}" for split, count in summary.pictures.items())
    print(f"{output}: {counts} pictures of {summary.recordings} videos ({summary.extracted} extracted now)")
    if summary.left_out:
        print(f"{summary.left_out} frames without a person in their mask are left out")
    for line in summary.skipped:
        print(f"skipped {line}")
    if summary.skipped:
        print(f"{len(summary.skipped)} videos skipped; complete the download and run again")


if __name__ == "__main__":
    main()
