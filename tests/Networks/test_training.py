"""Means of losses."""

import pytest
import torch

from Networks.training import mean_losses
from Utils.runtime.errors import UserError


def test_means_of_the_losses_of_batches():
    recent = [{"total": torch.tensor(total), "part": torch.tensor(part)} for total, part in ((1.0, 0.5), (3.0, 0.0))]
    assert mean_losses(recent) == {"total": 2.0, "part": 0.25}


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_training(loss):
    with pytest.raises(UserError, match=f"the detector loss is {loss}; lower --set learning_rate"):
        mean_losses([{"total": torch.tensor(1.0), "detector": torch.tensor(loss)}])
