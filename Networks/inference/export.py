"""The network of step two as one graph, crops in and landmarks out, for programs without this project."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from Databases.samples import GRID
from Networks.execution import copy_network
from Networks.fan import FAN
from Networks.inference.detector import LandmarkDetector
from Utils.heatmaps import READOUTS
from Utils.runtime.packages import require

ONNX = ".onnx"  # the ending that decides the format
PACKAGES = "onnx onnxruntime onnxscript"  # that it needs
OPSET = 18
TOLERANCE = 1e-3  # pixels of the crop
INPUT, OUTPUTS = "pictures", ["points", "confidence"]
CHECKED = 3  # crops to compare; the graph is made with another number of them


class LandmarkGraph(nn.Module):
    """Crops (N, 3, S, S) float32 RGB in [0, 1] -> points (N, L, 2) in pixels of the crop, confidence (N, L)."""

    def __init__(self, network: FAN, active: np.ndarray, readout: str) -> None:
        super().__init__()
        self.network, self.read_out = network, READOUTS[readout]
        self.register_buffer("active", torch.from_numpy(active))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        heatmaps = self.network.forward_heatmaps(pictures)
        cells, confidence = self.read_out(heatmaps.index_select(1, self.get_buffer("active")))
        return GRID * cells, confidence


def graph_of(detector: LandmarkDetector) -> LandmarkGraph:
    """The detector's network and read-out, on the CPU in float32."""
    network = copy_network(detector.network, detector.options.hyper).cpu().float()
    network = network.to(memory_format=torch.contiguous_format)
    return LandmarkGraph(network, detector.active, detector.options.hyper.readout).eval()


def metadata(detector: LandmarkDetector) -> dict[str, str]:
    """What a program must know to use the graph: names, size, and how to crop; all as text."""
    whole = detector.database.crop(np.array([0.0, 0, 100, 100]), 100, 100, detector.size)
    values: dict[str, Any] = {
        "names": detector.names,
        "image_size": detector.size,
        "readout": detector.options.hyper.readout,
        "threshold": detector.threshold,
        "dataset_name": detector.options.dataset_name,
        "crop_rule": detector.database.crop_rule,
        "crop_of_a_whole_picture_of_100x100": np.round(whole, 6).tolist(),
        "pictures": "RGB in [0, 1], (N, 3, S, S)",
        "points": "x, y in pixels of the crop; a pixel i covers [i, i + 1)",
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def export_program(graph: LandmarkGraph, size: int) -> torch.export.ExportedProgram:
    """The graph for any number of crops of size x size pixels."""
    pictures = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    return torch.export.export(graph, (pictures,), dynamic_shapes=({0: torch.export.Dim("N", min=1)},))


def write(program: torch.export.ExportedProgram, facts: dict[str, str], path: Path) -> None:
    """Write the program as ONNX with the facts as metadata, or as .pt2 with the facts as extra files."""
    if path.suffix != ONNX:
        torch.export.save(program, path, extra_files=facts)
        return
    onnx = require("onnx", PACKAGES)
    exported = torch.onnx.export(
        program, input_names=[INPUT], output_names=OUTPUTS, opset_version=OPSET, dynamo=True, verbose=False
    )
    assert exported is not None
    model = exported.model_proto
    onnx.helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


@torch.inference_mode()
def difference(path: Path, graph: LandmarkGraph, size: int) -> float:
    """The largest difference in pixels between a file, in onnxruntime or PyTorch, and the graph on random crops."""
    pictures = torch.rand(CHECKED, 3, size, size, generator=torch.Generator().manual_seed(1))
    if path.suffix == ONNX:
        session = require("onnxruntime", PACKAGES).InferenceSession(str(path), providers=["CPUExecutionProvider"])
        outputs = session.run(OUTPUTS, {INPUT: pictures.numpy()})
    else:
        outputs = torch.export.load(path).module()(pictures)
    pairs = zip(outputs, graph(pictures), strict=True)
    return max(float((torch.as_tensor(ours) - expected).abs().max()) for ours, expected in pairs)
