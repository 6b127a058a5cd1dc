"""What a checkpoint may hold: a check for each of its fields, made in one place, when the file is read."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from Utils.runtime.errors import UserError, one_line, shown

MOST = 2**53  # of numbers that count iterations and epochs
MOST_CLUSTERS = 100_000


def check_checkpoint(content: Mapping[str, Any], source: Path | str) -> None:
    """UserError that names the first field of a checkpoint, and its first entry, that is not what it has to be.

    Fields that are missing, or that nothing here knows, are left to those who ask for them.
    """
    for name, problem_of in _FIELDS.items():
        problem = problem_of(content[name]) if name in content else None
        if problem:
            _refuse(source, f"{name} {problem}")
    weights, active = content.get("state_dict"), content.get("active_channels")
    head = weights.get("l1.weight") if weights else None
    if active is not None and head is not None and head.ndim and max(numbers(active)) >= len(head):
        _refuse(source, f"active_channels name {max(numbers(active))}, but there are {len(head)} maps")
    centroids, thresholds = content.get("centroid"), content.get("threshold")
    if centroids is not None and thresholds is not None and len(centroids) != len(thresholds):
        _refuse(source, f"centroid has {len(centroids)} rows, threshold {len(thresholds)}")
    if content.get("epoch_start", 0) > content.get("iteration", MOST):
        _refuse(source, "epoch_start lies beyond iteration")


def _refuse(source: Path | str, problem: str) -> None:
    raise UserError(f"{source}: {one_line(problem)[:200]}; get or make the file again")


def first_unusable(tensor: torch.Tensor) -> str:
    """Such as `[3, 0] is nan`, of the first entry that is no finite number; "" where all are."""
    finite = torch.isfinite(tensor)
    if bool(finite.all()):
        return ""
    place = torch.nonzero(~finite)[0].tolist()
    return f"{place} is {float(tensor[tuple(place)])}"


# The checks: what is wrong, or None


def _weights(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return f"is a {type(value).__name__} and no dictionary of tensors"
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            return f"has {shown(name)}, which is no tensor of real numbers"
        unusable = first_unusable(tensor)
        if unusable:
            return f"has numbers that are none: {name} {unusable}"
    return None


def _count(value: Any) -> str | None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not 0 <= value <= MOST:
        return f"is {shown(value)} and no whole number from 0 on"
    return None


def _flag(value: Any) -> str | None:
    return None if isinstance(value, (bool, np.bool_)) else f"is {shown(value)} and neither true nor false"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value.isprintable() else f"is {shown(value)} and no name"


def _file_name(value: Any) -> str | None:
    if _text(value) or "/" in value or not value.endswith(".pickle"):
        return f"is {shown(value)} and no name of a file of labels"
    return None


def _array(dimensions: int) -> Callable[[Any], str | None]:
    """Of real numbers, or None."""

    def problem(value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, (torch.Tensor, np.ndarray)) or (
            isinstance(value, np.ndarray) and value.dtype.kind not in "fiu"
        ):
            return f"is a {type(value).__name__} and no array of numbers"
        tensor = torch.as_tensor(value)
        if tensor.ndim != dimensions or not 0 < len(tensor) <= MOST_CLUSTERS:
            return f"has the shape {tuple(tensor.shape)}, not {dimensions} dimensions of at most {MOST_CLUSTERS} rows"
        unusable = first_unusable(tensor)
        return f"has numbers that are none: {unusable}" if unusable else None

    return problem


def numbers(channels: Any) -> list[int]:
    """Whole numbers, in a list, an array or a tensor; ValueError for anything else."""
    if isinstance(channels, (torch.Tensor, np.ndarray)):
        channels = channels.reshape(-1).tolist()
    if not isinstance(channels, (list, tuple)) or any(_count(channel) for channel in channels):
        raise ValueError
    return [int(channel) for channel in channels]


def _channels(value: Any) -> str | None:
    try:
        channels = numbers(value)
    except ValueError:
        return f"are {shown(value)} and no list of maps"
    if not channels or len(set(channels)) < len(channels):
        return "are none, or some come twice"
    return None


def _settings(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return "are no dictionary of names"
    for name, setting in value.items():
        parts = setting if isinstance(setting, (list, tuple)) else [setting]
        for part in parts:
            if not isinstance(part, (type(None), bool, int, float, str)):
                return f"have {shown(name)}, which is a {type(part).__name__}"
            if isinstance(part, float) and not math.isfinite(part):
                return f"have {shown(name)}={part}"
    return None


_FIELDS: dict[str, Callable[[Any], str | None]] = {
    "dataset_name": _text,
    "hyperparameters": _settings,
    "state_dict": _weights,
    "training_state_dict": _weights,
    "iteration": _count,
    "centroid": _array(2),
    "threshold": _array(1),
    "relabelled": _flag,
    "active_channels": _channels,
    "epoch": _count,
    "epoch_start": _count,
    "labels": _file_name,
}


# The state of the optimiser, which only it knows itself


def check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """ValueError where a state that an optimiser has just taken over does not fit its parameters."""
    for group in optimizer.param_groups:
        if set(group) - {"initial_lr"} != {*optimizer.defaults, "params"}:
            raise ValueError("its groups have other settings")
        for name, default in optimizer.defaults.items():
            value = group[name]
            if isinstance(default, float) and not (isinstance(value, (int, float)) and math.isfinite(value)):
                raise ValueError(f"{name} is no number")
        for parameter in group["params"]:
            for name, value in optimizer.state.get(parameter, {}).items():
                tensor = torch.as_tensor(value)
                if tensor.ndim and tensor.shape != parameter.shape:
                    raise ValueError(f"{name} has another shape than its weights")
                if first_unusable(tensor):
                    raise ValueError(f"{name} has numbers that are none: {first_unusable(tensor)}")
