"""The page of `make demo`: one file that needs nothing else and shows all parts."""

import re
import shutil

import numpy as np
import pytest

from tests.tiny import DEMO_SETTINGS
from tools import report
from Utils.drawing.plots import line_chart
from Utils.storage.scalars import read_scalars


@pytest.fixture(scope="module")
def page(make_demo) -> str:
    return (make_demo.folder / "Logs/demo/Logs/report.html").read_text()


def test_the_page_needs_nothing_beside_it(page):
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "http" not in re.sub(r"base64,[\w+/=]*", "", page)
    assert "<script" not in page


def test_all_parts_are_there(page, make_demo):
    logs = make_demo.folder / "Logs/demo/Logs"
    for name in (row.split(",")[0] for row in (logs / "Landmarks.csv").read_text().splitlines()[1:]):
        assert f"</span> {name}</td>" in page
    for text in ("mean shape", "Forward error:", "Backward error:", "Step one: losses", "Step two: clusters"):
        assert text in page
    assert len(re.findall(r"Cluster \d+: \d+ keypoints, spread", page)) == 2 * report.CLUSTERS_SHOWN
    assert "Train_Secondstep.py" in page
    assert '<th class="text">torch</th>' in page
    for section in report.SECTIONS:
        assert f'id="{section}"' in page
        assert f'href="#{section}"' in page


def test_what_is_not_there_is_left_out(make_demo, tmp_path):
    """Without errors, stages, runs and curves, as of a pretrained model."""
    for folder in ("DemoData", "demo/CheckPoints"):
        shutil.copytree(make_demo.folder / "Logs" / folder, tmp_path / "Logs" / folder)
    for path in (tmp_path / "Logs/demo/CheckPoints").glob("Updated*"):
        path.unlink()
    (tmp_path / "paths.yaml").write_text(f"log_path: {tmp_path}/Logs\n")
    sets = [word for name, value in DEMO_SETTINGS.items() for word in ("--set", f"{name}={value}")]
    sets += ["--num_workers", "0"]
    with pytest.raises(SystemExit) as end:
        report.main(
            ["--dataset_name", "Demo", "--experiment_name", "demo", "--paths", f"{tmp_path}/paths.yaml", *sets]
        )
    assert end.value.code == 0
    page = (tmp_path / "Logs/demo/Logs/report.html").read_text()
    for text in (
        "Stages have not been compared",
        "No error curves",
        "No TensorBoard files",
        "No clusters",
        "No runs",
    ):
        assert text in page


def test_scalars_are_read_back(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    for start in (0, 2):  # a resumed run writes some steps again
        writer = SummaryWriter(str(tmp_path))
        for step in range(start, start + 4):
            writer.add_scalar("loss", step + start, step)
        writer.close()
    steps, values = read_scalars(tmp_path)["loss"]
    assert steps.tolist() == [0, 1, 2, 3, 4, 5]
    assert values.tolist()[:2] + values.tolist()[4:] == [0, 1, 6, 7]
    assert read_scalars(tmp_path / "none") == {}
    chart = line_chart({"a": (np.arange(3), np.ones(3)), "b": (np.arange(3), np.zeros(3))}, "x", "y", True)
    assert chart.startswith("data:image/svg+xml;base64,")
