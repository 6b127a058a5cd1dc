"""Folders of results, claimed before anything is written, so that nothing else is overwritten."""

import datetime
from pathlib import Path
from typing import Any

import yaml

from Utils.options import Options, command_line
from Utils.runtime.errors import UserError
from Utils.storage.experiment import versions
from Utils.storage.files import writing

RECORD = "prediction.yaml"  # says of a folder that its results are ours, and what made them
RESULTS = ("landmarks.csv", "landmarks.json", "pictures")


def claim_folder(folder: Path, options: Options, facts: dict[str, Any]) -> None:
    """Make the folder of a run's results and record in it what made them.

    Raises UserError where it is a file or not writable, or holds files of these names that no such run has made.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file; give a folder")
    strangers = [name for name in RESULTS if (folder / name).exists()] if not (folder / RECORD).exists() else []
    if strangers:
        raise UserError(f"--output {folder} has a {strangers[0]} that is not of an earlier run; give another folder")
    record = {
        "made": datetime.datetime.now().isoformat(sep=" ", timespec="seconds"),
        "command": command_line(),
        "dataset_name": options.dataset_name,
        "experiment_name": options.experiment_name,
        **facts,
        "hyperparameters": options.hyper.model_dump(mode="json"),
        "versions": versions(),
    }
    try:
        with writing(folder / RECORD) as temporary:
            temporary.write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {folder} is not writable ({error.strerror}); give another folder") from error
