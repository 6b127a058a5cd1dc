"""What several test files share: an experiment of the Demo set, trained by `make demo` at tiny settings."""

import os
from collections.abc import Iterator

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # the cores are the workers'; torch reads it when it is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from filelock import FileLock

from tests.sandbox import Launcher, Tree


@pytest.fixture(scope="session")
def launcher(tmp_path_factory) -> Iterator[Launcher]:
    """Runs scripts without the time that Python takes to load their packages."""
    launcher = Launcher(tmp_path_factory.mktemp("launcher"))
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def make_demo(launcher, tmp_path_factory) -> Tree:
    """A copy of the project in which `make demo` was run: experiment demo, all stages. Not to be changed; 20 s.

    Of several workers the first one makes it, and each has a copy of its own.
    """
    own = tmp_path_factory.mktemp("make_demo") / "project"
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return made_demo(own, launcher)
    shared = tmp_path_factory.getbasetemp().parent / "make_demo"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            made_demo(tmp_path_factory.mktemp("shared") / "project", launcher).folder.rename(shared)
    return Tree(shared, launcher).copy(own)


def made_demo(folder, launcher: Launcher) -> Tree:
    """Run `make demo` in a copy of the project."""
    tree = Tree.of_project(folder, launcher)
    outcomes = tree.run(["make", "demo"])
    assert outcomes
    for outcome in outcomes:
        assert outcome.code == 0, outcome
    return tree
