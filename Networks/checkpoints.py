"""Checkpoints of both steps: what they may hold, what a resumed run takes from them, and the state of a training."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from torch import nn

from Networks.execution import build_fan
from Networks.fan import FAN
from Utils.hyperparameters import explained, setting
from Utils.options import Options
from Utils.point_distribution import PointDistribution
from Utils.runtime import distributed
from Utils.runtime.errors import UserError, one_line, shown
from Utils.storage.files import load_checkpoint, save_checkpoint

PAPER_IMAGE_SIZE = 256  # of published checkpoints, which do not store it
# What may change when a run is resumed. Every other setting changes the result.
_FREE_ON_RESUME = {
    "clustering_rounds",
    "total_iterations",
    "minutes_between_checkpoints",
    "checkpoints_kept",
    "compile",
}


# What a checkpoint may hold


def _plain(value: Any) -> Any:
    """NumPy's scalars as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _numbers(channels: Any) -> Any:
    """An array, tensor or tuple as a list."""
    if isinstance(channels, (torch.Tensor, np.ndarray)):
        return channels.reshape(-1).tolist()
    return list(channels) if isinstance(channels, tuple) else channels


def _weights(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            raise ValueError(f"{shown(name)} is not a tensor of real numbers")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} contains NaN or infinity")
    return tensors


def _array(dimensions: int) -> AfterValidator:
    """A tensor or array of finite numbers with so many dimensions, or None."""

    def check(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, (torch.Tensor, np.ndarray)):
            raise ValueError(f"is a {type(value).__name__}, not an array of numbers")
        array = np.asarray(value, np.float32)
        if array.ndim != dimensions or not len(array):
            raise ValueError(f"has the shape {array.shape}, not {dimensions} dimensions")
        if not np.isfinite(array).all():
            raise ValueError("contains NaN or infinity")
        return value

    return AfterValidator(check)


Count = Annotated[int, BeforeValidator(_plain), Field(ge=0)]
Weights = Annotated[Mapping[str, Any], AfterValidator(_weights)]


class Checkpoint(BaseModel):
    """The fields that this program reads; loading checks that the ones it needs are there."""

    model_config = ConfigDict(strict=True)

    dataset_name: str = ""
    hyperparameters: dict[str, Any] | None = None
    state_dict: Weights = {}
    training_state_dict: Weights = {}
    iteration: Count = 0
    epoch: Count = 0
    epoch_start: Count = 0
    relabelled: Annotated[bool, BeforeValidator(_plain)] = False
    labels: Annotated[str, Field(pattern=r"^[^/\x00-\x1f]+\.pickle$")] = ""
    active_channels: Annotated[list[Count], BeforeValidator(_numbers), Field(min_length=1)] = []
    centroid: Annotated[Any, _array(2)] = None
    threshold: Annotated[Any, _array(1)] = None
    shape_mean: Annotated[Any, _array(1)] = None
    shape_covariance: Annotated[Any, _array(2)] = None


def check_checkpoint(content: Mapping[str, Any], source: Path | str) -> None:
    """Raise UserError naming the wrong field of a checkpoint. Missing and unknown fields pass."""
    try:
        Checkpoint.model_validate(dict(content))
    except ValidationError as error:
        raise UserError(f"{source}: {explained(error)[:200]}; get or make the file again") from None


def require_keys(content: Mapping[str, Any], keys: tuple[str, ...], source: Path | str, kind: str) -> None:
    """Raise UserError if the content lacks a key, because the file is of another kind."""
    for key in keys:
        if key not in content:
            raise UserError(f"{source} has no {key}, so it is not {kind}; give the right file")


# Loading


