"""LS3D: training on 300W-LP (450x450 pixels), test on LS3D-balanced (any size); 68 points per face."""

from pathlib import Path
from typing import Any

import numpy as np

from Databases.database import REGRESSION_PICTURES, ImageSet
from Databases.faces import FaceDatabase
from Databases.normalisers import root_of_extent
from Databases.tables import load_table, rows_of
from Utils.runtime.errors import UserError, one_line
from Utils.storage.torch7 import read_tensor

TRAINING_SIZE = (450, 450)  # width, height
LANDMARKS = 68
_PUBLISHED = (
    "get the file from the published code's data/LS3D, or make it with "
    "`python tools/find_boxes.py <300W-LP> --output data/LS3D/300W_LPBoundingBoxes.pickle`"
)


class LS3D(FaceDatabase):
    """The paper's LS3D protocol. The boxes of the evaluation come from the points."""

    name = "LS3D"

    @classmethod
    def open(cls, options: Any) -> "LS3D":
        lists = Path(options.data_path) / "LS3D" / "300W_LPBoundingBoxes.pickle"
        boxes = load_table(lists, _PUBLISHED)
        names = list(boxes)  # in the file's order, which decides the pictures that the regressors see
        folder = options.paths.folder("300WLP_datapath")
        candidates = (folder, folder / "300W_LP", folder / "300W-LP")
        root = next((inside for inside in candidates if names and (inside / names[0]).is_file()), folder)
        table = rows_of(boxes, names, (4,), "box", lists, _PUBLISHED, np.float64)
        database = cls()
        database.training = ImageSet(root, np.array(names, str), table, None, size=TRAINING_SIZE)

        first = database.training.names[:REGRESSION_PICTURES]
        files = [root / "landmarks" / f"{name.rpartition('.')[0]}_pts.mat" for name in first]
        points = np.array([_read_points(file) for file in files]).reshape(-1, LANDMARKS, 2)
        known = points.astype(np.float32)
        database.regression = ImageSet(root, first, boxes_of_points(points), known, size=TRAINING_SIZE)
        database.test = _test_set(options.paths.folder("LS3Dbalanced_datapath"))
        return database

    def normalisers(self, groundtruth: np.ndarray) -> np.ndarray:
        return root_of_extent(groundtruth)


def boxes_of_points(points: np.ndarray) -> np.ndarray:
    """Extent of the points in whole pixels, with a third of its height added for the forehead: (n, G, 2) -> (n, 4).

    Give points in the files' own precision: float32 may round one up to a whole pixel.
    """
    boxes = np.trunc(np.concatenate([points.min(1), points.max(1)], axis=1).astype(np.float64))
    boxes[:, 1] -= (boxes[:, 3] - boxes[:, 1]) / 3
    return boxes


def _test_set(root: Path) -> ImageSet:
    """Every **/*.jpg in order of name, with the points in its .t7 file."""
    pictures = sorted(root.glob("**/*.jpg"))
    points = np.array([_read_points(path.with_suffix(".t7")) for path in pictures]).reshape(-1, LANDMARKS, 2)
    names = np.array([path.relative_to(root).as_posix() for path in pictures], str)
    return ImageSet(root, names, boxes_of_points(points), points.astype(np.float32))


def _read_points(file: Path) -> np.ndarray:
    """The points of a .mat file, in its key pts_3d, or of a .t7 file: (68, 2) float64, picture pixels."""
    import scipy.io

    if not file.is_file():
        raise UserError(f"{file} does not exist, but its picture does; download the data set again")
    try:
        content = scipy.io.loadmat(file)["pts_3d"] if file.suffix == ".mat" else read_tensor(file.read_bytes())
        points = np.asarray(content)[:, :2].astype(np.float64)
    except Exception as error:  # scipy raises errors of many kinds on broken files
        reason = f"it has no key {error}" if isinstance(error, KeyError) else one_line(error)
        raise UserError(f"{file} cannot be read ({reason}); download it again") from error
    if points.shape != (LANDMARKS, 2):
        raise UserError(f"{file} holds {len(points)} points, not {LANDMARKS}; download it again")
    if not np.isfinite(points).all():
        raise UserError(f"{file} contains NaN or infinity; download it again")
    return points
