"""What a user says on the command line and in the paths file."""

import argparse
import difflib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
import yaml

from Utils.runtime.arguments import MOST_WORKERS, Parser, checked_path
from Utils.runtime.errors import UserError, one_line, shown

# The paper's hyperparameters. A data set may override some of them or add its own (`Database.settings`).
HYPERPARAMETERS: dict[str, Any] = {
    "number_of_clusters": 100,
    "batch_size": 0,  # 0: the paper's, 16 pairs in step one and 32 pictures in step two
    "learning_rate": 5e-4,
    "weight_decay": 1e-5,
    "heatmap_weight_decay": 0.0,
    "image_size": 256,
    "width": 256,
    "confidence_superpoint": 0.1,
    "nms_superpoint": 6,
    "outlier_fraction": 0.4,
    "confidence_fan": 0.2,
    "iterations_first": 20_000,
    "clustering_rounds": 30,
    "iterations_per_scheduler_step": 2_000,
    "total_iterations": 80_000,
    "gradient_accumulation": 2,
    "learning_rate_steps": (50_000, 65_000),
    "iterations_before_merging": 25_000,
    "cluster_overlap": 0.7,
    "min_cluster_points": 500,
    "recipe": "paper",
    "preset": "full",
    "foreground": "nearest",
    "bootstrap_match_fraction": 0.0,
    "descriptor_loss": "margin",
    "descriptor_window": 1,
    "relabelling": "detect",
    "match_fraction": 0.6,
    "places": "cell",
    "weight_average": 0.0,
    "augmentation_shift": 0.05,
    "augmentation_border": "black",
    "heatmap_start": "fresh",
    "peak_weight": 0.0,
    "place_weight": 0.0,
    "map_match_fraction": 0.0,
    "most_apart": 1.0,
    "least_steadiness": 0.0,
    "readout": "cell",
    "augmentation": "fast",
    "precision": "auto",
    "compile": False,
    "minutes_between_checkpoints": 10.0,
    "checkpoints_kept": 5,
    "seed": 1993,
}
# What a recipe sets, unless the data set or the user says otherwise. `paper` is the method to the letter; what
# `consensus` does beyond it is told in docs/training.md.
RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},
    "consensus": {
        "foreground": "frequent",
        "bootstrap_match_fraction": 0.4,
        "descriptor_loss": "softmax",
        "descriptor_window": 3,
        "relabelling": "match",
        "weight_average": 0.98,
        "augmentation_shift": 0.2,
        "augmentation_border": "reflect",
        "heatmap_start": "descriptors",
        "peak_weight": 20.0,
        "place_weight": 0.03,
        "map_match_fraction": 0.85,
        "most_apart": 0.3,
        "least_steadiness": 0.2,
        "readout": "centroid",
    },
}
# Size and length of a training, on top of a recipe: the paper's, or some minutes on two CPU cores.
PRESETS: dict[str, dict[str, Any]] = {
    "full": {},
    "small": {
        "image_size": 128,
        "width": 32,
        "number_of_clusters": 60,
        "batch_size": 8,
        "confidence_fan": 0.05,  # after so short a training the detector is unsure
        "iterations_first": 500,
        "clustering_rounds": 5,
        "iterations_per_scheduler_step": 30,
        "gradient_accumulation": 1,
        "total_iterations": 1600,
        "learning_rate_steps": (1200, 1450),
        "iterations_before_merging": 700,
        "min_cluster_points": 50,
    },
}
# The Demo's: rounds gain less there than step two's own labels do, in less time.
PRESETS["brief"] = PRESETS["small"] | {
    "iterations_first": 400,
    "clustering_rounds": 0,
    "total_iterations": 1300,
    "learning_rate_steps": (1050, 1200),
    "iterations_before_merging": 550,
}
_CHOICES = {
    "preset": tuple(PRESETS),
    "recipe": tuple(RECIPES),
    "foreground": ("nearest", "frequent"),
    "descriptor_loss": ("margin", "softmax"),
    "relabelling": ("detect", "match"),
    "augmentation": ("fast", "imgaug"),
    "augmentation_border": ("black", "reflect"),
    "heatmap_start": ("fresh", "descriptors"),
    "places": ("cell", "between"),
    "readout": ("cell", "centroid"),
    "precision": ("auto", "float32", "bfloat16"),
}
# Smallest value that makes sense, for the numbers that have one.
_AT_LEAST = {
    "number_of_clusters": 2,
    "batch_size": 0,
    "learning_rate": 0.0,
    "weight_decay": 0.0,
    "heatmap_weight_decay": 0.0,
    "image_size": 64,
    "width": 32,
    "confidence_superpoint": 0.0,
    "nms_superpoint": 1,
    "outlier_fraction": 0.0,
    "confidence_fan": 0.0,
    "iterations_first": 1,
    "clustering_rounds": 0,
    "iterations_per_scheduler_step": 1,
    "total_iterations": 1,
    "gradient_accumulation": 1,
    "iterations_before_merging": 0,
    "cluster_overlap": 0.0,
    "min_cluster_points": 0,
    "bootstrap_match_fraction": 0.0,
    "descriptor_window": 1,
    "match_fraction": 0.0,
    "weight_average": 0.0,
    "augmentation_shift": 0.0,
    "peak_weight": 0.0,
    "place_weight": 0.0,
    "map_match_fraction": 0.0,
    "most_apart": 0.0,
    "least_steadiness": 0.0,
    "minutes_between_checkpoints": 0.0,
    "checkpoints_kept": 0,
    "seed": 0,
}
# Largest value that a machine may hold or a training come to.
_AT_MOST = {
    "number_of_clusters": 100_000,
    "batch_size": 65_536,
    "learning_rate": 1000.0,
    "weight_decay": 1000.0,
    "heatmap_weight_decay": 1000.0,
    "image_size": 4096,
    "width": 2048,
    "confidence_superpoint": 1.0,
    "nms_superpoint": 1000,
    "confidence_fan": 1.0,
    "iterations_first": 10**8,
    "clustering_rounds": 10_000,
    "iterations_per_scheduler_step": 10**7,
    "total_iterations": 10**8,
    "gradient_accumulation": 10_000,
    "iterations_before_merging": 10**9,
    "cluster_overlap": 1.0,
    "min_cluster_points": 10**9,
    "descriptor_window": 99,
    "peak_weight": 1e6,
    "place_weight": 1e6,
    "least_steadiness": 1.0,
    "most_apart": 1.0,
    "minutes_between_checkpoints": 1e6,
    "checkpoints_kept": 10**9,
}
LONGEST_NAME = 200  # bytes of an experiment's name: its checkpoints' names are longer, and no file's above 255
MOST_STEPS = 100  # of a learning rate
_MULTIPLE_OF = {"image_size": 64, "width": 32}
_ODD = ("descriptor_window",)  # a window has a cell in its middle
_BELOW = {
    "outlier_fraction": 1.0,
    "bootstrap_match_fraction": 1.0,
    "match_fraction": 1.0,
    "map_match_fraction": 1.0,
    "weight_average": 1.0,
    "augmentation_shift": 0.5,
    "seed": 2**63,
}

