import cv2
import numpy as np
import pytest

from Utils.drawing.plots import write_curve


def test_curve_and_its_numbers(tmp_path):
    path = tmp_path / "Logs" / "ForwardError.jpg"
    write_curve(np.array([0.03, 0.01, np.nan, 0.05]), path, "groundtruth landmarks")
    assert (tmp_path / "Logs" / "ForwardError.csv").read_text().splitlines() == [
        "landmarks,nme_percent",
        "1,1.000000",
        "2,2.000000",
        "3,3.000000",
    ]
    assert cv2.imread(str(path)).shape == (750, 1050, 3)
    assert sorted(file.name for file in path.parent.iterdir()) == ["ForwardError.csv", "ForwardError.jpg"]


@pytest.mark.parametrize("count", [0, 1])
def test_short_curves(tmp_path, count):
    write_curve(np.full(count, 0.5), tmp_path / "BackwardError.jpg", "discovered landmarks")
    assert len((tmp_path / "BackwardError.csv").read_text().splitlines()) == 1 + count
    assert (tmp_path / "BackwardError.jpg").stat().st_size > 1000
