"""How a script ends: exit codes and the one line that a user reads."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from Utils.runtime import errors
from Utils.runtime.errors import UserError, exit_cleanly, explain
from Utils.runtime.interruption import end_if_requested, noting_requests
from Utils.runtime.progress import Progress

ROOT = Path(__file__).parents[3]
INTERRUPTED = "interrupted; run again, a training with --resume\n"


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
        (
            OSError(errno.ENOSPC, "No space left on device", "/logs/a.pth"),
            2,
            "error: /logs/a.pth: No space left on device; free some space and run again, a training with --resume\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/logs"),
            2,
            "error: /logs: Permission denied; change the permissions or write to another folder\n",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "/proc/a"),
            2,
            "error: /proc/a: No such file or directory; choose another path\n",
        ),
    ],
)
def test_a_script_s_end(outcome, code, said, capsys):
    assert end_of(outcome) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("fault", [ValueError("a fault"), OSError(errno.EIO, "Input/output error", "/logs")])
def test_faults_of_the_program_are_one_line_and_a_file(fault, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(errors, "report_folder", tmp_path)
    assert end_of(fault) == 70
    said = f"this is a fault of the program ({type(fault).__name__}); its traceback is in {tmp_path}/error.txt"
    assert capsys.readouterr().err == f"error: {said}\n"
    text = (tmp_path / "error.txt").read_text()
    assert "Traceback" in text
    assert "raise outcome" in text


def test_without_an_experiment_s_folder_the_traceback_goes_to_the_temporary_one(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(errors, "report_folder", tmp_path / "Logs")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert end_of(ValueError("a fault")) == 70
    assert f"its traceback is in {tmp_path}/error.txt" in capsys.readouterr().err


def test_a_fault_where_nothing_can_be_written(capsys, monkeypatch):
    def no_folder() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(errors, "report_folder", None)
    monkeypatch.setattr("tempfile.gettempdir", no_folder)
    assert end_of(ValueError("a fault")) == 70
    said = capsys.readouterr().err
    assert "its traceback is above" in said
    assert "ValueError: a fault" in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_request_to_end_is_read_by_the_bar(number, code, capsys):
    """Once the unit that it came in is done; and what fails meanwhile fails for that."""
    before = signal.getsignal(number)
    done: list[str] = []

    @exit_cleanly
    def main(fails: bool) -> None:
        with Progress("Stage", 3) as progress:
            os.kill(os.getpid(), number)
            done.append("whole")
            if fails:
                raise RuntimeError("connection closed by peer")
            progress.update()
            done.append("more")

    for fails in (False, True):
        with pytest.raises(SystemExit) as end:
            main(fails)
        assert end.value.code == code
        assert capsys.readouterr().err.splitlines(keepends=True)[-1] == INTERRUPTED
        assert signal.getsignal(number) is before
    assert done == ["whole", "whole"]


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with noting_requests():
            os.kill(os.getpid(), signal.SIGHUP)
            end_if_requested()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_request_ends_at_once(launcher):
    script = (
        "import os, signal\n"
        "from Utils.runtime.errors import exit_cleanly\n"
        "exit_cleanly(lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])()\n"
    )
    outcome = launcher.run(ROOT, ["-c", script])
    assert (outcome.code, outcome.errors) == (-signal.SIGINT, "")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "a worker process was killed"),
        (MemoryError(), "there is not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "there is not enough memory"),
    ],
)
def test_want_of_memory_is_said(error, said, capsys):
    assert end_of(error) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


@pytest.mark.parametrize(("rank", "said"), [("0", "error: wrong\n"), ("1", "")])
def test_of_torchrun_s_processes_the_first_speaks_and_each_leaves_a_record(rank, said, capsys, monkeypatch, tmp_path):
    """torchrun shows the record of the one that failed first."""
    record = tmp_path / "error.json"
    for name, value in (("TORCHELASTIC_RUN_ID", "1"), ("TORCHELASTIC_ERROR_FILE", str(record)), ("RANK", rank)):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("faulthandler.enable", lambda **_: None)  # pytest has its own
    assert end_of(UserError("wrong")) == 2
    assert capsys.readouterr().err == said
    assert "UserError: wrong" in record.read_text()


def test_arguments_reach_the_main():
    with pytest.raises(SystemExit) as end:
        exit_cleanly(lambda a, b=0: 10 * a + b)(4, b=2)
    assert end.value.code == 42


def test_a_reader_that_has_gone_ends_a_script_quietly():
    script = "from Utils.runtime.errors import exit_cleanly\n"
    script += "exit_cleanly(lambda: [print(i) for i in range(10**6)] and 0)()"
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1


def test_system_errors_without_a_file_or_remedy():
    assert (
        explain(OSError(errno.EROFS, "Read-only file system"))
        == "Read-only file system; change the permissions or write to another folder"
    )
    assert explain(OSError(errno.EIO, "Input/output error")) is None
    assert explain(OSError("no number")) is None


def test_a_worker_s_error_is_only_its_message():
    passed_on = (
        "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  ...\n"
    )
    assert (
        str(UserError(passed_on + "Utils.runtime.errors.UserError: picture a.jpg is damaged\n"))
        == "picture a.jpg is damaged"
    )
