"""The benchmark's stand-in for a late training has the numbers that such a training is slow for."""

import numpy as np
import torch

from benchmarks.cpu import describe_cpu
from benchmarks.training import CELLS_OF_KEYPOINTS, WEIGHT_OF_LATE_LOSS, make_sure
from Databases.loading import to_input, training_batches
from Databases.samples import FirstStepSamples
from Networks.execution import build_fan
from Networks.fan import ConvBlock
from Networks.first_step import first_step_losses
from tests.tiny import TinyDatabase, tiny_options
from Utils.options import available_cores

LEAST, SMALLEST_NORMAL = 2.0**-149, np.finfo(np.float32).tiny  # between them lie the subnormal numbers


def share_of_subnormals(numbers: np.ndarray) -> float:
    """Of positive numbers in double precision, in which they are none."""
    return float(((numbers >= LEAST) & (numbers < SMALLEST_NORMAL)).mean())


def test_a_sure_detector_has_its_keypoints_and_subnormal_numbers(tmp_path):
    network = build_fan(None, tiny_options(tmp_path).hyper, torch.device("cpu"))
    pictures = torch.rand(8, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    logits = []
    network.l0.register_forward_hook(lambda layer, inputs, output: logits.append(output.detach().double()))
    make_sure(network, pictures)
    network(pictures)
    probabilities = torch.sigmoid(logits[-1]).numpy()
    assert (probabilities > 0.5).sum() == 8 * CELLS_OF_KEYPOINTS
    assert share_of_subnormals(probabilities) > 0.05


def test_gradients_of_the_late_loss_are_subnormal_in_all_layers(tmp_path):
    options = tiny_options(tmp_path)
    network = build_fan(None, options.hyper, options.device)
    database = TinyDatabase()
    samples = FirstStepSamples(database, database.keypoints(), 64, 0, "fast")
    batch = next(training_batches(samples, 0, 1, 4, 0, options.device))
    make_sure(network, to_input(batch.pictures))
    gradients = {}
    for name, module in network.named_modules():
        if isinstance(module, ConvBlock):
            module.register_full_backward_hook(lambda m, inputs, outputs, n=name: gradients.update({n: outputs[0]}))
    first_step_losses(network, batch, "float32")["total"].backward()
    assert len(gradients) > 15
    for name, gradient in gradients.items():
        late = WEIGHT_OF_LATE_LOSS * gradient.abs().double().numpy()
        assert share_of_subnormals(late[late > 0]) > 0.5, name


def test_a_cpu_is_described_by_what_its_speed_depends_on():
    text = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Processor @ 2.80GHz\nflags\t\t: fpu avx2 avx512f sse2\n\n"
    cores = f"{available_cores()} cores"
    assert describe_cpu(text) == f"Intel(R) Xeon(R) Processor @ 2.80GHz (avx2, avx512f), {cores}"
    assert describe_cpu("").endswith(f" (no known instruction sets), {cores}")
    assert cores in describe_cpu()
