"""Steadiness: a landmark that follows the picture, and one that keeps its place in the crop."""

import numpy as np
import pytest
import torch

from Networks import second_step
from Networks.inference.detector import LandmarkDetector
from Networks.inference.steadiness import Steadiness, steadiness
from Networks.second_step import SecondStep
from tests.Networks.test_second_step import prepare
from tests.tiny import MARKS, TinyDatabase, tiny_options
from Utils.movement import explained_by_the_others


class Spots(TinyDatabase):
    """Gray pictures with one large white spot at the place of mark 5."""

    def read(self, images, i):
        picture = np.full((64, 64, 3), 60, np.uint8)
        x, y = (MARKS[5] + self.shifts[int(str(images.names[i])[:3])]).astype(int)
        picture[y - 3 : y + 4, x - 3 : x + 4] = 255
        return picture


class TwoMaps(torch.nn.Module):
    """The first map is the picture's brightness, the second always has its maximum in cell (4, 9)."""

    def forward_heatmaps(self, pictures):
        bright = torch.nn.functional.avg_pool2d(pictures.mean(dim=1, keepdim=True), 4)
        fixed = torch.zeros_like(bright)
        fixed[:, :, 9, 4] = 1
        return torch.cat([bright, fixed], dim=1)


def test_a_landmark_follows_the_picture_or_keeps_its_place(tmp_path):
    options = tiny_options(tmp_path, "readout=centroid")
    database = Spots(40, 4)
    found = steadiness(LandmarkDetector(TwoMaps(), database, options, np.array([0, 1])), database.training)
    assert found.found.tolist() == [1, 1]
    assert found.r2[0] > 0.6  # a spot of 7 pixels, a shift of about 3, cells of 4
    assert found.r2[1] == pytest.approx(0, abs=1e-6)
    assert found.error[0] < 0.5 * found.error[1]
    others_r2 = explained_by_the_others(found.points).r2
    assert others_r2[0] < 0.1  # the other one knows nothing of it
    assert others_r2[1] == 0  # never moves


def test_landmarks_in_the_same_place_explain_each_other(tmp_path):
    options = tiny_options(tmp_path, "readout=centroid")
    detector = LandmarkDetector(TwoMaps(), Spots(80, 4), options, np.array([0, 0, 1]))
    found = steadiness(detector, detector.database.training)
    others_r2 = explained_by_the_others(found.points).r2
    assert (others_r2[:2] > 0.9).all()
    assert others_r2[2] == 0


@pytest.mark.parametrize(("least", "stay"), [(0.2, [0, 2]), (0.95, [2])])
def test_unsteady_clusters_are_left_out_at_the_end(tmp_path, monkeypatch, least, stay):
    """The steadiest one stays in any case; a cluster that is never found is not steady."""
    experiment = prepare(tmp_path)
    options = tiny_options(tmp_path, "recipe=consensus", f"least_steadiness={least}")
    step = SecondStep(TinyDatabase(), options, experiment)
    step.active = np.array([0, 1, 2, 3])
    r2 = np.array([0.5, 0.1, 0.9, np.nan])
    monkeypatch.setattr(
        second_step, "steadiness", lambda *_: Steadiness(np.ones(4), np.zeros(4), r2, np.zeros((0, 4, 2)))
    )
    step.drop_unsteady()
    assert step.active.tolist() == stay
