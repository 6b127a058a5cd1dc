"""Types for arguments of the command line: numbers within bounds, and paths. Each error is one line."""

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from Utils.runtime.errors import UserError

MOST_WORKERS = 1024


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UserError instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def whole(least: int, most: int = 10**9) -> Callable[[str], int]:
    """A type for `add_argument`: whole numbers from `least` to `most`."""
    return _within(int, "whole number", least, most)


def real(least: float, most: float) -> Callable[[str], float]:
    """A type for `add_argument`: real numbers from `least` to `most`."""
    return _within(float, "number", least, most)


def _within(kind: type, what: str, least: float, most: float) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            number = kind(text)
        except ValueError:
            number = float("nan")
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]}: give a {what} from {least} to {most}")
        return number

    return convert


def path_of(text: str) -> Path:
    """A path, where `~` is the user's folder and `$NAME` an environment variable.

    UserError if they are not known, or for a text that is empty, which Python takes for the present folder, or has
    zeros in it.
    """
    if os.path.lexists(text):  # names may hold a dollar
        return Path(text)
    path = os.path.expandvars(os.path.expanduser(text))
    missing = re.search(r"\$({\w+}|[A-Za-z_]\w*)|^~[^/]*", path)
    if missing:
        raise UserError(f"{text}: {missing[0]} is not known here; set it or write the folder's name")
    if not path.strip() or "\0" in path:
        raise UserError("a path is empty or has a zero in it; write a file or folder, or leave the option out")
    return Path(path)


def add_threshold(parser: argparse.ArgumentParser, default: float) -> None:
    """`--threshold`, the confidence that counts as found."""
    parser.add_argument(
        "--threshold",
        type=real(-1e9, 1e9),
        default=default,
        help="confidence that counts as found (default: %(default)s)",
    )
