"""Pictures in batches, read by worker processes: training samples, plain crops, and whole gray pictures."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils.pin_memory import pin_memory

from Databases.database import Database, ImageSet, crop_picture
from Databases.samples import (
    FirstStepSamples,
    SecondStepSamples,
    collate_first_step,
    collate_second_step,
    stack_pictures,
)
from Utils import crops
from Utils.options import Options, available_cores
from Utils.runtime.parallel import starting
from Utils.runtime.process import release_freed_memory, set_up_worker
from Utils.storage.pictures import to_gray


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
    yield from _load(samples, positions, collate, num_workers, device, batches_ahead=4)


def _load(
    items: Dataset,
    batches: Sequence[Sequence[int]],
    collate: Callable[[Sequence], Any],
    num_workers: int,
    device: torch.device,
    batches_ahead: int = 2,
) -> Iterator[Any]:
    """Batches of items for a network on a device; each worker reads so many batches ahead.

    Batches are put together here: a worker would send tensors through shared memory, which containers have little
    of, and nobody would hear that it ran out. Arrays go through a pipe.
    """
    # Pictures are read by many processes, not by threads: a pool of OpenCV's threads hangs a forked process.
    cv2.setNumThreads(1)
    workers = _workers_beside(device, num_workers)
    if workers:
        release_freed_memory()
    loader = DataLoader(
        items,
        batch_sampler=cast("Iterable[list[int]]", batches),  # any sequences will do
        num_workers=workers,
        collate_fn=list,
        prefetch_factor=batches_ahead if workers else None,
        worker_init_fn=set_up_worker,
    )
    with starting(workers):
        loaded = iter(loader)
    for samples in loaded:
        batch = collate(samples)
        yield pin_memory(batch) if device.type == "cuda" else batch


def _workers_beside(device: torch.device, most: int) -> int:
    """Worker processes for a network on the device: on the CPU it keeps a core to itself, and needs both of two."""
    if device.type != "cpu":
        return most
    cores = available_cores()
    return min(most, cores - 1) if cores > 2 else 0


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
    loaded = _load(Crops(database, images, image_size), batches, _collate_crops, num_workers, device)
    for batch, (pictures, maps) in zip(batches, loaded, strict=True):
        yield pictures, maps, np.asarray(batch)


def _collate_crops(samples: Sequence) -> tuple[Tensor, np.ndarray]:
    return stack_pictures([pixels for pixels, _ in samples]), np.stack([crop for _, crop in samples])


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
    loaded = _load(GrayPictures(database, images, image_size, zooms), batches, _group_by_size, num_workers, device)
    for batch, groups in zip(batches, loaded, strict=True):
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
