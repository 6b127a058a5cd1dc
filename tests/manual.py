"""README and docs/ as data: fenced blocks with their markers, commands, inline code, links and headings.

Every block of bash or python stands below a marker, an HTML comment in the line before it:

    <!-- run -->                                    it is run, from the project's folder
    <!-- run: NAME=VALUE, ...; makes: FILE ... -->  the same, with values for its placeholders <NAME>; it makes files
    <!-- run; set: NAME=VALUE, ... -->              the same, with settings beside the tiny ones
    <!-- run before -->                             it was run before the page is followed
    <!-- not run: WHY; NAME=VALUE, ... -->          its commands are only parsed
    <!-- file: FILE -->                             it is the content of a file
    <!-- add: FILE -->                              its lines are added to a file, at the end
    <!-- add: FILE, after LINE -->                  or after a line
"""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"bash": True, "python": True, "text": False, "yaml": False, "csv": False, "bibtex": False}  # marked?
COMMANDS = ("python", "torchrun", "make", "tensorboard")

_FENCE = re.compile(r"\s*(```+|~~~+)\s*(\S*)\s*$")
_MARKER = re.compile(r"<!--\s*(run before|run|not run|file|add)\b\s*:?(.*?)-->\s*$")
_PLACEHOLDER = re.compile(r"<([\w.-]+)>")
_SHELL = set("|&;<>$()`")  # what a shell would act on
_VALUE = re.compile(r"([\w.-]+)=([^,;]*)(?:,\s*|$)")


class ManualError(Exception):
    """A page that breaks the rules above."""


@dataclass(frozen=True)
class Marker:
    """How a block is run, or why not."""

    kind: str  # run, run before, not run, file, add
    text: str = ""  # why not, or the file
    after: str = ""  # of add: the line after which
    values: dict[str, str] = field(default_factory=dict)
    makes: tuple[str, ...] = ()  # patterns of files
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str  # name of the page
    line: int  # of its first line, counted from 1
    language: str
    text: str
    marker: Marker | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Page:
    """A page taken apart."""

    path: Path
    blocks: list[Block]
    prose: list[tuple[int, str]]  # line number, line; outside blocks and markers

    @property
    def headings(self) -> list[str]:
        """Anchors of the headings, as GitHub makes them."""
        anchors: list[str] = []
        for _, line in self.prose:
            if match := re.match(r"#+\s+(.*)", line):
                words = re.sub(r"[^\w\- ]", "", match[1].strip().lower()).replace(" ", "-")
                again = sum(a == words or re.fullmatch(re.escape(words) + r"-\d+", a) is not None for a in anchors)
                anchors.append(f"{words}-{again}" if again else words)
        return anchors

    @property
    def links(self) -> list[tuple[int, str]]:
        """Line number and target of each link and picture."""
        pattern = re.compile(r"\]\(([^)\s]+)\)")
        return [(n, target) for n, line in self.prose for target in pattern.findall(re.sub(r"`[^`]*`", "", line))]

    @property
    def inline(self) -> list[tuple[int, str]]:
        """Line number and text of each piece of inline code."""
        return [(n, code) for n, line in self.prose for code in re.findall(r"`([^`]+)`", line)]


def read_marker(kind: str, text: str) -> Marker:
    """What stands in a marker after its kind. Raises ManualError."""
    parts = [part.strip() for part in text.lstrip(":").split(";")]
    if kind in ("file", "add"):
        file, _, after = (part.strip() for part in text.partition(", after"))
        return Marker(kind, file, after)
    makes: tuple[str, ...] = ()
    if parts[-1].startswith("makes:"):
        makes = tuple(parts.pop().removeprefix("makes:").split())
    reason = parts.pop(0) if kind == "not run" and parts else ""
    if kind == "not run" and (not reason or "=" in reason):
        raise ManualError("a block that is not run says why")
    values, settings = {}, {}
    for part in filter(None, parts):
        pairs = part.removeprefix("set:").strip()
        if _VALUE.sub("", pairs).strip():
            raise ManualError(f"{part!r} is no list of NAME=VALUE")
        (values if pairs == part else settings).update(_VALUE.findall(pairs))
    return Marker(kind, reason, "", values, makes, settings)


def read_page(path: Path) -> Page:
    """Take a page apart. Raises ManualError where a block has no marker or language, or a marker no block."""
    blocks, prose = [], []
    marker, opening, content = None, None, []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path.name}:{number}"
        fence = _FENCE.match(line)
        if opening is not None:
            if fence and fence[1] == opening[0] and not fence[2]:
                block = Block(path.name, opening[2] + 1, opening[1], "\n".join(content) + "\n", marker)
                blocks.append(block)
                marker, opening, content = None, None, []
            else:
                content.append(line)
        elif fence:
            if fence[2] not in LANGUAGES:
                raise ManualError(f"{where}: give the block one of the languages {', '.join(LANGUAGES)}")
            if LANGUAGES[fence[2]] and marker is None:
                raise ManualError(f"{where}: a block of {fence[2]} without a marker; say how it is run, or why not")
            opening = (fence[1], fence[2], number)
        else:
            if marker is not None:
                raise ManualError(f"{where}: the marker above has no block below it")
            if found := _MARKER.match(line):
                try:
                    marker = read_marker(found[1], found[2].strip())
                except ManualError as error:
                    raise ManualError(f"{where}: {error}") from error
                continue
            if re.match(rf"\s*({'|'.join(COMMANDS)})\s+\S+\s*-", line):
                raise ManualError(f"{where}: a command outside a block")
            prose.append((number, line))
    if opening is not None or marker is not None:
        raise ManualError(f"{path.name}: the last block is open")
    return Page(path, blocks, prose)


def commands(text: str, values: dict[str, str], default: bool = False) -> list[list[str]]:
    """The commands of a bash block as lists of words, placeholders replaced.

    values: of the placeholders; with `default`, one that has none stands for itself. Raises ManualError where
    a placeholder has no value, and for anything that needs a shell.
    """

    def value(match: re.Match) -> str:
        if match[1] in values:
            return shlex.quote(values[match[1]])
        if default:
            return {"dataset_name": "CelebA"}.get(match[1], match[1])
        raise ManualError(f"no value for <{match[1]}>; give one in the marker")

    result = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(_PLACEHOLDER.sub(value, line), comments=True)
        if any(_SHELL & set(word) for word in words):
            raise ManualError(f"{line.strip()!r} needs a shell; write one plain command per line")
        if words:
            result.append(words)
    return result
