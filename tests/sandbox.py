"""A copy of the project in which documented commands run as they stand, at settings that take seconds."""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.manual import ROOT
from tests.tiny import CONSENSUS_SETTINGS, DEMO_SETTINGS, SETTINGS

NONE: Mapping[str, str] = MappingProxyType({})
SECONDS = 400  # after which a command has hung, also on a machine that has much else to do
COPIED = ("*.py", "Makefile", "requirements*.txt", "LICENSE", "Utils", "Databases", "Networks", "tools", "benchmarks")
COPIED += ("data", "paths", "docs", "images", "README.md")

# One process for many scripts, as most of their time goes into the modules that all of them import.
PARSE = """
import json, runpy, sys
for words in json.loads(sys.argv[1]):
    sys.argv = words[words[0] == "-m" :]
    try:
        if words[0] == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        if end.code:
            print("wrong:", *words)
            raise
"""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    words: list[str]
    code: int
    output: str
    errors: str

    def __str__(self) -> str:
        said = self.output[-3000:] + self.errors[-3000:]
        return f"{' '.join(self.words)}\nended with code {self.code}:\n{said}"


class Launcher:
    """The process of tests/launcher.py."""

    def __init__(self, folder: Path) -> None:
        """folder: for what the scripts print."""
        self.folder = folder
        command = [sys.executable, str(Path(__file__).with_name("launcher.py"))]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True)

    def run(
        self,
        folder: Path,
        words: Sequence[object],
        only_parse: bool = False,
        killed_at: Path | None = None,
        environment: Mapping[str, str] = NONE,
    ) -> Outcome:
        """`python WORDS` in the folder.

        killed_at: kill -9 as soon as this file is there; environment: for the processes that it starts.
        """
        words = [str(word) for word in words]
        output, errors = self.folder / "output", self.folder / "errors"
        job = {"folder": str(folder), "words": words, "output": str(output), "errors": str(errors)}
        job |= {"only_parse": only_parse, "killed_at": str(killed_at or ""), "environment": dict(environment)}
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], SECONDS)
        if not ready:
            self.close()
            raise TimeoutError(f"{' '.join(words)} did not end within {SECONDS} s")
        code = int(self.process.stdout.readline())
        said = (file.read_text(errors="replace") for file in (output, errors))
        return Outcome(["python", *words], code, *said)

    def close(self) -> None:
        """End it and whatever it runs."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Tree:
    """A copy of the project's files in a folder of its own."""

    def __init__(self, folder: Path, launcher: Launcher) -> None:
        self.folder, self.launcher = folder, launcher

    @classmethod
    def of_project(cls, folder: Path, launcher: Launcher) -> "Tree":
        """The project's files, without what was made with them."""
        folder.mkdir(parents=True)
        leave_out = shutil.ignore_patterns("__pycache__")
        for source in sorted({path for pattern in COPIED for path in ROOT.glob(pattern)}):
            if source.is_dir():
                shutil.copytree(source, folder / source.name, ignore=leave_out)
            else:
                shutil.copy(source, folder)
        judge = folder / "Networks/inference/steadiness.py"
        judge.write_text(judge.read_text().replace("STEADY = 0.8", "STEADY = -9"))  # so short a training fails
        environment = folder / ".venv"
        environment.mkdir()
        (environment / ".complete").touch()  # as after `make setup`
        return cls(folder, launcher)

    def copy(self, folder: Path) -> "Tree":
        """A copy with all that is in the folder."""
        shutil.copytree(self.folder, folder)
        return Tree(folder, self.launcher)

    def run(self, words: list[str], settings: Mapping[str, str] = NONE) -> list[Outcome]:
        """Run a documented command, at tiny settings and these; several outcomes where make runs several."""
        if words[0] == "make":
            return [outcome for line in self.recipe(words) for outcome in self.run(line, settings)]
        if words[0] == "torchrun":
            words = ["python", "-m", "torch.distributed.run", "--standalone", *words[1:]]
        if Path(words[0]).name != "python":
            raise ValueError(f"no way to run {' '.join(words)}")
        return [self.launcher.run(self.folder, [*words[1:], *self.tiny(words, settings)])]

    def parse(self, commands: Sequence[list[str]]) -> Outcome:
        """Let the commands' own parsers read them, up to the first wrong one, and stop there."""
        scripts = []
        for words in commands:
            if words[0] == "make":
                self.recipe(words)
                continue
            if words[0] == "torchrun":
                from torch.distributed.run import parse_args

                given = parse_args(words[1:])
                words = ["python", given.training_script, *given.training_script_args]
            if words[0] == "tensorboard":
                words = ["python", "-m", "tensorboard.main", *words[1:]]
            if words[0] != "python":
                raise ValueError(f"no way to parse {' '.join(words)}")
            scripts.append(words[1:])
        return self.launcher.run(self.folder, ["-c", PARSE, json.dumps(scripts)], only_parse=True)

    def recipe(self, words: list[str]) -> list[list[str]]:
        """The commands that a make target stands for."""
        # The tests may run under make themselves, whose flags are not meant for this one.
        environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
        command = ["make", "-n", "--no-print-directory", *words[1:]]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=True)
        return [line.split() for line in done.stdout.replace("\\\n", " ").splitlines()]

    def tiny(self, words: list[str], more: Mapping[str, str]) -> list[str]:
        """Arguments that make a command take seconds, where its script takes hyperparameters."""
        script = words[2].replace(".", "/") + ".py" if words[1] == "-m" else words[1]
        if words[1:3] == ["-m", "torch.distributed.run"]:
            script = next(word for word in words if word.endswith(".py"))
        if not re.search(r"from Utils\.options import .*\bparse\b", (self.folder / script).read_text()):
            return []
        settings = SETTINGS | (DEMO_SETTINGS if "Demo" in words else {})
        if {"Demo", "Custom", "recipe=consensus"} & set(words) and "Databases.check" not in words:
            settings |= CONSENSUS_SETTINGS
        settings |= more
        pairs = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        return ["--num_workers", "0", *pairs]
