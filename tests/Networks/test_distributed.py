"""Two processes give the labels of one, and the gradients of the joined batch. About 15 s."""

from pathlib import Path

import numpy as np
import pytest
import torch

from Utils.storage.files import load_checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results(launcher, tmp_path_factory) -> tuple[dict, dict]:
    """What one process finds, and what two find."""

    def run(name: str, *words: str) -> dict:
        folder = tmp_path_factory.mktemp(name)
        words = (*words, "-m", "tests.Networks.distributed_worker", str(folder))
        outcome = launcher.run(ROOT, words, environment={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
        assert outcome.code == 0, outcome
        return load_checkpoint(folder / "result.pth")

    return run("one"), run("two", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


@pytest.mark.parametrize("step", ["first", "second"])
def test_gradients_are_those_of_the_joined_batch(results, step):
    one, two = (result[step] for result in results)
    assert list(one) == list(two)
    largest = max(tensor.abs().max() for tensor in one.values())
    for name, tensor in one.items():
        assert torch.allclose(two[name], tensor, rtol=1e-4, atol=1e-5 * float(largest)), name


def test_labels_are_the_same(results):
    one, two = results
    np.testing.assert_array_equal(one["labels"], two["labels"])
    np.testing.assert_allclose(one["centroids"], two["centroids"], atol=1e-6)
    assert len(one["labels"]) > 100


def test_predictions_are_the_same(results):
    one, two = results
    np.testing.assert_array_equal(one["predictions"], two["predictions"])
    np.testing.assert_allclose(one["confidences"], two["confidences"], atol=1e-6)
