"""The recipes by the names that --set recipe takes. A new one is one folder beside this file and one line below."""

from collections.abc import Callable
from typing import Any

from Networks.consensus.hyperparameters import ConsensusHyperparameters
from Networks.consensus.recipe import consensus
from Networks.recipe import PAPER, Recipe
from Utils.hyperparameters import Hyperparameters

_REGISTERED: dict[str, tuple[type[Hyperparameters], Callable[[Any], Recipe]]] = {
    "paper": (Hyperparameters, lambda _: PAPER),
    "consensus": (ConsensusHyperparameters, consensus),
}
RECIPES = {name: hyperparameters for name, (hyperparameters, _) in _REGISTERED.items()}


def recipe_of(hyper: Hyperparameters) -> Recipe:
    """The recipe that the hyperparameters name, with its own hyperparameters."""
    return _REGISTERED[hyper.recipe][1](hyper)
