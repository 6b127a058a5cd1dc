"""What a user says on the command line and in the paths file."""

import argparse
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from Utils.hyperparameters import DataSet, Hyperparameters, hyperparameters
from Utils.protocols import PAPER, PROTOCOLS
from Utils.runtime.arguments import MOST_WORKERS, Parser, path_of, whole
from Utils.runtime.errors import UserError, one_line, shown

LONGEST_NAME = 200  # bytes; the names of checkpoints are longer, and names of files end at 255


class Paths:
    """The paths file: a mapping of keys to folders and files. None stands for an empty one."""

    def __init__(self, file: Path | str | None) -> None:
        self._values: dict[str, Any] = {}
        if file is None:
            self.file = Path("the paths file")
            return
        self.file = Path(file)
        if not self.file.is_file():
            raise UserError(f"{self.file} does not exist; give the paths file with --paths")
        try:
            content = yaml.safe_load(self.file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise UserError(f"{self.file} is not readable as YAML: {one_line(error)[:300]}") from error
        if not isinstance(content, dict):
            raise UserError(f"{self.file} is not a mapping; write lines of the form `key: path`")
        self._values = content

    def get(self, key: str) -> str:
        """The value of a key, "" if it is missing or empty."""
        value = self._values.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise UserError(f"{self.file}: {key} is {shown(value)}, not a path; put it in quotes")
        return value.strip()

    def require(self, key: str) -> str:
        """The value of a key; UserError if it is missing or empty."""
        if key not in self._values:
            raise UserError(f"{self.file} has no key {key}; add the line `{key}: <path>`")
        value = self.get(key)
        if not value:
            raise UserError(f"{self.file}: {key} is empty; set it to the path")
        return value

    def optional(self, key: str) -> Path | str:
        """The file that a key names, "" if the key is missing or empty."""
        value = self.get(key)
        return path_of(value) if value else ""

    def folder(self, key: str) -> Path:
        """The directory that a key names; UserError if it does not exist."""
        folder = path_of(self.require(key))
        if not folder.is_dir():
            raise UserError(f"{self.file}: {key} names {folder}, which is not a directory; correct the path")
        return folder


@dataclass
class Options:
    """One run of a script."""

    dataset_name: str
    device: torch.device
    hyper: Hyperparameters
    num_workers: int
    experiment_name: str = ""
    resume: bool = False
    paths: Paths = field(default_factory=lambda: Paths(None))
    data_path: Path = Path("data")
    log_path: Path = Path("Logs")
    images: Path | None = None
    visualisation: str = ""
    predictions: Path | None = None
    protocol: str = PAPER
    landmarks: int = 0  # how many of the network's landmarks to use; 0: all
    mirror: bool = False
    own: argparse.Namespace = field(default_factory=argparse.Namespace)  # the script's own flags

    @property
    def variant(self) -> str:
        """What is added to the names of results that are not the default's, like `-mafl5-10landmarks`."""
        parts = ["" if self.protocol == PAPER else self.protocol, f"{self.landmarks}landmarks" * (self.landmarks > 0)]
        return "".join(f"-{part}" for part in [*parts, "mirror" * self.mirror] if part)

    def facts(self) -> dict[str, Any]:
        """The options as plain values, for the record of the run."""
        return {
            "dataset_name": self.dataset_name,
            "experiment_name": self.experiment_name,
            "device": str(self.device),
            "num_workers": self.num_workers,
            "seed": self.hyper.seed,
            "hyperparameters": dict(sorted(self.hyper.model_dump(mode="json").items())),
        }


def parse(
    argv: Sequence[str] | None,
    description: str,
    databases: Mapping[str, type[DataSet]],
    recipes: Mapping[str, type[Hyperparameters]],
    flags: Sequence[str] = (),
    own: Callable[[argparse.ArgumentParser], None] | None = None,
    settings: Sequence[str] = (),
) -> Options:
    """Read the command line of a script.

    databases: name -> class of the data set, for --dataset_name; recipes: name -> class of its hyperparameters, for
    --set recipe. flags: the options beside the common ones, of experiment, resume, visualisation, predictions,
    protocol, landmarks and mirror.
    own: adds flags of this script alone, which `Options.own` returns. settings: NAME=VALUE that a user may override.
    """
    parser = Parser(description=description)
    add = parser.add_argument
    add("--dataset_name", required=True, choices=list(databases), metavar="NAME", help=", ".join(databases))
    if "experiment" in flags:
        add("--experiment_name", required=True, metavar="NAME", help="any name; the same for all steps")
    add(
        "--num_workers",
        type=whole(0, MOST_WORKERS),
        default=min(16, available_cores()),
        help="processes that load pictures (default: cores, at most 16)",
    )
    if "resume" in flags:
        add("--resume", action="store_true", help="go on where an earlier run of this experiment stopped")
    if "visualisation" in flags:
        choices = ("Step1_Keypoints", "Step1_Clusters", "Step2", "Points")
        add("--visualisation", required=True, choices=choices, help="which pictures to draw")
    if "predictions" in flags:
        add(
            "--predictions",
            type=path_of,
            metavar="FILE",
            help="evaluate a saved predictions pickle, without a network",
        )
    if "protocol" in flags:
        names = (PAPER, *PROTOCOLS)
        add("--protocol", default=PAPER, choices=names, metavar="NAME", help=f"{', '.join(names)} (default: {PAPER})")
    if "landmarks" in flags:
        help_text = "use the K landmarks that tell most about the others (default: all)"
        add("--landmarks", type=whole(1), default=0, metavar="K", help=help_text)
    if "mirror" in flags:
        add("--mirror", action="store_true", help="average with the landmarks of the mirrored picture")
    if own is not None:
        own(parser)
    add(
        "--paths",
        type=path_of,
        default="paths/main.yaml",
        metavar="FILE",
        help="the paths file (default: %(default)s)",
    )
    add("--data_path", type=path_of, default="data/", metavar="DIR", help="lists and boxes (default: %(default)s)")
    add("--images", type=path_of, metavar="DIR", help="pictures of the data set Custom, instead of Custom_datapath")
    add("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:n (default: %(default)s)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings", help="a hyperparameter")
    given = parser.parse_args(argv)

    paths, database = Paths(given.paths), databases[given.dataset_name]
    protocol = getattr(given, "protocol", PAPER)
    if protocol not in (PAPER, *database.protocols):
        known = ", ".join((PAPER, *database.protocols))
        raise UserError(f"--protocol {protocol}: {given.dataset_name} lacks its points; give one of {known}")
    no_landmarks = getattr(given, "predictions", None) or "Step1" in getattr(given, "visualisation", "")
    if no_landmarks and (given.landmarks or given.mirror):
        raise UserError("--landmarks and --mirror need step two's network; leave them out")
    log_path = path_of(paths.require("log_path"))
    provide_temporary_folder(log_path)
    if "experiment" in flags:
        _check_experiment_name(given.experiment_name)
    shared = {name: value for name, value in vars(given).items() if name in Options.__dataclass_fields__}
    shared |= {"paths": paths, "log_path": log_path, "device": _device(given.device), "own": given}
    return Options(**shared, hyper=hyperparameters([*settings, *given.settings], recipes, database))


def provide_temporary_folder(folder: Path) -> None:
    """Let libraries use the folder where the system offers them none to write to, as in a read-only container."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = str(folder)


def default_options(
    dataset_name: str, databases: Mapping[str, type[DataSet]], settings: Sequence[str] = (), device: str = "auto"
) -> Options:
    """The options of a program that uses a trained network of any recipe without a command line or a paths file.

    settings: NAME=VALUE, as with --set.
    """
    hyper = hyperparameters(settings, {}, databases[dataset_name])
    return Options(dataset_name, _device(device), hyper, min(16, available_cores()))


def _check_experiment_name(name: str) -> None:
    odd = name in ("", ".", "..", "CheckPoints") or "/" in name or "\\" in name or not name.isprintable()
    if odd or len(name.encode(errors="replace")) > LONGEST_NAME:
        raise UserError(f"--experiment_name {name[:100]!r}: use a plain folder name of at most {LONGEST_NAME} bytes")


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _device(text: str) -> torch.device:
    if text == "auto" and not torch.cuda.is_available():
        text = "cpu"
    if text in ("auto", "cuda"):
        text = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"  # torchrun: one GPU per process
    elif text.startswith("cuda:") and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(f"--device {text}: give cuda; each process takes its own GPU")
    if not re.fullmatch(r"cpu|cuda:\d{1,3}", text):
        raise UserError(f"--device {text[:60]!r}: give auto, cpu, cuda or cuda:n")
    device = torch.device(text)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {text}: this machine has no CUDA GPU that torch can use; give --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {text}: this machine has {torch.cuda.device_count()} GPUs")
    return device
