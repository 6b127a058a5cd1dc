"""What lies on the disk whenever a training changes its files: what it would find that was killed there."""

import os
import shutil
from pathlib import Path

import pytest


class Seams:
    """Numbers, while it is entered, all renames and removals of files, and keeps the folder as it is before each.

    A file that was being written lies beside its place then, and no process holds it.
    """

    def __init__(self, folder: Path, kept: Path) -> None:
        """The folder before number n is kept in kept / n."""
        self.folder, self.kept = folder, kept
        self.acts: list[str] = []
        self.patch = pytest.MonkeyPatch()

    def __enter__(self) -> "Seams":
        rename, unlink = os.replace, Path.unlink

        def kept_rename(source, target) -> None:
            self._keep(f"rename {Path(target).name}")
            rename(source, target)

        def kept_unlink(path, missing_ok=False) -> None:
            if path.exists():  # else it changes nothing
                self._keep(f"remove {path.name}")
            unlink(path, missing_ok=missing_ok)

        self.patch.setattr(os, "replace", kept_rename)
        self.patch.setattr(Path, "unlink", kept_unlink)
        return self

    def __exit__(self, *_: object) -> None:
        self.patch.undo()

    def _keep(self, act: str) -> None:
        shutil.copytree(self.folder, self.kept / str(len(self.acts)))
        self.acts.append(act)
