"""Arguments of command lines: numbers within bounds, and paths that a file system can hold; each error one line."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from Utils.runtime.errors import UserError

MOST_WORKERS = 1024
LONGEST_PATH = 4000  # bytes


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong as all else is said: as a UserError, without its usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def whole(least: int, most: int = 10**9) -> Callable[[str], int]:
    """A type for `add_argument`: whole numbers from `least` to `most`."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]}: give a whole number from {least} to {most}")
        return number

    return convert


def real(least: float, most: float) -> Callable[[str], float]:
    """A type for `add_argument`: real numbers from `least` to `most`."""

    def convert(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]}: give a number from {least} to {most}")
        return number

    return convert


def path_of(text: str) -> Path:
    """A type for `add_argument`, and for what else is to be a path; `~` is the user's folder."""
    try:
        return checked_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def checked_path(text: str) -> Path:
    """The path that a text names. Raises ValueError, with the reason, where no file can have such a name."""
    if not text:
        raise ValueError("a path has to be given")
    if "\0" in text:
        raise ValueError("a path has no character NUL")
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{text[:100]!r} is no text in UTF-8") from None
    if length > LONGEST_PATH or any(len(part.encode()) > 255 for part in text.split("/")):
        raise ValueError(f"{text[:40]!r}... is longer than a path or a name can be")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{text[:100]!r} names the folder of a user that is none") from None
