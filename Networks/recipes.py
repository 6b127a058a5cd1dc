"""The recipes by the names that --set recipe takes. A new one is one folder beside this file and one line below."""

from collections.abc import Callable

from Networks.consensus.recipe import consensus
from Networks.recipe import PAPER, Recipe
from Utils.options import Hyperparameters

RECIPES: dict[str, Callable[[Hyperparameters], Recipe]] = {
    "paper": lambda hyper: PAPER,
    "consensus": consensus,
}


def recipe_of(hyper: Hyperparameters) -> Recipe:
    """The recipe that the hyperparameters name, with its own hyperparameters."""
    return RECIPES[hyper.recipe](hyper)
