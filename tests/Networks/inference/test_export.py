"""The exported graph gives the detector's landmarks for any number of crops; missing packages are said.

A .pt2 is written of one layer. The whole network is written as .onnx, and its numbers compared with PyTorch's, where
docs/prediction.md is followed; it takes half a minute.
"""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from Databases import DATABASES
from Networks.execution import build_fan
from Networks.inference import export
from Networks.inference.detector import LandmarkDetector
from tools import export_onnx
from Utils.options import default_options
from Utils.runtime.errors import UserError
from Utils.runtime.packages import require


@pytest.fixture(scope="module")
def detector() -> LandmarkDetector:
    options = default_options("Custom", DATABASES, ["image_size=64", "width=32", "readout=centroid"], "cpu")
    network = build_fan(7, options.hyper, options.device).eval()
    return LandmarkDetector(network, DATABASES["Custom"].rules(options.hyper), options, np.array([1, 4, 6]))


class OneLayer(nn.Module):
    """As little as can stand for the network."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 7, 4, stride=4)

    def forward_heatmaps(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.layer(pictures)


@pytest.fixture(scope="module")
def graph() -> export.LandmarkGraph:
    return export.LandmarkGraph(OneLayer(), np.array([1, 4, 6]), "centroid").eval()


@pytest.fixture(scope="module")
def program(graph) -> torch.export.ExportedProgram:
    return export.export_program(graph, 64)


def test_the_graph_gives_the_detectors_landmarks(detector):
    crops = torch.randint(0, 255, (5, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        points, confidence = export.graph_of(detector)(crops / 255)
    expected, heights = detector.run(crops)
    np.testing.assert_allclose(points, expected, atol=1e-3)
    np.testing.assert_allclose(confidence, heights, atol=1e-5)


def test_the_metadata_tell_names_size_and_crop(detector):
    facts = export.metadata(detector)
    assert json.loads(facts["names"]) == ["landmark_1", "landmark_4", "landmark_6"]
    assert facts["image_size"] == "64"
    assert "0.08 of its mean side" in facts["crop_rule"]


def test_a_program_is_saved_and_loaded(graph, program, tmp_path):
    path = tmp_path / "model.pt2"
    export.write(program, {}, path)
    assert export.difference(path, graph, 64) < export.TOLERANCE
    other = export.LandmarkGraph(graph.network, np.array([0, 4, 6]), "centroid")
    assert export.difference(path, other, 64) > 0.01


def test_missing_packages_are_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match="onnx is missing; pip install onnx onnxruntime onnxscript"):
        require("onnx", export.PACKAGES)


def test_the_command_checks_its_file(tmp_path, capsys, monkeypatch, detector, graph, program):
    monkeypatch.setattr(LandmarkDetector, "from_experiment", lambda *_: detector)
    monkeypatch.setattr(export, "graph_of", lambda _: graph)
    monkeypatch.setattr(export, "export_program", lambda *_: program)
    paths = tmp_path / "paths.yaml"
    paths.write_text(f"log_path: {tmp_path}/Logs\n")
    common = ["--dataset_name", "Demo", "--experiment_name", "demo", "--paths", str(paths), "--output"]
    for file, code in (("model.pt2", 0), ("model.txt", 2)):
        with pytest.raises(SystemExit) as end:
            export_onnx.main([*common, str(tmp_path / file)])
        assert end.value.code == code
    said = capsys.readouterr()
    assert "largest difference to PyTorch" in said.out
    assert "ends in .onnx or .pt2" in said.err
    assert [path.name for path in tmp_path.glob("model*")] == ["model.pt2"]
