"""What a recipe may do differently from the paper, as a list of seams that the two steps call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from Databases.augmentation import Strength
from Databases.database import Database
from Databases.samples import FirstStepBatch
from Networks.fan import FAN
from Utils.assignment import Clusters
from Utils.descriptors import DescriptorStore
from Utils.keypoints import KeypointTable
from Utils.options import Options
from Utils.storage.experiment import Experiment


class Average(Protocol):
    """A network that follows the one in training."""

    network: FAN

    def follow(self, trained: FAN, iteration: int) -> None:
        """Take the weights of the trained network into account, after the step of this iteration."""


@dataclass(frozen=True)
class Recipe:
    """The answers of a recipe. None means the paper's answer, which stands in the file named here.

    A recipe other than the paper's is one folder beside this file and one line in `Networks/recipes.py`.
    """

    # Train_Firststep.py: the data set with its training pictures in the poses that they are trained in.
    find_poses: Callable[[Database, Options, Experiment], Database] | None = None
    # bootstrap.py: which rows of the store are the object's, given whether the background is constant.
    object_keypoints: Callable[[DescriptorStore, bool], np.ndarray] | None = None
    # bootstrap.py: labels of the pictures of these names from centroids (K, D) and the object's rows (n,) bool.
    first_labels: Callable[[DescriptorStore, np.ndarray, np.ndarray, np.ndarray], KeypointTable] | None = None
    # first_step.py: scalar loss of descriptors (2B, D, G, G).
    descriptor_loss: Callable[[Tensor, FirstStepBatch], Tensor] | None = None
    # relabelling.py: descriptors (B, D, G, G) of the network as keypoints are described by them.
    describe: Callable[[Tensor], Tensor] | None = None
    # relabelling.py: labels and clusters of a round; arguments of `relabelling.new_keypoints`.
    new_labels: Callable[..., tuple[KeypointTable, Clusters]] | None = None
    # second_step.py: weights (k, width, 1, 1) and biases (k,) with which the first k heatmaps start;
    # called with step one's network, its centroids (k, D), the data set and the options.
    first_heatmaps: Callable[..., tuple[Tensor, Tensor]] | None = None
    # second_step.py: losses (n,) of maps (n, G, G) against targets (n, G, G).
    map_loss: Callable[[Tensor, Tensor], Tensor] | None = None
    # second_step.py: what the end of an epoch does to labels and active clusters of the step that it is called with.
    end_of_epoch: Callable[[Any], None] | None = None
    # training.py: the network that labels, predicts and is saved; None: the trained one itself.
    average: Callable[[FAN], Average] | None = None
    # Both steps' augmentation.
    augmentation: Callable[[Strength], Strength] = lambda strength: strength
    # Share of the pictures in which a cluster can get a keypoint.
    largest_cluster: float = 1.0


PAPER = Recipe()
