"""How a process ends when it is asked to: by Ctrl-C (SIGINT), or by a scheduler or torchrun (SIGTERM)."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType

SECONDS_TO_END = 5.0  # after which a process ends that is still within one long call, such as a clustering
INTERRUPTED, TERMINATED = 130, 143  # exit codes: 128 and the signal's number
SAID = {
    INTERRUPTED: "interrupted; run again with --resume to go on",
    TERMINATED: "ended from outside; run again with --resume to go on",
}
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TerminatedError(BaseException):
    """The process is asked to end; as KeyboardInterrupt, no error that code is to catch."""


class _Request:
    """Whether the process does what has to be done wholly or not at all, and what it was asked meanwhile."""

    held = False
    waiting: int | None = None


@contextlib.contextmanager
def ending_when_asked() -> Iterator[None]:
    """Within the block SIGTERM raises TerminatedError, and SIGINT KeyboardInterrupt, where the main thread is.

    A call into a library that goes on for `SECONDS_TO_END` after that is not waited for: the process ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Request.held, _Request.waiting = False, None
    before = {number: signal.signal(number, _on_signal) for number in _SIGNALS}
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    fd_before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    ended = threading.Event()
    threading.Thread(target=_watch, args=(ours, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(fd_before)
        theirs.close()  # which ends the thread
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_requests() -> None:
    """For worker processes, whose parent is asked too and ends them."""
    signal.set_wakeup_fd(-1)  # the parent's
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Requests to end wait until this block has ended."""
    before, _Request.held = _Request.held, True
    try:
        yield
    finally:
        _Request.held = before
        waiting = _Request.waiting
        if waiting is not None and not before:
            _Request.waiting = None
            _raise(waiting)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _Request.held:
        _Request.waiting = number
    else:
        _raise(number)


def _raise(number: int) -> None:
    raise KeyboardInterrupt if number == signal.SIGINT else TerminatedError


def _watch(ours: socket.socket, ended: threading.Event) -> None:
    """End the process where the main thread does not come to it after a request."""
    number = 0
    while number not in _SIGNALS:
        received = ours.recv(1)
        if not received:
            return
        number = received[0]
    if not ended.wait(SECONDS_TO_END):
        code = INTERRUPTED if number == signal.SIGINT else TERMINATED
        print(SAID[code], file=sys.stderr, flush=True)
        os._exit(code)
