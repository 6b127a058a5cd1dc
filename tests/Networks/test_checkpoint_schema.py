"""Each field of a checkpoint that is not what it has to be is named, and so is its first bad entry."""

import numpy as np
import pytest
import torch

from Networks.checkpoint_schema import check_checkpoint
from Networks.checkpoints import load_optimizer
from Utils.runtime.errors import UserError

NAN = float("nan")
SOUND = {
    "state_dict": {"l1.weight": torch.zeros(5, 32, 1, 1), "l1.bias": torch.zeros(5)},
    "training_state_dict": {"l1.bias": torch.zeros(5)},
    "iteration": 12,
    "centroid": torch.ones(5, 32),
    "threshold": torch.ones(5),
    "relabelled": True,
    "active_channels": np.array([0, 4]),
    "epoch": 3,
    "epoch_start": 9,
    "labels": "MergedKeypoints12.pickle",
    "hyperparameters": {"width": 32, "learning_rate_steps": (8, 10), "recipe": "paper", "odd": None},
    "dataset_name": "Demo",
}


@pytest.mark.parametrize("active", [[0, 4], (4,), torch.tensor([1, 2]), np.array([[3]])])
def test_sound_checkpoints_pass(active):
    check_checkpoint({**SOUND, "active_channels": active}, "f")
    check_checkpoint({"state_dict": {}, "centroid": None, "threshold": None, "hyperparameters": None}, "f")


ENORMOUS = 10**6000  # more digits than Python prints
BAD = [
    ("state_dict", [1], "state_dict: must be a"),
    ("state_dict", {"a": torch.tensor([[0.0, NAN]])}, r"a contains NaN or infinity: \[0, 1\] is nan"),
    ("state_dict", {"a": torch.tensor([float("-inf")])}, r"a contains NaN or infinity: \[0\] is -inf"),
    ("state_dict", {"a": torch.zeros(3, dtype=torch.int64)}, "'a' is not a tensor of real numbers"),
    ("state_dict", {"a": 3}, "'a' is not a tensor"),
    ("training_state_dict", {"a": torch.tensor(NAN)}, r"a contains NaN or infinity: \[\] is nan"),
    *(("iteration", value, "must be a valid integer") for value in (1.5, "3", True, None, [1])),
    ("iteration", -1, "iteration=-1: must be at least 0"),
    ("iteration", 2**60, "must be at most"),
    ("centroid", torch.tensor([[1.0, NAN]]), r"contains NaN or infinity: \[0, 1\] is nan"),
    ("centroid", torch.ones(5), r"has the shape \(5,\)"),
    ("centroid", "text", "is a str, not an array"),
    ("centroid", np.array([["a"]]), "not an array of numbers"),
    ("centroid", torch.ones(4, 32), "centroid has 4 rows, threshold 5"),
    ("threshold", torch.tensor([1, 1, 1, 1, float("inf")]), r"\[4\] is inf"),
    ("relabelled", "yes", "must be a valid boolean"),
    *(
        ("active_channels", v, "must be (a valid list|a valid integer|at least 0)")
        for v in (5, "ab", [1.5], [-1], [True], None, [[1]], np.array([0.5]))
    ),
    ("active_channels", [], "at least 1 item"),
    ("active_channels", [1, 1], "names a map twice"),
    ("active_channels", [5], "names map 5, but there are 5 maps"),
    ("epoch", ENORMOUS, "must be at most"),
    ("epoch_start", 13, "epoch_start lies beyond iteration"),
    *(("labels", value, "must") for value in (5, "../a.pickle", "a.pth", "a\n.pickle")),
    ("hyperparameters", [1], "must be a valid dictionary"),
    ("hyperparameters", {"width": {}}, "width: must not be a dict"),
    ("hyperparameters", {"learning_rate": NAN}, "learning_rate=nan: must be a finite number"),
    ("dataset_name", 7, "=7: must be a valid string"),
]


@pytest.mark.parametrize(("field", "value", "said"), BAD, ids=range(len(BAD)))
def test_bad_fields_are_named(field, value, said):
    with pytest.raises(UserError, match=f"^f: .*{said}.*; get or make the file again$") as raised:
        check_checkpoint({**SOUND, field: value}, "f")
    assert field in str(raised.value)
    assert len(str(raised.value)) < 300


def optimizer():
    parameter = torch.zeros(3, requires_grad=True)
    made = torch.optim.RMSprop([parameter], lr=0.1)
    parameter.sum().backward()
    made.step()
    return made


def test_states_of_an_optimizer():
    load_optimizer(optimizer(), optimizer().state_dict(), "f")
    for change in (
        lambda state: state["state"][0].update(square_avg=torch.zeros(4)),
        lambda state: state["state"][0].update(square_avg=torch.tensor([0, NAN, 0])),
        lambda state: state["state"][0].update(step="x"),
        lambda state: state["param_groups"][0].update(lr=NAN),
        lambda state: state["param_groups"][0].update(lr="fast"),
        lambda state: state["param_groups"][0].pop("alpha"),
        lambda state: state["param_groups"][0].update(params=[5, 6]),
        lambda state: state.update(param_groups=5),
    ):
        state = optimizer().state_dict()
        change(state)
        with pytest.raises(UserError, match="f: its optimizer does not fit"):
            load_optimizer(optimizer(), state, "f")
