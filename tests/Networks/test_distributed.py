"""Two processes give the labels of one, and the gradients of the joined batch. About 20 s."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from Utils.files import load_checkpoint

WORKER = Path(__file__).with_name("distributed_worker.py")
ROOT = Path(__file__).parents[2]


def run(folder: Path, *launcher: str) -> dict:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, str(WORKER), str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return load_checkpoint(folder / "result.pth")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    return run(one), run(two, *launcher)


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
