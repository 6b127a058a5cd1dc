"""One experiment's files below log_path: their names, the newest of them, and the log."""

import contextlib
import datetime
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from Utils.runtime import distributed, errors
from Utils.runtime.errors import UserError
from Utils.storage.files import SAFETENSORS, held, remove_left_overs, require_writable
from Utils.storage.records import append_run, recorded_runs
from Utils.storage.scalars import Scalars


class Experiment:
    """`<log_path>/<name>/Logs` and `<log_path>/<name>/CheckPoints`.

    Reading also searches `<log_path>/CheckPoints/`, where users unpack published models, and the folder of the
    experiment's name in it. The newest file is the one with the highest number in its name.
    """

    def __init__(self, log_path: Path | str, name: str, variant: str = "") -> None:
        """variant: ends the names of results, see `Options.variant`."""
        self.name, self.variant = name, variant
        self.folder = Path(log_path) / name
        self.logs = self.folder / "Logs"
        self.checkpoints = self.folder / "CheckPoints"
        unpacked = Path(log_path) / "CheckPoints"
        self._folders = [self.checkpoints, unpacked / name / "CheckPoints", unpacked / name, unpacked]

    # Names of files

    def bootstrap_keypoints(self) -> Path:
        return self.checkpoints / "SuperPointKeypoints.pickle"

    def bootstrap_clusters(self) -> Path:
        """Centroids and thresholds of the bootstrap's clusters; they give the points of new pictures their names."""
        return self.checkpoints / "SuperPointClusters.pth"

    def poses(self) -> Path:
        """How the object of each training picture is turned and mirrored, where they stand in different poses."""
        return self.checkpoints / "Poses.pickle"

    def updated_keypoints(self, iteration: int) -> Path:
        return self.checkpoints / f"UpdatedKeypoints{iteration}.pickle"

    def merged_keypoints(self, iteration: int) -> Path:
        return self.checkpoints / f"MergedKeypoints{iteration}.pickle"

    def first_step_checkpoint(self, iteration: int) -> Path:
        return self.checkpoints / f"{self.name}FirstStepIteration{iteration}.pth"

    def second_step_checkpoint(self, epoch: int) -> Path:
        return self.checkpoints / f"{self.name}SecondStepEpoch{epoch}.pth"

    def first_step_state(self) -> Path:
        """The state of step one between two clustering rounds, for --resume."""
        return self.checkpoints / f"{self.name}FirstStepState.pth"

    def second_step_state(self) -> Path:
        """The state of step two between two checkpoints, for --resume."""
        return self.checkpoints / f"{self.name}SecondStepState.pth"

    def predictions(self, iteration: int) -> Path:
        return self.checkpoints / f"EvaluateStep2Keypoints{iteration}{self.variant}.pickle"

    def relations(self, iteration: int) -> Path:
        """How the landmarks of step two's network are related."""
        return self.checkpoints / f"LandmarkRelations{iteration}.json"

    def result(self, name: str) -> Path:
        """A file of this name in Logs, with the variant before its ending."""
        path = self.logs / name
        return path.with_name(f"{path.stem}{self.variant}{path.suffix}")

    def named_points(self, iteration: int) -> Path:
        """The regressor of named points that tools/name_points.py learns."""
        return self.checkpoints / f"NamedPoints{iteration}.pickle"

    # Finding files

    def find(self, path: Path) -> Path:
        """The path of a file of this name in CheckPoints or among the published models; if there is none, `path`."""
        return next((folder / path.name for folder in self._folders if (folder / path.name).is_file()), path)

    def numbered(self, prefix: str, suffix: str) -> list[tuple[int, Path]]:
        """All files `<prefix><number><suffix>` of the first folder that has any, by ascending number.

        For .pth, .safetensors counts too if the number has no .pth file. Folders are not mixed: most names lack the
        experiment's name, so a file elsewhere may belong to another one.
        """
        suffixes = (SAFETENSORS, suffix) if suffix == ".pth" else (suffix,)
        pattern = re.compile(re.escape(prefix) + r"([0-9]{1,18})(?:" + "|".join(map(re.escape, suffixes)) + ")")
        for folder in self._folders:
            names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
            names.sort(key=lambda name: name.endswith(suffix))  # so that .pth comes last and wins
            found = {int(match[1]): folder / match[0] for match in map(pattern.fullmatch, names) if match}
            if found:
                return sorted(found.items())
        return []

    def first_step_checkpoints(self) -> list[tuple[int, Path]]:
        return self.numbered(f"{self.name}FirstStepIteration", ".pth")

    def second_step_checkpoints(self) -> list[tuple[int, Path]]:
        return self.numbered(f"{self.name}SecondStepEpoch", ".pth")

    def updated_keypoints_files(self) -> list[tuple[int, Path]]:
        return self.numbered("UpdatedKeypoints", ".pickle")

    def newest_first_step(self) -> tuple[int, Path]:
        """Iteration and path of the newest checkpoint of step one; UserError if there is none."""
        return self._newest(self.first_step_checkpoints(), "checkpoint of step one", "Train_Firststep.py")

    def newest_second_step(self) -> tuple[int, Path]:
        """Epoch and path of the newest checkpoint of step two; UserError if there is none."""
        return self._newest(self.second_step_checkpoints(), "checkpoint of step two", "Train_Secondstep.py")

    def newest_updated_keypoints(self) -> tuple[int, Path]:
        """Iteration and path of step one's newest pseudo-groundtruth; UserError if there is none."""
        return self._newest(
            self.updated_keypoints_files(), "UpdatedKeypoints<iteration>.pickle", "Train_Firststep.py"
        )

    def _newest(self, files: list[tuple[int, Path]], what: str, script: str) -> tuple[int, Path]:
        if not files:
            raise UserError(f"{self.checkpoints} has no {what} of experiment {self.name}; run {script} first")
        return files[-1]

    # Writing

    def open(self) -> None:
        """Make the folders and send tracebacks of faults there; UserError if they are not writable."""
        for folder in (self.logs, self.checkpoints):
            require_writable(folder, "set log_path in the paths file to another folder")
        errors.report_folder = self.logs
        remove_left_overs(self.logs, self.logs / "Clusters", self.checkpoints)

    def log(self, message: str) -> None:
        """Print a line and append it, with the time, to the text log; only the main process does."""
        if not distributed.is_main():
            return
        print(message, flush=True)
        now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
        with open(self.logs / f"{self.name}.txt", "a", encoding="utf-8") as handle:
            handle.write(f"{now} {message}\n")

    def describe_run(self, facts: Mapping[str, Any]) -> None:
        """Append this run's command, facts, versions and commit to Logs/run.yaml."""
        append_run(self.logs, facts)

    def recorded_runs(self) -> list[dict[str, Any]]:
        """The records of `describe_run`, oldest first."""
        return recorded_runs(self.logs)

    def first_step_files(self) -> list[Path]:
        """The files that a run of step one has left so far."""
        files = [self.bootstrap_keypoints(), self.first_step_state()]
        return [path for path in files if path.exists()] + [path for _, path in self.first_step_checkpoints()]

    def second_step_files(self) -> list[Path]:
        """The files that a run of step two has left so far."""
        state = [self.second_step_state()] if self.second_step_state().exists() else []
        return state + [path for _, path in self.second_step_checkpoints()]

    @contextlib.contextmanager
    def training(self, facts: Mapping[str, Any], resume: bool, earlier: Callable[[], list[Path]]) -> Iterator[None]:
        """Lock the experiment for a training script, and record the facts of its run.

        earlier: lists the files of an earlier run. Raises UserError if there are any without `resume`, or if another
        process trains the experiment.
        """
        if not distributed.is_main():
            yield
            return
        self.open()
        refusal = (
            f"experiment {self.name} is being trained by another process ({self.folder}); "
            f"wait until it ends, or choose another --experiment_name"
        )
        with held(self.folder / ".training.lock", refusal):
            files = earlier()
            if files and not resume:
                raise UserError(
                    f"{files[0]} exists: experiment {self.name} was trained before; continue with --resume, "
                    f"or choose another --experiment_name"
                )
            self.describe_run(facts)
            yield

    def scalars(self, step: str) -> Scalars:
        """TensorBoard scalars of one step, in Logs/tensorboard/<step>."""
        return Scalars(self.logs / "tensorboard" / step)
