"""README and docs/: what they say to run is run, what they name exists. About a minute.

Each page is followed from top to bottom in a copy of the project in which `make demo` was run and pictures lie
about; commands run as they stand, at tiny settings (tests/sandbox.py). What cannot be run is parsed by its own
script. tests/manual.py says how blocks are marked.
"""

import contextlib
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from Databases import DATABASES
from Databases.demo.archive import unpack
from Networks.recipes import RECIPES
from tests import manual
from tests.manual import PAGES, ROOT, Block, ManualError, Page, commands, read_page
from tests.recordings import write_recording
from tests.sandbox import Outcome, Tree
from Utils.hyperparameters import Hyperparameters, hyperparameters
from Utils.runtime.errors import UserError
from Utils.storage.pictures import write_jpeg

README = ROOT / "README.md"
README_BYTES = 10_000
EVERY_PAGE = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
# Options of programs that are not ours.
FOREIGN = {"--nnodes", "--rdzv_backend", "--rdzv_endpoint", "--nproc_per_node", "--logdir"}


@pytest.fixture(scope="session")
def furnished(make_demo, tmp_path_factory) -> Tree:
    """The project after `make demo`, and what a user may have: pictures, tables, videos."""
    tree = make_demo.copy(tmp_path_factory.mktemp("furnished") / "project")
    demo = tree.folder / "Logs/DemoData"
    shutil.copy(demo / "test/000000.jpg", tree.folder / "picture.jpg")
    birds = []
    for split, count in (("train", 16), ("test", 6)):
        images = unpack(demo, split, count)
        for i in range(count):
            name = images.file(i)
            for folder in ("pictures", "birds"):
                (tree.folder / folder / split).mkdir(parents=True, exist_ok=True)
                shutil.copy(demo / name, tree.folder / folder / name)
            birds.append([name, split, *images.boxes[i], *images.landmarks[i, [0, 8]].ravel()])
    columns = ["file", "split", "x1", "y1", "x2", "y2", "beak_x", "beak_y", "tail_x", "tail_y"]
    pd.DataFrame(birds, columns=columns).to_csv(tree.folder / "birds/birds.csv", index=False)

    face = cv2.resize(pytest.importorskip("skimage.data").astronaut()[0:218, 135:313], (178, 218))
    (tree.folder / "faces").mkdir()
    for i in range(3):
        write_jpeg(np.roll(face, 2 * i, axis=1), tree.folder / "faces" / f"{i}.jpg")
    subjects = tree.folder / "Human3.6M/training/subjects"
    write_recording(subjects / "S1", "Posing 1.222", 1)
    write_recording(subjects / "S11", "Walking 1.111", 3)
    return tree


@pytest.fixture
def tree(furnished, tmp_path) -> Tree:
    """A copy to follow one page in."""
    return furnished.copy(tmp_path / "project")


# Blocks


@EVERY_PAGE
def test_a_page_followed_from_top_to_bottom_works(path, tree):
    problems = []
    for block in read_page(path).blocks:
        if block.marker:
            try:
                carry_out(block, tree)
            except (ManualError, ValueError) as error:
                problems.append(f"{block}: {error}")
    assert not problems, "\n\n".join(problems)


def carry_out(block: Block, tree: Tree) -> None:
    """Do with a block what its marker says. Raises ManualError where that does not work."""
    marker = block.marker
    if marker.kind == "file":
        (tree.folder / marker.text).write_text(block.text)
    elif marker.kind == "add":
        add(block.text, tree.folder / marker.text, marker.after)
    elif marker.kind == "run":
        begun = time.time_ns()
        for outcome in run(block, tree):
            if outcome.code:
                raise ManualError(str(outcome))
        for pattern in marker.makes:
            made = [file for file in tree.folder.glob(pattern) if file.stat().st_mtime_ns >= begun]
            if not made or not all(file.stat().st_size for file in made):
                raise ManualError(f"{pattern} was not made")


def run(block: Block, tree: Tree) -> list[Outcome]:
    """Run a block of bash or python."""
    if block.language == "python":
        (tree.folder / "example.py").write_text(block.text)
        return [tree.launcher.run(tree.folder, ["example.py"])]
    values = {name: expanded(value, tree.folder) for name, value in block.marker.values.items()}
    outcomes = []
    for words in commands(block.text, values):
        outcomes += tree.run(words, block.marker.settings)
        if outcomes[-1].code:
            break
    return outcomes


def expanded(value: str, folder: Path) -> str:
    """A value of a placeholder; where it is a pattern, the file that it stands for."""
    return str(next(folder.glob(value)).relative_to(folder)) if "*" in value else value


