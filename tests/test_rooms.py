"""The rooms: imports go one way, and without a circle."""

import ast
import functools
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
# What a room may import besides itself. Scripts are the files at the top; tests may import everything. A module
# belongs to the room with the longest name that its own begins with.
UTILS = {"Utils", "Utils.runtime", "Utils.storage", "Utils.drawing"}
METHOD = {"Networks", "Databases", *UTILS}
ALLOWED = {
    "Utils.runtime": set(),
    "Utils.storage": {"Utils.runtime"},
    "Utils": {"Utils.runtime", "Utils.storage"},
    "Utils.drawing": {"Utils", "Utils.runtime", "Utils.storage"},
    "Databases": UTILS,
    "Networks": {"Databases", *UTILS},
    "Networks.inference": METHOD,
    "Networks.consensus": {"Networks.inference", *METHOD},
    "Networks.recipes": {"Networks.consensus", *METHOD},
    "scripts": {"Networks.inference", "Networks.recipes", *METHOD},
    "tools": {"scripts", "Networks.inference", "Networks.recipes", "benchmarks", *METHOD},
    "benchmarks": {"scripts", "Networks.inference", "Networks.consensus", "Networks.recipes", "tools", *METHOD},
}


# Packages that hold nothing themselves: `from Utils import crops` is an import of Utils.crops.
EMPTY = {
    "Utils",
    "Networks",
    "Utils.runtime",
    "Utils.storage",
    "Utils.drawing",
    "Networks.inference",
    "Networks.consensus",
}


def modules(root: Path) -> dict[str, Path]:
    """Name -> file of every module of the rooms, `Databases.demo.scene`, and of the scripts, `Test`."""
    files = list(root.glob("*.py"))
    for folder in {room.partition(".")[0] for room in ALLOWED}:
        files += (root / folder).rglob("*.py")
    named = {".".join(path.relative_to(root).with_suffix("").parts): path for path in files}
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


def room_of(module: str, names: dict[str, Path]) -> str | None:
    """The room of a module or package, None for a stranger's."""
    parts = module.split(".")
    prefixes = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    if parts[0] == "tests":
        return "tests"
    return next((prefix for prefix in prefixes if prefix in ALLOWED), "scripts" if parts[0] in names else None)


def imported(path: Path, module: str) -> list[str]:
    """All that a file imports, within functions too: `a.b` for `import a.b`, `a` and `a.b` for `from a import b`."""
    return _imported(path.read_text(), module if path.name == "__init__.py" else module.rpartition(".")[0])


@functools.cache
def _imported(text: str, package: str) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) + 1 - node.level]
                base = ".".join([*parents, *base.split(".")] if base else parents)
            found += (base, *(f"{base}.{alias.name}" for alias in node.names))
    return found


def forbidden(root: Path) -> list[str]:
    """`file imports module` for every import against the rooms' direction."""
    names = modules(root)
    found = []
    for module, path in names.items():
        room = room_of(module, names)
        for other in dict.fromkeys(imported(path, module)):
            if other in EMPTY:
                continue
            target = room_of(other, names)
            if target not in (None, room) and target not in ALLOWED[room]:
                found.append(f"{path.relative_to(root)} imports {other}")
    return found


def circle(root: Path) -> list[str]:
    """Modules that import each other in a circle, [] where there is none."""
    names = modules(root)
    graph = {
        name: [other for other in imported(path, name) if other in names and other != name]
        for name, path in names.items()
    }
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for other in graph[name]:
            if found := visit(other, [*way, name]):
                return found
        done.add(name)
        return []

    return next((found for name in graph if (found := visit(name, []))), [])


def test_imports_go_one_way():
    """Scripts -> Networks -> Databases -> Utils; the method imports nothing from tools, the workshop among them."""
    assert forbidden(ROOT) == []


def test_no_module_imports_itself_by_a_detour():
    assert circle(ROOT) == []


