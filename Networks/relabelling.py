"""New pseudo-groundtruth from the network just trained: its keypoints, joined with the last ones and clustered.

The paper, section 3.2.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from Databases.database import Database, ImageSet
from Databases.loading import to_input
from Networks.execution import autocast, inference_batches
from Networks.fan import FAN
from Utils.assignment import Clusters, cluster, keypoint_table
from Utils.descriptors import DescriptorStore, collect_rows
from Utils.keypoints import KeypointTable, detect, suppress
from Utils.options import Options
from Utils.runtime import distributed
from Utils.runtime.progress import Progress
from Utils.storage.experiment import Experiment

NMS_FAN = 1  # half-side in grid cells


@torch.inference_mode()
def store_fan_keypoints(
    network: FAN,
    database: Database,
    images: ImageSet,
    options: Options,
    store: DescriptorStore,
    previous: KeypointTable | None = None,
    describe: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Put the keypoints that the detector finds, joined with each picture's previous ones, into the store.

    If two lie on top of each other, the previous one stays. Descriptors are L2-normalised; describe: what a recipe
    does to their maps (B, D, G, G) before. Of several processes each detects in its part of the pictures, and the
    main one's store gets all rows.
    """
    hyper, device = options.hyper, options.device
    indices = distributed.shard(len(images))
    batches = inference_batches(database, images, options, indices)
    network.eval()
    with Progress("Keypoints: FAN", len(indices)) as progress:
        for pictures, _, numbers in batches:
            with autocast(device, hyper.precision):
                detector, descriptors = network(to_input(pictures.to(device, non_blocking=True)))
            points, scores, owners = detect(detector[:, 0], hyper.confidence_fan, NMS_FAN)
            if previous is not None:
                points, owners = _join_previous(previous, numbers, points, scores, owners)
            x, y = points.long().unbind(1)
            if describe:
                descriptors = describe(descriptors)
            vectors = functional.normalize(descriptors[owners, :, y, x], dim=1)
            store.append(vectors.cpu().numpy(), points.cpu().numpy(), numbers[owners.cpu().numpy()])
            progress.update(len(numbers))
            progress.show(per_picture=len(store) / progress.n)
    network.train()
    collect_rows(store)


def _join_previous(
    previous: KeypointTable, numbers: np.ndarray, points: Tensor, scores: Tensor, owners: Tensor
) -> tuple[Tensor, Tensor]:
    """Points (n, 2) and pictures in the batch (n,) of the new and the previous keypoints, after suppression."""
    old, old_owners = keypoints_of(previous, numbers)
    points = torch.cat([torch.from_numpy(old[:, :2]).to(points), points])
    owners = torch.cat([torch.from_numpy(old_owners).to(owners), owners])
    # Detector scores are at most 1, so that the previous points go first.
    scores = torch.cat([torch.full((len(old_owners),), 2.0).to(scores), scores])
    kept = suppress(points, scores, owners, NMS_FAN)
    return points[kept], owners[kept]


def keypoints_of(table: KeypointTable, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The keypoints (n, 3) of some pictures, and which of these each is in (n,)."""
    parts = [table.of(number) for number in numbers]
    return np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def new_keypoints(
    network: FAN,
    database: Database,
    options: Options,
    experiment: Experiment,
    previous: KeypointTable,
    centroids: np.ndarray | None,
    describe: Callable[[Tensor], Tensor] | None = None,
) -> tuple[KeypointTable, Clusters]:
    """New pseudo-groundtruth: the detector's keypoints joined with the previous ones, clustered by k-means.

    centroids: (K, D) of the last round, where k-means starts; None in the first round. The clusters come without
    the labels of single keypoints.
    """
    with DescriptorStore(experiment.checkpoints, network.l1.out_channels) as store:
        store_fan_keypoints(network, database, database.training, options, store, previous, describe)
        if not distributed.is_main():
            return distributed.from_main(None)
        hyper, names = options.hyper, database.training.names
        experiment.log(f"Keypoints: FAN: {len(store) / len(names):.1f} per picture, before they are clustered")
        clusters = cluster(
            store, len(names), hyper.number_of_clusters, hyper.seed, initial=centroids, device=options.device
        )
        table = keypoint_table(store, clusters, names)
        return distributed.from_main((table, replace(clusters, labels=clusters.labels[:0])))
