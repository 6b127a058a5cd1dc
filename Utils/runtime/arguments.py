"""Types for arguments of the command line: numbers within bounds, and paths. Each error is one line."""

import argparse
import os
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
    """A path, where `~` is the user's folder."""
    return Path(os.path.expanduser(text))
