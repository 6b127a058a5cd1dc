"""Training samples and pictures in order, on any database; knows no data set by name.

Every sample is a pure function of (seed, stage, position): the position is the running number of the sample in
the whole training. So a resumed run draws the same samples, whatever the number of worker processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from Databases.augmentation import FIRST_STEP, SECOND_STEP, Strength, augment
from Databases.database import Database
from Databases.posed import contradicting
from Utils import crops
from Utils.hyperparameters import Hyperparameters
from Utils.keypoints import KeypointTable
from Utils.runtime.errors import UserError

MIN_KEYPOINTS = 9  # of a picture that step one trains on
MAX_PAIRS = 3000  # of one sample of step one
GRID = 4  # input pixels per cell
OFF_GRID = -100.0  # cells
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
        strength: Strength,
        stage: int,
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        self.database, self.images = database, database.training
        self.table, self.eligible = table, eligible
        self.size, self.seed, self.stage = image_size, seed, stage
        self.strength = strength
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
        pixels, to_crop = augment(picture, crop, self.size, self.strength, rng)
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
        strength: Strength = FIRST_STEP,
    ) -> None:
        table = table.keep(table.clusters() >= 0)
        eligible = np.flatnonzero(table.counts() >= MIN_KEYPOINTS)
        if len(eligible) == 0:
            raise UserError(
                f"none of the {len(table)} training pictures has {MIN_KEYPOINTS} keypoints in clusters; "
                f"lower --set confidence_superpoint or number_of_clusters, or check the boxes"
            )
        super().__init__(database, table, eligible, image_size, seed, strength, _FIRST)

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
        stack_pictures(pictures),
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
        strength: Strength = SECOND_STEP,
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        table = table.keep(np.isin(table.clusters(), active))
        eligible = np.flatnonzero(table.counts() > 0)
        if len(eligible) == 0:
            raise UserError("no training picture has a keypoint of an active cluster; lower --set min_cluster_points")
        super().__init__(database, table, eligible, image_size, seed, strength, _SECOND, origin)
        self.wrong_poses = database.poses[contradicting(database.poses, database.poses[:1])[0]]

    def __getitem__(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """The crop (S, S, 3) and its points (n, 3) x, y, cluster.

        Points that were moved off the grid stay: their maps have to learn to be empty. So do all points of a picture
        that is turned into a wrong pose.
        """
        rng = self.rng_at(position)
        pixels, points = self.augmented(self.image_at(position), rng)
        if len(self.wrong_poses) and rng.random() < self.strength.wrong_pose:
            turn = rng.choice(self.wrong_poses) * (1, 1, self.size)
            pixels = crops.warp(pixels, turn, self.size, cv2.BORDER_REFLECT_101)
            points[:, :2] = OFF_GRID
        return pixels, np.rint(points)


def collate_second_step(samples: Sequence) -> SecondStepBatch:
    """Join what `SecondStepSamples` gives to one batch."""
    keypoints = [_with_picture(b, points[:, [2, 0, 1]]) for b, (_, points) in enumerate(samples)]
    return SecondStepBatch(
        stack_pictures([pixels for pixels, _ in samples]), torch.from_numpy(np.concatenate(keypoints)).float()
    )


def _with_picture(picture: int, columns: np.ndarray) -> np.ndarray:
    """Put a column with the picture's index before others."""
    return np.column_stack([np.full(len(columns), picture, dtype=np.int64), columns])


def stack_pictures(pictures: Sequence[np.ndarray]) -> Tensor:
    """n of (S, S, 3) uint8 -> (n, 3, S, S), channels last in memory."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
