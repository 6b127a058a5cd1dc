"""What a user should know before hours of training."""

import torch

from Utils.hyperparameters import Hyperparameters
from Utils.storage.experiment import Experiment

LONG_ON_CPU = 128 * 256**2  # width x pixels of a network that is too large to train on a CPU
SHARE_TO_LEARN = 4  # a cluster needs a quarter of the keypoints that it could have


def advise(
    experiment: Experiment, hyper: Hyperparameters, device: torch.device, pictures: int, largest_cluster: float
) -> None:
    """Log what will take weeks, and what step two will not learn.

    pictures: for training; largest_cluster: share of them in which a cluster can get a keypoint.
    """
    if device.type == "cpu" and hyper.width * hyper.image_size**2 >= LONG_ON_CPU:
        experiment.log("A CPU takes weeks for this size and length; --set preset=small takes minutes")
    reach = 1 + int(largest_cluster * (pictures - 1))
    if reach <= hyper.min_cluster_points:
        experiment.log(
            f"Warning: with {pictures} training pictures a cluster gets at most {reach} keypoints, but step two "
            f"learns only clusters with more than {hyper.min_cluster_points}; add --set "
            f"min_cluster_points={reach // SHARE_TO_LEARN} to Train_Secondstep.py, or give both steps more pictures"
        )
