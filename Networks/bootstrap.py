"""The bootstrap: generic SuperPoint keypoints of every picture, clustered into the first pseudo-groundtruth.

The paper, section 3.1; the keypoints are those of three zooms joined.
"""

import numpy as np
import torch
from torch import Tensor

from Databases.database import Database, ImageSet
from Databases.loading import gray_batches, workers_for, zoom_about_centre
from Databases.samples import GRID, grid_side
from Networks.checkpoints import check_resumed, clusters_to_state, load_clusters
from Networks.execution import autocast
from Networks.recipe import PAPER, Recipe
from Networks.superpoint import SuperPoint, load_superpoint, sample_descriptors, score_map
from Utils import crops
from Utils.assignment import cluster, keypoint_table
from Utils.clustering import foreground, inliers, outlier_scores
from Utils.descriptors import DescriptorStore, collect_rows
from Utils.hyperparameters import Hyperparameters
from Utils.keypoints import KeypointTable, detect, suppress
from Utils.options import Options
from Utils.runtime import distributed
from Utils.runtime.errors import UserError
from Utils.runtime.progress import Progress
from Utils.storage.experiment import Experiment
from Utils.storage.files import save_checkpoint

ZOOMS = (1.0, 1.3, 1.6)
BATCH_SIZE = {"cpu": 4, "cuda": 32}  # pictures, each at all zooms
# That go through the network together: a pixel's activations take up to 500 bytes.
PIXELS_PER_PASS = {"cpu": 2**19, "cuda": 2**23}


def bootstrap(database: Database, options: Options, experiment: Experiment, recipe: Recipe = PAPER) -> KeypointTable:
    """The first pseudo-groundtruth, written to the experiment; a complete one is read from there instead."""
    hyper, names = options.hyper, database.training.names
    keypoints_file, clusters_file = experiment.bootstrap_keypoints(), experiment.bootstrap_clusters()
    if options.resume and keypoints_file.exists():
        if clusters_file.exists():
            check_resumed(options, load_clusters(clusters_file), clusters_file)
        return KeypointTable.load(keypoints_file, grid_side(hyper), hyper.number_of_clusters).align(names)
    superpoint = load_superpoint(options.paths.optional("path_to_superpoint_checkpoint"), options.device)
    with DescriptorStore(experiment.checkpoints) as store:
        store_generic_keypoints(superpoint, database, database.training, options, store)
        per_picture = store.column("flag").sum() / len(names)
        experiment.log(f"Bootstrap: {per_picture:.1f} generic keypoints per picture")
        if not distributed.is_main():
            return distributed.from_main(None)
        report_empty_pictures(store, database.training, hyper.number_of_clusters, experiment)
        background = database.constant_background
        if recipe.object_keypoints:
            among = recipe.object_keypoints(store, background)
        else:
            among = object_keypoints(store, background, hyper)
        clusters = cluster(
            store, len(names), hyper.number_of_clusters, hyper.seed, among=among, device=options.device
        )
        if recipe.first_labels:
            # With a background that varies, outliers count too: the other clusters tell whether they are in place.
            candidates = among if background else store.column("flag")
            table = recipe.first_labels(store, names, clusters.centroids, candidates)
        else:
            table = keypoint_table(store, clusters, names)
    state = clusters_to_state(clusters.centroids, clusters.thresholds)
    made_with = {"hyperparameters": hyper.model_dump(), "dataset_name": options.dataset_name}
    save_checkpoint({**state, **made_with}, clusters_file)
    table.save(keypoints_file)  # last: its existence says that the bootstrap is complete
    experiment.log(f"Bootstrap: {table.describe()}")
    return distributed.from_main(table)


def report_empty_pictures(store: DescriptorStore, images: ImageSet, clusters: int, experiment: Experiment) -> None:
    """Log how many pictures have no keypoint in their box; UserError if there are fewer keypoints than clusters."""
    inside = store.column("flag")
    empty = np.flatnonzero(np.bincount(store.column("image")[inside], minlength=len(images)) == 0)
    if not len(empty):
        return
    line = f"{len(empty)} of {len(images)} pictures have no keypoint in their box, first {images.path(empty[0])}"
    if inside.sum() < clusters:
        raise UserError(
            f"{line}; look whether they are black, blurred or nearly of one colour and the boxes in pixels, "
            f"or lower --set confidence_superpoint"
        )
    experiment.log(f"Bootstrap: {line}")


