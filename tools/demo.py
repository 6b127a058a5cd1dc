"""The demo, end to end: all stages, and how long each took.

    python tools/demo.py --dataset_name Demo --experiment_name demo --paths paths/demo.yaml

All scripts get the arguments. A training that was stopped goes on.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import Test
import Train_Firststep
import Train_Secondstep
import Visualise
from Databases.demo.database import Demo
from Networks.recipes import RECIPES
from tools import compare_stages, report
from Utils.options import parse
from Utils.runtime.errors import exit_cleanly
from Utils.runtime.process import set_up_process

ROOT = Path(__file__).resolve().parents[1]
# Scripts, and the arguments that only they get.
STAGES = (
    (Train_Firststep, ("--resume",)),
    (Train_Secondstep, ("--resume",)),
    (Test, ()),
    (Visualise, ("--visualisation", "Step1_Keypoints")),
    (Visualise, ("--visualisation", "Step1_Clusters")),
    (Visualise, ("--visualisation", "Step2")),
    (compare_stages, ()),
    (report, ()),
)


@exit_cleanly
def main(argv: Sequence[str] | None = None) -> None:
    set_up_process()
    argv = sys.argv[1:] if argv is None else argv
    parse(argv, __doc__.splitlines()[0], {Demo.name: Demo}, RECIPES, flags=("experiment",))
    took = []
    for script, more in STAGES:
        name = Path(str(script.__file__)).relative_to(ROOT)
        sys.argv = [str(name), *argv, *more]  # the experiment's log quotes it
        print(f"\n> python {' '.join(sys.argv)}", flush=True)
        start = time.monotonic()
        try:
            script.main(sys.argv[1:])
        except SystemExit as end:
            if end.code:
                raise
        took.append(f"{tqdm.format_interval(time.monotonic() - start)} {' '.join([str(name), *more])}")
    print("\nTime taken:", *took, sep="\n")


if __name__ == "__main__":
    main()
