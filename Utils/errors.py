"""What a user did wrong, said in one line."""

import errno
import functools
import os
import sys
from collections.abc import Callable
from typing import Any


class UserError(Exception):
    """A mistake that the user can mend; the message is one line: what is wrong, where, and what to do."""

    def __init__(self, message: str) -> None:
        # A DataLoader passes a worker's error on as a new one whose message is the whole traceback.
        if "Original Traceback" in message:
            message = message.strip().rpartition("UserError: ")[2]
        super().__init__(message)


_SYSTEM_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run again with --resume",
    errno.EDQUOT: "the disk quota is used up; free some space and run again with --resume",
    errno.EACCES: "permission denied; choose another log_path or change the permissions",
    errno.EPERM: "operation not permitted; choose another log_path or change the permissions",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another log_path",
    errno.EROFS: "the file system is read-only; choose another log_path",
}


def one_line(error: BaseException) -> str:
    """The message of an exception without line breaks."""
    return " ".join(str(error).split())


def explain_system_error(error: OSError) -> str | None:
    """One line for the errors of a file system that a user can mend, else None."""
    remedy = _SYSTEM_REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    return f"{error.filename}: {remedy}" if error.filename else remedy


def exit_cleanly(main: Callable[..., int | None]) -> Callable[..., None]:
    """Decorate a script's main: a user's mistake ends it with one line on stderr and exit code 2.

    An interrupt ends with code 130. Any other exception is a fault of the program and keeps its traceback.
    """

    @functools.wraps(main)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            code = main(*args, **kwargs)
        except UserError as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            code = 2
        except KeyboardInterrupt:
            print("interrupted; run again with --resume to go on", file=sys.stderr)
            code = 130
        except BrokenPipeError:
            # Whoever read our output has gone; keep the interpreter from complaining at its exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except OSError as error:
            message = explain_system_error(error)
            if message is None:
                raise
            print(f"error: {message}", file=sys.stderr)
            code = 2
        sys.exit(code or 0)

    return wrapped
