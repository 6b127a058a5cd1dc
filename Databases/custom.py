"""A user's own folder of pictures, of any formats and sizes, with or without annotations."""

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import cv2
import numpy as np
from pydantic import AfterValidator, BaseModel, Field

from Databases.custom_annotations import Annotations, read_annotations
from Databases.database import REGRESSION_PICTURES, Database, ImageSet
from Databases.normalisers import distance, root_of_extent
from Databases.posed import boxes_and_landmarks, pose_maps_of, square_crop, squares
from Databases.tables import bad_boxes, load_table, rows_of
from Utils.crops import padded_crop, padded_window, warp
from Utils.hyperparameters import FREE_AFTER_TRAINING
from Utils.runtime.errors import UserError, one_line
from Utils.runtime.parallel import parallel_map
from Utils.storage.experiment import Experiment
from Utils.storage.files import dump_pickle, load_pickle, remove_left_overs, writing
from Utils.storage.pictures import SUFFIXES, encode_jpeg, picture_size, read_picture

CROP_MARGIN = 0.08  # of the box's mean side
WINDOW_MARGIN = 0.5  # the surroundings of a box that are kept of a large picture
SMALLEST_SIDE = 16  # pixels
TEST_SHARE = 10  # one in so many pictures


@dataclass(frozen=True, kw_only=True)
class WorkingSet(ImageSet):
    """Pictures as the method sees them: of large ones a window, shrunk. Boxes and landmarks agree with that."""

    windows: np.ndarray  # (n, 4) int32: x1, y1, x2, y2 in the file's picture
    sizes: np.ndarray  # (n, 2) int32: width, height after shrinking
    stamps: np.ndarray  # (n, 2) int64: the file's size in bytes and time of change
    poses: np.ndarray | None = None  # (n, 2, 3): maps to the posed pictures, which are what is read
    sides: np.ndarray | None = None  # (n,): of the posed pictures, pixels

    def posed(self, turns: np.ndarray) -> "WorkingSet":
        """The pictures with each object turned and mirrored, turns (n, 2, 2), about the middle of its square box."""
        maps, sides = pose_maps_of(self.boxes, turns)
        boxes, landmarks = boxes_and_landmarks(self.boxes, self.landmarks, maps, sides)
        return replace(self, boxes=boxes, landmarks=landmarks, poses=maps, sides=sides)


def _two_landmarks(text: str) -> tuple[int, int] | None:
    """`41,46` -> (41, 46), "" -> None. Raises ValueError if that cannot be two landmarks."""
    if not text:
        return None
    first, comma, second = text.partition(",")
    if not (first.isdecimal() and second.isdecimal()) or int(first) == int(second):
        raise ValueError("must be two different landmarks, counted from 0, like 41,46")
    return int(first), int(second)


def _checked(text: str) -> str:
    _two_landmarks(text)
    return text


class CustomSettings(BaseModel):
    """Each description is the field's line in docs/training.md."""

    normalise_by: Annotated[str, FREE_AFTER_TRAINING, AfterValidator(_checked)] = Field(
        "", description="two landmarks, like 41,46, whose distance divides errors; empty: the extent of all landmarks"
    )
    working_size: int = Field(
        450, ge=SMALLEST_SIDE, description="longest side in pixels to which large pictures are shrunk"
    )
    poses: Literal["auto", "one", "mirrored", "any"] = Field(
        "auto",
        description="how objects stand: `one` way up, `mirrored`: facing left or right, or turned by `any` angle; "
        "`auto`: recipe `consensus` tells it from the pictures, recipe `paper` takes `one`",
    )


