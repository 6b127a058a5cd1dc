"""The data sets by the names that --dataset_name takes. A new one is one file here and one line below."""

from importlib import import_module

from Databases.database import Database

_REGISTERED = (
    "celeba.CelebA",
    "celeba_wild.CelebAWild",
    "cub.CUB",
    "ls3d.LS3D",
    "human36.Human36",
    "demo.database.Demo",
    "custom.Custom",
)


def _load(entry: str) -> type[Database]:
    module, _, name = entry.rpartition(".")
    return getattr(import_module(f"{__name__}.{module}"), name)


DATABASES: dict[str, type[Database]] = {database.name: database for database in map(_load, _REGISTERED)}
