"""Landmarks of any pictures and videos, from file to file; memory does not grow with their number."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch

from Databases.inputs import Inputs
from Databases.point_formats import export_points
from Databases.tables import bad_boxes
from Networks.inference.detector import LandmarkDetector
from Utils.drawing.marks import mark, mark_named, palette, save_picture
from Utils.options import available_cores
from Utils.runtime.errors import UserError, one_line
from Utils.runtime.parallel import ahead
from Utils.runtime.progress import Progress
from Utils.smoothing import OneEuro
from Utils.storage.landmark_files import LandmarkFiles
from Utils.storage.pictures import read_picture
from Utils.storage.videos import Video, VideoWriter

GROUP = 16  # pictures that a thread holds at once
MOST_THREADS = 4  # more would wait for Python's lock
DRAWN = (".jpg", ".jpeg", ".png")  # an annotated copy keeps these endings
RADIUS = 0.012  # of a marker, as a share of the object's side
SMALLEST_RADIUS, LARGEST_RADIUS = 1.5, 12.0  # pixels


@dataclass(frozen=True)
class Found:
    """The landmarks of a picture and then its named points, without the picture; fields as in `LandmarkFiles.add`."""

    file: str
    size: tuple[int, int]
    boxes: np.ndarray
    points: np.ndarray
    confidence: np.ndarray

    def add_to(
        self, files: Sequence[LandmarkFiles], frame: int | None = None, seconds: Fraction | None = None
    ) -> None:
        stops = np.cumsum([len(own.names) for own in files])[:-1]
        points, confidence = np.split(self.points, stops, axis=1), np.split(self.confidence, stops, axis=1)
        for own, some, sure in zip(files, points, confidence, strict=True):
            own.add(self.file, frame, seconds, self.size, self.boxes, some, sure)


def draw(picture: np.ndarray, found: Found, names: Sequence[str] = ()) -> np.ndarray:
    """The picture with its landmarks in the colours of Visualise.py, or with its named points and their names."""
    for side, points in zip(_sides(found.boxes), found.points, strict=True):
        radius = float(np.clip(RADIUS * side, SMALLEST_RADIUS, LARGEST_RADIUS))
        if names:
            picture = mark_named(picture, points[-len(names) :], names, palette(len(names)), radius)
        else:
            picture = mark(picture, points, palette(len(points)), radius)
    return picture


def _sides(boxes: np.ndarray) -> np.ndarray:
    """The mean sides (k,) of boxes (k, 4), in pixels."""
    return np.sqrt(np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1))


@dataclass
class Prediction:
    """A run over all inputs. folder: for the results; boxes: file -> (k, 4), for those files that have boxes.

    formats: endings of files for other tools, see `export_points`; `exported` names these files.
    `faults` says in one line each which inputs could not be read, or not to their end.
    """

    detector: LandmarkDetector
    inputs: Inputs
    folder: Path
    boxes: dict[str, np.ndarray] = field(default_factory=dict)
    smooth: bool = False
    formats: Sequence[str] = ()
    faults: list[str] = field(default_factory=list)
    exported: list[str] = field(default_factory=list)

    def run(self) -> tuple[int, int]:
        """Write landmarks.csv, landmarks.json and the drawn copies; returns the numbers of pictures and objects.

        Named points go to points.csv and points.json.
        """
        if self.formats and self.inputs.videos:
            raise UserError("--format: other tools get pictures; leave out the videos, or use landmarks.json")
        cv2.setNumThreads(1)  # several threads read pictures
        with ExitStack() as stack:
            files = [stack.enter_context(LandmarkFiles(self.folder, self.detector.names, self.detector.mirror))]
            if self.names:
                files.append(stack.enter_context(LandmarkFiles(self.folder, self.names, stem="points")))
            if self.inputs.pictures:
                self._pictures(files)
            for file in self.inputs.videos:
                self._video(files, file)
            if not files[0].pictures:
                raise UserError(f"nothing could be read: {self.faults[0]}")
        source = self.folder / ("points.json" if self.names else "landmarks.json")
        for ending in self.formats:
            self.exported.append(export_points(source, ending, self.inputs.root, self.inputs.pictures))
        return files[0].pictures, files[0].objects

    @property
    def names(self) -> list[str]:
        """Of the named points, if there are any."""
        return self.detector.regressor.names if self.detector.regressor else []

    def _pictures(self, files: Sequence[LandmarkFiles]) -> None:
        """Each thread takes some pictures from file to file, which keeps all cores busy."""
        pictures = self.inputs.pictures
        groups = [pictures[i : i + GROUP] for i in range(0, len(pictures), GROUP)]
        threads = min(available_cores(), MOST_THREADS, len(groups))
        torchs = torch.get_num_threads()
        share = max(1, torchs // threads)
        with Progress("Pictures", len(pictures)) as progress:
            for group, several in zip(groups, ahead(partial(self._group, share), groups, threads, 2 * threads)):
                for found in several:
                    found.add_to(files)
                progress.update(len(group))
        torch.set_num_threads(torchs)

    def _group(self, threads: int, group: Sequence[str]) -> list[Found]:
        """The landmarks of some pictures, whose annotated copies are written; threads: for torch in this thread."""
        torch.set_num_threads(threads)
        pictures = []
        for file in group:
            try:
                picture = read_picture(self.inputs.root / file)
                self._boxes_in(file, picture)
                pictures.append((file, picture))
            except UserError as error:
                self.faults.append(one_line(error))
        several = self._detect(pictures)
        for (_, picture), found in zip(pictures, several, strict=True):
            name = found.file if found.file.lower().endswith(DRAWN) else f"{found.file}.jpg"
            save_picture(draw(picture, found, self.names), self.folder / "pictures" / name, durable=False)
        return several

    def _detect(self, pictures: Sequence[tuple[str, np.ndarray]]) -> list[Found]:
        """The landmarks of pictures, which come with their files' names."""
        boxes = [self._boxes_in(file, picture) for file, picture in pictures]
        each = [picture for (_, picture), own in zip(pictures, boxes, strict=True) for _ in own]
        together = self.detector(each, [box for own in boxes for box in own])
        stops = np.cumsum([len(own) for own in boxes], dtype=int)
        points, confidence = together.points, together.confidence
        if together.named:
            points = np.concatenate([points, together.named.points], axis=1)
            confidence = np.concatenate([confidence, together.named.confidence], axis=1)
        parts = zip(*(np.split(part, stops) for part in (together.boxes, points, confidence)))
        return [Found(file, picture.shape[1::-1], *own) for (file, picture), own in zip(pictures, parts)]

    def _boxes_in(self, file: str, picture: np.ndarray) -> list[np.ndarray | None]:
        """The boxes (4,) of a picture's objects; None: the detector finds one."""
        if file not in self.boxes:
            return [None]
        whole = np.array([0.0, 0.0, *picture.shape[1::-1]])
        boxes = self.boxes[file]
        boxes = np.where(np.isnan(boxes).all(axis=1, keepdims=True), whole, boxes)
        if len(bad_boxes(boxes, whole[2:])):
            raise UserError(f"--boxes: a box of {file} is empty, incomplete or outside the picture; correct it")
        return list(boxes)

    def _video(self, files: Sequence[LandmarkFiles], file: str) -> None:
        try:
            video = Video(self.inputs.root / file)
        except UserError as error:
            self.faults.append(one_line(error))
            return
        filters = [OneEuro(float(video.rate)) for _ in self.boxes.get(file, [None])]  # one per object
        name = file if file.lower().endswith(".mp4") else f"{file}.mp4"
        writer = VideoWriter(self.folder / "pictures" / name, video.rate)
        reader = iter(video)
        with Progress(file, video.frames, "frame") as progress, writer as drawn:
            while frames := list(islice(reader, GROUP)):
                several = self._detect([(file, frame.picture) for frame in frames])
                for frame, found in zip(frames, several, strict=True):
                    if self.smooth:
                        objects = zip(filters, found.points, _sides(found.boxes), strict=True)
                        found = replace(found, points=np.stack([steady(own, side) for steady, own, side in objects]))
                    found.add_to(files, frame.number, frame.seconds)
                    drawn.add(draw(frame.picture, found, self.names), seconds=frame.seconds)
                    progress.update()
        if video.fault:
            self.faults.append(video.fault)
