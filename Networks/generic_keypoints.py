"""Generic keypoints: SuperPoint's, in the boxes of all pictures of a data set (the paper, section 3.1)."""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from Databases.database import Database, ImageSet
from Databases.loading import gray_batches, workers_for, zoom_about_centre
from Databases.samples import GRID, grid_side
from Networks.execution import autocast
from Networks.superpoint import CELL, RECEPTIVE_FIELD, SuperPoint, sample_descriptors, score_map
from Utils import crops
from Utils.descriptors import DescriptorStore, collect_rows
from Utils.hyperparameters import Hyperparameters
from Utils.keypoints import detect, suppress
from Utils.options import Options
from Utils.runtime import distributed
from Utils.runtime.progress import Progress
from Utils.storage.files import stamp

BATCH_SIZE = {"cpu": 4, "cuda": 32}  # pictures, each at all zooms
# That go through the network together: a pixel's activations take up to 500 bytes.
PIXELS_PER_PASS = {"cpu": 2**19, "cuda": 2**23}
MOST_KEPT = 200_000  # keypoints, about 200 MB


def store_generic_keypoints(
    network: SuperPoint, database: Database, images: ImageSet, options: Options, store: DescriptorStore
) -> None:
    """Put the keypoints of all pictures into the store: descriptor, place on the grid, picture.

    Kept are points inside the picture's box and on the grid. With a constant background the points outside the box
    are kept too, with the flag False. Of several processes each detects in its part of the pictures, and the main
    one's store gets all rows. A file below the log path keeps them for the next time.
    """
    file = Path(options.log_path) / "Keypoints" / f"{_identity(network, database, images, options)}.npz"
    if distributed.from_main(distributed.is_main() and store.load(file)):
        return
    detect_generic_keypoints(network, database, images, options, store)
    if distributed.is_main() and len(store) <= MOST_KEPT:
        with contextlib.suppress(OSError):  # a full disk costs the next experiment's time, not this one
            store.save(file)


