"""What `--mirror` makes of the landmarks."""

import numpy as np
import torch

from Networks.inference.detector import LandmarkDetector
from tests.Networks.inference.test_steadiness import Spots
from tests.tiny import MARKS, tiny_options
from Utils.relations import Relations
from Utils.storage.experiment import Experiment


class Shifted(torch.nn.Module):
    """The picture's brightness, a cell too far to the right, and five cells too far to the left."""

    def forward_heatmaps(self, pictures):
        bright = torch.nn.functional.avg_pool2d((pictures > 0.5).float().mean(dim=1, keepdim=True), 4)
        return torch.cat([bright.roll(1, dims=3), bright.roll(-5, dims=3)], dim=1)


def test_relations_are_learned_and_landmarks_averaged_with_the_mirrored_picture(tmp_path):
    options = tiny_options(tmp_path, "readout=centroid", mirror=True)
    detector = LandmarkDetector(Shifted(), Spots(40, 4), options, np.array([0, 1]), iteration=5)
    learned = detector.learn_relations(Experiment(tmp_path, "tiny"))
    assert sorted(learned.telling) == [0, 1]
    assert learned.mirror == [(0, 0)]  # mirrored, 1 is nearest to 0, but 0 is not to 1
    assert Relations.load(tmp_path / "tiny/CheckPoints/LandmarkRelations5.json", detector.active) == learned

    pictures = np.stack([detector.database.read(detector.database.test, i) for i in range(4)])
    pictures = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    spots = MARKS[5] + detector.database.shifts[40:]
    plain, confidence = detector.run(pictures)
    mirrored, other = detector.run_once(pictures, mirrored=True)
    detector.counterparts = learned.counterparts(detector.active)
    averaged, mean = detector.run(pictures)
    np.testing.assert_allclose(averaged[:, 0], (plain[:, 0] + mirrored[:, 0]) / 2)
    np.testing.assert_allclose(mean[:, 0], (confidence[:, 0] + other[:, 0]) / 2)
    assert np.abs(averaged[:, 0] - spots).max() < np.abs(plain[:, 0] - spots).max()
    np.testing.assert_array_equal(averaged[:, 1], plain[:, 1])
