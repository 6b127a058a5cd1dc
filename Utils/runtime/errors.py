"""How a script ends: one line for a user's mistake, or for a fault of the program."""

import errno
import functools
import multiprocessing
import os
import reprlib
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from Utils.runtime.interruption import EndRequested, end_if_requested, noting_requests

_REMEDIES = {
    "free some space and run again, a training with --resume": (errno.ENOSPC, errno.EDQUOT),
    "use a smaller --num_workers or batch_size": (errno.EMFILE, errno.ENOMEM),
    "change the permissions or write to another folder": (errno.EACCES, errno.EPERM, errno.EROFS),
    "move it away or write to another folder": (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY),
    "choose another path": (errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP),
}
report_folder: Path | None = None  # for the traceback of a fault; the experiment sets it


class UserError(Exception):
    """A mistake that the user can fix; the message is one line: what is wrong, where, and what to do."""

    def __init__(self, message: str) -> None:
        # A DataLoader replaces a worker's message by the whole traceback.
        if "Original Traceback" in message:
            message = message.strip().rpartition("UserError: ")[2]
        super().__init__(message)


def one_line(error: BaseException | str) -> str:
    """The message of an exception without line breaks, printable on any terminal."""
    return " ".join(str(error).split()).encode(errors="backslashreplace").decode()


def shown(value: object) -> str:
    """A value of any kind in at most 80 characters, for a message."""
    if isinstance(value, int) and value.bit_length() > 100:
        return f"a number of {value.bit_length()} bits"
    return reprlib.repr(value)[:80]


def explain(error: Exception) -> str | None:
    """One line for a mistake that the user can fix, None for a fault of the program."""
    text = str(error)
    if isinstance(error, UserError):
        return text
    if isinstance(error, OSError):
        name = error.filename2 or error.filename  # the target of a rename
        where = f"{os.fsdecode(name)}: " if isinstance(name, (str, bytes)) else ""
        remedies = [remedy for remedy, numbers in _REMEDIES.items() if error.errno in numbers]
        return f"{where}{error.strerror}; {remedies[0]}" if remedies else None
    if isinstance(error, RuntimeError) and "DataLoader worker (pid" in text:
        return "a worker process was killed, perhaps because memory ran out; use a smaller --num_workers"
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "CUDA out of memory" in text:
        return f"there is not enough memory ({text[:100]}); use a smaller batch_size, image_size or width"
    return None


def _report(error: Exception) -> str:
    """Write the traceback to error.txt in the experiment's Logs or the temporary folder; return the user's line."""
    text = f"{sys.argv}\n{''.join(traceback.format_exception(error))}"
    try:
        file = Path(report_folder if report_folder and report_folder.is_dir() else tempfile.gettempdir(), "error.txt")
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
        where = f"in {file}"
    except OSError:
        print(text, file=sys.stderr)
        where = "above"
    return f"this is a fault of the program ({type(error).__name__}); its traceback is {where}"


def exit_cleanly(main: Callable[..., int | None]) -> Callable[..., None]:
    """Decorate a script's main, so that it ends with one line on stderr and an exit code.

    2: a user's mistake, 129: SIGHUP, 130: Ctrl-C, 143: SIGTERM, 70: a fault. With torchrun one process prints it.
    """

    @functools.wraps(main)
    def wrapped(*args: object, **kwargs: object) -> None:
        run, silent, code, line = main, False, 0, ""
        if "TORCHELASTIC_RUN_ID" in os.environ:
            from torch.distributed.elastic.multiprocessing.errors import record  # slow to import

            run, silent = record(main), os.environ["RANK"] != "0"
        try:
            with noting_requests():
                try:
                    code = run(*args, **kwargs) or 0
                except BrokenPipeError:  # the reader of our output has gone; Python would complain at exit
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                    code = 1
                except Exception as error:
                    end_if_requested()  # the error may be a consequence of the request
                    told = explain(error)
                    code, line = (2, f"error: {told}") if told else (70, f"error: {_report(error)}")
        except EndRequested as request:
            code, line = request.code, str(request)
        if line and not silent:
            print(one_line(line), file=sys.stderr, flush=True)
        for worker in multiprocessing.active_children():  # Python would wait for them, and they ignore SIGTERM
            worker.kill()
        sys.exit(code)

    return wrapped
