"""Ends a training at a chosen one of the moments at which its files change, as kill -9 would."""

import os
from pathlib import Path

import pytest


class Killed(BaseException):
    """Stands for the end of the process."""


class Seams:
    """Counts, while it is entered, all renames and removals of files; ends the program just before number `kill_at`.

    From then on nothing more is renamed or removed: what a killed process was writing stays where it lies.
    """

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.acts: list[str] = []
        self.killed = False
        self.patch = pytest.MonkeyPatch()

    def __enter__(self) -> "Seams":
        rename, unlink = os.replace, Path.unlink

        def counted_rename(source, target) -> None:
            self._pass(f"rename {Path(target).name}")
            rename(source, target)

        def counted_unlink(path, missing_ok=False) -> None:
            if self.killed or path.exists():  # else it changes nothing
                self._pass(f"remove {path.name}")
            unlink(path, missing_ok=missing_ok)

        self.patch.setattr(os, "replace", counted_rename)
        self.patch.setattr(Path, "unlink", counted_unlink)
        return self

    def __exit__(self, *_: object) -> None:
        self.patch.undo()

    def _pass(self, act: str) -> None:
        self.killed = self.killed or len(self.acts) == self.kill_at
        if self.killed:
            raise Killed
        self.acts.append(act)
