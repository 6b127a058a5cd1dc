"""Packages that only some commands need."""

import importlib
from typing import Any

from Utils.runtime.errors import UserError


def require(module: str, install: str = "") -> Any:
    """Import a module of an optional package; install: what pip calls it, if not by the module's name.

    Raises a UserError that says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(f"the package {module} is missing; pip install {install or module}") from None
