"""Convert annotated points between tools, see docs/other-tools.md; the ending of a file tells its format.

python tools/convert_points.py shells.tps pictures/annotations.json --images pictures
python tools/convert_points.py Predictions/points.json predicted.tps --images pictures
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Databases.custom import list_pictures
from Databases.point_formats import read_points, write_points
from Utils.runtime.arguments import Parser, path_of
from Utils.runtime.errors import UserError, exit_cleanly
from Utils.runtime.process import set_up_process


@exit_cleanly
def main() -> None:
    set_up_process()
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=path_of, help="the file to read")
    parser.add_argument("target", type=path_of, help="the file to write, which must not exist yet")
    parser.add_argument("--images", type=path_of, required=True, metavar="DIR", help="folder of the pictures")
    given = parser.parse_args()
    if not given.images.is_dir():
        raise UserError(f"--images {given.images} is not a folder; give the folder of the pictures")
    if given.target.exists():
        raise UserError(f"{given.target} exists; give another name, or move it away")
    table = read_points(given.source, given.images, list_pictures(given.images))
    write_points(table, given.target, given.images)
    print(f"{given.target}: {len(table.files)} objects with {len(table.names)} points")


if __name__ == "__main__":
    main()
