"""The numbers of the recipe `consensus`, beside the paper's."""

from typing import Annotated

from pydantic import AfterValidator, Field

from Networks.consensus.agreement import STIFFNESS
from Utils.hyperparameters import Hyperparameters, Readout, Zooms


def _odd(cells: int) -> int:
    if cells % 2 == 0:
        raise ValueError("must be odd: a window has a cell in its middle")
    return cells


POSED_STIFFNESS = 10.0  # of agreement: where poses are known, an object's box tells its place and size in the crop


class ConsensusHyperparameters(Hyperparameters):
    """Each description is the field's line in docs/training.md."""

    bootstrap_match_fraction: float = Field(
        0.4,
        gt=0,
        lt=1,
        description="share of the pictures in which a cluster gets one of the first keypoints, the surest ones",
    )
    descriptor_window: Annotated[int, AfterValidator(_odd)] = Field(
        3, ge=1, description="a keypoint's descriptor is the mean over a window of this many cells a side; odd"
    )
    match_fraction: float = Field(
        0.6,
        gt=0,
        lt=1,
        description="share of the pictures in which a cluster gets a keypoint after a round of step one, the surest "
        "ones by how well looks and place agree with the picture's other clusters",
    )
    weight_average: float = Field(
        0.98,
        ge=0,
        lt=1,
        description="decay of a running average of the weights; the average makes labels, merges and "
        "predictions; 0: no average",
    )
    augmentation_shift: float = Field(
        0.2, ge=0, lt=0.5, description="largest shift of a crop, as a share of its side; the paper's is 0.05"
    )
    peak_weight: float = Field(20.0, ge=0, description="in step two's loss a cell counts 1 + this times its target")
    place_weight: float = Field(
        0.03,
        ge=0,
        description="in step two's loss, weight of the cross-entropy of finding a keypoint among all cells of its "
        "map (softmax of the values over 0.1)",
    )
    map_match_fraction: float = Field(
        0.85,
        ge=0,
        lt=1,
        description="share of the pictures in which a cluster gets a keypoint by its map, in step two; 0: the labels "
        "stay those of step one",
    )
    most_apart: float = Field(
        0.3,
        ge=0,
        le=1,
        description="two clusters are not merged if they stand apart in more than this share of the pictures in "
        "which the rarer one has a keypoint",
    )
    least_steadiness: float = Field(
        0.2,
        ge=0,
        le=1,
        description="clusters that follow pictures under known warps less than this are left out at the end of step "
        "two (1: they follow all the way, 0: they keep their place in the crop)",
    )
    zooms_superpoint: Zooms = (1.0,)
    readout: Readout = "centroid"
    heatmap_weight_decay: float = Field(
        0.0, ge=0, description="the optimiser's in step two, where gradients are too small for any"
    )

    @property
    def has_poses(self) -> bool:
        """Whether objects stand in several poses, in a data set with that setting."""
        return getattr(self, "poses", "one") in ("mirrored", "any")

    @property
    def stiffness(self) -> float:
        """How little a picture's clusters differ from the mean shape as a whole."""
        return POSED_STIFFNESS if self.has_poses else STIFFNESS
