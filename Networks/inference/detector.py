"""Landmarks of any picture: crop it, run the network of step two, map the points back."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from Databases import DATABASES
from Databases.database import Database, ImageSet, crop_any_picture, evenly
from Databases.samples import GRID, stack_pictures
from Networks.checkpoints import load_fan, load_second_step, shape_from_state
from Networks.execution import INFERENCE_BATCH, heatmaps, inference_batches
from Networks.fan import FAN
from Networks.second_step import CONFIDENT, SecondStep
from Utils import crops
from Utils.heatmaps import READOUTS
from Utils.named_points import REMEDY, Regressor, load_regressor
from Utils.options import Options, default_options
from Utils.point_distribution import PointDistribution
from Utils.relations import Relations
from Utils.runtime import distributed
from Utils.runtime.errors import UserError
from Utils.runtime.progress import Progress
from Utils.storage.experiment import Experiment
from Utils.storage.pictures import read_picture

Picture = np.ndarray | str | Path
ODDNESS_WEIGHT = 0.3  # of the shape in the choice of a pose, beside the landmarks' mean confidence


@dataclass(frozen=True)
class NamedPoints:
    """A user's own points in n pictures, predicted from their landmarks.

    points: (n, P, 2) float64 x, y in pixels of each picture, NaN in one with fewer than two landmarks; confidence:
    (n, P) float32, the chance that a point is right to within 5% of the object's size; names: (P,).
    """

    points: np.ndarray
    confidence: np.ndarray
    names: list[str]


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of n pictures.

    points: (n, L, 2) float64 x, y in pixels of each picture, NaN if not found; confidence: (n, L) float32, the
    height of the heatmap's maximum; boxes: (n, 4) float64 x1, y1, x2, y2 around the objects; to_crops: (n, 2, 3), the
    maps to the crops that the network saw, of side 1; names: (L,), the same for all pictures of a network; named: the
    user's own points, if tools/name_points.py has learned any.
    """

    points: np.ndarray
    confidence: np.ndarray
    boxes: np.ndarray
    to_crops: np.ndarray
    names: list[str]
    named: NamedPoints | None = None


