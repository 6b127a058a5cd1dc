"""Run by test_distributed.py, alone or under torchrun: gradients, labels and predictions of the tiny data set."""

import sys
from pathlib import Path

import numpy as np
import torch

from Databases.loading import training_batches
from Databases.samples import FirstStepSamples, SecondStepSamples
from Networks.first_step import FirstStep, first_step_losses
from Networks.inference.detector import LandmarkDetector
from Networks.relabelling import new_keypoints
from Networks.second_step import SecondStep, second_step_losses
from tests.tiny import TinyDatabase, tiny_options
from Utils.runtime import distributed
from Utils.storage.experiment import Experiment
from Utils.storage.files import save_checkpoint


def gradients(network, loss) -> dict[str, torch.Tensor]:
    """Averaged gradients after one backward pass."""
    network.zero_grad()
    loss.backward()
    distributed.average_gradients(network.parameters())
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def main(folder: Path) -> None:
    options = tiny_options(folder, "confidence_fan=0.02", "number_of_clusters=24")
    distributed.start(options.device)
    torch.set_num_threads(1)
    database, experiment = TinyDatabase(), Experiment(folder, "tiny")
    if distributed.is_main():
        experiment.open()
    distributed.from_main(None)  # all wait for the main process
    place = distributed.place()
    result = {}

    first = FirstStep(database, options, experiment)
    samples = FirstStepSamples(database, database.keypoints(), 64, 3)
    batch = next(training_batches(samples, 0, 1, 4, 0, options.device, place))
    result["first"] = gradients(first.network, first_step_losses(first.network, batch, "float32")["total"])
    table, clusters = new_keypoints(first.network, database, options, experiment, database.keypoints(), None)
    result["labels"], result["centroids"] = table.points, clusters.centroids
    first.relabelled = True
    first.save_checkpoint()
    if distributed.is_main():
        database.keypoints().save(experiment.updated_keypoints(0))
    distributed.from_main(None)  # all wait for the main process

    second = SecondStep.from_first_step(database, options, experiment)
    samples = SecondStepSamples(database, database.keypoints(), np.arange(12), 64, 3)
    batch = next(training_batches(samples, 0, 1, 4, 0, options.device, place))
    result["second"] = gradients(second.network, second_step_losses(second.network, batch, "float32")["total"])
    detector = LandmarkDetector(second.network, database, options)
    result["predictions"], result["confidences"], _ = detector.predict(database.training, "Predictions")
    if distributed.is_main():
        save_checkpoint(result, folder / "result.pth")
    distributed.stop()
    threads = {task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")}
    assert not any("gloo" in name for name in threads), threads


if __name__ == "__main__":
    main(Path(sys.argv[1]))