class Custom(Database):
    """Any folder tree of pictures of one kind of object."""

    name = "Custom"
    crop_rule = (
        "The box grown on each side by 0.08 of its mean side to whole pixels, cut off at the picture, "
        "resized to a square."
    )
    settings = CustomSettings
    defaults: ClassVar[dict[str, Any]] = {"recipe": "consensus"}
    cache: Path  # folder of the shrunk pictures

    def __init__(self, normalise_by: tuple[int, int] | None, working_size: int, any_pose: bool) -> None:
        self.normalise_by, self.working_size, self.any_pose = normalise_by, working_size, any_pose
        if any_pose:
            self.border = cv2.BORDER_REFLECT_101

    @classmethod
    def rules(cls, hyper: Any) -> "Custom":
        assert isinstance(hyper, CustomSettings)
        return cls(_two_landmarks(hyper.normalise_by), hyper.working_size, hyper.poses in ("mirrored", "any"))

    @classmethod
    def open(cls, options: Any) -> "Custom":
        folder = _folder(options)
        if os.path.realpath(options.log_path) == os.path.realpath(folder):
            raise UserError(f"log_path is the folder of the pictures, {folder}; write logs elsewhere")
        files = list_pictures(folder, options.log_path)
        annotations = read_annotations(folder, files)
        database = cls.rules(options.hyper)
        _require_landmarks(database.normalise_by, annotations.landmarks)
        cache = Path(options.log_path) / "Custom" / _digest(str(folder.resolve()))[:12]
        remove_left_overs(cache, cache / "pictures")
        sizes, stamps = _sizes(folder, annotations.files, cache / "sizes.pickle", options.num_workers)
        images = _working_set(folder, annotations, sizes, stamps, database)
        database.training, database.regression, database.test = _split(images, annotations)
        if database.any_pose:
            database.training = _in_poses(database.training, options)
        database.cache = cache / "pictures"
        return database

    def read(self, images: ImageSet, i: int) -> np.ndarray:
        """The window of picture i, shrunk, and in its pose if it has one."""
        assert isinstance(images, WorkingSet)  # as all of this data set are
        picture = self._read_window(images, i)
        if images.poses is None or images.sides is None:
            return picture
        return warp(picture, images.poses[i], int(images.sides[i]), cv2.BORDER_REFLECT_101)

    def _read_window(self, images: WorkingSet, i: int) -> np.ndarray:
        """The window of picture i, shrunk; shrunk ones are kept below the log directory."""
        window, (width, height) = images.windows[i], images.sizes[i]
        path = images.path(i)
        if not window[:2].any() and (window[2:] == images.sizes[i]).all():
            return _require_size(read_picture(path), (width, height), path)
        key = _digest(f"{images.file(i)} {images.stamps[i]} {window} {images.sizes[i]}")
        kept = self.cache / f"{key}.jpg"
        if not kept.is_file():
            picture = read_picture(path)
            x1, y1, x2, y2 = window
            if (window[2:] > picture.shape[1::-1]).any():
                raise UserError(f"picture {path} has changed; run again")
            shrunk = cv2.resize(picture[y1:y2, x1:x2], (int(width), int(height)), interpolation=cv2.INTER_AREA)
            with writing(kept) as temporary:
                temporary.write_bytes(encode_jpeg(shrunk))
        return read_picture(kept)

    def crop(self, box: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
        if self.any_pose:
            return square_crop(box, size, CROP_MARGIN)
        return padded_crop(box, width, height, size, CROP_MARGIN)

    def surround(self, box: np.ndarray) -> np.ndarray:
        return squares(box[None])[0] if self.any_pose else box

    def view(self, box: np.ndarray, width: int, height: int) -> tuple[np.ndarray, tuple[int, int]]:
        windows, sizes = _windows(box[None], np.array([[width, height]]), self.working_size)
        x1, y1, x2, y2 = windows[0]
        scale = sizes[0] / (x2 - x1, y2 - y1)
        to_view = np.column_stack([np.diag(scale), -scale * (x1, y1)])
        return to_view, (int(sizes[0, 0]), int(sizes[0, 1]))

    def normalisers(self, groundtruth: np.ndarray) -> np.ndarray:
        """Distance of the two landmarks of `normalise_by`, else sqrt(w h) of the extent; NaN where unknown."""
        if self.normalise_by is None:
            return root_of_extent(groundtruth)
        return distance(groundtruth, *self.normalise_by)


def list_pictures(folder: Path, leave_out: Path | str | None = None) -> list[str]:
    """All pictures of a folder tree, relative to it, sorted; hidden ones and those below `leave_out` not.

    Raises UserError where there are none.
    """
    files = list_files(folder, SUFFIXES, leave_out)
    if not files:
        raise UserError(f"no pictures ({', '.join(s[1:] for s in SUFFIXES)}) under {folder}; correct the path")
    for file in files:
        _require_plain_file(folder / file)
    return files


def list_files(folder: Path, suffixes: Sequence[str], leave_out: Path | str | None = None) -> list[str]:
    """All files of a folder tree with these endings, as `list_pictures` lists them; none is no error."""
    left_out = None if leave_out is None else os.path.realpath(leave_out)
    files, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen or real == left_out != os.path.realpath(folder):  # a link may lead back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(parent).relative_to(folder)
        wanted = [name for name in names if name.lower().endswith(tuple(suffixes)) and not name.startswith(".")]
        files += [(relative / name).as_posix() for name in wanted]
    return sorted(files)


def _require_plain_file(path: Path) -> None:
    """UserError for what only looks like a picture: a link that leads nowhere, a pipe, a name no table can hold."""
    try:
        str(path).encode()
        kind = path.stat().st_mode
    except UnicodeEncodeError:
        raise UserError(f"the name of {str(path)!r} is not in UTF-8; rename the file") from None
    except OSError as error:
        raise UserError(f"picture {path} cannot be read ({error.strerror}); mend it or take it out") from error
    if not stat.S_ISREG(kind):
        raise UserError(f"picture {path} is no file; take it out of the folder")


def _folder(options: Any) -> Path:
    if not options.images:
        return options.paths.folder("Custom_datapath")
    folder = Path(options.images)
    if not folder.is_dir():
        raise UserError(f"--images {options.images} is no directory; correct the path")
    return folder


def _require_landmarks(pair: tuple[int, int] | None, landmarks: np.ndarray | None) -> None:
    """Raise UserError where the groundtruth has no such two landmarks."""
    if pair is not None and landmarks is not None and max(pair) >= landmarks.shape[1]:
        raise UserError(
            f"--set normalise_by={pair[0]},{pair[1]}: give two of the landmarks 0 to {landmarks.shape[1] - 1}"
        )


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode("utf-8", "surrogatepass")).hexdigest()


