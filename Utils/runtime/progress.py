"""Progress of a stage: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

from Utils.runtime import distributed
from Utils.runtime.errors import FaultReport

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """One stage's progress, counted in `unit`s.

    On a terminal a tqdm bar; else a line at the start, every half minute, and at the end. Use as a context
    manager: `with Progress("Bootstrap", total=1000, unit="picture") as progress: progress.update(16, loss=...)`.
    """

    def __init__(self, description: str, total: int, unit: str = "picture", initial: int = 0) -> None:
        self.description, self.total, self.unit = description, total, unit
        FaultReport.stage = description
        self.done = self.initial = initial
        self.values: dict[str, Any] = {}
        self.started = self.told = time.monotonic()
        self.bar = None
        self.silent = not distributed.is_main()
        if sys.stderr.isatty() and not self.silent:
            self.bar = tqdm(
                total=total,
                initial=initial,
                desc=description,
                unit=f" {unit}",
                dynamic_ncols=True,
                smoothing=0.05,
            )

    def update(self, count: int = 1, **values: Any) -> None:
        """Count `count` more units done; `values` (loss=..., lr=...) are shown beside."""
        self.done += count
        self.show(**values)
        if self.bar is not None:
            self.bar.update(count)
        elif time.monotonic() - self.told > SECONDS_BETWEEN_LINES:
            self._tell()

    def show(self, **values: Any) -> None:
        """Show values beside the count."""
        self.values.update(values)
        if values and self.bar is not None:
            self.bar.set_postfix({k: _short(v) for k, v in self.values.items()}, refresh=False)

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return (self.done - self.initial) / max(time.monotonic() - self.started, 1e-9)

    def _tell(self) -> None:
        if self.silent:
            return
        self.told = time.monotonic()
        seconds = self.told - self.started
        rate = self.rate
        parts = [f"{self.description}: {self.done}/{self.total} {self.unit}s", f"{rate:.1f}/s"]
        if rate > 0 and self.done < self.total:
            parts.append(f"{clock((self.total - self.done) / rate)} left")
        elif self.done >= self.total:
            parts.append(f"took {clock(seconds)}")
        parts += [f"{name} {_short(value)}" for name, value in self.values.items()]
        print(", ".join(parts), file=sys.stderr, flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if self.bar is not None:
            self.bar.close()
        elif kind is None:
            self._tell()


def progress(
    items: Iterable[Item], description: str, total: int | None = None, unit: str = "picture"
) -> Iterator[Item]:
    """Pass `items` through, showing how many there have been."""
    if total is None:
        total = len(items)  # type: ignore[arg-type]
    with Progress(description, total, unit) as shown:
        for item in items:
            yield item
            shown.update()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