def add(lines: str, file: Path, after: str) -> None:
    """Add lines to a file, at its end or after a line."""
    content = file.read_text()
    if not after:
        file.write_text(content + lines)
        return
    place = re.search(rf"^\s*{re.escape(after)}\s*\n", content, re.MULTILINE)
    if not place:
        raise ManualError(f"{file.name} has no line {after}")
    file.write_text(content[: place.end()] + lines + content[place.end() :])


@EVERY_PAGE
def test_commands_that_are_not_run_are_understood(path, make_demo):
    page = read_page(path)
    found = [(code, {}) for _, code in page.inline if is_command(code)]
    found += [(b.text, b.marker.values) for b in page.blocks if b.marker and b.marker.kind == "not run"]
    outcome = make_demo.parse([words for text, values in found for words in commands(text, values, default=True)])
    assert outcome.code == 0, outcome


def is_command(code: str) -> bool:
    return code.split()[0] in manual.COMMANDS and len(code.split()) > 1


@EVERY_PAGE
def test_settings_exist(path):
    kinds = [*RECIPES.values(), *(database.settings for database in DATABASES.values())]
    names = {name for kind in kinds for name in kind.model_fields}
    for number, code in read_page(path).inline:
        for setting in re.findall(r"--set (\w+(?:=[\w.,]+)?)", code):
            if not setting.startswith("NAME"):
                assert setting.partition("=")[0] in names, f"{path.name}:{number}: {code}"
                assert "=" not in setting or is_taken(setting), f"{path.name}:{number}: {code}"


def is_taken(setting: str) -> bool:
    """Whether some recipe with some data set knows the name and takes the value."""
    for recipe in RECIPES:
        for database in DATABASES.values():
            with contextlib.suppress(UserError):
                hyperparameters([f"recipe={recipe}", setting], RECIPES, database)
                return True
    return False


@EVERY_PAGE
def test_flags_exist(path):
    sources = [file for pattern in ("*.py", "tools/**/*.py", "Utils/options.py") for file in ROOT.glob(pattern)]
    known = {flag for file in sources for flag in re.findall(r'"(--\w+)"', file.read_text())} | FOREIGN
    for number, code in read_page(path).inline:
        for flag in re.findall(r"(?<!\S)--\w+", code):
            assert flag in known, f"{path.name}:{number}: {code}"


@EVERY_PAGE
def test_files_of_the_project_exist(path):
    rooms = "Utils|Networks|Databases|tools|benchmarks|paths|images|docs|tests"
    ours = re.compile(rf"({rooms})/[\w/.]*\w|\w+\.py|requirements[\w-]*\.txt")
    of_examples = {block.marker.text for p in PAGES for block in read_page(p).blocks if block.marker}
    for number, code in read_page(path).inline:
        if ours.fullmatch(code) and code not in of_examples:
            assert (ROOT / code).exists(), f"{path.name}:{number}: {code}"


# Links


@EVERY_PAGE
def test_links_lead_somewhere(path):
    page = read_page(path)
    problems = [f"{path.name}:{n}: {target}" for n, target in page.links if not leads_somewhere(target, page)]
    assert not problems, problems


def leads_somewhere(target: str, page: Page) -> bool:
    """Whether a file and its heading exist; addresses on the net only have to look like one."""
    if re.match(r"[a-z]+:", target):
        return re.fullmatch(r"https?://[\w.-]+\.[a-z]+(/\S*)?", target) is not None
    file, _, anchor = target.partition("#")
    there = (page.path.parent / file).resolve() if file else page.path
    if not there.exists():
        return False
    return not anchor or anchor in read_page(there).headings


def test_readme_leads_to_every_page():
    targets = {target.partition("#")[0] for _, target in read_page(README).links}
    assert {f"docs/{path.name}" for path in PAGES if path != README} <= targets


def test_readme_is_short():
    assert README.stat().st_size <= README_BYTES


# Tables


def rows_of_table(path: Path, first_cell: str) -> list[list[str]]:
    """The rows of the table whose heading begins with `first_cell`, one cell or several."""
    lines = [line for _, line in read_page(path).prose]
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_cell} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("| ").split("|")])
    return rows


def assert_rows_are_fields(rows: list[list[str]], kind: type[BaseModel], names: Iterable[str]) -> None:
    """Rows of name, default and meaning are the fields' names, defaults and descriptions; a link may follow these."""
    assert [row[0] for row in rows] == [f"`{name}`" for name in names]
    for name, (_, default, meaning) in zip(names, rows):
        written = kind.model_validate({name: default.replace("(empty)", "")})
        assert getattr(written, name) == getattr(kind(), name), name
        assert re.sub(r" \(\[[^]]+\]\([^)]+\)\)$", "", meaning) == kind.model_fields[name].description, name


