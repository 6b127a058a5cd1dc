"""Landmarks on any pictures and videos, from their files to files; memory does not grow with their number."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from Databases.inputs import Inputs
from Databases.tables import bad_boxes
from Networks.execution import INFERENCE_BATCH, share_of_cores
from Networks.inference.detector import LandmarkDetector
from Utils.drawing.marks import mark, palette, save_picture
from Utils.options import available_cores
from Utils.runtime.errors import UserError, one_line
from Utils.runtime.parallel import ahead
from Utils.runtime.progress import Progress
from Utils.smoothing import OneEuro
from Utils.storage.landmark_files import LandmarkFiles
from Utils.storage.pictures import read_picture
from Utils.storage.videos import Video, VideoWriter

PIXELS_AT_ONCE = 32_000_000  # of the pictures of a batch, which bounds memory where they are large
MOST_THREADS = 4  # which share Python's lock
DRAWN = (".jpg", ".jpeg", ".png")  # endings that an annotated copy keeps
RADIUS = 0.012  # of markers, as a share of the object's side
SMALLEST_RADIUS, LARGEST_RADIUS = 1.5, 12.0  # pixels


@dataclass(frozen=True)
class Cut:
    """A picture with the crops of its k objects. crops: (k, S, S, 3) uint8; maps: (k, 2, 3); boxes: (k, 4)."""

    file: str
    picture: np.ndarray
    crops: np.ndarray
    maps: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True)
class Found:
    """The landmarks of a picture, without the picture itself; fields as of `LandmarkFiles.add`."""

    file: str
    size: tuple[int, int]
    boxes: np.ndarray
    points: np.ndarray
    confidence: np.ndarray

    def add_to(self, files: LandmarkFiles, frame: int | None = None) -> None:
        """frame: of a video, its number."""
        files.add(self.file, frame, self.size, self.boxes, self.points, self.confidence)


def cut_picture(detector: LandmarkDetector, boxes: np.ndarray | None, file: str, picture: np.ndarray) -> Cut:
    """boxes: (k, 4), NaN for the whole picture; None: what the data set's finder finds, else the whole picture."""
    whole = np.array([0.0, 0.0, *picture.shape[1::-1]])
    if boxes is None:
        boxes = detector.box_of(picture)[None]
    boxes = np.where(np.isnan(boxes).all(axis=1, keepdims=True), whole, boxes)
    if len(bad_boxes(boxes, whole[2:])):
        raise UserError(f"{file}: a box is empty, incomplete or outside the picture; correct it")
    cuts = [detector.cut(picture, box) for box in boxes]
    return Cut(file, picture, np.stack([c[0] for c in cuts]), np.stack([c[1] for c in cuts]), boxes)


def detect(detector: LandmarkDetector, cuts: Iterable[Cut]) -> Iterator[tuple[np.ndarray, Found]]:
    """Run the network on batches of pictures as they come; each picture with what was found in it."""
    most = INFERENCE_BATCH[detector.options.device.type]
    for batch in _batches(cuts, most):
        points, confidence = detector.detect(
            np.concatenate([cut.crops for cut in batch]), np.concatenate([cut.maps for cut in batch])
        )
        ends = np.cumsum([len(cut.crops) for cut in batch])[:-1]
        for cut, own, heights in zip(batch, np.split(points, ends), np.split(confidence, ends), strict=True):
            height, width = cut.picture.shape[:2]
            yield cut.picture, Found(cut.file, (width, height), cut.boxes, own, heights)


def _batches(cuts: Iterable[Cut], most: int) -> Iterator[list[Cut]]:
    """Pictures with at most so many crops together, but at least one, and not too many pixels."""
    batch: list[Cut] = []
    crops = pixels = 0
    for cut in cuts:
        size = cut.picture.shape[0] * cut.picture.shape[1]
        if batch and (crops + len(cut.crops) > most or pixels + size > PIXELS_AT_ONCE):
            yield batch
            batch, crops, pixels = [], 0, 0
        batch.append(cut)
        crops, pixels = crops + len(cut.crops), pixels + size
    if batch:
        yield batch


def draw(picture: np.ndarray, found: Found) -> np.ndarray:
    """The picture with its landmarks in the colours that Visualise.py gives them."""
    for box, points in zip(found.boxes, found.points, strict=True):
        side = float(np.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 1)))
        radius = min(max(RADIUS * side, SMALLEST_RADIUS), LARGEST_RADIUS)
        picture = mark(picture, points, palette(points.shape[0]), radius)
    return picture