_FREE_AFTER_TRAINING = frozenset({"readout"})  # may be another one when a trained network is used


class Hyperparameters:
    """Named values, read as attributes.

    given: the names that the user set; of_data_set: the data set's own names; free: names that may differ from those
    that a network was trained with.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        given: Collection[str] = (),
        of_data_set: Collection[str] = (),
        free: Collection[str] = (),
    ) -> None:
        self.__dict__.update(values)
        self._given, self._of_data_set = frozenset(given), tuple(of_data_set)
        self._free = frozenset(free) | _FREE_AFTER_TRAINING

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no hyperparameter {name}")

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    @property
    def of_data_set(self) -> tuple[str, ...]:
        """The data set's own names, beside those that all data sets have."""
        return self._of_data_set

    def adopt(self, values: Mapping[str, Any], source: Path | str) -> None:
        """Take over what a checkpoint was trained with, so that later steps need not be told again.

        Raises UserError where the user asked for something else, unless it may differ, and for values that are none.
        """
        for name, value in values.items():
            now = getattr(self, name)
            if type(value) is not type(now):
                raise UserError(
                    f"{source}: {name} is {shown(value)}, not such as {now!r}; get or make the file again"
                )
            try:
                _check_range(name, value)
            except UserError as error:
                raise UserError(f"{source} was made with {str(error)[6:]}; get or make the file again") from None
            if name not in self._given:
                self.__dict__[name] = value
            elif now != value and name not in self._free:
                raise UserError(
                    f"--set {setting(name, now)}: {source} was made with {setting(name, value)}; "
                    f"leave the setting out or use another experiment"
                )


