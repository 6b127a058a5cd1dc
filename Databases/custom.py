"""A user's own folder of pictures of any format and size, with or without annotations."""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import cv2
import numpy as np
from pydantic import AfterValidator, BaseModel, Field

from Databases.custom_annotations import Annotations, read_annotations
from Databases.database import REGRESSION_PICTURES, Database, ImageSet, inside
from Databases.normalisers import distance, root_of_extent
from Databases.posed import POSES, boxes_and_landmarks, pose_maps, pose_maps_of, square_crop, squares
from Databases.tables import bad_boxes, load_table, rows_of
from Utils import crops
from Utils.crops import padded_crop, padded_window, warp
from Utils.hyperparameters import FREE_AFTER_TRAINING
from Utils.runtime.errors import UserError, one_line
from Utils.runtime.parallel import parallel_map
from Utils.runtime.progress import progress
from Utils.storage.experiment import Experiment
from Utils.storage.files import dump_pickle, remove_left_overs, require_writable, stamp, writing
from Utils.storage.pictures import SUFFIXES, encode_jpeg, read_picture

CROP_MARGIN = 0.08  # of the box's mean side
WINDOW_MARGIN = 0.5  # of the box's mean side; a large picture is cut to its box with this margin
SMALLEST_SIDE = 16  # pixels
WORKING_SHARE = 450 / 256  # longest side of a picture, in sides of the crop; more would cost time and tell nothing
LARGE = 1.4  # times that side: shrinking a smaller picture would halve its pixels at most and cost detail
TEST_SHARE = 10  # one file in ten is tested
LEAST_FOR_WORKERS = 64  # pictures; starting processes for fewer takes longer


@dataclass(frozen=True, kw_only=True)
class WorkingSet(ImageSet):
    """Large pictures are cut to a window and shrunk. Boxes and landmarks are in pixels of the result."""

    originals: np.ndarray  # (n, 2) int32: width, height of the picture in the file
    windows: np.ndarray  # (n, 4) int32: x1, y1, x2, y2 in that picture
    sizes: np.ndarray  # (n, 2) int32: width, height after shrinking
    stamps: np.ndarray  # (n, 2) int64: the file's size in bytes and time of change
    objects: np.ndarray  # (n, 4): the boxes as they were given, before they became squares and before pictures turn
    poses: np.ndarray | None = None  # (n, 2, 3): maps to the posed pictures, which are what is read
    sides: np.ndarray | None = None  # (n,): of the posed pictures, pixels

    def posed(self, turns: np.ndarray) -> "WorkingSet":
        """The pictures with each object turned and mirrored, turns (n, 2, 2), about the middle of its square box."""
        maps, sides = pose_maps_of(self.boxes, turns)
        boxes, landmarks = boxes_and_landmarks(self.boxes, self.landmarks, maps, sides)
        return replace(self, boxes=boxes, landmarks=landmarks, poses=maps, sides=sides)


def _require_two_landmarks(text: str) -> str:
    words = text.split(",")
    if text and not (len(words) == 2 and all(map(str.isdecimal, words)) and int(words[0]) != int(words[1])):
        raise ValueError("must be two different landmarks, counted from 0, like 41,46")
    return text


def _zero_or_enough(side: int) -> int:
    if 0 != side < SMALLEST_SIDE:
        raise ValueError(f"must be at least {SMALLEST_SIDE}, or 0")
    return side


