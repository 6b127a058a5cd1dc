"""From Human3.6M's videos, poses and masks to the pictures, boxes and joints that `Human36` reads.

A recording is one camera's video of one action. It is surveyed (lengths, boxes, joints), its frames are
extracted into a folder of its own, and then moved to their final numbers. `.prepared/` below the output
holds a record per recording, by which a later run skips what is done and repairs what is not.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
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
from Utils.storage.files import dump_pickle, held, load_pickle, remove_left_overs
from Utils.storage.pictures import write_jpeg
from Utils.storage.videos import frames_at

ACTIONS = ("Directions", "Discussion", "Posing", "Waiting", "Greeting", "Walking")
# subject -> split, every how many frames
SUBJECTS = {**dict.fromkeys(("S1", "S5", "S6", "S7", "S8", "S9"), ("train", 10)), "S11": ("test", 50)}
SPLITS = ("train", "test")
BOXES, KEYPOINTS = "HumanBoundingBoxes.pickle", "GroundtruthKeypoints.pickle"
RECORD_VERSION = 1


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

    @property
    def split(self) -> str:
        return SUBJECTS[self.subject][0]

    @property
    def step(self) -> int:
        return SUBJECTS[self.subject][1]

    def fingerprint(self) -> tuple:
        """Tells whether the three files are still those that a record was made from."""
        stats = [file.stat() for file in (self.video, self.pose, self.masks)]
        return tuple((s.st_size, s.st_mtime_ns) for s in stats)


@dataclass
class Summary:
    """What a run did."""

    pictures: dict[str, int] = field(default_factory=dict)  # split -> count
    recordings: int = 0
    extracted: int = 0  # recordings that this run had to extract
    left_out: int = 0  # frames whose mask is empty
    skipped: list[str] = field(default_factory=list)  # "S1/Posing 1: why"


def prepare(human: Path, output: Path, workers: int, frame_tolerance: int = 0) -> Summary:
    """Extract the pictures of `human` into `output`. Recordings that cannot be used are named in the summary.

    Raises UserError where there are no recordings at all, and where another process extracts into `output`.
    """
    summary = Summary()
    recordings = find_recordings(human, summary)
    store = _Store(output)
    with store.held():
        records = _survey_all(recordings, store, workers, frame_tolerance, summary)
        _extract_all(records, store, workers, summary)
        usable = [(r, record) for r, record in records if record["sizes"] is not None]
        _place(usable, store, summary)
        _write_tables(usable, output)
    summary.recordings = len(usable)
    summary.left_out = sum(record["left_out"] for _, record in usable)
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
        folders = {
            "video": (videos, ".mp4"),
            "pose": (base / "MyPoseFeatures" / "D2_Positions", ".cdf"),
            "masks": (base / "MySegmentsMat" / "ground_truth_bb", ".mat"),
        }
        found = {kind: _by_stem(folder, suffix) for kind, (folder, suffix) in folders.items()}
        for stem in sorted(set().union(*found.values())):
            missing = [kind for kind in found if stem not in found[kind]]
            if missing:
                files = ", ".join(str(folders[kind][0] / f"{stem}{folders[kind][1]}") for kind in missing)
                summary.skipped.append(f"{subject}/{stem}: {files} does not exist")
            else:
                recordings.append(Recording(subject, stem, **{kind: found[kind][stem] for kind in found}))
    if not recordings and not summary.skipped:
        raise UserError(f"{root} has no videos of {', '.join(ACTIONS)}; complete the download")
    return recordings


def _by_stem(folder: Path, suffix: str) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    files = [f for f in folder.iterdir() if f.suffix.lower() == suffix and not f.name.startswith(".")]
    return {f.stem: f for f in files if any(action in f.stem for action in ACTIONS)}


# Survey


def survey(frame_tolerance: int, recording: Recording) -> dict[str, Any] | str:
    """The used frames of a recording, their boxes and joints in video pixels; or why it cannot be used."""
    try:
        return _survey(frame_tolerance, recording)
    except UserError as error:
        return one_line(error)


def _survey(frame_tolerance: int, recording: Recording) -> dict[str, Any]:
    pose = read_pose(recording.pose)
    frames = count_frames(recording.video)
    with _Masks(recording.masks) as masks:
        lengths = (frames, len(pose), len(masks))
        if max(lengths) - min(lengths) > frame_tolerance:
            counts = "video {} frames, pose {}, masks {}".format(*lengths)
            raise UserError(f"lengths disagree: {counts} (--frame_tolerance allows for small differences)")
        wanted = np.arange(0, min(lengths), recording.step)
        boxes = np.array([box_of_mask(masks[int(i)]) for i in wanted], np.float64).reshape(-1, 4)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return {
        "version": RECORD_VERSION,
        "source": recording.fingerprint(),
        "tolerance": frame_tolerance,
        "frames": wanted[kept],
        "boxes": boxes[kept],
        "joints": pose[wanted[kept]],
        "left_out": int((~kept).sum()),
        "sizes": None,  # bytes of each picture, once extracted
        "start": None,  # number of the first picture, once in its place
    }


def read_pose(file: Path) -> np.ndarray:
    """The variable Pose of a .cdf file: (frames, 32, 2) x, y in video pixels. Raises UserError."""
    import cdflib

    try:
        pose = np.asarray(cdflib.CDF(file).varget("Pose"), np.float64)
        return pose.reshape(-1, JOINTS, 2)
    except Exception as error:  # cdflib raises errors of many kinds on broken files
        raise UserError(f"{file} cannot be read ({one_line(error) or type(error).__name__})") from error


def count_frames(file: Path) -> int:
    """Frames of a video, from its header. Raises UserError."""
    import cv2

    capture = cv2.VideoCapture(str(file))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    if count < 1:
        raise UserError(f"{file} cannot be read as a video")
    return count


class _Masks:
    """The masks of a .mat file (HDF5), one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> "_Masks":
        import h5py

        try:
            self.file = h5py.File(self.path, "r")
        except OSError as error:
            raise UserError(f"{self.path} cannot be read ({one_line(error)})") from error
        try:
            self.references = self.file["Masks"][()].reshape(-1)
        except Exception as error:
            self.file.close()
            raise UserError(f"{self.path} has no readable variable Masks") from error
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()

    def __len__(self) -> int:
        return len(self.references)

    def __getitem__(self, i: int) -> np.ndarray:
        """The binary mask (H, W) of frame i."""
        try:
            return self.file[self.references[i]][()].T  # MATLAB stores columns first
        except Exception as error:
            raise UserError(f"{self.path}: the mask of frame {i} cannot be read ({one_line(error)})") from error


