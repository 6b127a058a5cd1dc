"""torchrun that ends as one process does: with the training's own line and its exit code, without a traceback.

    python tools/torchrun.py --nproc_per_node=4 Train_Firststep.py --dataset_name CelebA --experiment_name celeba

All arguments are torchrun's.
"""

import logging
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun


def main() -> int:
    logging.disable(logging.ERROR)  # by which torchrun says that its processes have ended, as they do themselves
    try:
        torchrun(sys.argv[1:])
    except ChildFailedError as error:
        return _code(error.get_first_failure()[1].exitcode)
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


def _code(exit_code: int) -> int:
    """What a shell would give: 128 and the number of the signal that ended the process."""
    return 128 - exit_code if exit_code < 0 else exit_code


if __name__ == "__main__":
    sys.exit(main())
