"""New pseudo-groundtruth from the network just trained: its keypoints, joined with the last ones and clustered.

The paper, section 3.2.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from Databases.database import Database, ImageSet
from Databases.samples import to_input
from Networks.execution import autocast, inference_batches
from Networks.fan import FAN
from Utils import distributed
from Utils.assignment import Clusters, cluster, keypoint_table
from Utils.descriptors import DescriptorStore
from Utils.experiment import Experiment
from Utils.keypoints import KeypointTable, detect, suppress
from Utils.options import Options
from Utils.progress import Progress

NMS_FAN = 1  # half-side in grid cells


@torch.inference_mode()
def store_fan_keypoints(
    network: FAN,
    database: Database,
    images: ImageSet,
    options: Options,
    store: DescriptorStore,
    previous: KeypointTable | None = None,
) -> None:
    """Put the keypoints that the detector finds, joined with each picture's previous ones, into the store.

    Where two lie on top of each other the previous one stays. Descriptors are L2-normalised. Of several
    processes each detects in its part of the pictures, and the main one's store gets all rows.
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
            vectors = functional.normalize(descriptors[owners, :, y, x], dim=1)
            store.append(vectors.cpu().numpy(), points.cpu().numpy(), numbers[owners.cpu().numpy()])
            progress.update(len(numbers), keypoints=len(points) / len(numbers))
    network.train()
    distributed.collect_rows(store)


def _join_previous(
    previous: KeypointTable, numbers: np.ndarray, points: Tensor, scores: Tensor, owners: Tensor
) -> tuple[Tensor, Tensor]:
    """Points (n, 2) and pictures in the batch (n,) of the new and the previous keypoints, after suppression."""
    old = [previous.of(number)[:, :2] for number in numbers]
    old_owners = np.repeat(np.arange(len(numbers)), [len(part) for part in old])
    points = torch.cat([torch.from_numpy(np.concatenate(old)).to(points), points])
    owners = torch.cat([torch.from_numpy(old_owners).to(owners), owners])
    # Detector scores are at most 1, so that the previous points go first.
    scores = torch.cat([torch.full((len(old_owners),), 2.0).to(scores), scores])
    kept = suppress(points, scores, owners, NMS_FAN)
    return points[kept], owners[kept]


def new_keypoints(
    network: FAN,
    database: Database,
    options: Options,
    experiment: Experiment,
    previous: KeypointTable,
    centroids: np.ndarray | None,
) -> tuple[KeypointTable, Clusters]:
    """New pseudo-groundtruth of the training pictures and its clusters."""
    with DescriptorStore(experiment.checkpoints, network.l1.out_channels) as store:
        store_fan_keypoints(network, database, database.training, options, store, previous)
        if not distributed.is_main():
            return distributed.from_main(None)
        hyper, names = options.hyper, database.training.names
        clusters = cluster(
            store, len(names), hyper.number_of_clusters, hyper.seed, initial=centroids, device=options.device
        )
        table = keypoint_table(store, clusters, names)
        return distributed.from_main((table, replace(clusters, labels=clusters.labels[:0])))