def object_keypoints(store: DescriptorStore, constant_background: bool, hyper: Hyperparameters) -> np.ndarray:
    """Rows of the generic keypoints that are the object's, (len(store),) bool.

    Those inside the boxes without outliers and, if the background is constant, without what looks like it.
    """
    inside = store.column("flag")
    kept = inside & inliers(outlier_scores(store, hyper.seed, inside), hyper.outlier_fraction)
    if constant_background:
        kept = kept & foreground(store, kept, ~inside, hyper.seed)
    return kept


@torch.inference_mode()
def generic_keypoints(
    network: SuperPoint, pictures: Tensor, confidence: float, half_side: int
) -> tuple[Tensor, Tensor, Tensor]:
    """SuperPoint's keypoints of pictures at all zooms, joined.

    pictures: (B, Z, H, W) uint8 on the network's device, the zooms of `ZOOMS`. Points of all zooms are mapped to
    zoom 1 and suppressed once more together; descriptors are samples of the zoom-1 volume. Returns points (n, 2) in
    picture pixels, descriptors (n, 256), and the picture in the batch (n,).
    """
    batch, zooms, height, width = pictures.shape
    gray = pictures.reshape(batch * zooms, 1, height, width)
    passes = gray.split(max(1, PIXELS_PER_PASS[gray.device.type] // (height * width)))
    outputs = [network(piece.float().div_(255)) for piece in passes]
    logits, descriptors = (torch.cat(parts) for parts in zip(*outputs, strict=True))
    points, scores, owners = detect(score_map(logits), confidence, half_side)
    owners, levels = owners // zooms, owners % zooms
    points = _to_first_zoom(points, levels, width, height)
    kept = suppress(points, scores, owners, half_side)
    points, owners = points[kept], owners[kept]
    volume = descriptors.float().reshape(batch, zooms, *descriptors.shape[1:])[:, 0]
    # Detections are pixel indices; the centre of pixel i is the point i + 0.5.
    return points + 0.5, sample_descriptors(volume, points, owners), owners


def _to_first_zoom(points: Tensor, levels: Tensor, width: int, height: int) -> Tensor:
    """Pixel indices (n, 2) of zoomed pictures, (n,) number of the zoom -> pixel indices of the picture itself."""
    back = np.stack([crops.invert(crops.pixel_map(zoom_about_centre(width, height, zoom))) for zoom in ZOOMS])
    scale = torch.from_numpy(back[:, [0, 1], [0, 1]]).to(points)
    shift = torch.from_numpy(back[:, :, 2]).to(points)
    return points * scale[levels] + shift[levels]


def store_generic_keypoints(
    network: SuperPoint,
    database: Database,
    images: ImageSet,
    options: Options,
    store: DescriptorStore,
) -> None:
    """Put the keypoints of all pictures into the store: descriptor, place on the grid, picture.

    Kept are points inside the picture's box and on the grid. With a constant background the points outside the box
    are kept too, with the flag False. Of several processes each detects in its part of the
    pictures, and the main one's store gets all rows.
    """
    hyper, device = options.hyper, options.device
    indices = distributed.shard(len(images))
    batches = gray_batches(
        database,
        images,
        hyper.image_size,
        ZOOMS,
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
    found = generic_keypoints(network, pictures, hyper.confidence_superpoint, hyper.nms_superpoint)
    places, descriptors, owners = (part.cpu().numpy() for part in found)
    points = places.astype(np.float64)
    in_box = database.in_box(images, numbers[owners], points)
    on_crop = np.einsum("nij,nj->ni", maps[owners, :, :2], points) + maps[owners, :, 2]
    cells = np.rint(on_crop / GRID)
    on_grid = np.all((cells >= 0) & (cells < grid_side(hyper)), axis=1)
    return descriptors, cells, numbers[owners], in_box & on_grid, in_box
