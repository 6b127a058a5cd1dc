"""How a script ends: exit codes and the one line that a user reads."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from Utils.runtime.errors import FaultReport, UserError, exit_cleanly, explain_system_error
from Utils.runtime.interruption import SAID, TerminatedError, undisturbed
from Utils.runtime.progress import Progress

ROOT = Path(__file__).parents[3]


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
def test_faults_of_the_program_are_one_line_and_a_file(fault, capsys, tmp_path):
    @exit_cleanly
    def main() -> None:
        FaultReport.folder = tmp_path
        with Progress("Merging", 3):
            raise fault

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 70
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f", Merging: this is a fault of the program ({type(fault).__name__})" in line
    assert line.endswith(f"its traceback is in {tmp_path}/error.txt")
    text = (tmp_path / "error.txt").read_text()
    assert "Traceback" in text
    assert "raise fault" in text


def test_a_fault_where_nothing_can_be_written(capsys, monkeypatch, tmp_path):
    (tmp_path / "error.txt").mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert end_of(ValueError("a fault")) == 70
    said = capsys.readouterr().err
    assert "its traceback is above" in said
    assert "ValueError: a fault" in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_request_to_end_is_one_line(number, code, capsys):
    before = signal.getsignal(number)

    @exit_cleanly
    def main() -> None:
        with undisturbed():
            os.kill(os.getpid(), number)
            done.append("whole")
        done.append("more")

    done: list[str] = []
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == code
    assert done == ["whole"]
    assert capsys.readouterr().err == f"{SAID[code]}\n"
    assert signal.getsignal(number) is before


def test_a_long_call_is_not_waited_for(launcher):
    """A library's call that does not come back, as a clustering of minutes."""
    script = (
        "import os, signal, time\n"
        "from Utils import errors, interruption\n"
        "interruption.SECONDS_TO_END = 0.2\n"
        "def main():\n"
        "    with interruption.undisturbed():\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(60)\n"
        "errors.exit_cleanly(main)()\n"
    )
    begun = time.monotonic()
    outcome = launcher.run(ROOT, ["-c", script])
    assert (outcome.code, outcome.errors) == (143, f"{SAID[143]}\n")
    assert time.monotonic() - begun < 50


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


@pytest.mark.parametrize(("rank", "said"), [("0", "error: wrong\n"), ("1", "error: wrong\n")])
def test_of_several_processes_the_first_one_goes_first(rank, said, capsys, monkeypatch):
    """The others wait, so that torchrun ends them where all have the same to say."""
    waited = []
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("time.sleep", waited.append)
    assert end_of(UserError("wrong")) == 2
    assert len(waited) == int(rank)
    assert capsys.readouterr().err == said
    assert end_of(TerminatedError()) == 143
    assert capsys.readouterr().err == ("" if rank == "1" else f"{SAID[143]}\n")


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
        str(UserError(passed_on + "Utils.runtime.errors.UserError: picture a.jpg is damaged\n"))
        == "picture a.jpg is damaged"
    )
