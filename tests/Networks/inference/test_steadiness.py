"""Steadiness: a landmark that follows the picture, and one that keeps its place in the crop."""

import numpy as np
import pytest
import torch

from Databases.posed import POSES, pose_maps
from Networks.inference.detector import LandmarkDetector
from Networks.inference.steadiness import steadiness
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


class UpperSpot(torch.nn.Module):
    """A map that is the picture's brightness, in the upper half only."""

    def forward_heatmaps(self, pictures):
        bright = torch.nn.functional.avg_pool2d(pictures.mean(dim=1, keepdim=True), 4)
        bright[:, :, 8:] = 0
        return bright


def test_a_landmark_has_to_be_found_again_in_every_pose(tmp_path):
    """The spot is above the middle: turned pictures have it elsewhere, unless the detector looks in all poses."""
    database = Spots(40, 4)
    database.shifts[:, 1] -= 12
    detector = LandmarkDetector(UpperSpot(), database, tiny_options(tmp_path, "readout=centroid"), np.array([0]))
    database.poses = pose_maps(POSES["any"])
    assert steadiness(detector, database.training).steady().tolist() == [True]
    detector.run = lambda pictures: detector.read(detector.network.forward_heatmaps(pictures / 255))
    assert steadiness(detector, database.training).steady().tolist() == [False]


def test_landmarks_in_the_same_place_explain_each_other(tmp_path):
    options = tiny_options(tmp_path, "readout=centroid")
    detector = LandmarkDetector(TwoMaps(), Spots(80, 4), options, np.array([0, 0, 1]))
    found = steadiness(detector, detector.database.training)
    others_r2 = explained_by_the_others(found.points).r2
    assert (others_r2[:2] > 0.9).all()
    assert others_r2[2] == 0
