"""TensorBoard scalars, written and read."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from Utils.runtime import distributed

Series = tuple[np.ndarray, np.ndarray]  # steps (n,), values (n,)


class Scalars:
    """Writes scalars, in the main process alone."""

    def __init__(self, folder: Path) -> None:
        self._writer = None
        if distributed.is_main():
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self._writer = SummaryWriter(str(folder))

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        if self._writer:
            self._writer.close()


def read_scalars(folder: Path) -> dict[str, Series]:
    """The scalars of a folder by tag, sorted by step; empty without the folder. A resumed run's values win."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # slow to import

    if not folder.is_dir():
        return {}
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    scalars = {}
    for tag in events.Tags()["scalars"]:
        values = sorted({event.step: event.value for event in events.Scalars(tag)}.items())
        scalars[tag] = (np.array([step for step, _ in values]), np.array([value for _, value in values]))
    return scalars
