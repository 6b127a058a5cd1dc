"""Training samples and pictures in order, on any database; knows no data set by name.

Every sample is a pure function of (seed, stage, position): the position is the running number of the sample in
the whole training. So a resumed run draws the same samples, whatever the number of worker processes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from Databases.augmentation import AUGMENTATIONS, FIRST_STEP, SECOND_STEP, Strength
from Databases.database import Database, ImageSet, crop_picture
from Utils import crops
from Utils.keypoints import KeypointTable
from Utils.options import Hyperparameters, Options, available_cores
from Utils.runtime.errors import UserError
from Utils.runtime.memory import release_freed_memory
from Utils.runtime.process import set_up_worker
from Utils.storage.pictures import to_gray

MIN_KEYPOINTS = 9  # of a picture that step one trains on
MAX_PAIRS = 3000  # of one sample of step one
GRID = 4  # input pixels per cell
_PERMUTATION, _FIRST, _SECOND = range(3)  # stages of random numbers: the order of pictures, the two steps


def grid_side(hyper: Hyperparameters) -> int:
    """Cells per side of the grid of keypoints."""
    return hyper.image_size // GRID


def shuffled(seed: int, stage: int, epoch: int, count: int) -> np.ndarray:
    """The order of `count` pictures in an epoch."""
    return np.random.default_rng([seed, _PERMUTATION, stage, epoch]).permutation(count)


class _Samples(Dataset):
    """What both steps share: which picture a position means, and its augmented crop."""

    def __init__(
        self,
        database: Database,
        table: KeypointTable,
        eligible: np.ndarray,
        image_size: int,
        seed: int,
        augmentation: str,
        strength: Strength,
        stage: int,
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        self.database, self.images = database, database.training
        self.table, self.eligible = table, eligible
        self.size, self.seed, self.stage = image_size, seed, stage
        self.augment, self.strength = AUGMENTATIONS[augmentation], strength
        self.first_epoch, self.first_position = origin
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.eligible)

    def image_at(self, position: int) -> int:
        """Index of the training image at a position; each epoch passes once through all eligible ones."""
        epoch, place = divmod(position - self.first_position, len(self.eligible))
        epoch += self.first_epoch
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = self.eligible[shuffled(self.seed, self.stage, epoch, len(self.eligible))]
        return int(self._order[place])

    def rng_at(self, position: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.stage, position])

    def augmented(self, image: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The augmented crop (S, S, 3) uint8 and the keypoints on it (n, 3) x, y, cluster, some off the grid.

        x and y are in cells, also between them.
        """
        picture = self.database.read(self.images, image)
        height, width = picture.shape[:2]
        crop = self.database.crop(self.images.boxes[image], width, height, self.size)
        pixels, to_crop = self.augment(picture, crop, self.size, self.strength, rng)
        points = self.table.of(image)
        # Keypoints are stored on the grid of the picture's plain crop.
        moved = crops.apply(crops.compose(to_crop, crops.invert(crop)), points[:, :2] * float(GRID))
        return pixels, np.column_stack([moved / GRID, points[:, 2]])

    def on_grid(self, points: np.ndarray) -> np.ndarray:
        """The cells of those of the keypoints (n, 3) that lie on the grid, int64."""
        cells = np.rint(points).astype(np.int64)
        return cells[((cells[:, :2] >= 0) & (cells[:, :2] < self.size // GRID)).all(axis=1)]


@dataclass
class FirstStepBatch:
    """B samples of step one, two pictures each: pictures 2 b and 2 b + 1 belong to sample b.

    pictures: (2B, 3, S, S) uint8; keypoints: (n, 3) int64 picture, x, y on the grid, for the detector;
    ends: (m, 3) int64 picture, x, y of the points that pairs join, in the order of the pictures; pairs: (p, 2)
    int64 rows of `ends`; positive: (p,) bool, whether the two are of the same cluster.
    """

    pictures: Tensor
    keypoints: Tensor
    ends: Tensor
    pairs: Tensor
    positive: Tensor

    def to(self, device: torch.device) -> "FirstStepBatch":
        return FirstStepBatch(*(part.to(device, non_blocking=True) for part in _parts(self)))

    def pin_memory(self) -> "FirstStepBatch":
        return FirstStepBatch(*(part.pin_memory() for part in _parts(self)))


@dataclass
class SecondStepBatch:
    """B samples of step two. pictures: (B, 3, S, S) uint8; keypoints: (n, 4) float32 picture, cluster, x, y."""

    pictures: Tensor
    keypoints: Tensor

    def to(self, device: torch.device) -> "SecondStepBatch":
        return SecondStepBatch(*(part.to(device, non_blocking=True) for part in _parts(self)))

    def pin_memory(self) -> "SecondStepBatch":
        return SecondStepBatch(*(part.pin_memory() for part in _parts(self)))


def _parts(batch: FirstStepBatch | SecondStepBatch) -> list[Tensor]:
    return list(vars(batch).values())


class FirstStepSamples(_Samples):
    """Pairs of pictures with their keypoints and the pairs of points to pull together and push apart."""

    def __init__(
        self,
        database: Database,
        table: KeypointTable,
        image_size: int,
        seed: int,
        augmentation: str,
        strength: Strength = FIRST_STEP,
    ) -> None:
        table = table.keep(table.clusters() >= 0)
        eligible = np.flatnonzero(table.counts() >= MIN_KEYPOINTS)
        if len(eligible) == 0:
            raise UserError(
                f"none of the {len(table)} training pictures has {MIN_KEYPOINTS} keypoints in clusters; "
                f"lower --set confidence_superpoint or number_of_clusters, or check the boxes"
            )
        super().__init__(database, table, eligible, image_size, seed, augmentation, strength, _FIRST)

    def __getitem__(self, position: int) -> tuple[np.ndarray, ...]:
        """Both crops (S, S, 3), their points (n, 3) x, y, cluster, and their `correspondences`."""
        rng = self.rng_at(position)
        first = second = self.image_at(position)
        if rng.random() < 0.5:
            second = int(self.eligible[rng.integers(len(self.eligible))])
        pixels_1, points_1 = self.augmented(first, rng)
        pixels_2, points_2 = self.augmented(second, rng)
        points_1, points_2 = self.on_grid(points_1), self.on_grid(points_2)
        return pixels_1, pixels_2, points_1, points_2, *correspondences(points_1, points_2, rng)


def correspondences(
    points_1: np.ndarray, points_2: np.ndarray, rng: np.random.Generator, most: int = MAX_PAIRS
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Positive and negative pairs of points of two pictures; (n, 3) each: x, y, cluster.

    Of the m clusters that occur in both pictures, positive pairs join the two points of a cluster, negative
    pairs a point of picture 1 and a point of picture 2 of another cluster. Where that makes more than `most`
    pairs, all positive and a random choice of the negative ones are taken.

    Returns rows of points_1 (m,), rows of points_2 (m,), pairs (p, 2) of indices into these, positive (p,) bool.
    """
    _, rows_1, rows_2 = np.intersect1d(points_1[:, 2], points_2[:, 2], return_indices=True)
    m = len(rows_1)
    pairs = np.stack(np.divmod(np.arange(m * m), max(m, 1)), axis=1)
    positive = pairs[:, 0] == pairs[:, 1]
    if len(pairs) > most:
        negative = np.flatnonzero(~positive)
        chosen = rng.choice(negative, size=max(most - m, 0), replace=False, shuffle=False)
        kept = np.sort(np.concatenate([np.flatnonzero(positive), chosen]))[:most]
        pairs, positive = pairs[kept], positive[kept]
    return rows_1, rows_2, pairs, positive


def collate_first_step(samples: Sequence) -> FirstStepBatch:
    """Join what `FirstStepSamples` gives to one batch."""
    pictures, keypoints, ends, pairs, positive = [], [], [], [], []
    rows = 0
    for b, (pixels_1, pixels_2, points_1, points_2, rows_1, rows_2, sample_pairs, sample_positive) in enumerate(
        samples
    ):
        pictures += [pixels_1, pixels_2]
        keypoints += [_with_picture(2 * b, points_1[:, :2]), _with_picture(2 * b + 1, points_2[:, :2])]
        ends += [_with_picture(2 * b, points_1[rows_1, :2]), _with_picture(2 * b + 1, points_2[rows_2, :2])]
        pairs.append(sample_pairs + (rows, rows + len(rows_1)))
        positive.append(sample_positive)
        rows += 2 * len(rows_1)
    return FirstStepBatch(
        _stack_pictures(pictures),
        torch.from_numpy(np.concatenate(keypoints)),
        torch.from_numpy(np.concatenate(ends)),
        torch.from_numpy(np.concatenate(pairs)),
        torch.from_numpy(np.concatenate(positive)),
    )


class SecondStepSamples(_Samples):
    """Pictures with their keypoints of active clusters; origin: an epoch and the position where it begins."""

    def __init__(
        self,
        database: Database,
        table: KeypointTable,
        active: np.ndarray,
        image_size: int,
        seed: int,
        augmentation: str,
        strength: Strength = SECOND_STEP,
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        table = table.keep(np.isin(table.clusters(), active))
        eligible = np.flatnonzero(table.counts() > 0)
        if len(eligible) == 0:
            raise UserError("no training picture has a keypoint of an active cluster; lower --set min_cluster_points")
        super().__init__(database, table, eligible, image_size, seed, augmentation, strength, _SECOND, origin)

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """The crop (S, S, 3) and its points (n, 3) x, y, cluster.

        Points that were moved off the grid stay: their maps have to learn to be empty.
        """
        pixels, points = self.augmented(self.image_at(position), self.rng_at(position))
        return pixels, np.rint(points)


def collate_second_step(samples: Sequence) -> SecondStepBatch:
    """Join what `SecondStepSamples` gives to one batch."""
    keypoints = [_with_picture(b, points[:, [2, 0, 1]]) for b, (_, points) in enumerate(samples)]
    return SecondStepBatch(
        _stack_pictures([pixels for pixels, _ in samples]), torch.from_numpy(np.concatenate(keypoints)).float()
    )


def _with_picture(picture: int, columns: np.ndarray) -> np.ndarray:
    """Put a column with the picture's index before others."""
    return np.column_stack([np.full(len(columns), picture, dtype=np.int64), columns])


def _stack_pictures(pictures: Sequence[np.ndarray]) -> Tensor:
    """n of (S, S, 3) uint8 -> (n, 3, S, S), channels last in memory."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def to_input(pictures: Tensor) -> Tensor:
    """(N, 3, S, S) uint8 -> float32 in [0, 1]."""
    return pictures.to(torch.float32).div_(255)


def training_batches(
    samples: FirstStepSamples | SecondStepSamples,
    start: int,
    stop: int,
    batch_size: int,
    num_workers: int,
    device: torch.device,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Any]:
    """Batches `start` to `stop` (excluded) of the training; shard (r, n): samples r, r + n, ... of each batch."""
    rank, world = shard
    positions = [range(batch * batch_size + rank, (batch + 1) * batch_size, world) for batch in range(start, stop)]
    collate = collate_first_step if isinstance(samples, FirstStepSamples) else collate_second_step
    yield from _loader(samples, positions, collate, num_workers, device, batches_ahead=4)


def _loader(
    items: Dataset,
    batches: Sequence[Sequence[int]],
    collate: Callable,
    num_workers: int,
    device: torch.device,
    batches_ahead: int = 2,
) -> DataLoader:
    """Batches of items for a network on a device, put together in the workers, each so many batches ahead."""
    # Pictures are read by many processes, not by threads: a pool of OpenCV's threads hangs a forked process.
    cv2.setNumThreads(1)
    workers = num_workers
    if device.type == "cpu":  # the network keeps a core to itself; of two, it needs both
        cores = available_cores()
        workers = min(num_workers, cores - 1) if cores > 2 else 0
    if workers:
        release_freed_memory()
    return DataLoader(
        items,
        batch_sampler=cast("Iterable[list[int]]", batches),  # any sequences will do
        num_workers=workers,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
        prefetch_factor=batches_ahead if workers else None,
        worker_init_fn=set_up_worker,
    )


def workers_for(options: Options, items: int) -> int:
    """Worker processes for `items` pictures: none where starting them would cost more than they save."""
    return min(options.num_workers, items // 64)


class Crops(Dataset):
    """The plain crops of an image set: (S, S, 3) uint8 in order."""

    def __init__(self, database: Database, images: ImageSet, image_size: int) -> None:
        self.database, self.images, self.size = database, images, image_size

    def __getitem__(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        """The crop and the (2, 3) point map from the picture to it."""
        picture = self.database.read(self.images, image)
        return crop_picture(self.database, picture, self.images.boxes[image], self.size)


class GrayPictures(Dataset):
    """The whole gray pictures of an image set in order, each at several zooms about its centre.

    (Z, H, W) uint8 and the point map from the picture to its crop (2, 3).
    """

    def __init__(self, database: Database, images: ImageSet, image_size: int, zooms: Sequence[float]) -> None:
        self.database, self.images, self.size, self.zooms = database, images, image_size, zooms

    def __getitem__(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        picture = self.database.read(self.images, image)
        height, width = picture.shape[:2]
        gray = to_gray(picture)
        zoomed = [
            gray if zoom == 1 else crops.warp(gray, zoom_about_centre(width, height, zoom), (width, height))
            for zoom in self.zooms
        ]
        return np.stack(zoomed), self.database.crop(self.images.boxes[image], width, height, self.size)


def zoom_about_centre(width: int, height: int, zoom: float) -> np.ndarray:
    """The (2, 3) point map from a picture to its enlargement on the same canvas."""
    return np.array([[zoom, 0.0, (1 - zoom) * width / 2], [0.0, zoom, (1 - zoom) * height / 2]])


def _indices_of_batches(images: Sequence[int], batch_size: int) -> list[Sequence[int]]:
    return [images[i : i + batch_size] for i in range(0, len(images), batch_size)]


def crop_batches(
    database: Database,
    images: ImageSet,
    image_size: int,
    batch_size: int,
    num_workers: int,
    device: torch.device,
    indices: Sequence[int] | None = None,
) -> Iterator[tuple[Tensor, np.ndarray, np.ndarray]]:
    """Plain crops in order: pictures (B, 3, S, S) uint8, maps picture -> crop (B, 2, 3), image indices (B,)."""
    indices = range(len(images)) if indices is None else indices
    batches = _indices_of_batches(indices, batch_size)
    loader = _loader(Crops(database, images, image_size), batches, _collate_crops, num_workers, device)
    for batch, (pictures, maps) in zip(batches, loader, strict=True):
        yield pictures, maps, np.asarray(batch)


def _collate_crops(samples: Sequence) -> tuple[Tensor, np.ndarray]:
    return _stack_pictures([pixels for pixels, _ in samples]), np.stack([crop for _, crop in samples])


def gray_batches(
    database: Database,
    images: ImageSet,
    image_size: int,
    zooms: Sequence[float],
    batch_size: int,
    num_workers: int,
    device: torch.device,
    indices: Sequence[int] | None = None,
) -> Iterator[list[tuple[Tensor, np.ndarray, np.ndarray]]]:
    """Whole gray pictures at several zooms, batch by batch, those of one batch grouped by their size.

    A group: pictures (B, Z, H, W) uint8, maps picture -> crop (B, 2, 3), image indices (B,).
    """
    indices = range(len(images)) if indices is None else indices
    batches = _indices_of_batches(indices, batch_size)
    loader = _loader(GrayPictures(database, images, image_size, zooms), batches, _group_by_size, num_workers, device)
    for batch, groups in zip(batches, loader, strict=True):
        yield [(pictures, maps, np.asarray(batch)[places]) for pictures, maps, places in groups]


def _group_by_size(samples: Sequence) -> list[tuple[Tensor, np.ndarray, list[int]]]:
    """Samples of `GrayPictures` -> of each size pictures (B, Z, H, W), maps (B, 2, 3), places in the batch (B,)."""
    shapes = [gray.shape for gray, _ in samples]
    groups = []
    for shape in dict.fromkeys(shapes):
        places = [i for i, other in enumerate(shapes) if other == shape]
        pictures = torch.from_numpy(np.stack([samples[i][0] for i in places]))
        groups.append((pictures, np.stack([samples[i][1] for i in places]), places))
    return groups