class Prediction:
    """A run over all inputs. folder: of the output; boxes: file -> (k, 4), files without have none given.

    `faults` are the lines that say which inputs could not be read, or not to their end.
    """

    def __init__(
        self,
        detector: LandmarkDetector,
        inputs: Inputs,
        folder: Path,
        boxes: dict[str, np.ndarray] | None = None,
        smooth: bool = False,
    ) -> None:
        self.detector, self.inputs, self.folder, self.smooth = detector, inputs, folder, smooth
        self.boxes = boxes or {}
        self.faults: list[str] = []

    def run(self) -> tuple[int, int]:
        """Write landmarks.csv, landmarks.json and what is drawn; returns the numbers of pictures and of objects."""
        cv2.setNumThreads(1)  # pictures are read by several threads
        with LandmarkFiles(self.folder, self.detector.names) as files:
            if self.inputs.pictures:
                self._pictures(files)
            for file in self.inputs.videos:
                self._video(files, file)
            if not files.pictures:
                raise UserError(f"nothing could be read: {self.faults[0]}")
        return files.pictures, files.objects

    def _pictures(self, files: LandmarkFiles) -> None:
        """Each thread takes some pictures all the way: on a CPU this keeps the cores as busy as the network alone."""
        pictures, most = self.inputs.pictures, INFERENCE_BATCH[self.detector.options.device.type]
        groups = [pictures[i : i + most] for i in range(0, len(pictures), most)]
        threads = min(available_cores(), MOST_THREADS, len(groups))
        with Progress("Pictures", len(pictures)) as progress, share_of_cores(threads) as own:
            results = ahead(partial(self._group, own), groups, threads, 2 * threads)
            for group, (several, faults) in zip(groups, results, strict=True):
                for found in several:
                    found.add_to(files)
                self.faults += faults
                progress.update(len(group))

    def _group(self, own_threads: int, group: Sequence[str]) -> tuple[list[Found], list[str]]:
        """What is in some pictures, whose annotated copies are written; and why others cannot be read."""
        torch.set_num_threads(own_threads)
        faults: list[str] = []
        several = []
        for picture, found in detect(self.detector, self._cuts(group, faults)):
            name = found.file if found.file.lower().endswith(DRAWN) else f"{found.file}.jpg"
            save_picture(draw(picture, found), self.folder / "pictures" / name, durable=False)
            several.append(found)
        return several, faults

    def _cuts(self, group: Sequence[str], faults: list[str]) -> Iterator[Cut]:
        """The pictures that can be read, cut; and a line for each of the others."""
        for file in group:
            try:
                picture = read_picture(self.inputs.root / file)
                yield cut_picture(self.detector, self.boxes.get(file), file, picture)
            except UserError as error:
                faults.append(one_line(error))

    def _video(self, files: LandmarkFiles, file: str) -> None:
        try:
            video = Video(self.inputs.root / file)
        except UserError as error:
            self.faults.append(one_line(error))
            return
        filters: list[OneEuro] = []
        name = file if file.lower().endswith(".mp4") else f"{file}.mp4"
        cuts = map(partial(cut_picture, self.detector, self.boxes.get(file), file), video)
        with Progress(file, video.frames, "frame") as progress, self._writer(video, name) as drawn:
            for number, (picture, found) in enumerate(detect(self.detector, cuts)):
                if self.smooth:
                    found = _smoothed(found, filters, float(video.rate))
                found.add_to(files, number)
                drawn.add(draw(picture, found))
                progress.update()
        if video.fault:
            self.faults.append(video.fault)

    def _writer(self, video: Video, name: str) -> VideoWriter:
        return VideoWriter(self.folder / "pictures" / name, video.rate)


def _smoothed(found: Found, filters: list[OneEuro], rate: float) -> Found:
    """The next frame of a video with its points filtered; one filter per object."""
    while len(filters) < len(found.points):
        filters.append(OneEuro(rate))
    extents = found.boxes[:, 2:] - found.boxes[:, :2]
    sides = np.sqrt(np.maximum(extents.prod(axis=1), 1))
    points = [smooth(own, side) for smooth, own, side in zip(filters, found.points, sides)]
    return replace(found, points=np.stack(points))
