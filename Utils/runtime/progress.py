"""Progress of a stage: a bar on a terminal, elsewhere a line every half minute."""

import io
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

from Utils.runtime import distributed
from Utils.runtime.interruption import end_if_requested

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 30.0
LINE = "{desc}: {n_fmt}/{total_fmt}{unit}s, {rate_noinv_fmt}, {elapsed} gone, {remaining} left{postfix}"


class Progress(tqdm):  # type: ignore[misc]
    """One stage's progress, counted in `unit`s.

    A bar on a terminal; otherwise lines at the start, every half minute and at the end. Use as a context manager:
    `with Progress("Bootstrap", total=1000, unit="picture") as progress: progress.update(16)`.
    """

    monitor_interval = 0  # no extra thread, since worker processes are forked

    def __init__(self, description: str, total: int, unit: str = "picture", initial: int = 0) -> None:
        self.on_terminal = sys.stderr.isatty() and distributed.is_main()
        self.started = time.monotonic()
        how: dict[str, Any] = {"file": io.StringIO(), "mininterval": SECONDS_BETWEEN_LINES, "bar_format": LINE}
        if self.on_terminal:
            how = {"smoothing": 0.05, "dynamic_ncols": True}
        super().__init__(
            desc=description, total=total, unit=f" {unit}", initial=initial, miniters=1, disable=False, **how
        )

    def update(self, count: int = 1) -> None:
        """Count `count` more units. Raises EndRequested, before it draws, if the process was asked to end."""
        end_if_requested()
        super().update(count)

    def show(self, **values: Any) -> None:
        """Show values, such as loss=..., beside the count."""
        self.set_postfix(values, refresh=False)

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return (self.n - self.initial) / max(time.monotonic() - self.started, 1e-9)

    def display(self, *arguments: Any, **options: Any) -> None:
        """What tqdm calls to draw the bar."""
        if self.on_terminal:
            super().display(*arguments, **options)
        elif distributed.is_main():
            print(self, file=sys.stderr, flush=True)


def progress(
    items: Iterable[Item], description: str, total: int | None = None, unit: str = "picture"
) -> Iterator[Item]:
    """Yield `items` and show their progress."""
    if total is None:
        total = len(items)  # type: ignore[arg-type]
    with Progress(description, total, unit) as shown:
        for item in items:
            yield item
            shown.update()