class Paths:
    """The paths file: a mapping of keys to folders and files; None: one without any."""

    def __init__(self, file: Path | str | None) -> None:
        self._values: dict[str, Any] = {}
        if file is None:
            self.file = Path("the paths file")
            return
        self.file = _path("--paths", file)
        if not self.file.is_file():
            raise UserError(f"{self.file} does not exist; name the paths file with --paths")
        try:
            content = yaml.safe_load(self.file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise UserError(f"{self.file} is not readable as YAML: {one_line(error)[:300]}") from error
        if not isinstance(content, dict):
            raise UserError(f"{self.file} is no mapping; write lines of the form `key: path`")
        self._values = content

    def get(self, key: str) -> str:
        """The value of a key, "" where it is missing or empty."""
        value = self._values.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise UserError(f"{self.file}: {key} is {shown(value)} and no path; put it in quotes")
        return value.strip()

    def require(self, key: str) -> str:
        """The value of a key that must be there."""
        if key not in self._values:
            raise UserError(f"{self.file} has no key {key}; add the line `{key}: <path>`")
        value = self.get(key)
        if not value:
            raise UserError(f"{self.file}: {key} is empty; set it to the path")
        return value

    def optional(self, key: str) -> Path | str:
        """The file that a key names, "" where it is missing or empty."""
        value = self.get(key)
        return _path(f"{self.file}: {key}", value) if value else ""

    def folder(self, key: str) -> Path:
        """The directory that a key names, which must exist."""
        folder = _path(f"{self.file}: {key}", self.require(key))
        if not folder.is_dir():
            raise UserError(f"{self.file}: {key} names {folder}, which is no directory; correct the path")
        return folder


@dataclass
class Options:
    """One run of a script."""

    dataset_name: str
    experiment_name: str
    num_workers: int
    resume: bool
    paths: Paths
    data_path: Path
    log_path: Path
    device: torch.device
    hyper: Hyperparameters
    images: str | None = None
    visualisation: str = ""
    predictions: str | None = None
    own: argparse.Namespace = field(default_factory=argparse.Namespace)  # the script's own flags

    def facts(self) -> dict[str, Any]:
        """What the record of a run says of it, as plain values."""
        return {
            "dataset_name": self.dataset_name,
            "experiment_name": self.experiment_name,
            "device": str(self.device),
            "num_workers": self.num_workers,
            "seed": self.hyper.seed,
            "hyperparameters": {k: plain(v) for k, v in sorted(self.hyper.as_dict().items())},
        }


class DataSet(Protocol):
    """What a data set's class says of its hyperparameters."""

    settings: ClassVar[dict[str, Any]]
    free_settings: ClassVar[tuple[str, ...]]


def parse(
    argv: Sequence[str] | None,
    description: str,
    databases: Mapping[str, type[DataSet]],
    flags: Sequence[str] = (),
    own: Callable[[argparse.ArgumentParser], None] | None = None,
    settings: Sequence[str] = (),
) -> Options:
    """Read the command line of a script.

    `databases` maps the names that --dataset_name takes to their classes, whose `settings` override or extend
    the hyperparameters. `flags` names the options beside the common ones: resume, visualisation, predictions,
    experiment (then --experiment_name is required). `own` adds flags that only this script has; they come back in
    `Options.own`. `settings`: NAME=VALUE that hold unless the user says otherwise. Raises UserError; a syntax error
    of the command line ends the program with code 2 (argparse).
    """
    parser = Parser(description=description)
    add = parser.add_argument
    add("--dataset_name", required=True, choices=list(databases), metavar="NAME", help=", ".join(databases))
    if "experiment" in flags:
        add("--experiment_name", required=True, metavar="NAME", help="any name; the same for all steps")
    add(
        "--num_workers",
        type=int,
        default=None,
        help="processes that load pictures (default: cores, at most 16)",
    )
    if "resume" in flags:
        add("--resume", action="store_true", help="go on where an earlier run of this experiment stopped")
    if "visualisation" in flags:
        choices = ("Step1_Keypoints", "Step1_Clusters", "Step2")
        add("--visualisation", required=True, choices=choices, help="which pictures to draw")
    if "predictions" in flags:
        add("--predictions", metavar="FILE", help="evaluate a saved predictions pickle, without a network")
    if own is not None:
        own(parser)
    add("--paths", default="paths/main.yaml", metavar="FILE", help="the paths file (default: %(default)s)")
    add("--data_path", default="data/", metavar="DIR", help="lists and boxes (default: %(default)s)")
    add("--images", metavar="DIR", help="pictures of the data set Custom, instead of Custom_datapath")
    add("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:n (default: %(default)s)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings", help="a hyperparameter")
    given = parser.parse_args(argv)

    paths = Paths(given.paths)
    of_predictions = getattr(given, "predictions", None)
    of_database = databases[given.dataset_name]
    return Options(
        dataset_name=given.dataset_name,
        experiment_name=_experiment_name(given.experiment_name) if "experiment" in flags else "",
        num_workers=_num_workers(given.num_workers),
        resume=getattr(given, "resume", False),
        paths=paths,
        data_path=_path("--data_path", given.data_path),
        log_path=_path(f"{paths.file}: log_path", paths.require("log_path")),
        device=_device(given.device),
        hyper=hyperparameters([*settings, *given.settings], of_database.settings, of_database.free_settings),
        images=None if given.images is None else str(_path("--images", given.images)),
        visualisation=getattr(given, "visualisation", ""),
        predictions=None if of_predictions is None else str(_path("--predictions", of_predictions)),
        own=given,
    )


def default_options(
    dataset_name: str, databases: Mapping[str, type[DataSet]], settings: Sequence[str] = (), device: str = "auto"
) -> Options:
    """The options of a program that has no command line: settings (NAME=VALUE) as of --set, no paths."""
    return Options(
        dataset_name=dataset_name,
        experiment_name="",
        num_workers=_num_workers(None),
        resume=False,
        paths=Paths(None),
        data_path=Path("data"),
        log_path=Path("Logs"),
        device=_device(device),
        hyper=hyperparameters(settings, databases[dataset_name].settings, databases[dataset_name].free_settings),
    )


def _path(where: str, text: Path | str) -> Path:
    try:
        return checked_path(str(text))
    except ValueError as error:
        raise UserError(f"{where}: {error}; correct the path") from None


def hyperparameters(
    settings: Sequence[str], of_database: Mapping[str, Any], free: Collection[str] = ()
) -> Hyperparameters:
    """The paper's values, then the recipe's, the preset's, the data set's, and the user's NAME=VALUE settings.

    free: the data set's own names that may differ from those that a network was trained with.
    Raises UserError on an unknown name (naming the nearest known one), a value of the wrong type or range.
    """
    values = {**HYPERPARAMETERS, **of_database}
    of_user = _read_settings(settings, values)
    values |= of_user
    for name in ("recipe", "preset"):
        _check_range(name, values[name])
    values = {
        **HYPERPARAMETERS,
        **RECIPES[values["recipe"]],
        **PRESETS[values["preset"]],
        **of_database,
        **of_user,
    }
    for name, value in values.items():
        _check_range(name, value)
    return Hyperparameters(values, of_user, [name for name in of_database if name not in HYPERPARAMETERS], free)


def _read_settings(settings: Sequence[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """NAME=VALUE as values of the types of the known ones."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip()
        if not equals:
            raise UserError(f"--set {setting}: write it as NAME=VALUE")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise UserError(f"--set {name}: no such hyperparameter; the nearest known one is {near[0]}")
        values[name] = _convert(name, text.strip(), known[name])
    return values


def _convert(name: str, text: str, default: Any) -> Any:
    """`text` as a value of the type of `default`."""
    try:
        if isinstance(default, bool):
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if isinstance(default, int):
            return int(text.replace("_", ""))
        if isinstance(default, float):
            value = float(text)
            if value != value or value in (float("inf"), float("-inf")):
                raise ValueError
            return value
        if isinstance(default, tuple):
            return tuple(int(part.replace("_", "")) for part in text.strip("()[]").split(",") if part.strip())
    except (ValueError, KeyError):
        kind = "list of whole numbers" if isinstance(default, tuple) else type(default).__name__
        raise UserError(f"--set {name}={text[:60]}: the value must be a {kind}, such as {default}") from None
    return text


def _check_range(name: str, value: Any) -> None:
    if name in _CHOICES and value not in _CHOICES[name]:
        raise UserError(f"--set {name}={value}: the value must be one of {', '.join(_CHOICES[name])}")
    if name in _AT_LEAST and value < _AT_LEAST[name]:
        raise UserError(f"--set {name}={value}: the value must be at least {_AT_LEAST[name]}")
    if name in _AT_MOST and value > _AT_MOST[name]:
        raise UserError(f"--set {name}={value}: the value must be at most {_AT_MOST[name]}")
    if name == "learning_rate_steps" and not (len(value) <= MOST_STEPS and all(0 <= v <= 10**9 for v in value)):
        raise UserError(f"--set {setting(name, value)}: give at most {MOST_STEPS} iterations, from 0 to {10**9}")
    if name in _MULTIPLE_OF and value % _MULTIPLE_OF[name]:
        raise UserError(f"--set {name}={value}: the value must be a multiple of {_MULTIPLE_OF[name]}")
    if name in _ODD and value % 2 == 0:
        raise UserError(f"--set {name}={value}: the value must be odd")
    if name in _BELOW and value >= _BELOW[name]:
        raise UserError(f"--set {name}={value}: the value must be below {_BELOW[name]}")


def _experiment_name(name: str) -> str:
    odd = name in ("", ".", "..", "CheckPoints") or "/" in name or "\\" in name or not name.isprintable()
    if odd or len(name.encode(errors="replace")) > LONGEST_NAME:
        raise UserError(f"--experiment_name {name[:100]!r}: use a plain folder name of at most {LONGEST_NAME} bytes")
    return name


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _num_workers(given: int | None) -> int:
    if given is None:
        return min(16, available_cores())
    if not 0 <= given <= MOST_WORKERS:
        raise UserError(f"--num_workers {given}: give 0 to {MOST_WORKERS}")
    return given


def _device(text: str) -> torch.device:
    if text == "auto" and not torch.cuda.is_available():
        text = "cpu"
    if text in ("auto", "cuda"):
        text = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"  # torchrun: one GPU per process
    elif text.startswith("cuda:") and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(f"--device {text}: with several processes give cuda; each takes a GPU of its own")
    try:
        device = torch.device(text)
    except (RuntimeError, ValueError):
        raise UserError(f"--device {text[:60]!r}: give auto, cpu, cuda or cuda:n") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {text}: give auto, cpu, cuda or cuda:n")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {text}: this machine has no CUDA GPU that torch can use; give --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {text}: there are only {torch.cuda.device_count()} GPUs")
    return device


def setting(name: str, value: Any) -> str:
    """NAME=VALUE as --set takes it."""
    if isinstance(value, bool):
        value = str(value).lower()
    return f"{name}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}"


def plain(value: Any) -> Any:
    """A value as YAML and checkpoints keep it."""
    return list(value) if isinstance(value, tuple) else value
