"""One experiment's files below log_path: where they are, which is newest, and its log."""

import contextlib
import datetime
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock

from Utils.options import Options, command_line, plain
from Utils.runtime import distributed, errors
from Utils.runtime.errors import UserError
from Utils.storage.files import SAFETENSORS, held, remove_left_overs, writing


class Experiment:
    """`<log_path>/<name>/Logs` and `<log_path>/<name>/CheckPoints`.

    Files to read are also looked for in `<log_path>/CheckPoints/`, where the published models are unpacked:
    directly, or in a folder of the experiment's name. Which file is newest is told by the number in its name.
    """

    def __init__(self, log_path: Path | str, name: str) -> None:
        self.name = name
        self.folder = Path(log_path) / name
        self.logs = self.folder / "Logs"
        self.checkpoints = self.folder / "CheckPoints"
        errors.report_folder = self.logs
        unpacked = Path(log_path) / "CheckPoints"
        self._places = [
            self.checkpoints,
            unpacked / name / "CheckPoints",
            unpacked / name,
            unpacked,
        ]

    # Names of files

    def bootstrap_keypoints(self) -> Path:
        return self.checkpoints / "SuperPointKeypoints.pickle"

    def bootstrap_clusters(self) -> Path:
        """The centroids and thresholds of the bootstrap's clusters, which name the points of new pictures."""
        return self.checkpoints / "SuperPointClusters.pth"

    def updated_keypoints(self, iteration: int) -> Path:
        return self.checkpoints / f"UpdatedKeypoints{iteration}.pickle"

    def merged_keypoints(self, iteration: int) -> Path:
        return self.checkpoints / f"MergedKeypoints{iteration}.pickle"

    def first_step_checkpoint(self, iteration: int) -> Path:
        return self.checkpoints / f"{self.name}FirstStepIteration{iteration}.pth"

    def second_step_checkpoint(self, epoch: int) -> Path:
        return self.checkpoints / f"{self.name}SecondStepEpoch{epoch}.pth"

    def first_step_state(self) -> Path:
        """Where step one is between two clustering rounds, for --resume."""
        return self.checkpoints / f"{self.name}FirstStepState.pth"

    def second_step_state(self) -> Path:
        """Where step two is between two checkpoints, for --resume."""
        return self.checkpoints / f"{self.name}SecondStepState.pth"

    def predictions(self, iteration: int) -> Path:
        return self.checkpoints / f"EvaluateStep2Keypoints{iteration}.pickle"

    # Finding files

    def find(self, path: Path) -> Path:
        """Where a file of CheckPoints is: there, or where a published model was unpacked."""
        return next((place / path.name for place in self._places if (place / path.name).is_file()), path)

    def numbered(self, prefix: str, suffix: str) -> list[tuple[int, Path]]:
        """All files `<prefix><number><suffix>` of the first place that has any, by ascending number.

        suffix: of a checkpoint .pth; .safetensors counts as that too, where the same number has no other file.

        Places are not mixed: most names do not tell the experiment, and another one's file may lie beside.
        """
        suffixes = (SAFETENSORS, suffix) if suffix == ".pth" else (suffix,)
        pattern = re.compile(re.escape(prefix) + r"([0-9]{1,18})(?:" + "|".join(map(re.escape, suffixes)) + ")")
        for place in self._places:
            names = [path.name for path in place.iterdir()] if place.is_dir() else []
            names.sort(key=lambda name: name.endswith(suffix))  # of two with one number, this one counts
            found = {int(match[1]): place / match[0] for match in map(pattern.fullmatch, names) if match}
            if found:
                return sorted(found.items())
        return []

    def first_step_checkpoints(self) -> list[tuple[int, Path]]:
        return self.numbered(f"{self.name}FirstStepIteration", ".pth")

    def second_step_checkpoints(self) -> list[tuple[int, Path]]:
        return self.numbered(f"{self.name}SecondStepEpoch", ".pth")

    def updated_keypoints_files(self) -> list[tuple[int, Path]]:
        return self.numbered("UpdatedKeypoints", ".pickle")

    def newest_second_step(self) -> tuple[int, Path]:
        """Epoch and path of the newest checkpoint of step two; UserError where there is none."""
        return self._newest(self.second_step_checkpoints(), "checkpoint of step two", "Train_Secondstep.py")

    def newest_first_step(self) -> tuple[int, Path]:
        """Iteration and path of the newest checkpoint of step one; UserError where there is none."""
        return self._newest(self.first_step_checkpoints(), "checkpoint of step one", "Train_Firststep.py")

    def newest_updated_keypoints(self) -> tuple[int, Path]:
        """Iteration and path of step one's newest pseudo-groundtruth; UserError where there is none."""
        return self._newest(
            self.updated_keypoints_files(),
            "UpdatedKeypoints<iteration>.pickle",
            "Train_Firststep.py to its first round",
        )

    def _newest(self, files: list[tuple[int, Path]], what: str, script: str) -> tuple[int, Path]:
        if not files:
            raise UserError(f"{self.checkpoints} has no {what} of experiment {self.name}; run {script} first")
        return files[-1]

    # Writing

    def open(self) -> None:
        """Make the folders; UserError where that is not possible."""
        for folder in (self.logs, self.checkpoints):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder):
                    pass
            except OSError as error:
                raise UserError(
                    f"{folder} is not writable ({error.strerror}); set log_path in the paths file to another folder"
                ) from error
        remove_left_overs(self.logs, self.logs / "Clusters", self.checkpoints)

    def log(self, message: str) -> None:
        """Print a line and append it, with the time, to the text log; of several processes the main one does."""
        if not distributed.is_main():
            return
        print(message, flush=True)
        now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
        with open(self.logs / f"{self.name}.txt", "a", encoding="utf-8") as handle:
            handle.write(f"{now} {message}\n")

    def describe_run(self, options: Options) -> None:
        """Append this run's command, hyperparameters, seed, threads, versions and commit to Logs/run.yaml."""
        with FileLock(self.logs / ".run.yaml.lock"):  # a Test.py beside a training describes itself too
            self._describe_run(options)

    def _describe_run(self, options: Options) -> None:
        path = self.logs / "run.yaml"
        runs: list[dict[str, Any]] = []
        if path.is_file():
            try:
                runs = yaml.safe_load(path.read_text(encoding="utf-8")) or []
                if not isinstance(runs, list):
                    raise yaml.YAMLError
            except (yaml.YAMLError, ValueError, RecursionError):
                path.replace(path.with_suffix(".damaged.yaml"))
                runs = []
        runs.append(
            {
                "started": datetime.datetime.now().isoformat(sep=" ", timespec="seconds"),
                "command": command_line(),
                "dataset_name": options.dataset_name,
                "device": str(options.device),
                "num_workers": options.num_workers,
                "threads": torch.get_num_threads(),
                "seed": options.hyper.seed,
                "hyperparameters": {k: plain(v) for k, v in sorted(options.hyper.as_dict().items())},
                "versions": versions(),
                **commit(),
            }
        )
        with writing(path) as temporary:
            temporary.write_text(yaml.safe_dump(runs, sort_keys=False), encoding="utf-8")

    def recorded_runs(self) -> list[dict[str, Any]]:
        """What `describe_run` has recorded, oldest first; empty where there is nothing or it is damaged."""
        try:
            runs = yaml.safe_load((self.logs / "run.yaml").read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError):
            return []
        return [run for run in runs if isinstance(run, dict)] if isinstance(runs, list) else []

    def first_step_files(self) -> list[Path]:
        """What a run of step one has left so far."""
        files = [self.bootstrap_keypoints(), self.first_step_state()]
        return [path for path in files if path.exists()] + [path for _, path in self.first_step_checkpoints()]

    def second_step_files(self) -> list[Path]:
        """What a run of step two has left so far."""
        state = [self.second_step_state()] if self.second_step_state().exists() else []
        return state + [path for _, path in self.second_step_checkpoints()]

    @contextlib.contextmanager
    def training(self, options: Options, earlier: Callable[[], list[Path]]) -> Iterator[None]:
        """Hold the experiment for a training script; refuse to write over an `earlier` run not to be resumed.

        Raises UserError where another process trains it. However this one ends, the experiment is free then.
        """
        if not distributed.is_main():
            yield
            return
        self._refuse_earlier(options, earlier())
        self.open()
        refusal = (
            f"experiment {self.name} is being trained by another process ({self.folder}); "
            f"wait for its end, or choose another --experiment_name"
        )
        with held(self.folder / ".training.lock", refusal):
            self._refuse_earlier(options, earlier())
            self.describe_run(options)
            yield

    def _refuse_earlier(self, options: Options, earlier: list[Path]) -> None:
        if earlier and not options.resume:
            raise UserError(
                f"{earlier[0]} exists: experiment {self.name} was begun before; go on with --resume, "
                f"or choose another --experiment_name"
            )

    def scalars(self, step: str) -> "Scalars":
        """TensorBoard scalars of one step, in Logs/tensorboard/<step>."""
        return Scalars(self.logs / "tensorboard" / step)


class Scalars:
    """TensorBoard scalars of the main process."""

    def __init__(self, folder: Path) -> None:
        self._writer = None
        if distributed.is_main():
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self._writer = SummaryWriter(str(folder))

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        if self._writer:
            self._writer.close()


def commit(folder: Path = Path(__file__).parents[2]) -> dict[str, str]:
    """The commit of the project's folder, -dirty where files were changed since; empty where it is no checkout."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    if not (folder / ".git").exists():  # a copy inside another checkout
        return {}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return {"commit": done.stdout.strip()} if done.returncode == 0 else {}


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    import cv2
    import faiss
    import numpy
    import scipy
    import torch
    import torchvision

    modules = (torch, torchvision, faiss, numpy, scipy, cv2)
    return {
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        **{module.__name__: str(module.__version__) for module in modules},
    }
