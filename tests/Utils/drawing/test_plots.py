import warnings

import cv2
import numpy as np
import pytest
from matplotlib.text import Text

from Utils.drawing.plots import draw_curves, write_curve


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


@pytest.mark.parametrize(
    "name, shown",
    [
        ("_old", " _old"),
        ("lr_$5e-4$", "lr_$5e-4$"),
        (r"a\$b$", r"a\$b$"),
        ("\u4e2d\u6587", r"\u4e2d\u6587"),
    ],
)
def test_names_are_drawn_as_they_stand(tmp_path, monkeypatch, name, shown):
    drawn = []
    monkeypatch.setattr("Utils.drawing.plots.save", lambda figure, path: drawn.append(figure))
    curve = np.array([1.0, 2.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_curves({name: curve}, tmp_path / "a.svg", "landmarks")
        draw_curves({name: curve, "other": curve}, tmp_path / "b.svg", "landmarks")
        for figure in drawn:
            figure.savefig(tmp_path / "c.svg")
    title = drawn[0].axes[0].get_title(loc="right")
    legend = [text.get_text() for text in drawn[1].axes[0].get_legend().get_texts()]
    for text in (title, legend[0]):
        seen, is_formula = Text()._preprocess_math(text)
        assert (seen, is_formula) == (f"{shown}: 2.00% over 2", False)
