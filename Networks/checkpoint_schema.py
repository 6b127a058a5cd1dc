"""What a checkpoint may hold: its fields are checked in one place, when the file is read."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from Utils.hyperparameters import explained
from Utils.runtime.errors import UserError, shown

MOST = 2**53  # iterations and epochs


def check_checkpoint(content: Mapping[str, Any], source: Path | str) -> None:
    """UserError that names what is wrong in a checkpoint: the field, and the first bad entry of a tensor.

    Fields that are missing or unknown here are left to those who ask for them.
    """
    try:
        Checkpoint.model_validate(dict(content))
    except ValidationError as error:
        raise UserError(f"{source}: {explained(error)[:200]}; get or make the file again") from None


def require_finite(tensor: torch.Tensor, name: str = "") -> None:
    """ValueError that names the first entry that is NaN or infinite."""
    finite = torch.isfinite(tensor)
    if not bool(finite.all()):
        index = torch.nonzero(~finite)[0].tolist()
        raise ValueError(f"{name} contains NaN or infinity: {index} is {float(tensor[tuple(index)])}".lstrip())


def numbers(channels: Any) -> Any:
    """A list of the numbers in a list, tuple, array or tensor."""
    if isinstance(channels, (torch.Tensor, np.ndarray)):
        return channels.reshape(-1).tolist()
    return list(channels) if isinstance(channels, tuple) else channels


# Checks of single fields


def _plain(value: Any) -> Any:
    """NumPy's scalars as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _setting(value: Any) -> Any:
    """Of any version of this program."""
    for part in value if isinstance(value, (list, tuple)) else [value]:
        if not isinstance(part, (type(None), bool, int, float, str)):
            raise ValueError(f"must not be a {type(part).__name__}")
        if isinstance(part, float) and not math.isfinite(part):
            raise ValueError("must be a finite number")
    return value


def _weights(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            raise ValueError(f"{shown(name)} is not a tensor of real numbers")
        require_finite(tensor, name)
    return tensors


def _array(dimensions: int) -> Callable[[Any], Any]:
    """Of finite numbers, or None."""

    def check(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, torch.Tensor) and not (isinstance(value, np.ndarray) and value.dtype.kind in "fiu"):
            raise ValueError(f"is a {type(value).__name__}, not an array of numbers")
        tensor = torch.as_tensor(value)
        if tensor.ndim != dimensions or not len(tensor):
            raise ValueError(f"has the shape {tuple(tensor.shape)}, not {dimensions} dimensions")
        require_finite(tensor)
        return value

    return check


Count = Annotated[int, BeforeValidator(_plain), Field(ge=0, le=MOST)]
Weights = Annotated[Mapping[str, Any], AfterValidator(_weights)]


class Checkpoint(BaseModel):
    """The fields that this program reads."""

    model_config = ConfigDict(strict=True)

    dataset_name: str = ""
    hyperparameters: dict[str, Annotated[Any, AfterValidator(_setting)]] | None = None
    state_dict: Weights = {}
    training_state_dict: Weights = {}
    iteration: Count = MOST
    epoch: Count = 0
    epoch_start: Count = 0
    relabelled: Annotated[bool, BeforeValidator(_plain)] = False
    labels: Annotated[str, Field(pattern=r"^[^/\x00-\x1f]+\.pickle$")] = ""
    active_channels: Annotated[list[Count], BeforeValidator(numbers), Field(min_length=1)] = []
    centroid: Annotated[Any, AfterValidator(_array(2))] = None
    threshold: Annotated[Any, AfterValidator(_array(1))] = None

    @model_validator(mode="after")
    def _fields_agree(self) -> "Checkpoint":
        active, head = self.active_channels, self.state_dict.get("l1.weight")
        if len(set(active)) < len(active):
            raise ValueError("active_channels names a map twice")
        if active and head is not None and head.ndim and max(active) >= len(head):
            raise ValueError(f"active_channels names map {max(active)}, but there are {len(head)} maps")
        if self.centroid is not None and self.threshold is not None and len(self.centroid) != len(self.threshold):
            raise ValueError(f"centroid has {len(self.centroid)} rows, threshold {len(self.threshold)}")
        if self.epoch_start > self.iteration:
            raise ValueError("epoch_start lies beyond iteration")
        return self


def check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """ValueError where a state that an optimiser has just taken over does not fit its parameters."""
    for group in optimizer.param_groups:
        if set(group) - {"initial_lr"} != {*optimizer.defaults, "params"}:
            raise ValueError("its groups have other settings")
        for name, default in optimizer.defaults.items():
            value = group[name]
            if isinstance(default, float) and not (isinstance(value, (int, float)) and math.isfinite(value)):
                raise ValueError(f"{name} is not a finite number")
        for parameter in group["params"]:
            for name, value in optimizer.state.get(parameter, {}).items():
                tensor = torch.as_tensor(value)
                if tensor.ndim and tensor.shape != parameter.shape:
                    raise ValueError(f"{name} has another shape than its weights")
                require_finite(tensor, name)
