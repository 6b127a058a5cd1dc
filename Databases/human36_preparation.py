"""From Human3.6M's videos, poses and masks to the pictures, boxes and joints that `Human36` reads.

A recording is one camera's video of one action. Its pictures and a record of its boxes and joints go to a folder
of its own below `.prepared/`, the record last, so that a later run sees what is finished. `images/` then gets a
link to each picture, numbered in the order of the recordings.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from Databases.human36 import JOINTS, crop_of_box
from Databases.human36 import SIZE as PICTURE_SIZE
from Utils.crops import apply, warp
from Utils.runtime.errors import UserError, one_line
from Utils.runtime.parallel import parallel_map
from Utils.runtime.progress import progress
from Utils.storage.files import dump_pickle, held, load_pickle, remove_left_overs, stamp
from Utils.storage.pictures import write_jpeg
from Utils.storage.videos import Video, frames_at

ACTIONS = ("Directions", "Discussion", "Posing", "Waiting", "Greeting", "Walking")
# subject -> split, every how many frames
SUBJECTS = {**dict.fromkeys(("S1", "S5", "S6", "S7", "S8", "S9"), ("train", 10)), "S11": ("test", 50)}
BOXES, KEYPOINTS, RECORD = "HumanBoundingBoxes.pickle", "GroundtruthKeypoints.pickle", "record.pickle"


@dataclass(frozen=True)
class Recording:
    """The three files of one video."""

    subject: str
    stem: str
    video: Path
    pose: Path
    masks: Path

    @property
    def title(self) -> str:
        return f"{self.subject}/{self.stem}"

    def fingerprint(self) -> tuple:
        """Changes when one of the files does."""
        return tuple(stamp(file) for file in (self.video, self.pose, self.masks))


@dataclass
class Summary:
    """What a run did."""

    pictures: dict[str, int] = field(default_factory=dict)  # split -> count
    recordings: int = 0
    extracted: int = 0  # recordings that this run extracted
    left_out: int = 0  # frames whose mask is empty
    skipped: list[str] = field(default_factory=list)  # "S1/Posing 1: why"


def prepare(human: Path, output: Path, workers: int, frame_tolerance: int = 0) -> Summary:
    """Extract the pictures of `human` into `output`. The summary names the recordings that cannot be used.

    Raises UserError if there are no recordings at all, or another process extracts into `output`.
    """
    summary = Summary()
    recordings = find_recordings(human, summary)
    prepared = output / ".prepared"
    prepared.mkdir(parents=True, exist_ok=True)
    with held(
        prepared / ".lock", f"another process is writing to {output}; wait until it ends, or give another folder"
    ):
        remove_left_overs(output)
        usable = {}
        results = parallel_map(_prepare_one, (prepared, frame_tolerance), recordings, workers, chunk=1)
        for i, result in progress(results, "Extracting pictures", total=len(recordings), unit="video"):
            if isinstance(result, str):
                summary.skipped.append(f"{recordings[i].title}: {result}")
            else:
                usable[recordings[i]], is_new = result
                summary.extracted += is_new
        summary.pictures = _number_pictures(usable, prepared, output)
    summary.recordings = len(usable)
    summary.left_out = sum(record["left_out"] for record in usable.values())
    summary.skipped.sort()
    return summary


def find_recordings(human: Path, summary: Summary) -> list[Recording]:
    """The recordings of the protocol in order of subject and name; incomplete ones go to `summary.skipped`."""
    roots = [human / "training" / "subjects", human / "subjects", human]
    root = next((r for r in roots if any((r / s).is_dir() for s in SUBJECTS)), None)
    if root is None:
        raise UserError(f"{human} has no training/subjects/S*; give the folder of the download to --path_to_Human")
    recordings = []
    for subject in SUBJECTS:
        base = root / subject
        videos = base / "Videos" if (base / "Videos").is_dir() else base / "Video"
        kinds = (
            (videos, ".mp4"),
            (base / "MyPoseFeatures" / "D2_Positions", ".cdf"),
            (base / "MySegmentsMat" / "ground_truth_bb", ".mat"),
        )
        found = {file.stem for folder, suffix in kinds for file in folder.glob(f"[!.]*{suffix}")}
        for stem in sorted(stem for stem in found if any(action in stem for action in ACTIONS)):
            files = [folder / f"{stem}{suffix}" for folder, suffix in kinds]
            missing = ", ".join(str(file) for file in files if not file.is_file())
            if missing:
                summary.skipped.append(f"{subject}/{stem}: {missing} does not exist")
            else:
                recordings.append(Recording(subject, stem, *files))
    if not recordings and not summary.skipped:
        raise UserError(f"{root} has no videos of {', '.join(ACTIONS)}; complete the download")
    return recordings


# One recording


def _prepare_one(shared: tuple[Path, int], recording: Recording) -> tuple[dict[str, Any], bool] | str:
    """The record of a recording and whether it was extracted just now, or why it cannot be used."""
    prepared, frame_tolerance = shared
    folder = prepared / recording.title
    try:
        record = _finished(folder, recording, frame_tolerance)
        if record:
            return record, False
        return extract(recording, folder, frame_tolerance), True
    except UserError as error:
        return one_line(error)


def _finished(folder: Path, recording: Recording, frame_tolerance: int) -> dict[str, Any] | None:
    """The record of an earlier run, if its sources have not changed and all its pictures are whole."""
    try:
        record = load_pickle(folder / RECORD)
    except UserError:
        return None
    sizes = [file.stat().st_size for file in sorted(folder.glob("*.jpg"))]
    current = record["source"] == recording.fingerprint() and record["difference"] <= frame_tolerance
    return record if current and sizes == record["sizes"] else None


def extract(recording: Recording, folder: Path, frame_tolerance: int) -> dict[str, Any]:
    """Write the pictures of a recording as 000000.jpg ... into a folder, then its record, and return that."""
    record = survey(recording, frame_tolerance)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    maps = crop_of_box(record["boxes"])
    for i, picture in enumerate(frames_at(recording.video, record["frames"].tolist())):
        file = folder / picture_name(i)
        write_jpeg(warp(picture, maps[i], PICTURE_SIZE), file)
        record["sizes"].append(file.stat().st_size)
    dump_pickle(record, folder / RECORD)
    return record


def picture_name(i: int) -> str:
    return f"{i:06d}.jpg"


def survey(recording: Recording, frame_tolerance: int) -> dict[str, Any]:
    """The used frames (n,) of a recording, their boxes (n, 4) and joints (n, 32, 2) in video pixels."""
    _, step = SUBJECTS[recording.subject]
    pose = read_pose(recording.pose)
    masks, boxes = read_boxes(recording.masks, step)
    lengths = (Video(recording.video).frames, len(pose), masks)
    difference = max(lengths) - min(lengths)
    if difference > frame_tolerance:
        counts = "video {} frames, pose {}, masks {}".format(*lengths)
        raise UserError(f"lengths differ: {counts} (--frame_tolerance allows small differences)")
    frames = np.arange(0, min(lengths), step)
    boxes = boxes[: len(frames)]
    kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return {
        "source": recording.fingerprint(),
        "difference": difference,
        "frames": frames[kept],
        "boxes": boxes[kept],
        "joints": pose[frames[kept]],
        "left_out": int((~kept).sum()),
        "sizes": [],  # bytes of each picture
    }


def read_pose(file: Path) -> np.ndarray:
    """The variable Pose of a .cdf file: (frames, 32, 2) x, y in video pixels. Raises UserError."""
    import cdflib

    try:
        return np.asarray(cdflib.CDF(file).varget("Pose"), np.float64).reshape(-1, JOINTS, 2)
    except Exception as error:  # cdflib raises errors of many kinds on broken files
        raise UserError(f"{file} cannot be read ({one_line(error) or type(error).__name__})") from error


def read_boxes(file: Path, step: int) -> tuple[int, np.ndarray]:
    """The number of masks in a .mat file (HDF5), and the boxes (n, 4) of every `step`-th. Raises UserError."""
    import h5py

    try:
        with h5py.File(file, "r") as content:
            references = content["Masks"][()].reshape(-1)
            # MATLAB stores columns first.
            boxes = [box_of_mask(content[reference][()].T) for reference in references[::step]]
    except Exception as error:  # h5py raises errors of many kinds on broken files
        raise UserError(f"{file} cannot be read ({one_line(error)})") from error
    return len(references), np.array(boxes, np.float64).reshape(-1, 4)


def box_of_mask(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2: the first and last columns and rows of a mask (H, W) with ones; zeros for an empty mask."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(columns):
        return 0, 0, 0, 0
    return columns[0], rows[0], columns[-1], rows[-1]


# All recordings


def _number_pictures(records: Mapping[Recording, dict[str, Any]], prepared: Path, output: Path) -> dict[str, int]:
    """Link the pictures to images/train/000000.jpg ..., write the two tables, and count the pictures by split.

    The tables: /train/000000.jpg -> box (4,) and joints (32, 2), picture pixels.
    """
    for table in (BOXES, KEYPOINTS):  # wrong while pictures change
        (output / table).unlink(missing_ok=True)
    counts = {"train": 0, "test": 0}
    names, boxes, joints = [], [np.zeros((0, 4))], [np.zeros((0, JOINTS, 2))]
    for split in counts:
        folder = output / "images" / split
        folder.mkdir(parents=True, exist_ok=True)
        for earlier in folder.glob("*.jpg"):
            earlier.unlink()
    for recording, record in records.items():
        split, _ = SUBJECTS[recording.subject]
        maps = crop_of_box(record["boxes"])
        boxes.append(apply(maps, record["boxes"].reshape(-1, 2, 2)).reshape(-1, 4))
        joints.append(apply(maps, record["joints"]))
        for i in range(len(maps)):
            names.append(f"/{split}/{picture_name(counts[split])}")
            _link(prepared / recording.title / picture_name(i), output / f"images{names[-1]}")
            counts[split] += 1
    for table, rows in ((BOXES, boxes), (KEYPOINTS, joints)):
        # One new array, so that equal tables are equal files, whether read from records or just made.
        dump_pickle(dict(zip(names, np.array(np.concatenate(rows), dtype=float))), output / table)
    return counts


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # this file system has no hard links
        shutil.copyfile(source, target)
