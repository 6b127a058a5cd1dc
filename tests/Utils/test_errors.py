"""How a script ends: exit codes and the one line that a user reads."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from Utils.errors import UserError, exit_cleanly, explain_system_error

ROOT = Path(__file__).parents[2]


def end_of(outcome) -> int:
    """Exit code of a main that gives, or raises, this."""

    @exit_cleanly
    def main() -> int | None:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [
        (None, 0, ""),
        (3, 3, ""),
        (UserError("one\n  and two"), 2, "error: one and two\n"),
        (KeyboardInterrupt(), 130, "interrupted; run again with --resume to go on\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/logs/a.pth"),
            2,
            "error: /logs/a.pth: the disk is full; free some space and run again with --resume\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/logs"),
            2,
            "error: /logs: permission denied; choose another log_path or change the permissions\n",
        ),
    ],
)
def test_a_script_s_end(outcome, code, said, capsys):
    assert end_of(outcome) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("fault", [ValueError("a fault"), OSError(errno.EIO, "Input/output error", "/logs")])
def test_faults_of_the_program_keep_their_traceback(fault):
    with pytest.raises(type(fault)) as raised:
        exit_cleanly(lambda: (_ for _ in ()).throw(fault))()
    assert raised.value is fault


def test_arguments_reach_the_main():
    with pytest.raises(SystemExit) as end:
        exit_cleanly(lambda a, b=0: 10 * a + b)(4, b=2)
    assert end.value.code == 42


def test_a_reader_that_has_gone_ends_a_script_quietly():
    script = "from Utils.errors import exit_cleanly\nexit_cleanly(lambda: [print(i) for i in range(10**6)] and 0)()"
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1


def test_system_errors_without_a_file_or_remedy():
    assert (
        explain_system_error(OSError(errno.EROFS, "Read-only"))
        == "the file system is read-only; choose another log_path"
    )
    assert explain_system_error(OSError(errno.EIO, "Input/output error")) is None
    assert explain_system_error(OSError("no number")) is None


def test_a_worker_s_error_is_only_its_message():
    passed_on = (
        "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  ...\n"
    )
    assert (
        str(UserError(passed_on + "Utils.errors.UserError: picture a.jpg is damaged\n")) == "picture a.jpg is damaged"
    )
