"""Files of a training: what the checkpoints of both steps hold, and states that a killed run resumes from."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from Networks.checkpoint_schema import check_checkpoint, check_optimizer
from Networks.execution import build_fan
from Networks.fan import FAN
from Utils.hyperparameters import setting
from Utils.options import Options
from Utils.runtime import distributed
from Utils.runtime.errors import UserError, one_line
from Utils.storage.files import load_checkpoint, save_checkpoint

# What later steps take from a checkpoint beside the data set's own settings, so that they need not be told again.
PAPER_IMAGE_SIZE = 256  # of published checkpoints, which do not say
_OF_NETWORK = ("width", "image_size")
_OF_LANDMARKS = ("readout",)
# What may change when a run is resumed; everything else decides the result.
_FREE_ON_RESUME = {
    "clustering_rounds",
    "total_iterations",
    "minutes_between_checkpoints",
    "checkpoints_kept",
    "compile",
}


def load_first_step(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of step one; UserError for any other file."""
    content = load_checkpoint(path, remedy="remove it to go on from an earlier checkpoint")
    require_keys(content, ("state_dict", "iteration", "centroid"), path, "step one")
    check_checkpoint(content, path)
    return content


def load_second_step(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of step two; UserError for any other file."""
    content = load_checkpoint(path, remedy="remove it to go on from an earlier checkpoint")
    require_keys(content, ("state_dict", "active_channels"), path, "step two")
    check_checkpoint(content, path)
    return content


def load_clusters(path: Path) -> dict[str, Any]:
    """The content of the file of the bootstrap's clusters; UserError for any other file."""
    content = load_checkpoint(path, remedy="run the bootstrap again")
    check_checkpoint(content, path)
    return content


def clusters_to_state(centroids: np.ndarray | None, thresholds: np.ndarray | None) -> dict[str, Any]:
    """The checkpoint keys `centroid` (K, D) and `threshold` (K,); None before the first clustering."""
    if centroids is None or thresholds is None:
        return {"centroid": None, "threshold": None}
    return {"centroid": torch.from_numpy(centroids), "threshold": torch.from_numpy(thresholds)}


def clusters_from_state(content: Mapping[str, Any]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """What `clusters_to_state` wrote; published files have no thresholds."""
    centroids, thresholds = content.get("centroid"), content.get("threshold")
    return (
        None if centroids is None else np.asarray(centroids, np.float32),
        None if thresholds is None else np.asarray(thresholds, np.float32),
    )


def load_fan(content: Mapping[str, Any], source: Path | str, options: Options) -> FAN:
    """The network of a checkpoint of either step; the options take its settings over as by `adopt_settings`."""
    adopt_settings(options, content, source)
    network = build_fan(content["state_dict"]["l1.weight"].shape[0], options.hyper, options.device)
    load_fan_weights(network, content["state_dict"], source)
    return network


def load_fan_weights(network: FAN, state_dict: Mapping[str, torch.Tensor], source: Path | str) -> None:
    """Strict loading; UserError where the tensors are not those of the network."""
    try:
        network.load_state_dict(state_dict)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(
            f"{source} holds other tensors than this network ({_first_complaint(error)}); "
            f"check --set width and number_of_clusters, or the file"
        ) from error


def _first_complaint(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
    return (lines or [str(error)])[0][:160]


def require_keys(content: Mapping[str, Any], keys: tuple[str, ...], source: Path | str, step: str) -> None:
    """UserError where a checkpoint is not one of the step."""
    missing = [key for key in keys if key not in content]
    if missing:
        raise UserError(f"{source} has no {missing[0]}: it is no checkpoint of {step}; give the file of {step}")


def adopt_newest(
    options: Options, checkpoints: list[tuple[int, Path]], load: Callable[[Path], dict[str, Any]]
) -> None:
    """Take over the settings of the last of the checkpoints (numbers and paths), before the data set is opened."""
    for _, path in checkpoints[-1:]:
        adopt_settings(options, load(path), path)


def adopt_settings(options: Options, content: Mapping[str, Any], source: Path | str) -> None:
    """Take over what decides crop and network: width, picture size, and what the data set has of its own.

    From the checkpoint's hyperparameters; of published ones, which have none, from the tensors and the paper. Raises
    UserError where the content is no checkpoint's, is of another data set, or the user insists on something else.
    """
    check_data_set(options, content, source)
    weights = content["state_dict"]
    if not isinstance(weights, Mapping) or "l1.weight" not in weights:
        raise UserError(f"{source}: state_dict holds no FAN; give a checkpoint of this method")
    head = weights["l1.weight"]
    if not isinstance(head, torch.Tensor) or head.ndim != 4 or head.shape[1] < 32 or head.shape[1] % 32:
        raise UserError(f"{source}: l1.weight is not that of a FAN; give a checkpoint of this method")
    values = {"width": head.shape[1], "image_size": PAPER_IMAGE_SIZE}
    saved = _hyperparameters_of(content, source)
    names = (*_OF_NETWORK, *options.hyper.data_set_names, *(_OF_LANDMARKS if "active_channels" in content else ()))
    values.update({name: saved[name] for name in names if name in saved})
    options.hyper.adopt(values, source)


def check_data_set(options: Options, content: Mapping[str, Any], source: Path | str) -> None:
    """UserError where a checkpoint says that it is of another data set."""
    name = content.get("dataset_name", options.dataset_name)
    if name != options.dataset_name:
        raise UserError(
            f"--dataset_name {options.dataset_name}: {source} was made with --dataset_name {name}; give that one, "
            f"or another experiment"
        )


def check_resumed(options: Options, content: Mapping[str, Any], source: Path | str) -> None:
    """UserError that names all settings in which a run to be resumed differs from how it was begun.

    Names that only earlier versions of this program knew are passed over.
    """
    check_data_set(options, content, source)
    pairs = [
        (setting(name, before), setting(name, getattr(options.hyper, name)))
        for name, before in _hyperparameters_of(content, source).items()
        if name in type(options.hyper).model_fields and name not in _FREE_ON_RESUME
    ]
    differing = [(then, now) for then, now in pairs if then != now]
    if differing:
        raise UserError(
            f"--resume: {source} was made with {', '.join(then for then, _ in differing)}; this run has "
            f"{', '.join(now for _, now in differing)}; "
            f"give {' '.join(f'--set {then}' for then, _ in differing)} or use another experiment"
        )


def _hyperparameters_of(content: Mapping[str, Any], source: Path | str) -> Mapping[str, Any]:
    """What a checkpoint was made with; empty of a published one."""
    saved = content.get("hyperparameters") or {}
    if not isinstance(saved, Mapping):
        raise UserError(f"{source}: hyperparameters are no dictionary; get or make the file again")
    return saved


def newest_state(
    checkpoints: list[tuple[int, Path]], state: Path, load: Callable[[Path], dict[str, Any]]
) -> tuple[dict[str, Any], Path] | None:
    """The last checkpoint or the state between two, whichever is newer, and its path; the same in all processes.

    checkpoints: numbers and paths, ascending. None where there is neither.
    """
    newest = None
    if distributed.is_main():
        paths = [path for _, path in checkpoints[-1:]] + ([state] if state.exists() else [])
        contents = [(load(path), path) for path in paths]
        newest = max(contents, key=lambda pair: pair[0].get("iteration", 0), default=None)
    return distributed.from_main(newest)


def load_optimizer(optimizer: torch.optim.Optimizer, state: Any, source: Path | str) -> None:
    """UserError where the state is not one of this optimiser."""
    try:
        optimizer.load_state_dict(state)
        check_optimizer(optimizer)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, IndexError) as error:
        raise UserError(
            f"{source}: its optimizer does not fit this network ({one_line(error)[:100]}); remove the file"
        ) from error


class StateKeeper:
    """Saves the state of a training now and then, so that a killed run loses minutes at most."""

    def __init__(self, path: Path, minutes: float, collect: Callable[[], dict[str, Any]]) -> None:
        self.path, self.seconds, self.collect = path, 60 * minutes, collect
        self.saved = time.monotonic()

    def after_look(self) -> None:
        """Save if the time has come."""
        if time.monotonic() - self.saved >= self.seconds:
            self.save()

    def save(self) -> None:
        """Save, in the main process; the state saved before stays if the weights contain NaN or infinity."""
        content = self.collect()
        if distributed.is_main() and all(bool(tensor.isfinite().all()) for tensor in content["state_dict"].values()):
            save_checkpoint(content, self.path)
        self.saved = time.monotonic()

    def remove(self) -> None:
        """The state is superseded by a checkpoint."""
        self.path.unlink(missing_ok=True)