def box_of_mask(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Extent of the ones of a mask (H, W): x1, y1, x2, y2, the first and last pixels; zeros where none is."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(columns):
        return 0, 0, 0, 0
    return columns[0], rows[0], columns[-1], rows[-1]


# Extraction


def extract(shared: None, job: tuple[Recording, dict[str, Any], Path]) -> np.ndarray | str:
    """Write the pictures of a surveyed recording as 000000.jpg ... into a folder.

    Returns their sizes in bytes, or why the video cannot be used.
    """
    recording, record, folder = job
    try:
        return _extract(recording.video, record["frames"], crop_of_box(record["boxes"]), folder)
    except UserError as error:
        shutil.rmtree(folder, ignore_errors=True)
        return one_line(error)


def _extract(video: Path, frames: np.ndarray, maps: np.ndarray, folder: Path) -> np.ndarray:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sizes = []
    for i, picture in enumerate(frames_at(video, frames.tolist())):
        file = folder / picture_name(i)
        write_jpeg(warp(picture, maps[i], PICTURE_SIZE), file)
        sizes.append(file.stat().st_size)
    return np.array(sizes, np.int64)


def picture_name(i: int) -> str:
    """Of the i-th picture of a split."""
    return f"{i:06d}.jpg"


# Records, numbers and tables


class _Store:
    """The output folder: records, pictures on their way, pictures in their place."""

    def __init__(self, output: Path) -> None:
        self.output = output
        try:
            for split in SPLITS:
                (output / "images" / split).mkdir(parents=True, exist_ok=True)
            (output / ".prepared").mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"{output} cannot be written ({error.strerror}); give another folder") from error

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the folder from other processes, and tidy what one that was killed was writing."""
        with held(
            self.output / ".prepared" / ".lock",
            f"{self.output} is being written by another process; wait for its end, or give another folder",
        ):
            remove_left_overs(self.output, *(self.output / ".prepared" / subject for subject in SUBJECTS))
            yield

    def parts(self, recording: Recording) -> Path:
        return self.output / ".prepared" / "parts" / recording.subject / recording.stem

    def record_file(self, recording: Recording) -> Path:
        return self.output / ".prepared" / recording.subject / f"{recording.stem}.pickle"

    def read(self, recording: Recording, frame_tolerance: int) -> dict[str, Any] | None:
        """The record of a recording, where there is one and it is of the files as they are now."""
        file = self.record_file(recording)
        if not file.is_file():
            return None
        try:
            record = load_pickle(file)
        except UserError:
            return None
        return record if _is_sound(record, (RECORD_VERSION, recording.fingerprint(), frame_tolerance)) else None

    def write(self, recording: Recording, record: dict[str, Any]) -> None:
        dump_pickle(record, self.record_file(recording))

    def placed_sizes(self, split: str) -> dict[str, int]:
        return _sizes(self.output / "images" / split)

    def files(self, recording: Recording, record: dict[str, Any], start: int | None) -> list[Path]:
        """Where its pictures lie: in their place from number `start` on, or on their way there."""
        count = len(record["frames"])
        if start is None:
            return [self.parts(recording) / picture_name(i) for i in range(count)]
        return [self.output / "images" / recording.split / picture_name(start + i) for i in range(count)]


def _is_sound(record: Any, key: tuple) -> bool:
    """Whether a record is one of ours with this version, source and tolerance; a damaged one is made again."""
    try:
        frames, boxes, joints, sizes, start = (
            record[name] for name in ("frames", "boxes", "joints", "sizes", "start")
        )
        count = len(frames)
        return (
            (record["version"], record["source"], record["tolerance"]) == key
            and (frames.dtype.kind, frames.shape) == ("i", (count,))
            and (boxes.shape, joints.shape) == ((count, 4), (count, JOINTS, 2))
            and bool(np.isfinite(boxes).all())
            and (sizes is None or (sizes.dtype.kind, sizes.shape) == ("i", (count,)))
            and (start is None or (type(start) is int and start >= 0))
            and type(record["left_out"]) is int
        )
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        return False


def _sizes(folder: Path) -> dict[str, int]:
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries}


def _survey_all(
    recordings: Sequence[Recording], store: _Store, workers: int, frame_tolerance: int, summary: Summary
) -> list[tuple[Recording, dict[str, Any]]]:
    """Each usable recording with its record, in order; new records are written."""
    records = {r: record for r in recordings if (record := store.read(r, frame_tolerance)) is not None}
    new = [r for r in recordings if r not in records]
    results = parallel_map(survey, frame_tolerance, new, workers, chunk=1)
    for i, result in progress(results, "Reading poses and masks", total=len(new), unit="video"):
        if isinstance(result, str):
            summary.skipped.append(f"{new[i].title}: {result}")
        else:
            records[new[i]] = result
            store.write(new[i], result)
    return [(r, records[r]) for r in recordings if r in records]


def _extract_all(
    records: Sequence[tuple[Recording, dict[str, Any]]], store: _Store, workers: int, summary: Summary
) -> None:
    """Extract what is not there whole; `sizes` of a record stays None where the video cannot be used."""
    placed = {split: store.placed_sizes(split) for split in SPLITS}
    jobs = []
    for recording, record in records:
        if not _is_whole(recording, record, store, placed[recording.split]):
            record["sizes"] = record["start"] = None
            jobs.append((recording, record, store.parts(recording)))
    results = parallel_map(extract, None, jobs, workers, chunk=1)
    for i, result in progress(results, "Extracting pictures", total=len(jobs), unit="video"):
        recording, record, _ = jobs[i]
        if isinstance(result, str):
            summary.skipped.append(f"{recording.title}: {result}")
        else:
            record["sizes"] = result
            summary.extracted += 1
        store.write(recording, record)


def _is_whole(recording: Recording, record: dict[str, Any], store: _Store, placed: dict[str, int]) -> bool:
    """Whether all pictures of a recording are there and have their sizes."""
    if record["sizes"] is None:
        return False
    there = _sizes(store.parts(recording)) if record["start"] is None else placed
    files = store.files(recording, record, record["start"])
    return [there.get(file.name) for file in files] == record["sizes"].tolist()


def _place(records: Sequence[tuple[Recording, dict[str, Any]]], store: _Store, summary: Summary) -> None:
    """Move pictures to the numbers that they have in the sorted order of all recordings."""
    starts, totals = {}, dict.fromkeys(SPLITS, 0)
    for recording, record in records:
        starts[recording] = totals[recording.split]
        totals[recording.split] += len(record["frames"])
    summary.pictures = totals
    moving = [(r, record) for r, record in records if record["start"] != starts[r]]
    if moving:  # what the tables say is not true while pictures move
        for table in (BOXES, KEYPOINTS):
            (store.output / table).unlink(missing_ok=True)
    for target in (None, starts):  # first out of each other's way
        for recording, record in moving:
            start = None if target is None else target[recording]
            if record["start"] == start:
                continue
            store.parts(recording).mkdir(parents=True, exist_ok=True)
            sources = store.files(recording, record, record["start"])
            for source, file in zip(sources, store.files(recording, record, start)):
                os.replace(source, file)
            record["start"] = start
            store.write(recording, record)
    shutil.rmtree(store.output / ".prepared" / "parts", ignore_errors=True)
    for split in SPLITS:
        valid = {picture_name(i) for i in range(totals[split])}
        for name in set(store.placed_sizes(split)) - valid:
            if name.endswith(".jpg"):
                (store.output / "images" / split / name).unlink()


def _write_tables(records: Sequence[tuple[Recording, dict[str, Any]]], output: Path) -> None:
    """The two pickles: /train/000000.jpg -> box (4,) and joints (32, 2), picture pixels."""
    names, boxes, joints = [], [np.zeros((0, 4))], [np.zeros((0, JOINTS, 2))]
    for recording, record in records:
        maps = crop_of_box(record["boxes"])
        names += [f"/{recording.split}/{picture_name(record['start'] + i)}" for i in range(len(maps))]
        boxes.append(apply(maps, record["boxes"].reshape(-1, 2, 2)).reshape(-1, 4))
        joints.append(apply(maps, record["joints"]))
    for file, rows in ((BOXES, boxes), (KEYPOINTS, joints)):
        # One new array, so that equal tables are equal files, whether read from records or just made.
        dump_pickle(dict(zip(names, np.array(np.concatenate(rows), dtype=float))), output / file)
