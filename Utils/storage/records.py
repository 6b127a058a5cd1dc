"""Records of what made a folder's files: command, settings, versions of the packages and the commit."""

import datetime
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from Utils.runtime.errors import UserError
from Utils.storage.files import held, writing

RUNS = "run.yaml"  # a list of records, one per run
PREDICTION = "prediction.yaml"  # one record
RESULTS = ("landmarks.csv", "landmarks.json", "points.csv", "points.json", "pictures")  # the files beside it


def record(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of this run, plain values for YAML, and what all scripts record."""
    return {
        "started": datetime.datetime.now().isoformat(sep=" ", timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        **facts,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        **commit(),
    }


def append_run(folder: Path, facts: Mapping[str, Any]) -> None:
    """Append this run's record to the folder's run.yaml; a damaged file is kept under another name."""
    path = folder / RUNS
    with held(folder / f".{RUNS}.lock"):  # Test.py may run beside a training
        runs = recorded_runs(folder)
        if not runs and path.exists():
            path.replace(path.with_suffix(".damaged.yaml"))
        _write(path, [*runs, record(facts)])


def recorded_runs(folder: Path) -> list[dict[str, Any]]:
    """The records of `append_run`, oldest first; empty if there is no file or it is damaged."""
    try:
        runs = yaml.safe_load((folder / RUNS).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        return []
    return [run for run in runs if isinstance(run, dict)] if isinstance(runs, list) else []


def claim_folder(folder: Path, facts: Mapping[str, Any]) -> None:
    """Make the folder of a run's predictions and record in it what made them.

    Raises UserError if it is a file, is not writable, or holds results that no earlier run wrote.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file; give a folder")
    strangers = [name for name in RESULTS if (folder / name).exists()] if not (folder / PREDICTION).exists() else []
    if strangers:
        raise UserError(f"--output {folder} has a {strangers[0]} that no earlier run wrote; give another folder")
    try:
        _write(folder / PREDICTION, record(facts))
    except OSError as error:
        raise UserError(f"--output {folder} is not writable ({error.strerror}); give another folder") from error


def _write(path: Path, content: Any) -> None:
    with writing(path) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def commit(folder: Path = Path(__file__).parents[2]) -> dict[str, str]:
    """The commit of the project's folder, with -dirty if files have changed since; empty outside a checkout."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    if not (folder / ".git").exists():  # a copy inside another checkout
        return {}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return {"commit": done.stdout.strip()} if done.returncode == 0 else {}


def versions() -> dict[str, str]:
    """Versions that can change the results."""
    import cv2
    import faiss
    import numpy
    import scipy
    import torchvision

    return {
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        **{module.__name__: str(module.__version__) for module in (torch, torchvision, faiss, numpy, scipy, cv2)},
    }
