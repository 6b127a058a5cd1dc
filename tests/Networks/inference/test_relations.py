"""What the training pictures tell about landmarks, and what `--mirror` makes of it."""

import numpy as np
import pytest
import torch

from Networks.inference.detector import LandmarkDetector
from Networks.inference.relations import Relations
from tests.Networks.inference.test_steadiness import Spots
from tests.tiny import MARKS, tiny_options
from Utils.runtime.errors import UserError
from Utils.storage.experiment import Experiment


class Shifted(torch.nn.Module):
    """The picture's brightness, a cell too far to the right, and five cells too far to the left."""

    def forward_heatmaps(self, pictures):
        bright = torch.nn.functional.avg_pool2d((pictures > 0.5).float().mean(dim=1, keepdim=True), 4)
        return torch.cat([bright.roll(1, dims=3), bright.roll(-5, dims=3)], dim=1)


@pytest.fixture
def detector(tmp_path) -> LandmarkDetector:
    options = tiny_options(tmp_path, "readout=centroid")
    return LandmarkDetector(Shifted(), Spots(40, 4), options, np.array([0, 1]), iteration=5)


def test_relations_are_learned_and_kept(detector, tmp_path):
    experiment = Experiment(tmp_path, "tiny")
    learned = detector.learn_relations(experiment)
    assert sorted(learned.telling) == [0, 1]
    assert learned.mirror == [(0, 0)]  # mirrored, 1 is nearest to 0, but 0 is not to 1
    path = experiment.checkpoints / "LandmarkRelations5.json"
    assert Relations.load(path, detector.active) == learned
    with pytest.raises(UserError, match=r"Relations5\.json is of another network; remove it"):
        Relations.load(path, np.array([1, 2]))
    path.write_text('{"telling": [0')
    with pytest.raises(UserError, match=r"Relations5\.json is damaged; remove it"):
        Relations.load(path, detector.active)


def test_counterparts_among_some_landmarks():
    relations = Relations(telling=[4, 2, 9], mirror=[(2, 9), (4, 4)])
    assert relations.counterparts(np.array([2, 4, 9])).tolist() == [2, 1, 0]
    assert relations.counterparts(np.array([2, 4])).tolist() == [-1, 1]


def test_mirror_averages_with_the_mirrored_picture(detector):
    pictures = np.stack([detector.database.read(detector.database.test, i) for i in range(4)])
    pictures = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    spots = MARKS[5] + detector.database.shifts[40:]
    plain, confidence = detector.run(pictures)
    mirrored, other = detector.run_once(pictures, mirrored=True)
    detector.options.mirror, detector.counterparts = True, np.array([0, -1])
    averaged, mean = detector.run(pictures)
    np.testing.assert_allclose(averaged[:, 0], (plain[:, 0] + mirrored[:, 0]) / 2)
    np.testing.assert_allclose(mean[:, 0], (confidence[:, 0] + other[:, 0]) / 2)
    assert np.abs(averaged[:, 0] - spots).max() < np.abs(plain[:, 0] - spots).max()
    np.testing.assert_array_equal(averaged[:, 1], plain[:, 1])
