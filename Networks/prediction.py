"""Landmarks on any pictures and videos, from their files to files; memory does not grow with their number."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from Databases.database import bad_boxes
from Databases.inputs import Inputs
from Networks.detector import LandmarkDetector
from Networks.execution import INFERENCE_BATCH
from Utils.drawing import mark, palette, save_picture
from Utils.errors import UserError, one_line
from Utils.landmark_files import LandmarkFiles
from Utils.options import available_cores
from Utils.parallel import ahead, in_groups
from Utils.pictures import read_picture
from Utils.progress import Progress
from Utils.smoothing import OneEuro
from Utils.videos import Video, VideoWriter

PIXELS_AT_ONCE = 32_000_000  # of the pictures of a batch, which bounds memory where they are large
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
    """A picture with its landmarks. points: (k, L, 2) in its pixels, NaN where not found; confidence: (k, L)."""

    cut: Cut
    points: np.ndarray
    confidence: np.ndarray

    def add_to(self, files: LandmarkFiles, frame: int | None = None) -> None:
        """frame: of a video, its number."""
        height, width = self.cut.picture.shape[:2]
        files.add(self.cut.file, frame, (width, height), self.cut.boxes, self.points, self.confidence)


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


def detect(detector: LandmarkDetector, cuts: Iterable[Cut]) -> Iterator[Found]:
    """Run the network on batches of pictures as they come."""
    most = INFERENCE_BATCH[detector.options.device.type]
    for batch in _batches(cuts, most):
        points, confidence = detector.detect(
            np.concatenate([cut.crops for cut in batch]), np.concatenate([cut.maps for cut in batch])
        )
        ends = np.cumsum([len(cut.crops) for cut in batch])[:-1]
        for cut, own, heights in zip(batch, np.split(points, ends), np.split(confidence, ends), strict=True):
            yield Found(cut, own, heights)


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


def draw(found: Found) -> np.ndarray:
    """The picture with its landmarks in the colours that Visualise.py gives them."""
    picture = found.cut.picture
    for box, points in zip(found.cut.boxes, found.points, strict=True):
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
        self.threads = min(available_cores(), 4)
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
        most = INFERENCE_BATCH[self.detector.options.device.type]
        with Progress("Pictures", len(self.inputs.pictures)) as progress:

            def good(results: Iterable[Cut | str]) -> Iterator[Cut]:
                for result in results:
                    progress.update()
                    if isinstance(result, Cut):
                        yield result
                    else:
                        self.faults.append(result)

            # A GPU's network runs beside the threads; the CPU's needs the cores itself, and waits for all of them.
            many = in_groups if self.detector.options.device.type == "cpu" else ahead
            cuts = good(many(self._cut_file, self.inputs.pictures, self.threads, most))
            for found in many(self._draw_file, detect(self.detector, cuts), self.threads, 2 * self.threads):
                found.add_to(files)

    def _cut_file(self, file: str) -> Cut | str:
        """A picture cut, or why it cannot be read."""
        try:
            picture = read_picture(self.inputs.root / file)
            return cut_picture(self.detector, self.boxes.get(file), file, picture)
        except UserError as error:
            return one_line(error)

    def _draw_file(self, found: Found) -> Found:
        file = found.cut.file
        name = file if file.lower().endswith(DRAWN) else f"{file}.jpg"
        save_picture(draw(found), self.folder / "pictures" / name, durable=False)
        return found

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
            for number, found in enumerate(detect(self.detector, cuts)):
                if self.smooth:
                    found = _smoothed(found, filters, float(video.rate))
                found.add_to(files, number)
                drawn.add(draw(found))
                progress.update()
        if video.fault:
            self.faults.append(video.fault)

    def _writer(self, video: Video, name: str) -> VideoWriter:
        return VideoWriter(self.folder / "pictures" / name, video.rate)


def _smoothed(found: Found, filters: list[OneEuro], rate: float) -> Found:
    """The next frame of a video with its points filtered; one filter per object."""
    while len(filters) < len(found.points):
        filters.append(OneEuro(rate))
    extents = found.cut.boxes[:, 2:] - found.cut.boxes[:, :2]
    sides = np.sqrt(np.maximum(extents.prod(axis=1), 1))
    points = [smooth(own, side) for smooth, own, side in zip(filters, found.points, sides)]
    return Found(found.cut, np.stack(points), found.confidence)