# Sizes


def _sizes(folder: Path, files: np.ndarray, cache: Path, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture sizes (n, 2) int32 width, height, and file stamps (n, 2) int64, of files (n,), which may repeat.

    Headers are read once: what they say is kept in `cache`. Raises UserError where pictures are unreadable.
    """
    unique, inverse = np.unique(files, return_inverse=True)
    stamps = np.array([_stamp(folder / file) for file in unique.tolist()], np.int64)
    sizes, known = np.zeros((len(unique), 2), np.int32), np.zeros(len(unique), bool)
    kept = _kept_sizes(cache)
    if len(kept["files"]):
        order = np.minimum(np.searchsorted(kept["files"], unique), len(kept["files"]) - 1)
        known = (kept["files"][order] == unique) & (kept["stamps"][order] == stamps).all(1)
        sizes[known] = kept["sizes"][order[known]]
    new = np.flatnonzero(~known)
    bad = []
    for i, result in parallel_map(_size, folder, unique[new].tolist(), workers if len(new) > 1000 else 1):
        if isinstance(result, str):
            bad.append(result)
        else:
            sizes[new[i]] = result
    if bad:
        raise UserError(min(bad) if len(bad) == 1 else f"{len(bad)} pictures are unreadable, first: {min(bad)}")
    if len(new):
        dump_pickle({"files": unique, "stamps": stamps, "sizes": sizes}, cache)
    return sizes[inverse], stamps[inverse]


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _kept_sizes(cache: Path) -> dict[str, np.ndarray]:
    """What was kept, nothing where that is damaged: files (n,) str in order, stamps (n, 2), sizes (n, 2)."""
    try:
        kept = load_pickle(cache)
        files, stamps, sizes = (kept[name] for name in ("files", "stamps", "sizes"))
        count = len(files)
        sound = files.dtype.kind == "U" and files.ndim == 1 and (files[1:] > files[:-1]).all()
        sound &= all(table.dtype.kind == "i" and table.shape == (count, 2) for table in (stamps, sizes))
        if sound and (sizes >= SMALLEST_SIDE).all():
            return kept
    except (UserError, KeyError, TypeError, AttributeError, IndexError, ValueError):
        pass
    return {"files": np.zeros(0, str)}


def _size(folder: Path, file: str) -> tuple[int, int] | str:
    try:
        size = picture_size(folder / file)
    except UserError as error:
        return one_line(error)
    if min(size) < SMALLEST_SIDE:
        return f"picture {folder / file} has only {size[0]}x{size[1]} pixels; take it out of the folder"
    return size


def _require_size(picture: np.ndarray, size: tuple[int, int], path: Path) -> np.ndarray:
    if picture.shape[1::-1] != tuple(size):
        raise UserError(f"picture {path} has changed its size; run again")
    return picture


# Working pictures and splits


def _working_set(
    folder: Path, annotations: Annotations, sizes: np.ndarray, stamps: np.ndarray, database: Custom
) -> WorkingSet:
    """All pictures with boxes and landmarks in pixels of their working pictures."""
    whole = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
    boxes = np.where(np.isnan(annotations.boxes).any(1, keepdims=True), whole, annotations.boxes)
    bad = bad_boxes(boxes, sizes)
    if len(bad):
        box = ", ".join(f"{v:g}" for v in boxes[bad[0]])
        raise UserError(
            f"the box {box} of {annotations.names[bad[0]]} is empty or outside the picture "
            f"({len(bad)} such boxes); correct it"
        )
    if database.any_pose:
        boxes = squares(boxes)
    windows, working = _windows(boxes, sizes, database.working_size)
    scale = working / (windows[:, 2:] - windows[:, :2])

    def to_working(points: np.ndarray) -> np.ndarray:  # (n, k, 2)
        return (points - windows[:, None, :2]) * scale[:, None]

    landmarks = None if annotations.landmarks is None else to_working(annotations.landmarks).astype(np.float32)
    return WorkingSet(
        root=folder,
        names=annotations.names,
        boxes=to_working(boxes.reshape(-1, 2, 2)).reshape(-1, 4),
        landmarks=landmarks,
        files=annotations.files,
        windows=windows.astype(np.int32),
        sizes=working.astype(np.int32),
        stamps=stamps,
    )


def _windows(boxes: np.ndarray, sizes: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """What is kept of pictures, windows (n, 4) int, and the sizes (n, 2) float64 that they are shrunk to.

    boxes: (n, 4); sizes: (n, 2) width, height. A picture with a side over `longest` is cut to its box's surroundings
    and shrunk until none is.
    """
    windows = padded_window(boxes, sizes[:, 0], sizes[:, 1], WINDOW_MARGIN)
    whole = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
    windows = np.where(sizes.max(1, keepdims=True) > longest, windows, whole)
    extent = windows[:, 2:] - windows[:, :2]
    shrink = np.minimum(1, longest / np.maximum(extent.max(1, keepdims=True), 1))
    return windows, np.maximum(np.rint(extent * shrink), SMALLEST_SIDE)


def _in_poses(images: WorkingSet, options: Any) -> WorkingSet:
    """The training pictures whose poses the experiment knows, in their poses; as they are before it knows any."""
    file = Experiment(options.log_path, options.experiment_name).poses()
    if not file.exists():
        return images
    table = load_table(file, "train step one again")
    images = images.subset(np.array([name in table for name in images.names.tolist()]))
    names = images.names.tolist()
    return images.posed(rows_of(table, names, (2, 2), "pose", file, "train step one again", np.float64))


def _split(images: WorkingSet, annotations: Annotations) -> tuple[WorkingSet, WorkingSet, WorkingSet]:
    """Training, regression and test pictures: as split.csv says, else 10% of the files are tested.

    The regression pictures are the training pictures with known landmarks, at most 1000, unless split.csv
    names others.
    """
    order = np.array([int(_digest(file)[:12], 16) for file in annotations.files.tolist()])
    if annotations.splits is None:
        testing = order % TEST_SHARE == 0
        if not testing.any():
            testing = order == order.min()
        training, regression = ~testing, np.zeros(len(images), bool)
    else:
        training, regression, testing = (annotations.splits == s for s in ("train", "regression", "test"))
    if not regression.any():
        regression = training & _has_landmarks(images)
    chosen = np.flatnonzero(regression if regression.any() else training)
    chosen = np.sort(chosen[np.argsort(order[chosen], kind="stable")][:REGRESSION_PICTURES])
    return images.subset(training), images.subset(chosen), images.subset(testing)


def _has_landmarks(images: ImageSet) -> np.ndarray:
    if images.landmarks is None:
        return np.ones(len(images), bool)
    return ~np.isnan(images.landmarks).all((1, 2))
