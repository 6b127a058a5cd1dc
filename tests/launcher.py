"""Runs scripts one after the other, each in a fork of a Python that has the slow packages loaded.

A script starts in a tenth of a second so, and is as much by itself as in a process of its own: a fork has this
project's modules from the folder that it runs in, its own working directory, arguments and output. Reads a line of
JSON per script and answers with a line that has its exit code; `tests/sandbox.py` starts it.
"""

import argparse
import contextlib
import importlib
import json
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

# What takes long to load, of all that any script loads.
SLOW = (
    *("PIL.Image", "av", "cdflib", "cdflib.cdfwrite", "cv2", "faiss", "h5py", "matplotlib.backends.backend_agg"),
    *("matplotlib.figure", "numpy", "pandas", "scipy.io", "scipy.optimize", "skimage.data"),
    *("sklearn.datasets", "torch", "torch.distributed.run", "torch.utils.data", "torch.utils.tensorboard"),
    *("filelock", "jinja2", "pydantic", "threadpoolctl", "torchvision.ops", "tqdm", "yaml"),
    "tensorboard.backend.event_processing.event_accumulator",
    "torch._dynamo",  # loaded with the first optimiser
)


def main() -> None:
    for name in SLOW:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    answers = os.dup(1)  # what a script prints goes elsewhere
    for line in sys.stdin:
        job = json.loads(line)
        process = os.fork()
        if process == 0:
            os.close(answers)
            run(**job)
        _, status = os.waitpid(process, 0)
        os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())


def run(
    folder: str,
    words: list[str],
    output: str,
    errors: str,
    only_parse: bool,
    killed_at: str,
    environment: dict[str, str],
) -> None:
    """`python WORDS` in a folder, its output to two files; ends the process.

    only_parse: stop where the command line has been read, and the names of its --set have been looked up.
    killed_at: kill -9 as soon as this file is there, where it has a name. environment: what its libraries read when
    they were loaded stays.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = (os.open(os.devnull, os.O_RDONLY), os.open(output, flags), os.open(errors, flags))
    for target, source in enumerate(files):
        os.dup2(source, target)
    os.chdir(folder)
    os.environ.update(environment)
    if killed_at:
        threading.Thread(target=kill_at, args=(Path(killed_at),), daemon=True).start()
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if entry and os.path.abspath(entry) != own]
    if only_parse:
        parse_only()
    code = 1
    try:
        if words[0] == "-m":
            sys.path.insert(0, folder)
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        elif words[0] == "-c":
            sys.path.insert(0, folder)
            sys.argv = ["-c", *words[2:]]
            exec(words[1], {"__name__": "__main__"})
        else:
            sys.path.insert(0, str(Path(folder, words[0]).resolve().parent))
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def kill_at(file: Path) -> None:
    """End this process as kill -9 does when the file is there."""
    while not file.exists():
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)


def parse_only() -> None:
    """Let every argument parser end the script when it has read the command line."""
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_end(self: argparse.ArgumentParser, *arguments, **options) -> None:
        given = parse_args(self, *arguments, **options)
        if getattr(given, "settings", None):
            from Databases import DATABASES
            from Networks.recipes import RECIPES
            from Utils.hyperparameters import hyperparameters

            hyperparameters(given.settings, RECIPES, DATABASES[given.dataset_name])
        sys.exit(0)

    argparse.ArgumentParser.parse_args = parse_and_end


if __name__ == "__main__":
    main()
