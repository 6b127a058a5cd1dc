"""Means of losses."""

import pytest
import torch

from Networks import training
from Utils.runtime.errors import UserError


def test_running_means_begin_anew_after_each_look():
    means = training.RunningMean()
    for total, part in ((1.0, 0.5), (3.0, 0.0)):
        means.add({"total": torch.tensor(total), "part": torch.tensor(part)})
    assert means.take() == {"total": 2.0, "part": 0.25}
    means.add({"total": torch.tensor(5.0)})
    assert means.take() == {"total": 5.0}


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_training(loss):
    means = training.RunningMean()
    means.add({"total": torch.tensor(1.0), "detector": torch.tensor(loss)})
    with pytest.raises(UserError, match=f"the detector loss is {loss}; lower --set learning_rate"):
        means.take()
