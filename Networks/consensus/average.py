"""A running average of the weights, which labels, predicts and is saved."""

import torch

from Networks.consensus.hyperparameters import ConsensusHyperparameters
from Networks.execution import copy_network
from Networks.fan import FAN


class RunningAverage:
    """Follows a network in training: at first quickly, later by its own decay."""

    def __init__(self, network: FAN, hyper: ConsensusHyperparameters) -> None:
        # swa_utils.AveragedModel would deep-copy a compiled network, whose compiled part stays bound to the original.
        self.network, self.decay = copy_network(network, hyper), hyper.weight_average

    @torch.no_grad()
    def follow(self, trained: FAN, iteration: int) -> None:
        keep = min(self.decay, (1 + iteration) / (10 + iteration))
        torch._foreach_lerp_(list(self.network.parameters()), list(trained.parameters()), 1 - keep)
