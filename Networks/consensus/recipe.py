"""The recipe `consensus`: where each of its parts hooks into the two steps."""

from dataclasses import replace
from functools import partial

from Databases.augmentation import Strength
from Networks.consensus.average import RunningAverage
from Networks.consensus.hyperparameters import ConsensusHyperparameters
from Networks.consensus.labels import (
    end_of_epoch,
    first_labels,
    keypoints_unlike_background,
    new_labels,
    smoothed,
)
from Networks.consensus.losses import map_loss, softmax_loss
from Networks.consensus.poses import find_poses
from Networks.consensus.start import maps_of_similarity
from Networks.recipe import Recipe

WRONG_POSE = 0.25  # of the pictures of objects that stand in several poses


def consensus(hyper: ConsensusHyperparameters) -> Recipe:
    """The clusters of a picture have to agree on their places, in the labels of all rounds and of both steps."""

    def stronger(strength: Strength) -> Strength:
        """Larger shifts and no black border, since both tell a network where the crop was."""
        return replace(strength, shift=hyper.augmentation_shift, border="reflect", wrong_pose=WRONG_POSE)

    return Recipe(
        find_poses=find_poses,
        object_keypoints=partial(keypoints_unlike_background, hyper=hyper),
        first_labels=partial(first_labels, hyper=hyper),
        descriptor_loss=softmax_loss,
        describe=partial(smoothed, window=hyper.descriptor_window),
        new_labels=partial(new_labels, hyper=hyper),
        first_heatmaps=maps_of_similarity,
        map_loss=partial(
            map_loss,
            peak_weight=hyper.peak_weight,
            place_weight=hyper.place_weight,
            false_weight=hyper.peak_weight if hyper.has_poses else 0,
        ),
        end_of_epoch=partial(end_of_epoch, hyper=hyper),
        average=partial(RunningAverage, hyper=hyper),
        augmentation=stronger,
        largest_cluster=hyper.match_fraction,
    )
