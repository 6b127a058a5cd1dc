"""What several test files share: an experiment of the Demo set, trained by `make demo` at tiny settings."""

from collections.abc import Iterator

import pytest

from tests.sandbox import Launcher, Tree


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    """Runs scripts without the time that Python takes to load their packages."""
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def make_demo(launcher, tmp_path_factory) -> Tree:
    """A copy of the project in which `make demo` was run: experiment demo, all stages. Not to be changed; 20 s."""
    tree = Tree.of_project(tmp_path_factory.mktemp("make_demo") / "project", launcher)
    outcomes = tree.run(["make", "demo"])
    assert outcomes
    for outcome in outcomes:
        assert outcome.code == 0, outcome
    return tree
