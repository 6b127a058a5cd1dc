"""Ctrl-C, a scheduler's SIGTERM or a broken ssh connection sets a flag that `Progress.update` reads."""

import contextlib
import signal
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_requested = 0  # number of the signal that came, 0 before


class EndRequested(BaseException):
    """The process is asked to end with exit code `code`. Like KeyboardInterrupt, not an Exception."""

    def __init__(self, number: int) -> None:
        super().__init__("interrupted; run again, a training with --resume")
        self.code = 128 + number


@contextlib.contextmanager
def noting_requests() -> Iterator[None]:
    """Within the block a first signal sets the flag; a second one of its kind ends the process at once."""
    global _requested
    before = {number: signal.signal(number, _note) for number in SIGNALS}
    if before[signal.SIGHUP] == signal.SIG_IGN:  # by nohup
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        _requested = 0
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(number: int, _: object) -> None:
    global _requested
    _requested = number
    signal.signal(number, signal.SIG_DFL)


def end_if_requested() -> None:
    """Raise EndRequested if the process was asked to end."""
    if _requested:
        raise EndRequested(_requested)
