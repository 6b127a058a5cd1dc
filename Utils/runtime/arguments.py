"""Types for arguments of the command line: numbers within bounds, and paths. Each error is one line."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from Utils.runtime.errors import UserError

MOST_WORKERS = 1024
LONGEST_PATH = 4000  # characters


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
    """A type for `add_argument`: `checked_path`."""
    try:
        return checked_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def checked_path(text: str) -> Path:
    """The path in a text, where `~` is the user's folder. Raises ValueError if no file can have such a name."""
    try:
        if text and "\0" not in text and max(map(len, text.encode().split(b"/"))) < 256 and len(text) < LONGEST_PATH:
            return Path(text).expanduser()
    except (UnicodeEncodeError, RuntimeError):  # unpaired surrogates; an unknown user after `~`
        pass
    raise ValueError(f"{text[:40]!r} cannot be the name of a file")