def load_first_step(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of step one; UserError for any other file."""
    return _load(path, ("state_dict", "iteration", "centroid"), "a checkpoint of step one")


def load_second_step(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of step two, `active_channels` as an array (A,); UserError for any other file."""
    content = _load(path, ("state_dict", "active_channels"), "a checkpoint of step two")
    return content | {"active_channels": np.array(_numbers(content["active_channels"]))}


def load_clusters(path: Path) -> dict[str, Any]:
    """The content of the bootstrap's file of clusters; UserError for any other file."""
    return _load(path, ("centroid", "threshold"), "the bootstrap's file of clusters", "run the bootstrap again")


def _load(
    path: Path, keys: tuple[str, ...], kind: str, remedy: str = "remove it to go on from an earlier checkpoint"
) -> dict[str, Any]:
    content = load_checkpoint(path, remedy)
    require_keys(content, keys, path, kind)
    check_checkpoint(content, path)
    return content


def clusters_to_state(centroids: np.ndarray | None, thresholds: np.ndarray | None) -> dict[str, Any]:
    """The checkpoint keys `centroid` (K, D) and `threshold` (K,); None before the first clustering."""
    state = {"centroid": centroids, "threshold": thresholds}
    return {key: None if array is None else torch.from_numpy(array) for key, array in state.items()}


def clusters_from_state(content: Mapping[str, Any]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The centroids (K, D) and thresholds (K,) of a checkpoint; published files have no thresholds."""
    arrays = (content.get(key) for key in ("centroid", "threshold"))
    centroids, thresholds = (None if array is None else np.asarray(array, np.float32) for array in arrays)
    return centroids, thresholds


def shape_to_state(shape: PointDistribution | None) -> dict[str, Any]:
    """The checkpoint keys `shape_mean` (2L,) and `shape_covariance` (2L, 2L); none without a shape."""
    if shape is None:
        return {}
    return {"shape_mean": torch.from_numpy(shape.mean), "shape_covariance": torch.from_numpy(shape.covariance)}


def shape_from_state(content: Mapping[str, Any]) -> PointDistribution | None:
    """The shape of a checkpoint's landmarks, if it has one."""
    if "shape_mean" not in content:
        return None
    return PointDistribution(*(np.asarray(content[key], np.float64) for key in ("shape_mean", "shape_covariance")))


def load_fan(content: Mapping[str, Any], source: Path | str, options: Options) -> FAN:
    """The network of a checkpoint of either step; the options adopt its settings first."""
    adopt_settings(options, content, source)
    network = build_fan(content["state_dict"]["l1.weight"].shape[0], options.hyper, options.device)
    load_weights(network, content["state_dict"], source)
    return network


def load_weights(
    network: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    source: Path | str,
    remedy: str = "check --set width and number_of_clusters, or the file",
) -> None:
    """Strict loading; UserError if the tensors are not those of the network."""
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()  # after a line that names the class alone
        raise UserError(
            f"{source} does not fit the network {type(network).__name__}: {first[:160]}; {remedy}"
        ) from error


def adopt_newest(
    options: Options, checkpoints: list[tuple[int, Path]], load: Callable[[Path], dict[str, Any]]
) -> None:
    """Adopt the settings of the last of the checkpoints (numbers and paths), before the data set is opened."""
    for _, path in checkpoints[-1:]:
        adopt_settings(options, load(path), path)


def adopt_settings(options: Options, content: Mapping[str, Any], source: Path | str) -> None:
    """Take over what decides crop and network: width, picture size, the data set's own settings, and the read-out.

    Published checkpoints store no hyperparameters: the width follows from the tensors, the picture size is the
    paper's. Raises UserError if the checkpoint contradicts the options.
    """
    check_data_set(options, content, source)
    head = content["state_dict"].get("l1.weight")
    if head is None or head.ndim != 4 or head.shape[1] % 32:
        raise UserError(f"{source}: state_dict holds no FAN; give a checkpoint of this method")
    names = {"width", "image_size", *options.hyper.data_set_names}
    if "active_channels" in content:
        names.add("readout")
    saved = content.get("hyperparameters") or {}
    values = {"width": head.shape[1], "image_size": PAPER_IMAGE_SIZE}
    options.hyper.adopt(values | {name: value for name, value in saved.items() if name in names}, source)


def check_data_set(options: Options, content: Mapping[str, Any], source: Path | str) -> None:
    """Raise UserError if a checkpoint names another data set than --dataset_name."""
    name = content.get("dataset_name", options.dataset_name)
    if name != options.dataset_name:
        raise UserError(
            f"--dataset_name {options.dataset_name}: {source} was made with --dataset_name {name}; give that one, "
            f"or another experiment"
        )


def check_resumed(options: Options, content: Mapping[str, Any], source: Path | str) -> None:
    """Raise UserError naming every setting in which a resumed run differs from its start.

    Settings that only earlier versions knew are ignored.
    """
    check_data_set(options, content, source)
    now, then = options.hyper.model_dump(), content.get("hyperparameters") or {}
    names = [n for n in then if n in now and n not in _FREE_ON_RESUME and setting(n, then[n]) != setting(n, now[n])]
    if names:
        wanted = [setting(name, then[name]) for name in names]
        raise UserError(
            f"--resume: {source} was made with {', '.join(wanted)}; this run has "
            f"{', '.join(setting(name, now[name]) for name in names)}; "
            f"give {' '.join(f'--set {words}' for words in wanted)} or use another experiment"
        )


def newest_state(
    checkpoints: list[tuple[int, Path]], state: Path, load: Callable[[Path], dict[str, Any]]
) -> tuple[dict[str, Any], Path] | None:
    """Content and path of the last checkpoint (number, path) or the state, whichever has more iterations, if any."""
    newest = None
    if distributed.is_main():
        paths = [path for _, path in checkpoints[-1:]] + ([state] if state.exists() else [])
        contents = [(load(path), path) for path in paths]
        newest = max(contents, key=lambda pair: pair[0].get("iteration", 0), default=None)
    return distributed.from_main(newest)


def load_optimizer(optimizer: torch.optim.Optimizer, state: Any, source: Path | str) -> None:
    """Raise UserError if the state is not one of this optimiser."""
    try:
        optimizer.load_state_dict(state)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{source}: its optimizer does not fit this network ({one_line(error)[:100]}); remove the file"
        ) from error


class StateKeeper:
    """Saves the state of a training now and then, so that a killed run loses minutes at most."""

    def __init__(self, path: Path, minutes: float, collect: Callable[[], dict[str, Any]]) -> None:
        self.path, self.seconds, self.collect = path, 60 * minutes, collect
        self.saved = time.monotonic()

    def after_look(self) -> None:
        """Save if the last time is long enough ago."""
        if time.monotonic() - self.saved >= self.seconds:
            self.save()

    def save(self) -> None:
        """Save, in the main process; the state saved before stays if the weights contain NaN or infinity."""
        content = self.collect()
        if distributed.is_main() and all(bool(tensor.isfinite().all()) for tensor in content["state_dict"].values()):
            save_checkpoint(content, self.path)
        self.saved = time.monotonic()

    def remove(self) -> None:
        """Remove the state once a checkpoint replaces it."""
        self.path.unlink(missing_ok=True)
