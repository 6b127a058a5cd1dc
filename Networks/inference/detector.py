"""The landmarks of step two on pictures: the one place that crops, runs the network and maps back."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from Databases import DATABASES
from Databases.database import Database, ImageSet, crop_any_picture, evenly
from Databases.loading import to_input
from Databases.samples import GRID
from Networks.checkpoints import load_fan, load_second_step
from Networks.execution import INFERENCE_BATCH, autocast, heatmap_batches
from Networks.fan import FAN
from Networks.second_step import CONFIDENT
from Utils import crops
from Utils.heatmaps import READOUTS
from Utils.options import Options, default_options
from Utils.runtime import distributed
from Utils.runtime.errors import UserError
from Utils.storage.experiment import Experiment
from Utils.storage.pictures import read_picture

Picture = np.ndarray | str | Path


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of n pictures.

    points: (n, L, 2) float64 x, y in pixels of each picture, NaN where not detected; confidence: (n, L) float32, the
    height of the heatmap's maximum; boxes: (n, 4) float64 x1, y1, x2, y2, those that were used; names: of the
    landmarks, the same for all pictures and files of a network.
    """

    points: np.ndarray
    confidence: np.ndarray
    boxes: np.ndarray
    names: list[str]


class LandmarkDetector:
    """A network of step two with all that it takes to use it.

    database: its rules; with its pictures too, `predict` runs on them. active: (L,) the maps that are landmarks,
    default: all. iteration: of the training, which names files. threshold: confidence that counts as a detection.
    """

    def __init__(
        self,
        network: FAN,
        database: Database,
        options: Options,
        active: np.ndarray | None = None,
        iteration: int = 0,
        threshold: float = CONFIDENT,
    ) -> None:
        self.network, self.database, self.options = network, database, options
        self.active = np.arange(network.l1.out_channels) if active is None else active
        self._channels = torch.from_numpy(self.active).to(options.device)
        self.iteration, self.threshold = iteration, threshold
        self.size: int = options.hyper.image_size  # of the crop, pixels
        self.read_out = READOUTS[options.hyper.readout]

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

        dataset_name: whose rules the network was trained with; needed for checkpoints that do not say, such as the
        published ones. readout: `centroid`, between the cells of the heatmaps, or `cell`, as published. device:
        `auto`, `cpu`, `cuda` or `cuda:n`. Raises UserError where there is no such file or it does not fit.
        """
        path = Path(path)
        if path.is_dir():
            _, path = Experiment(path.parent, path.name).newest_second_step()
        name = dataset_name or load_second_step(path).get("dataset_name")
        if name not in DATABASES:
            what = "does not say its data set" if name is None else f"there is no data set {name}"
            raise UserError(f"{path}: {what}; give dataset_name, one of {', '.join(DATABASES)}")
        options = default_options(name, DATABASES, [f"readout={readout}"], device)
        return cls.of_checkpoint(path, options, threshold=threshold)

    @classmethod
    def of_experiment(
        cls, experiment: Experiment, options: Options, database: Database | None = None
    ) -> "LandmarkDetector":
        """The detector of an experiment's newest epoch; see `of_checkpoint`."""
        epoch, path = experiment.newest_second_step()
        return cls.of_checkpoint(path, options, database, epoch)

    @classmethod
    def of_checkpoint(
        cls,
        path: Path,
        options: Options,
        database: Database | None = None,
        epoch: int = 0,
        threshold: float = CONFIDENT,
    ) -> "LandmarkDetector":
        """The detector of a checkpoint of step two; the options take over what it was trained with.

        database: with pictures, where there is one; default: the rules alone. Raises UserError where the file is none
        of step two, or the user insists on other settings.
        """
        content = load_second_step(path)
        network = load_fan(content, path, options).eval()
        active = np.sort(content["active_channels"])
        database = database or DATABASES[options.dataset_name].rules(options.hyper)
        return cls(network, database, options, active, int(content.get("iteration", epoch)), threshold)

    def open_data_set(self) -> Database:
        """The network's data set with its pictures, cut as the network was trained; `predict` runs on them."""
        self.database = DATABASES[self.options.dataset_name].open(self.options)
        self.database.check_cheaply()
        return self.database

    @property
    def names(self) -> list[str]:
        """Of the landmarks: the cluster of each, which never changes."""
        return [f"landmark_{k}" for k in self.active]

    def __call__(
        self, pictures: Picture | Sequence[Picture], box: np.ndarray | Sequence[np.ndarray | None] | None = None
    ) -> Landmarks:
        """The landmarks of one picture, RGB uint8 (H, W, 3) or the path of a file, or of a list of them.

        box: x1, y1, x2, y2 around the object in pixels, of each picture where there are several; None: what the data
        set's finder finds, else the whole picture. Raises UserError where a file is unreadable or a box is empty.
        """
        single = isinstance(pictures, (str, Path)) or (isinstance(pictures, np.ndarray) and pictures.ndim == 3)
        several: Sequence[Picture] = [pictures] if single else pictures  # type: ignore[list-item, assignment]
        given: Sequence[np.ndarray | None] = [box] if single else [None] * len(several) if box is None else box  # type: ignore[list-item, assignment]
        if len(given) != len(several):
            raise UserError(f"{len(given)} boxes for {len(several)} pictures; give one for each, or none")
        count, batch = len(self.active), INFERENCE_BATCH[self.options.device.type]
        parts: list[tuple[np.ndarray, ...]] = []
        parts.append((np.zeros((0, count, 2)), np.zeros((0, count), np.float32), np.zeros((0, 4))))
        for start in range(0, len(several), batch):
            stop = min(start + batch, len(several))
            cut = [self.cut(_pixels(several[i]), given[i]) for i in range(start, stop)]
            crop, to_crop, boxes = (np.stack(column) for column in zip(*cut, strict=True))
            parts.append((*self.detect(crop, to_crop), boxes))
        points, confidence, boxes = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Landmarks(points, confidence, boxes, self.names)

    def cut(self, picture: np.ndarray, box: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The crop (S, S, 3) of a picture from anywhere, the map (2, 3) to it, and the box (4,) that was used."""
        box = self.box_of(picture) if box is None else np.asarray(box, np.float64).reshape(4)
        return *crop_any_picture(self.database, picture, box, self.size), box

    def box_of(self, picture: np.ndarray) -> np.ndarray:
        """The box (4,) of the object in a picture: what the data set's finder finds, else the whole picture."""
        found = self.database.find_box(picture)
        return np.array([0.0, 0.0, *picture.shape[1::-1]]) if found is None else np.asarray(found, np.float64)

    def detect(self, crop: np.ndarray, to_crop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Crops (n, S, S, 3) uint8 and maps (n, 2, 3) -> points (n, L, 2) in picture pixels, confidence (n, L)."""
        points, confidence = self.run(torch.from_numpy(crop).permute(0, 3, 1, 2))
        points = crops.apply(crops.invert(to_crop), points)
        points[confidence < self.threshold] = np.nan
        return points, confidence

    @torch.inference_mode()
    def heatmaps(self, pictures: Tensor) -> Tensor:
        """Crops (n, 3, S, S) uint8 -> the landmarks' maps (n, L, G, G), on the network's device."""
        with autocast(self.options.device, self.options.hyper.precision):
            maps = self.network.forward_heatmaps(to_input(pictures.to(self.options.device, non_blocking=True)))
        return maps.index_select(1, self._channels)

    @torch.inference_mode()
    def run(self, pictures: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Crops (n, 3, S, S) uint8 -> points (n, L, 2) float64 in pixels of the crop, confidence (n, L) float32.

        Nothing is left out: whoever asks compares with a threshold.
        """
        return self.read(self.heatmaps(pictures))

    @torch.inference_mode()
    def read(self, maps: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """What `run` gives, of the landmarks' maps (n, L, G, G)."""
        cells, heights = self.read_out(maps)
        return (GRID * cells).cpu().numpy().astype(np.float64), heights.cpu().numpy()

    def predict(self, images: ImageSet, description: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points (n, L, 2) in crop pixels and confidences (n, L) as of `run`, of pictures of the data set.

        Third: the maps (n, 2, 3) from the pictures to their crops. Of several processes each predicts its part of the
        pictures; all get all.
        """
        count = len(self.active)
        parts = [(np.zeros((0, count, 2)), np.zeros((0, count), np.float32), np.zeros((0, 2, 3)))]
        for heatmaps, to_crop in heatmap_batches(
            self.network, self.database, images, self.options, self.active, description
        ):
            parts.append((*self.read(heatmaps), to_crop))
        points, confidences, to_crops = (distributed.gather(np.concatenate(c)) for c in zip(*parts, strict=True))
        return points, confidences, to_crops

    def found_share(self, images: ImageSet, most: int = 500) -> np.ndarray:
        """Share (L,) of some pictures of the data set in which each landmark is found."""
        some = images.subset(evenly(np.arange(len(images)), most))
        return (self.predict(some, "Landmarks")[1] >= self.threshold).mean(axis=0)


def _pixels(picture: Picture) -> np.ndarray:
    """RGB uint8 (H, W, 3) of a picture or its file; UserError for anything else."""
    if isinstance(picture, (str, Path)):
        return read_picture(picture)
    if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        found = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise UserError(f"a picture is {found}; give RGB uint8 (H, W, 3) or the path of a file")
    return picture
