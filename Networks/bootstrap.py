"""The bootstrap: generic SuperPoint keypoints of every picture, clustered into the first pseudo-groundtruth.

The paper, section 3.1.
"""

import numpy as np

from Databases.database import Database, ImageSet
from Databases.samples import grid_side
from Networks.checkpoints import check_resumed, clusters_to_state, load_clusters
from Networks.generic_keypoints import store_generic_keypoints
from Networks.recipe import PAPER, Recipe
from Networks.superpoint import load_superpoint
from Utils.assignment import cluster, keypoint_table
from Utils.clustering import foreground, inliers, outlier_scores
from Utils.descriptors import DescriptorStore
from Utils.hyperparameters import Hyperparameters
from Utils.keypoints import KeypointTable
from Utils.options import Options
from Utils.runtime import distributed
from Utils.runtime.errors import UserError
from Utils.storage.experiment import Experiment
from Utils.storage.files import save_checkpoint


def bootstrap(database: Database, options: Options, experiment: Experiment, recipe: Recipe = PAPER) -> KeypointTable:
    """The first pseudo-groundtruth, written to the experiment; a complete one is read from there instead."""
    hyper, names = options.hyper, database.training.names
    keypoints_file, clusters_file = experiment.bootstrap_keypoints(), experiment.bootstrap_clusters()
    if options.resume and keypoints_file.exists():
        if clusters_file.exists():
            check_resumed(options, load_clusters(clusters_file), clusters_file)
        table = KeypointTable.load(keypoints_file, grid_side(hyper), hyper.number_of_clusters)
        return table.align(names, keypoints_file)
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