def test_the_table_of_hyperparameters_is_the_codes():
    rows = rows_of_table(ROOT / "docs/training.md", "name")
    assert_rows_are_fields(rows, Hyperparameters, Hyperparameters.model_fields)


def test_the_table_of_consensus_is_the_codes():
    rows = rows_of_table(ROOT / "docs/training.md", "hyperparameter")
    assert_rows_are_fields(rows, RECIPES["consensus"], RECIPES["consensus"].__annotations__)


def test_the_tables_of_the_data_sets_are_the_codes():
    rows = rows_of_table(ROOT / "docs/training.md", "data set | name")
    for name, database in DATABASES.items():
        own = [row[1:] for row in rows if row[0] == name]
        assert_rows_are_fields(own, database.settings, database.settings.model_fields)
    written = dict(rows_of_table(ROOT / "docs/training.md", "data set | its defaults"))
    changed = {name: database.defaults for name, database in DATABASES.items() if database.defaults}
    assert {name: dict(re.findall(r"`(\w+)=(\w+)`", text)) for name, text in written.items()} == {
        name: {key: str(value) for key, value in defaults.items()} for name, defaults in changed.items()
    }


def test_the_files_of_an_experiment_are_there(make_demo):
    rows = rows_of_table(ROOT / "docs/files.md", "file")
    patterns = [code for row in rows for code in re.findall(r"`(.*?)`", row[0])]
    assert len(patterns) > 10
    for pattern in patterns:
        concrete = re.sub(r"<\w+>", "*", pattern.replace("<experiment_name>", "demo"))
        assert list((make_demo.folder / "Logs/demo").glob(concrete)), pattern


# The rules themselves


def page_of(text: str, tmp_path: Path) -> Page:
    path = tmp_path / "page.md"
    path.write_text(text)
    return read_page(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n```bash\nmake demo\n```\n", "page.md:2: a block of bash without a marker"),
        ("<!-- run -->\n\n```bash\nmake demo\n```\n", "page.md:2: the marker above has no block"),
        ("```\nmake demo\n```\n", "page.md:1: give the block one of the languages"),
        ("<!-- not run -->\n```bash\nmake demo\n```\n", "page.md:1: a block that is not run says why"),
        ("<!-- run -->\n```bash\nmake demo\n", "page.md: the last block is open"),
        ("Call\n    python Test.py --dataset_name Demo\n", "page.md:2: a command outside a block"),
    ],
)
def test_no_block_escapes(text, message, tmp_path):
    with pytest.raises(ManualError, match=re.escape(message)):
        page_of(text, tmp_path)


def test_markers_are_read(tmp_path):
    text = "<!-- run: a=x y, b-c=2; set: width=32; makes: d e/* -->\n"
    text += "```bash\npython f.py <a> \\\n  --g <b-c>  # h\n```\n"
    (block,) = page_of(text, tmp_path).blocks
    values, settings = {"a": "x y", "b-c": "2"}, {"width": "32"}
    assert block.marker == manual.Marker("run", values=values, makes=("d", "e/*"), settings=settings)
    assert commands(block.text, block.marker.values) == [["python", "f.py", "x y", "--g", "2"]]
    with pytest.raises(ManualError, match="no value for <a>"):
        commands(block.text, {})
    with pytest.raises(ManualError, match="needs a shell"):
        commands("python f.py | head", {})


@pytest.mark.parametrize(
    "command",
    [
        "python Test.py --dataset_name Demo --experiment_name e --no_such_flag",
        "python Test.py --dataset_name Demo --experiment_name e --set no_such_setting=1",
        "torchrun --nproc_per_node=2 Train_Firststep.py --experiment_name e",
    ],
)
def test_wrong_commands_are_not_understood(command, make_demo):
    assert make_demo.parse([command.split()]).code != 0


def test_a_block_that_fails_is_told(make_demo, tmp_path):
    text = "<!-- run -->\n```python\nraise ValueError('no such thing')\n```\n"
    text += "<!-- run; makes: nothing.txt -->\n```python\nprint(1)\n```\n"
    tree = Tree(tmp_path, make_demo.launcher)
    failing, idle = page_of(text, tmp_path).blocks
    with pytest.raises(ManualError, match="no such thing"):
        carry_out(failing, tree)
    with pytest.raises(ManualError, match=r"nothing\.txt was not made"):
        carry_out(idle, tree)