def test_the_check_sees_the_rooms():
    names = modules(ROOT)
    rooms = [room_of(name, names) for name in names]
    assert {room for room in ALLOWED if rooms.count(room) > 1} == set(ALLOWED) - {"Networks.recipes"}
    assert {"tools.superpoint.train", "Databases.demo.scene", "Databases", "Train_Firststep"} <= set(names)
    assert "Networks.superpoint" in imported(names["tools.superpoint.train"], "tools.superpoint.train")


@pytest.mark.parametrize(
    "file, line, complaint",
    [
        ("Networks/a.py", "from tools.superpoint.losses import detector_loss", "tools.superpoint.losses"),
        ("Databases/demo/a.py", "import tools.superpoint.shapes as s", "tools.superpoint.shapes"),
        ("Utils/a.py", "def f():\n    from Databases import DATABASES", "Databases"),
        ("Databases/a.py", "from Networks import fan", "Networks.fan"),
        ("Networks/a.py", "import Test", "Test"),
        ("Networks/a.py", "from Networks.consensus import labels", "Networks.consensus.labels"),
        ("Networks/a.py", "from Networks.inference.detector import LandmarkDetector", "Networks.inference.detector"),
        ("Networks/inference/a.py", "from Networks.recipes import recipe_of", "Networks.recipes"),
        ("Utils/storage/a.py", "from Utils import keypoints", "Utils.keypoints"),
        ("Utils/runtime/a.py", "from Utils.storage import files", "Utils.storage.files"),
        ("Utils/a.py", "from Utils.drawing import marks", "Utils.drawing.marks"),
        ("Test.py", "from Networks.consensus.recipe import consensus", "Networks.consensus.recipe"),
        ("Test.py", "from benchmarks.samples import Pictures", "benchmarks.samples"),
        ("tools/a.py", "from tests.tiny import tiny_options", "tests.tiny"),
    ],
)
def test_imports_against_the_direction_are_seen(tmp_path, file, line, complaint):
    (tmp_path / "Test.py").touch()
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"import numpy\nfrom Utils.runtime import errors\n{line}\n")
    assert f"{file} imports {complaint}" in forbidden(tmp_path)
    path.write_text("import numpy\n")
    assert forbidden(tmp_path) == []


def test_circles_are_seen(tmp_path):
    (tmp_path / "Utils").mkdir()
    (tmp_path / "Utils" / "a.py").write_text("from Utils import b\n")
    (tmp_path / "Utils" / "b.py").write_text("from .c import x\n")
    (tmp_path / "Utils" / "c.py").write_text("import json\n")
    assert circle(tmp_path) == []
    (tmp_path / "Utils" / "c.py").write_text("import Utils.a\n")
    assert circle(tmp_path) == ["Utils.a", "Utils.b", "Utils.c", "Utils.a"]


def test_one_file_knows_matplotlib():
    users = {
        path.relative_to(ROOT).as_posix()
        for name, path in modules(ROOT).items()
        for other in imported(path, name)
        if other.startswith("matplotlib")
    }
    assert {user for user in users if not user.startswith("tools/superpoint/")} == {"Utils/drawing/plots.py"}


# Packages that a user installs


def needed(root: str) -> set[str]:
    """The distributions that installing the packages of a file of requirements brings, without extras."""
    wanted = [
        Requirement(line)
        for line in (ROOT / root).read_text().splitlines()
        if line and not line.startswith(("#", "-r"))
    ]
    found: set[str] = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            wanted += map(Requirement, metadata.requires(name) or [])
        except metadata.PackageNotFoundError:
            continue  # one that others stand in for: faiss-cpu for faiss-gpu
        found.add(name)
    return found


def test_what_users_install_is_all_that_is_imported():
    """By the scripts and rooms."""
    installed, of_module = needed("requirements.txt"), metadata.packages_distributions()
    ours = modules(ROOT)
    rooms = ("Utils", "Databases", "Networks", "scripts")
    missing = set()
    for module, path in ours.items():
        if room_of(module, ours) not in rooms:
            continue
        for name in {other.partition(".")[0] for other in imported(path, module)}:
            distributions = {canonicalize_name(distribution) for distribution in of_module.get(name, [])}
            if distributions and not distributions & installed:
                missing.add(f"{module} imports {name}")
    assert not missing