class CustomSettings(BaseModel):
    """Each description is the field's line in docs/training.md."""

    normalise_by: Annotated[str, FREE_AFTER_TRAINING, AfterValidator(_require_two_landmarks)] = Field(
        "", description="two landmarks, like 41,46, whose distance divides errors; empty: the extent of all landmarks"
    )
    working_size: Annotated[int, AfterValidator(_zero_or_enough)] = Field(
        0,
        description="longest side in pixels to which large pictures are shrunk; 0: 450 for crops of 256x256, in "
        "proportion for others",
    )
    poses: Literal["one", "auto", "mirrored", "any"] = Field(
        "auto",
        description="how objects stand: `one` way up, `mirrored`: facing left or right, or turned by `any` angle; "
        "`auto`: recipe `consensus` tells it from the pictures, `paper` takes `one`",
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

    def __init__(self, hyper: Any) -> None:
        self.working_size = hyper.working_size or max(SMALLEST_SIDE, round(WORKING_SHARE * hyper.image_size))
        self.normalise_by = [int(landmark) for landmark in hyper.normalise_by.split(",") if landmark]
        self.any_pose = hyper.poses in ("mirrored", "any")
        if self.any_pose:
            self.border = cv2.BORDER_REFLECT_101
            self.poses = pose_maps(POSES[hyper.poses])

    @classmethod
    def rules(cls, hyper: Any) -> "Custom":
        return cls(hyper)

    @classmethod
    def open(cls, options: Any) -> "Custom":
        folder = _folder(options)
        if os.path.realpath(options.log_path) == os.path.realpath(folder):
            raise UserError(f"log_path is the folder of the pictures, {folder}; write logs elsewhere")
        files = list_pictures(folder, options.log_path)
        annotations = read_annotations(folder, files)
        database = cls(options.hyper)
        database.cache = Path(options.log_path) / "Custom" / _digest(str(folder.resolve()))[:12] / "pictures"
        remove_left_overs(database.cache, database.cache.parent)
        known = database.cache.with_name("sizes.pickle")
        originals, stamps, database.left_out = _read_sizes(folder, annotations.files, known, options.num_workers)
        readable = np.flatnonzero(originals[:, 0])
        if not len(readable):
            raise UserError(f"no picture in {folder} can be read, first: {database.left_out[0]}")
        annotations, originals, stamps = annotations.subset(readable), originals[readable], stamps[readable]
        annotations.check_units(folder, originals)
        images = _working_set(folder, annotations, originals, stamps, database)
        database.training, database.regression, database.test = _split(images, annotations)
        if database.any_pose:
            database.training = _in_poses(database.training, options)
        return database

    def read(self, images: ImageSet, i: int) -> np.ndarray:
        """Picture i, or the shrunk window of a large one; in its pose, if it has one."""
        assert isinstance(images, WorkingSet)
        picture = self._read_window(images, i)
        if images.poses is None or images.sides is None:
            return picture
        return warp(picture, images.poses[i], int(images.sides[i]), cv2.BORDER_REFLECT_101)

    def _read_window(self, images: WorkingSet, i: int) -> np.ndarray:
        """Picture i, or the shrunk window of a large one, which is kept below the log directory."""
        path, window, size = images.path(i), images.windows[i], images.sizes[i]
        if np.array_equal(size, images.originals[i]):
            return _read_unchanged(path, images.originals[i])
        key = _digest(f"{images.file(i)} {images.stamps[i]} {window} {size}")
        kept = self.cache / f"{key}.jpg"
        if not kept.is_file():
            x1, y1, x2, y2 = window
            part = _read_unchanged(path, images.originals[i])[y1:y2, x1:x2]
            shrunk = cv2.resize(part, size.tolist(), interpolation=cv2.INTER_AREA)
            with writing(kept) as temporary:
                temporary.write_bytes(encode_jpeg(shrunk))
        return read_picture(kept)

    def crop(self, box: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
        if self.any_pose:
            return square_crop(box, size, CROP_MARGIN)
        return padded_crop(box, width, height, size, CROP_MARGIN)

    def surround(self, box: np.ndarray) -> np.ndarray:
        return squares(box[None])[0] if self.any_pose else box

    def in_box(self, images: ImageSet, numbers: np.ndarray, points: np.ndarray) -> np.ndarray:
        assert isinstance(images, WorkingSet)
        if images.poses is not None:
            points = crops.apply(crops.invert(images.poses[numbers]), points[:, None])[:, 0]
        return inside(points, images.objects[numbers])

    def view(self, box: np.ndarray, width: int, height: int) -> tuple[np.ndarray, tuple[int, int]]:
        windows, sizes = _windows(box[None], np.array([[width, height]]), self.working_size)
        x1, y1, x2, y2 = windows[0]
        scale = sizes[0] / (x2 - x1, y2 - y1)
        to_view = np.column_stack([np.diag(scale), -scale * (x1, y1)])
        return to_view, (int(sizes[0, 0]), int(sizes[0, 1]))

    def normalisers(self, groundtruth: np.ndarray) -> np.ndarray:
        """The distance of the two landmarks `normalise_by`, else sqrt(w h) of the extent; NaN if unknown."""
        if not self.normalise_by:
            return root_of_extent(groundtruth)
        return distance(groundtruth, *self.normalise_by)


def list_pictures(folder: Path, leave_out: Path | str | None = None) -> list[str]:
    """The pictures of a folder tree as `list_files` lists them; UserError if there are none."""
    files = list_files(folder, SUFFIXES, leave_out)
    if not files:
        raise UserError(f"no pictures ({', '.join(s[1:] for s in SUFFIXES)}) under {folder}; correct the path")
    return files


def list_files(folder: Path, suffixes: Sequence[str], leave_out: Path | str | None = None) -> list[str]:
    """Files of a folder tree by suffix, relative to it, sorted; not those that are hidden or below `leave_out`."""
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


def _folder(options: Any) -> Path:
    if not options.images:
        return options.paths.folder("Custom_datapath")
    folder = Path(options.images)
    if not folder.is_dir():
        raise UserError(f"--images {options.images} is not a directory; correct the path")
    return folder


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode("utf-8", "surrogatepass")).hexdigest()


# Sizes


def _read_sizes(
    folder: Path, files: np.ndarray, known: Path, workers: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Of files (n,), which may repeat: sizes (n, 2) int32 width, height, stamps (n, 2) int64, and what is wrong.

    The size and stamp of an unreadable picture are 0. Whether one is cut off shows only when all of it is read, so
    that is done, once: the file `known` holds the sizes and stamps of those that were fine.
    """
    unique, inverse = np.unique(files, return_inverse=True)
    rows: dict[str, Any] = {}
    with contextlib.suppress(UserError):  # missing or damaged: it is made anew
        rows = load_table(known, "")
    new = [file for file in unique.tolist() if file not in rows or rows[file][2:] != stamp(folder / file)]
    if new:
        require_writable(known.parent, "set log_path in the paths file to another folder")
    good, bad = {}, []
    results = parallel_map(_size_and_stamp, folder, new, workers if len(new) > LEAST_FOR_WORKERS else 1)
    for i, result in progress(results, "Reading pictures", total=len(new)) if new else ():
        if isinstance(result, str):
            bad.append(result)
        else:
            good[new[i]] = result
    rows |= dict.fromkeys(new, (0, 0, 0, 0)) | good
    if good:
        dump_pickle(rows, known)
    table = np.array([rows[file] for file in unique.tolist()], np.int64)[inverse]
    return table[:, :2].astype(np.int32), table[:, 2:], bad


def _size_and_stamp(folder: Path, file: str) -> tuple[int, int, int, int] | str:
    """Width, height, bytes and time of change of a picture, or why it cannot be used."""
    path = folder / file
    try:
        height, width = read_picture(path).shape[:2]
    except UserError as error:
        return one_line(error)
    if min(width, height) < SMALLEST_SIDE:
        return f"picture {path} has only {width}x{height} pixels; take it out of the folder"
    return (width, height, *stamp(path))


def _read_unchanged(path: Path, size: np.ndarray) -> np.ndarray:
    """The picture; UserError if its width and height are no longer `size`."""
    picture = read_picture(path)
    if picture.shape[1::-1] != tuple(size):
        raise UserError(f"picture {path} has changed its size; run again")
    return picture


# Working pictures and splits


def _working_set(
    folder: Path, annotations: Annotations, originals: np.ndarray, stamps: np.ndarray, database: Custom
) -> WorkingSet:
    """All pictures; originals: their sizes (n, 2)."""
    whole = np.concatenate([np.zeros_like(originals), originals], axis=1)
    boxes = np.where(np.isnan(annotations.boxes).all(1, keepdims=True), whole, annotations.boxes)
    bad = bad_boxes(boxes, originals)
    if len(bad):
        box = ", ".join(f"{v:g}" for v in boxes[bad[0]])
        raise UserError(
            f"the box {box} of {annotations.names[bad[0]]} is empty, incomplete or outside the picture "
            f"({len(bad)} such boxes); correct it"
        )
    objects = boxes
    if database.any_pose:
        boxes = squares(boxes)
    windows, sizes = _windows(boxes, originals, database.working_size)
    scale = sizes / (windows[:, 2:] - windows[:, :2])

    def to_working(points: np.ndarray) -> np.ndarray:  # (n, k, 2)
        return (points - windows[:, None, :2]) * scale[:, None]

    landmarks = annotations.landmarks
    return WorkingSet(
        root=folder,
        names=annotations.names,
        boxes=to_working(boxes.reshape(-1, 2, 2)).reshape(-1, 4),
        objects=to_working(objects.reshape(-1, 2, 2)).reshape(-1, 4),
        landmarks=None if landmarks is None else to_working(landmarks).astype(np.float32),
        files=annotations.files,
        originals=originals,
        windows=windows.astype(np.int32),
        sizes=sizes.astype(np.int32),
        stamps=stamps,
    )


def _windows(boxes: np.ndarray, sizes: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """The windows (n, 4) int that are kept of pictures, and the sizes (n, 2) float64 that they are shrunk to.

    boxes: (n, 4); sizes: (n, 2) width, height. A picture with a side over `LARGE` times `longest` is cut to its box's
    surroundings and then shrunk until no side is over `longest`.
    """
    windows = padded_window(boxes, sizes[:, 0], sizes[:, 1], WINDOW_MARGIN)
    whole = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
    large = sizes.max(1, keepdims=True) > LARGE * longest
    windows = np.where(large, windows, whole)
    extent = windows[:, 2:] - windows[:, :2]
    shrink = np.where(large, np.minimum(1, longest / np.maximum(extent.max(1, keepdims=True), 1)), 1)
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
    """Training, regression and test pictures as split.csv says; without it, 10% of the files are tested.

    If split.csv names no regression pictures, training pictures with known landmarks are taken, at most 1000.
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
        regression = training if images.landmarks is None else training & ~np.isnan(images.landmarks).all((1, 2))
    chosen = np.flatnonzero(regression if regression.any() else training)
    chosen = np.sort(chosen[np.argsort(order[chosen], kind="stable")][:REGRESSION_PICTURES])
    return images.subset(training), images.subset(chosen), images.subset(testing)
