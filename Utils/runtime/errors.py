"""How a script ends: what a user did wrong, said in one line, and the last net for faults of the program."""

import datetime
import errno
import functools
import os
import reprlib
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from Utils.runtime.interruption import INTERRUPTED, SAID, TERMINATED, TerminatedError, ending_when_asked

USER_ERROR, FAULT = 2, 70  # exit codes
SECONDS_FOR_OTHERS = 10.0  # in which torchrun ends a process where another one has failed before it


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
    errno.ENOTDIR: "a file stands where a folder is needed; move it away or choose another log_path",
    errno.EEXIST: "a file stands where a folder is needed; move it away or choose another log_path",
    errno.EISDIR: "a folder stands where a file is needed; move it away",
    errno.ENOTEMPTY: "a folder stands where a file is needed; move it away",
    errno.EROFS: "the file system is read-only; choose another log_path",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ELOOP: "the links lead in a circle; mend them",
    errno.EMFILE: "too many files are open; raise `ulimit -n` or use a smaller --num_workers",
    errno.ENOMEM: "there is not enough memory; use a smaller --num_workers or batch_size",
}


def one_line(error: BaseException | str) -> str:
    """The message of an exception without line breaks, as any terminal can print it."""
    return " ".join(str(error).split()).encode(errors="backslashreplace").decode()


def shown(value: Any) -> str:
    """A value as a message shows it: in a few characters, whatever it is."""
    if isinstance(value, int) and value.bit_length() > 100:
        return f"a number of {value.bit_length()} bits"
    return reprlib.repr(value)[:80]


def explain_system_error(error: OSError) -> str | None:
    """One line for the errors of a file system that a user can mend, else None."""
    remedy = _SYSTEM_REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    name = error.filename2 or error.filename  # of a rename, what was to be written
    return f"{os.fsdecode(name)}: {remedy}" if isinstance(name, (str, bytes)) else remedy


def explain(error: Exception) -> str | None:
    """One line for what a user can mend, None for a fault of the program."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return explain_system_error(error)
    text = str(error)
    if isinstance(error, RuntimeError) and "DataLoader worker (pid" in text:
        return "a worker process was killed, perhaps for want of memory; use a smaller --num_workers"
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "CUDA out of memory" in text:
        return f"there is not enough memory ({text[:100]}); use a smaller batch_size, image_size or width"
    return None


class FaultReport:
    """Where the traceback of a fault goes, and what the program was at."""

    folder = Path(tempfile.gettempdir())
    stage = ""

    @classmethod
    def write(cls, error: Exception) -> str:
        """The line for the user; the traceback goes to error.txt, or to stderr where it cannot be written."""
        text = "".join(traceback.format_exception(error))
        now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
        where = "above"
        for folder in (cls.folder, Path(tempfile.gettempdir())):
            path = folder / "error.txt"
            try:
                path.write_text(f"{now} {sys.argv}\n{text}", encoding="utf-8", errors="backslashreplace")
                where = f"in {path}"
                break
            except OSError:
                continue
        if where == "above":
            print(text, file=sys.stderr)
        stage = f"{Path(sys.argv[0]).name}{cls.stage and ', '}{cls.stage}"
        return f"{stage}: this is a fault of the program ({type(error).__name__}); its traceback is {where}"


def exit_cleanly(main: Callable[..., int | None]) -> Callable[..., None]:
    """Decorate a script's main, so that it ends with one line on stderr and an exit code.

    2 for a user's mistake, 130 for an interrupt (Ctrl-C), 143 for a request to end (SIGTERM), 70 for a fault of the
    program, whose traceback goes to a file.
    """

    @functools.wraps(main)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        FaultReport.folder, FaultReport.stage = Path(tempfile.gettempdir()), ""
        with ending_when_asked():
            code = _run(functools.partial(main, *args, **kwargs))
        sys.exit(code)

    return wrapped


def _run(main: Callable[[], int | None]) -> int:
    """Run a script's main and say how it ended; the exit code."""
    try:
        try:
            return main() or 0
        except BrokenPipeError:
            # Whoever read our output has gone; keep the interpreter from complaining at its exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except Exception as error:
            return _end_with(error)
    except KeyboardInterrupt:
        return _end(INTERRUPTED, SAID[INTERRUPTED])
    except TerminatedError:
        return _end(TERMINATED, SAID[TERMINATED])


def _end_with(error: Exception) -> int:
    """Say what went wrong, unless another process of the same training has failed before and says it."""
    told = explain(error)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and (told is None or os.environ.get("RANK", "0") != "0"):
        time.sleep(SECONDS_FOR_OTHERS)
    return _end(USER_ERROR, f"error: {told}") if told else _end(FAULT, f"error: {FaultReport.write(error)}")


def _end(code: int, line: str) -> int:
    others = code in SAID and os.environ.get("RANK", "0") != "0"  # the main process says it
    if not others:
        print(one_line(line), file=sys.stderr, flush=True)
    return code
