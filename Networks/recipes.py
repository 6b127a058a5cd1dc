"""The recipes by the names that --set recipe takes. A new one is one folder here and one line below."""

from Networks.consensus.hyperparameters import ConsensusHyperparameters
from Utils.hyperparameters import Hyperparameters

RECIPES: dict[str, type[Hyperparameters]] = {"paper": Hyperparameters, "consensus": ConsensusHyperparameters}