class LandmarkDetector:
    """A trained network of step two: pictures in, landmarks out.

    database: how pictures are cropped; `predict` also needs its pictures. active: (L,) the maps that are landmarks,
    default: all. iteration: of the training, which names files. threshold: confidence that counts as found.
    shape: how the landmarks of an object in its pose usually stand.
    """

    def __init__(
        self,
        network: FAN,
        database: Database,
        options: Options,
        active: np.ndarray | None = None,
        iteration: int = 0,
        threshold: float = CONFIDENT,
        shape: PointDistribution | None = None,
    ) -> None:
        self.network, self.database, self.options = network, database, options
        self.active = np.arange(network.l1.out_channels) if active is None else active
        self.iteration, self.threshold = iteration, threshold
        self.size: int = options.hyper.image_size  # of the crop, pixels
        self.regressor: Regressor | None = None  # of named points
        self.shape = shape
        self.counterparts: np.ndarray | None = None  # (L,) which landmark is which in a mirrored picture, -1: none

    @classmethod
    def load(
        cls,
        path: Path | str,
        dataset_name: str | None = None,
        readout: str = "centroid",
        threshold: float = CONFIDENT,
        device: str = "auto",
    ) -> "LandmarkDetector":
        """The detector of an experiment's folder (its newest epoch) or of a checkpoint of step two.

        dataset_name: of the training; published checkpoints do not store it. readout: `centroid`, between the cells
        of the heatmaps, or `cell`, as published. device: `auto`, `cpu`, `cuda` or `cuda:n`.
        """
        epoch, path, experiment = 0, Path(path), None
        if path.is_dir():
            experiment = Experiment(path.parent, path.name)
            epoch, path = experiment.newest_second_step()
        name = dataset_name or load_second_step(path).get("dataset_name")
        if name not in DATABASES:
            what = f"there is no data set {name}" if name else "does not say its data set"
            raise UserError(f"{path}: {what}; give dataset_name, one of {', '.join(DATABASES)}")
        options = default_options(name, DATABASES, [f"readout={readout}"], device)
        detector = cls._from_checkpoint(path, epoch, options, None, threshold)
        if experiment is not None:
            detector.learn_names(experiment)
        return detector

    @classmethod
    def of_training(cls, step: SecondStep) -> "LandmarkDetector":
        """The detector that a training has learned so far."""
        return cls(step.learned, step.database, step.options, step.active, step.iteration, shape=step.shape)

    @classmethod
    def from_experiment(
        cls, experiment: Experiment, options: Options, database: Database | None = None
    ) -> "LandmarkDetector":
        """The detector of an experiment's newest epoch; the options adopt the settings that it was trained with.

        With `--landmarks` or `--mirror`, the training pictures may have to tell how its landmarks are related.
        """
        epoch, path = experiment.newest_second_step()
        detector = cls._from_checkpoint(path, epoch, options, database)
        file, count = experiment.find(experiment.relations(detector.iteration)), options.landmarks
        if file.is_file() or count or options.mirror:
            active, shape = detector.active, detector.shape
            relations = Relations.load(file, active) if file.is_file() else detector.learn_relations(experiment)
            if count > len(relations.telling):
                raise UserError(
                    f"--landmarks {count}: {len(relations.telling)} landmarks are found in over 80% of the training "
                    f"pictures; give at most so many"
                )
            if count:
                detector.active = np.sort(relations.telling[:count])
                detector.shape = shape and shape.subset(np.searchsorted(active, detector.active))
            detector.counterparts = relations.counterparts(detector.active)
        return detector

    @classmethod
    def _from_checkpoint(
        cls, path: Path, epoch: int, options: Options, database: Database | None, threshold: float = CONFIDENT
    ) -> "LandmarkDetector":
        content = load_second_step(path)
        network = load_fan(content, path, options).eval()
        database = database or DATABASES[options.dataset_name].rules(options.hyper)
        active, iteration = np.sort(content["active_channels"]), int(content.get("iteration", epoch))
        return cls(network, database, options, active, iteration, threshold, shape_from_state(content))

    def open_data_set(self) -> Database:
        """Open the data set that the network was trained on, with its pictures, and check it."""
        self.database = DATABASES[self.options.dataset_name].open(self.options)
        self.database.check_cheaply()
        return self.database

    def learn_names(self, experiment: Experiment) -> None:
        """Load the regressor of named points, if the experiment has one.

        Raises UserError if it was learned from an earlier checkpoint.
        """
        path = experiment.named_points(self.iteration)
        earlier = experiment.numbered("NamedPoints", ".pickle")
        if path.exists():
            self.regressor = load_regressor(path, len(self.active))
        elif earlier:
            raise UserError(f"{earlier[-1][1]} belongs to another checkpoint; {REMEDY}, or delete the file")

    def learn_relations(self, experiment: Experiment) -> Relations:
        """What the training pictures tell about the landmarks, also written to the experiment."""
        database = self.database if hasattr(self.database, "training") else self.open_data_set()
        some, found = database.some_training(), []
        for mirrored in (False, True):
            run = partial(self.run_once, mirrored=mirrored)
            points, confidence, _ = self.predict(some, "Landmarks: relations", run)
            found.append(np.where(confidence[..., None] < self.threshold, np.nan, points))
        relations = Relations.learned(found[0], found[1], self.active)
        if distributed.is_main():
            relations.save(experiment.relations(self.iteration))
        return relations

    @property
    def mirror(self) -> list[tuple[str, str]] | None:
        """Names of landmarks that are each other's mirror image; None if that is not known."""
        if self.counterparts is None:
            return None
        return [(self.names[a], self.names[b]) for a, b in enumerate(self.counterparts) if a <= b]

    @property
    def names(self) -> list[str]:
        """A landmark's name is its cluster's number, which never changes."""
        return [f"landmark_{k}" for k in self.active]

    def __call__(
        self, pictures: Picture | Sequence[Picture], box: np.ndarray | Sequence[np.ndarray | None] | None = None
    ) -> Landmarks:
        """The landmarks of one picture, RGB uint8 (H, W, 3) or the path of a file, or of a list of them.

        box: x1, y1, x2, y2 around the object in pixels; for a list of pictures a list. None: the box that the data
        set's finder finds, else the whole picture. Raises UserError if a file is unreadable or a box is empty.
        """
        if isinstance(pictures, (str, Path)) or (isinstance(pictures, np.ndarray) and pictures.ndim == 3):
            return self([pictures], [box])  # type: ignore[list-item]
        given = [None] * len(pictures) if box is None else box
        if len(given) != len(pictures):
            raise UserError(f"{len(given)} boxes for {len(pictures)} pictures; give one for each, or none")
        batch = INFERENCE_BATCH[self.options.device.type]
        parts: list[tuple[np.ndarray, ...]] = [(*self._nothing, np.zeros((0, 4)), np.zeros((0, 2, 3)))]
        count = len(self.regressor.names) if self.regressor else 0
        named = [(np.zeros((0, count, 2)), np.zeros((0, count), np.float32))]
        for start in range(0, len(pictures), batch):
            some = slice(start, start + batch)
            cuts = [self.cut(_pixels(p), b) for p, b in zip(pictures[some], given[some], strict=True)]
            crop, to_crop, boxes = (np.stack(column) for column in zip(*cuts, strict=True))
            points, confidence = self.run(torch.from_numpy(crop).permute(0, 3, 1, 2))
            points = crops.apply(crops.invert(to_crop), points)
            points[confidence < self.threshold] = np.nan
            parts.append((points, confidence, boxes, to_crop / self.size))
            if self.regressor:
                named.append(self.regressor.predict(points, to_crop / self.size, crop))
        points, confidence, boxes, to_crops = (np.concatenate(column) for column in zip(*parts, strict=True))
        own = None
        if self.regressor:
            named_points, sureness = (np.concatenate(column) for column in zip(*named, strict=True))
            own = NamedPoints(named_points, sureness, self.regressor.names)
        return Landmarks(points, confidence, boxes, to_crops, self.names, own)

    def cut(self, picture: np.ndarray, box: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The crop (S, S, 3) of any picture, the map (2, 3) to it, and the box (4,) that was used."""
        if box is None:
            box = self.database.find_box(picture)
        if box is None:
            box = np.array([0, 0, *picture.shape[1::-1]])
        box = np.asarray(box, np.float64).reshape(4)
        return *crop_any_picture(self.database, picture, box, self.size), box

    def run(self, pictures: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Crops (n, 3, S, S) uint8 -> points (n, L, 2) float64 in crop pixels, confidence (n, L) float32.

        Points below the threshold stay. With `--mirror`, means with the mirrored picture's, of those that are found.
        """
        points, confidence = self.run_once(pictures)
        if not self.options.mirror or self.counterparts is None:
            return points, confidence
        paired = np.flatnonzero(self.counterparts >= 0)
        mirrored, sureness = (part[:, self.counterparts[paired]] for part in self.run_once(pictures, mirrored=True))
        weights = np.stack([confidence[:, paired], sureness]) >= self.threshold
        weights = weights | ~weights.any(axis=0)
        points[:, paired] = _mean([points[:, paired], mirrored], weights[..., None])
        confidence[:, paired] = _mean([confidence[:, paired], sureness], weights)
        return points, confidence

    def run_once(self, pictures: Tensor, mirrored: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """As `run`; mirrored: what the network finds in the mirrored crops, mirrored back.

        Where objects may stand in several poses, each crop is turned and mirrored into all of them, and the pose
        counts in which the landmarks are surest on average and stand as usual.
        """
        seen = pictures.flip(-1) if mirrored else pictures
        places, sureness, scores = [], [], []
        for number, pose in enumerate(self.database.poses * (1, 1, self.size)):
            posed = warped(seen, [pose] * len(seen)) if number else seen
            found, heights = self.read(heatmaps(self.network, posed, self.active, self.options))
            places.append(crops.apply(crops.invert(pose), found))
            sureness.append(heights)
            oddness = 0.0 if self.shape is None else self.shape.oddness(found / self.size)
            scores.append(heights.mean(axis=1) - ODDNESS_WEIGHT * oddness)
        best, each = np.argmax(scores, axis=0), np.arange(len(seen))
        points, confidence = np.stack(places)[best, each], np.stack(sureness)[best, each]
        if mirrored:
            points[..., 0] = self.size - points[..., 0]
        return points, confidence

    @torch.inference_mode()
    def read(self, maps: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The landmarks' maps (n, L, G, G) -> points and confidence as `run` returns them."""
        cells, heights = READOUTS[self.options.hyper.readout](maps)
        return (GRID * cells).cpu().numpy().astype(np.float64), heights.cpu().numpy()

    def predict(
        self, images: ImageSet, description: str, run: Callable[..., tuple[np.ndarray, np.ndarray]] | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points and confidence of pictures of the data set as `run` returns them, and the maps (n, 2, 3) to crops.

        Each of several processes predicts its part of the pictures; all return the whole. run: instead of `self.run`.
        """
        parts = [(*self._nothing, np.zeros((0, 2, 3)))]
        indices = distributed.shard(len(images))
        with Progress(description, len(indices)) as progress:
            for pictures, to_crop, numbers in inference_batches(self.database, images, self.options, indices):
                parts.append((*(run or self.run)(pictures), to_crop))
                progress.update(len(numbers))
        points, confidences, to_crops = (distributed.gather(np.concatenate(c)) for c in zip(*parts, strict=True))
        return points, confidences, to_crops

    @property
    def _nothing(self) -> tuple[np.ndarray, np.ndarray]:
        """The points and confidence of no pictures."""
        return np.zeros((0, len(self.active), 2)), np.zeros((0, len(self.active)), np.float32)

    def found_share(self, images: ImageSet, most: int = 500) -> np.ndarray:
        """Share (L,) of at most `most` pictures of the data set in which each landmark is found."""
        some = images.subset(evenly(np.arange(len(images)), most))
        return (self.predict(some, "Landmarks")[1] >= self.threshold).mean(axis=0)


def warped(pictures: Tensor, maps: Iterable[np.ndarray]) -> Tensor:
    """Crops (n, 3, S, S) uint8 under point maps (2, 3) of their own, reflected at the border."""
    size = pictures.shape[-1]
    each = zip(pictures.permute(0, 2, 3, 1).numpy(), maps, strict=True)
    return stack_pictures([crops.warp(picture, m, size, cv2.BORDER_REFLECT_101) for picture, m in each])


def _mean(pair: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """The mean of two arrays by weights of 0 or 1."""
    return (np.stack(pair) * weights).sum(axis=0) / weights.sum(axis=0)


def _pixels(picture: Picture) -> np.ndarray:
    """A picture or its file as RGB uint8 (H, W, 3); UserError for anything else."""
    if isinstance(picture, (str, Path)):
        return read_picture(picture)
    if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        found = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise UserError(f"a picture is {found}; give RGB uint8 (H, W, 3) or the path of a file")
    return picture
