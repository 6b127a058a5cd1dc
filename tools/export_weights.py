"""Write the weights of a checkpoint of either step, or of SuperPoint, as .safetensors, which cannot carry code.

    python tools/export_weights.py Logs/demo/CheckPoints/demoSecondStepEpoch9.pth demoSecondStepEpoch9.safetensors

The file takes the place of the .pth: Test.py and Visualise.py read it under the same name, and
path_to_superpoint_checkpoint may name it. A training cannot go on from it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from Networks.checkpoints import check_checkpoint
from Utils.runtime.arguments import Parser, path_of
from Utils.runtime.errors import UserError, exit_cleanly
from Utils.runtime.process import set_up_process
from Utils.storage.files import SAFETENSORS, load_checkpoint, save_checkpoint


@exit_cleanly
def main(argv: list[str] | None = None) -> None:
    set_up_process()
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=path_of, help="a .pth file")
    parser.add_argument("output", type=path_of, help="a file that ends in .safetensors")
    given = parser.parse_args(argv)
    if given.output.suffix != SAFETENSORS:
        raise UserError(f"{given.output}: give a name that ends in {SAFETENSORS}")
    content = load_checkpoint(given.checkpoint)
    weights = content.get("state_dict", content)
    if not isinstance(weights, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in weights.values()):
        raise UserError(f"{given.checkpoint} holds no weights of a network; give a checkpoint")
    check_checkpoint(content if "state_dict" in content else {"state_dict": content}, given.checkpoint)
    save_checkpoint(content, given.output)
    print(given.output)


if __name__ == "__main__":
    main()
