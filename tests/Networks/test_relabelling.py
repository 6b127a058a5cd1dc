"""New keypoints of the FAN: which stay beside the previous ones, and what the store holds of them."""

import numpy as np
import pytest
import torch

from Networks import relabelling
from Networks.relabelling import store_fan_keypoints
from tests.tiny import TinyDatabase, tiny_options
from Utils.descriptors import DescriptorStore
from Utils.keypoints import KeypointTable


def test_previous_keypoints_win_where_two_meet():
    previous = KeypointTable.from_dict({"a": [[5, 5, 0]], "b": np.zeros((0, 3))})
    points = torch.tensor([[6.0, 6.0], [9.0, 5.0], [6.0, 6.0]])
    scores = torch.tensor([0.99, 0.3, 0.5])
    owners = torch.tensor([0, 0, 1])
    kept, of = relabelling._join_previous(previous, np.array([0, 1]), points, scores, owners)
    # (6, 6) of the first picture lies beside the previous (5, 5); in the second picture nothing is there.
    assert kept.tolist() == [[5, 5], [9, 5], [6, 6]]
    assert of.tolist() == [0, 0, 1]


class Marked(torch.nn.Module):
    """Answers a keypoint at cell (3, 5) and a weaker one at (9, 5); the descriptor of a cell is (x, y)."""

    def forward(self, pictures):
        detector = torch.zeros(len(pictures), 1, 16, 16)
        detector[:, 0, 5, 3], detector[:, 0, 5, 9] = 0.9, 0.4
        y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
        return detector, torch.stack([x, y]).expand(len(pictures), 2, 16, 16)


@pytest.mark.parametrize("confidence", [0.3, 0.5])
def test_store_has_the_detections_and_their_unit_descriptors(tmp_path, confidence):
    database, options = TinyDatabase(3, 1), tiny_options(tmp_path, f"confidence_fan={confidence}")
    with DescriptorStore(tmp_path, 2) as store:
        store_fan_keypoints(Marked(), database, database.training, options, store)
        points, images, descriptors = store.column("point"), store.column("image"), store.read(0, len(store))
    cells = [[3, 5], [9, 5]] if confidence < 0.4 else [[3, 5]]
    assert images.tolist() == [i for i in range(3) for _ in cells]
    assert points.tolist() == cells * 3
    expected = np.array(cells) / np.linalg.norm(cells, axis=1, keepdims=True)
    np.testing.assert_allclose(descriptors, np.tile(expected, (3, 1)), rtol=1e-6)
