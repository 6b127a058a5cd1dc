"""The networks' paths on a CUDA device, on machines that have none: where tensors are, and what waits for the device.

Each path gives the CPU's numbers, meets no tensor of the other device, and waits for the device only in the
functions named here. About 30 s.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from Networks.consensus.labels import end_of_epoch, matching_is_due
from Networks.execution import build_fan
from Networks.first_step import FirstStep
from Networks.generic_keypoints import store_generic_keypoints
from Networks.inference.detector import LandmarkDetector
from Networks.inference.landmarks import landmarks_of
from Networks.inference.steadiness import steadiness
from Networks.recipes import recipe_of
from Networks.relabelling import new_keypoints
from Networks.second_step import EPOCHS_BETWEEN_MERGES, SecondStep
from Networks.superpoint import load_superpoint
from Networks.training import Training
from tests.absent_gpu import AbsentGpu
from tests.tiny import TinyDatabase, first_step, second_step, tiny_options
from Utils.descriptors import DescriptorStore
from Utils.keypoints import suppress
from Utils.options import Options
from Utils.storage.experiment import Experiment

Path_ = Callable[[], Any]
RECIPES = pytest.mark.parametrize("recipe", ["recipe=paper", "recipe=consensus"])
# In double precision on purpose, and with as many results as there are points.
SUPPRESSION = {
    ("float64", "suppress"),
    ("unique_consecutive", "suppress"),
    ("copy to host", "suppress"),
    ("nms", "suppress"),
}
DETECTION = {("nonzero", "detect"), *SUPPRESSION}


def on_both(tmp_path: Path, prepare: Callable[[Options, Experiment], Path_], *settings: str):
    """What a path gives on the CPU and on the absent GPU, and what waits there, with how often, by function.

    prepare: makes the path, a call without arguments; what waits meanwhile does not count.
    """
    cpu = tiny_options(tmp_path / "cpu", *settings)
    on_cpu = prepare(cpu, opened(cpu))()
    gpu_options = tiny_options(tmp_path / "gpu", *settings, device=torch.device("cuda"))
    with AbsentGpu() as gpu:
        path = prepare(gpu_options, opened(gpu_options))
        gpu.notes.clear()
        on_gpu = path()
        notes = Counter({note: count for note, count in gpu.notes.items() if note[1] != "test"})
    return on_cpu, on_gpu, notes


def opened(options: Options) -> Experiment:
    experiment = Experiment(options.log_path, options.experiment_name)
    experiment.open()
    return experiment


def trained(training: Training, train: Callable[[], None]) -> tuple[np.ndarray, float]:
    """The weights and their average after a training that ends with a look, and the mean loss that it shows."""
    shown: list[float] = []
    training.scalars = SimpleNamespace(add=lambda iteration, values: shown.append(next(iter(values.values()))))
    train()
    parameters = [*training.network.parameters(), *training.learned.parameters()]
    return np.concatenate([p.detach().cpu().numpy().ravel() for p in parameters]), shown[-1]


def first(options: Options, experiment: Experiment) -> FirstStep:
    return first_step(TinyDatabase(), options, experiment)


def second(options: Options, experiment: Experiment) -> SecondStep:
    """Step two after a step one of no iterations, whose checkpoint the CPU wrote."""
    database = TinyDatabase()
    step = first_step(database, tiny_options(options.log_path), experiment)
    step.relabelled = True
    clusters = np.random.default_rng(0).standard_normal((12, step.network.width)).astype(np.float32)
    step.centroids = clusters / np.linalg.norm(clusters, axis=1, keepdims=True)
    step.thresholds = np.ones(12, np.float32)
    step.save_checkpoint()
    database.keypoints().save(experiment.updated_keypoints(0))
    return second_step(database, options, experiment)


# The absent GPU itself


def test_devices_must_not_meet():
    with AbsentGpu():
        host, there = torch.ones(3, requires_grad=True), torch.ones(3).to("cuda")
        assert (host.device.type, there.device.type, (there + there)[:2].device.type) == ("cpu", "cuda", "cuda")
        assert torch.zeros_like(there).is_cuda
        assert torch.arange(3, device=there.device).is_cuda
        assert not torch.zeros(3).is_cuda
        for meeting in (
            lambda: there + torch.ones(3),
            lambda: torch.stack([there, host]),
            lambda: host[there.long()],
            lambda: there.clone().add_(host.detach()),
            lambda: there.clone().requires_grad_().square().backward(torch.ones(3)),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                meeting()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert (there + torch.tensor(2.0) + 1).tolist() == [4, 4, 4]  # a single number goes along, as on a GPU


@pytest.mark.parametrize(
    ("work", "note"),
    [
        (lambda there: float(there.sum()), "local_scalar_dense"),
        (lambda there: bool((there > 0).all()), "local_scalar_dense"),
        (lambda there: there.tolist(), "copy to host"),
        (lambda there: there.cpu(), "copy to host"),
        (lambda there: torch.ones(2).copy_(there), "copy to host"),
        (lambda there: there[there > 1], "mask as an index"),
        (lambda there: torch.nonzero(there, as_tuple=True), "nonzero"),
        (lambda there: torch.tensor([1.0], device=there.device), "blocking copy to device"),
        (lambda there: torch.ones(2).to(there), "blocking copy to device"),
        (lambda there: torch.ones(2).to(there.device, non_blocking=True), "blocking copy to device"),
        (lambda there: torch.ones(2).pin_memory().to(there.device, non_blocking=True), None),
        (lambda there: there.double(), "float64"),
        (lambda there: there.new_zeros(2).fill_(3.0) + torch.full((), 2.0, device=there.device), None),
    ],
)
def test_what_waits_is_noted(work, note):
    with AbsentGpu() as gpu, torch.inference_mode():
        work(torch.ones(2).pin_memory().to("cuda", non_blocking=True))
    assert set(gpu.notes) == ({(note, "test")} if note else set())


# Training


def iterations_of_step_one(options: Options, experiment: Experiment) -> Path_:
    training = first(options, experiment)
    return lambda: trained(training, lambda: training.train(training.database.keypoints(), 2))


def iterations_of_step_two(options: Options, experiment: Experiment) -> Path_:
    training = second(options, experiment)
    training.hyper.total_iterations = 2  # of the three of an epoch
    return lambda: trained(training, training.train_epoch)


def resumed_iterations(options: Options, experiment: Experiment) -> Path_:
    """Of step one, from a checkpoint of the CPU, whose optimiser has a state."""
    recipe = f"recipe={options.hyper.recipe}"
    earlier = first(tiny_options(options.log_path, "precision=float32", recipe), experiment)
    earlier.train(earlier.database.keypoints(), 1)
    earlier.save_checkpoint()
    training = first(options, experiment)
    training.resume()
    return lambda: trained(training, lambda: training.train(training.database.keypoints(), 2))


# And how many losses a look waits for: here there is one, after the last iteration.
ITERATIONS = {iterations_of_step_one: 3, iterations_of_step_two: 1, resumed_iterations: 3}


@pytest.mark.parametrize(
    ("iterations", "recipe"),
    [
        (iterations_of_step_two, "recipe=paper"),
        (resumed_iterations, "recipe=paper"),
        (resumed_iterations, "recipe=consensus"),
    ],
)
def test_an_iteration_waits_for_nothing(iterations, recipe, tmp_path):
    settings = (recipe, "precision=float32")
    (on_cpu, loss_on_cpu), (on_gpu, loss_on_gpu), notes = on_both(tmp_path, iterations, *settings)
    assert notes == {("local_scalar_dense", "mean_losses"): ITERATIONS[iterations]}
    np.testing.assert_array_equal(on_gpu, on_cpu)
    assert loss_on_gpu == loss_on_cpu


@pytest.mark.parametrize("iterations", [iterations_of_step_one, iterations_of_step_two])
def test_nor_does_one_in_mixed_precision(iterations, tmp_path):
    recipe = "recipe=consensus"
    (_, loss_on_cpu), (_, loss_on_gpu), notes = on_both(tmp_path, iterations, recipe, "precision=auto")
    assert notes == {("local_scalar_dense", "mean_losses"): ITERATIONS[iterations]}
    assert loss_on_gpu != loss_on_cpu  # bfloat16 beside float32
    assert loss_on_gpu == pytest.approx(loss_on_cpu, rel=0.05)


def beginning_of_step_two(options: Options, experiment: Experiment) -> Path_:
    def path() -> list[np.ndarray]:
        network = second(options, experiment).network
        return [parameter.detach().cpu().numpy() for parameter in (network.l1.weight, network.l1.bias)]

    return path


def test_maps_that_begin_as_similarities(tmp_path):
    on_cpu, on_gpu, notes = on_both(tmp_path, beginning_of_step_two, "recipe=consensus", "precision=float32")
    paper = tiny_options(tmp_path / "paper", "recipe=paper")
    fresh = beginning_of_step_two(paper, opened(paper))()
    assert not np.allclose(on_cpu[0], fresh[0])
    for cpu, gpu in zip(on_cpu, on_gpu, strict=True):
        np.testing.assert_allclose(gpu, cpu, rtol=1e-5, atol=1e-6)  # batches of another size
    assert set(notes) == {  # all of it once, before the first iteration
        ("blocking copy to device", "descriptor_length"),
        ("copy to host", "descriptor_length"),
        ("blocking copy to device", "similarity_head"),
        ("blocking copy to device", "place"),
        ("blocking copy to device", "load_weights"),
        ("blocking copy to device", "replace_descriptor_head"),
        ("copy to host", "copy_network"),
    }


# Detection


def test_suppression_of_many_pictures_at_once():
    """On a GPU the pictures of a call are moved apart; on the CPU each has a call of its own."""
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(0, 60, (400, 2)).astype(np.float32))
    scores, images = torch.from_numpy(rng.random(400).astype(np.float32)), torch.from_numpy(rng.integers(0, 5, 400))
    expected = suppress(points, scores, images, 3)
    assert 5 < len(expected) < 350
    with AbsentGpu() as gpu:
        device = torch.device("cuda")
        found = suppress(points.to(device), scores.to(device), images.to(device), 3)
        assert found.device.type == "cuda"
        np.testing.assert_array_equal(found.cpu().numpy(), expected.numpy())
    assert {note for note in gpu.notes if note[1] != "test"} == SUPPRESSION


def contents(store: DescriptorStore) -> list[np.ndarray]:
    return [store.read(0, len(store)), *(store.column(name) for name in ("point", "image", "flag"))]


def detection_of_the_bootstrap(options: Options, experiment: Experiment) -> Path_:
    database, network = TinyDatabase(), load_superpoint("", options.device)

    def path() -> list[np.ndarray]:
        with DescriptorStore(experiment.checkpoints) as store:
            store_generic_keypoints(network, database, database.training, options, store)
            return contents(store)

    return path


def test_detection_of_the_bootstrap(tmp_path):
    settings = ("precision=float32", "confidence_superpoint=0.01", "nms_superpoint=3")
    on_cpu, on_gpu, notes = on_both(tmp_path, detection_of_the_bootstrap, *settings)
    assert len(on_cpu[0]) > 100
    for cpu, gpu in zip(on_cpu, on_gpu, strict=True):
        np.testing.assert_allclose(gpu, cpu, atol=1e-5)  # batches of another size
    assert set(notes) == {
        *DETECTION,
        ("blocking copy to device", "generic_keypoints"),
        ("blocking copy to device", "_to_first_zoom"),
        ("copy to host", "_rows"),
        ("copy to host", "_identity"),  # once, of the weights
    }


def relabelling(options: Options, experiment: Experiment) -> Path_:
    database, network = TinyDatabase(), build_fan(None, options.hyper, options.device)

    def path() -> tuple[np.ndarray, np.ndarray]:
        table, clusters = new_keypoints(network, database, options, experiment, database.keypoints(), None)
        return table.points, clusters.centroids

    return path


def matching(options: Options, experiment: Experiment) -> Path_:
    """As in the rounds after the first, with the clusters of the last one."""
    database, network = TinyDatabase(), build_fan(None, options.hyper, options.device)
    centroids = np.zeros((24, network.width), np.float32)  # their number counts
    new_labels = recipe_of(options.hyper).new_labels

    def path() -> tuple[np.ndarray, np.ndarray]:
        table, clusters = new_labels(network, database, options, experiment, database.keypoints(), centroids)
        return table.points, clusters.centroids

    return path


def test_relabelling_and_the_distances_of_the_assignment(tmp_path):
    settings = ("precision=float32", "confidence_fan=0.02", "number_of_clusters=24")
    on_cpu, on_gpu, notes = on_both(tmp_path, relabelling, *settings)
    assert len(on_cpu[0]) > 100
    np.testing.assert_array_equal(on_gpu[0], on_cpu[0])
    np.testing.assert_allclose(on_gpu[1], on_cpu[1], atol=1e-5)
    assert set(notes) == {
        *DETECTION,
        ("blocking copy to device", "_join_previous"),
        ("copy to host", "store_fan_keypoints"),
        ("blocking copy to device", "assign"),
        ("copy to host", "assign"),
    }


def test_clusters_matched_in_every_picture(tmp_path):
    settings = ("recipe=consensus", "precision=float32", "confidence_fan=0.02", "number_of_clusters=24")
    on_cpu, on_gpu, notes = on_both(tmp_path, matching, *settings)
    assert len(on_cpu[0]) > 100
    np.testing.assert_array_equal(on_gpu[0], on_cpu[0])
    np.testing.assert_allclose(on_gpu[1], on_cpu[1], atol=1e-5)
    assert set(notes) == {
        ("blocking copy to device", "_mean_descriptors"),
        ("copy to host", "_mean_descriptors"),
        ("blocking copy to device", "matched_keypoints"),
        ("copy to host", "of_maps"),
    }


def matching_by_maps(options: Options, experiment: Experiment) -> Path_:
    training = second(options, experiment)

    def path() -> np.ndarray:
        training.iteration, training.epoch = training.hyper.total_iterations - 1, EPOCHS_BETWEEN_MERGES
        assert training.merging_is_due
        assert matching_is_due(training.iteration, training.hyper)
        end_of_epoch(training, training.hyper)
        return training.keypoints.points

    return path


def test_clusters_matched_by_their_maps(tmp_path):
    on_cpu, on_gpu, notes = on_both(
        tmp_path, matching_by_maps, "recipe=consensus", "precision=float32", "iterations_before_merging=3"
    )
    assert len(on_cpu) > 100
    np.testing.assert_array_equal(on_gpu, on_cpu)
    assert set(notes) == {
        ("copy to host", "of_maps"),
        ("copy to host", "read"),
        ("blocking copy to device", "heatmaps"),
    }


# Landmarks


def read_out_of_landmarks(options: Options, experiment: Experiment) -> Path_:
    database, training = TinyDatabase(), second(options, experiment)
    training.epoch = 1
    training.save_checkpoint()
    detector = LandmarkDetector.from_experiment(experiment, options, database)

    def path() -> list[np.ndarray]:
        steady = steadiness(detector, database.test)
        return [landmarks_of(detector).points, steady.found, steady.error]

    return path


@RECIPES
def test_predictions_and_read_out_of_landmarks(recipe, tmp_path):
    on_cpu, on_gpu, notes = on_both(tmp_path, read_out_of_landmarks, recipe, "precision=float32")
    assert np.isfinite(on_cpu[0]).any()
    for cpu, gpu in zip(on_cpu, on_gpu, strict=True):
        np.testing.assert_allclose(gpu, cpu, atol=1e-5)
    assert set(notes) == {
        ("blocking copy to device", "heatmaps"),
        ("copy to host", "read"),
    }