def _identity(network: SuperPoint, database: Database, images: ImageSet, options: Options) -> str:
    """A hash of all that decides the keypoints: pictures, boxes, weights, settings and this code."""
    hyper = options.hyper
    settings = [field for field in type(hyper).model_fields if field.endswith("_superpoint")]
    settings += ["image_size", "precision", *hyper.data_set_names]
    arrays = [getattr(images, field.name) for field in fields(images) if field.name != "landmarks"]
    stamps = [stamp(images.path(i)) for i in range(len(images))]
    facts = [
        *(getattr(hyper, name) for name in settings),
        *(database.name, database.constant_background, options.device.type, distributed.world(), torch.__version__),
        *((value.shape, value.dtype) if isinstance(value, np.ndarray) else value for value in arrays),
    ]
    digest = hashlib.sha256(repr((facts, stamps)).encode("utf-8", "surrogatepass"))
    for array in arrays:
        if isinstance(array, np.ndarray):
            digest.update(np.ascontiguousarray(array).data)
    for weights in network.state_dict().values():
        digest.update(weights.cpu().numpy().tobytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()[:32]


def detect_generic_keypoints(
    network: SuperPoint, database: Database, images: ImageSet, options: Options, store: DescriptorStore
) -> None:
    """`store_generic_keypoints` without the file."""
    hyper, device = options.hyper, options.device
    indices = distributed.shard(len(images))
    batches = gray_batches(
        database,
        images,
        hyper.image_size,
        hyper.zooms_superpoint,
        BATCH_SIZE[device.type],
        workers_for(options, len(indices)),
        device,
        indices,
    )
    found = 0
    with Progress("Bootstrap: SuperPoint", len(indices)) as progress, autocast(device, hyper.precision):
        for groups in batches:
            rows = [
                _rows(network, database, images, pictures.to(device, non_blocking=True), maps, numbers, hyper)
                for pictures, maps, numbers in groups
            ]
            descriptors, cells, numbers, inside, in_box = (np.concatenate(parts) for parts in zip(*rows, strict=True))
            kept = np.flatnonzero(inside | (database.constant_background & ~in_box))
            kept = kept[np.argsort(numbers[kept], kind="stable")]
            store.append(descriptors[kept], cells[kept], numbers[kept], flags=inside[kept])
            progress.update(sum(len(group[2]) for group in groups))
            found += int(inside.sum())
            progress.show(per_picture=found / progress.n)
    collect_rows(store)


def _rows(
    network: SuperPoint,
    database: Database,
    images: ImageSet,
    pictures: Tensor,
    maps: np.ndarray,
    numbers: np.ndarray,
    hyper: Hyperparameters,
) -> tuple[np.ndarray, ...]:
    """What the store holds of a batch: descriptors, grid cells, pictures, in box and on grid, in box."""
    height, width = pictures.shape[-2:]
    boxes = images.boxes[numbers]
    if database.constant_background:
        boxes = np.broadcast_to(np.array([0.0, 0.0, width, height]), boxes.shape)
    windows, members = np.unique(reach(boxes, width, height, hyper), axis=0, return_inverse=True)
    found = []
    for k, window in enumerate(windows.tolist()):
        rows = np.flatnonzero(members.reshape(-1) == k)
        part = pictures if len(rows) == len(numbers) else pictures[rows.tolist()]
        points, descriptors, owners = (part.cpu().numpy() for part in generic_keypoints(network, part, hyper, window))
        found.append((points.astype(np.float64), descriptors, rows[owners]))
    points, descriptors, owners = (np.concatenate(parts) for parts in zip(*found, strict=True))
    in_box = database.in_box(images, numbers[owners], points)
    on_crop = np.einsum("nij,nj->ni", maps[owners, :, :2], points) + maps[owners, :, 2]
    cells = np.rint(on_crop / GRID)
    on_grid = np.all((cells >= 0) & (cells < grid_side(hyper)), axis=1)
    return descriptors, cells, numbers[owners], in_box & on_grid, in_box


def reach(boxes: np.ndarray, width: int, height: int, hyper: Hyperparameters) -> np.ndarray:
    """The windows (n, 4) of zoomed pictures in which the keypoints inside boxes (n, 4) are found as in the whole.

    x1, y1, x2, y2 in pixels, from whole cells on. A score depends on the pixels of the receptive field, and
    suppression on the scores of overlapping squares.
    """
    margin = CELL + RECEPTIVE_FIELD + 2 * hyper.nms_superpoint * max(hyper.zooms_superpoint)
    zooms = np.stack([zoom_about_centre(width, height, zoom) for zoom in hyper.zooms_superpoint])
    corners = crops.apply(zooms, boxes.reshape(-1, 1, 2, 2))  # (n, Z, 2, 2)
    first = np.floor((corners[:, :, 0].min(axis=1) - margin) / CELL)
    last = np.ceil((corners[:, :, 1].max(axis=1) + margin) / CELL)
    windows = CELL * np.concatenate([first, last], axis=1)
    return windows.clip(0, [width, height, width, height]).astype(np.int64)


@torch.inference_mode()
def generic_keypoints(
    network: SuperPoint, pictures: Tensor, hyper: Hyperparameters, window: Sequence[int] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """SuperPoint's keypoints of pictures at all zooms, joined.

    pictures: (B, Z, H, W) uint8 on the network's device, at `zooms_superpoint`; window: x1, y1, x2, y2, all that is
    looked at, from a cell's corner on. Points of all zooms are mapped to zoom 1 and suppressed once more together;
    descriptors are samples of the zoom-1 volume. Returns points (n, 2) in picture pixels, descriptors (n, 256), and
    the picture in the batch (n,).
    """
    batch, zooms, height, width = pictures.shape
    x1, y1, x2, y2 = window or (0, 0, width, height)
    gray = pictures[:, :, y1:y2, x1:x2].reshape(batch * zooms, 1, y2 - y1, x2 - x1)
    passes = gray.split(max(1, PIXELS_PER_PASS[gray.device.type] // ((y2 - y1) * (x2 - x1))))
    outputs = [network(piece.float().div_(255)) for piece in passes]
    logits, descriptors = (torch.cat(parts) for parts in zip(*outputs, strict=True))
    confidence, half_side = hyper.confidence_superpoint, hyper.nms_superpoint
    points, scores, owners = detect(score_map(logits), confidence, half_side)
    owners, levels = owners // zooms, owners % zooms
    corner = torch.tensor([x1, y1]).to(points)
    points = _to_first_zoom(points + corner, levels, width, height, hyper.zooms_superpoint)
    kept = suppress(points, scores, owners, half_side)
    points, owners = points[kept], owners[kept]
    volume = descriptors.float().reshape(batch, zooms, *descriptors.shape[1:])[:, 0]
    # Detections are pixel indices; the centre of pixel i is the point i + 0.5.
    return points + 0.5, sample_descriptors(volume, points - corner, owners), owners


def _to_first_zoom(points: Tensor, levels: Tensor, width: int, height: int, zooms: Sequence[float]) -> Tensor:
    """Pixel indices (n, 2) of zoomed pictures, (n,) number of the zoom -> pixel indices of the picture itself."""
    back = np.stack([crops.invert(crops.pixel_map(zoom_about_centre(width, height, zoom))) for zoom in zooms])
    scale = torch.from_numpy(back[:, [0, 1], [0, 1]]).to(points)
    shift = torch.from_numpy(back[:, :, 2]).to(points)
    return points * scale[levels] + shift[levels]
