"""Step two: loss by hand, active clusters, merging, and the files of a run."""

import numpy as np
import pytest
import torch

from Databases.posed import POSES, pose_maps
from Networks.inference.detector import LandmarkDetector
from Networks.inference.landmarks import landmarks_of
from Networks.second_step import (
    active_clusters,
    heatmap_loss,
)
from tests.tiny import TinyDatabase, first_step, second_step, tiny_options
from Utils.drawing.reports import report_failure
from Utils.keypoints import KeypointTable
from Utils.runtime.errors import UserError
from Utils.storage.experiment import Experiment
from Utils.storage.files import dump_pickle, load_checkpoint, save_checkpoint

EDGE, CORNER = 0.41111228, 0.16901332


def test_heatmap_loss_by_hand():
    heatmaps = torch.zeros(2, 3, 4, 4)
    heatmaps[1, 2, 0, 0] = 0.5
    heatmaps[0, 0] = 7.0  # this cluster has no point in the picture, so that its map does not count
    keypoints = torch.tensor([[0, 1, 1, 1], [1, 2, 0, 0]])
    whole = 1 + 4 * EDGE**2 + 4 * CORNER**2
    corner = 0.5**2 + 2 * EDGE**2 + CORNER**2
    assert heatmap_loss(heatmaps, keypoints).item() == pytest.approx((whole + corner) / 2 / 16, rel=1e-5)


def test_a_batch_without_keypoints_gives_no_loss():
    heatmaps = torch.rand(2, 3, 4, 4, requires_grad=True)
    loss = heatmap_loss(heatmaps, torch.zeros((0, 4), dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(heatmaps.grad).all()


def test_active_clusters_have_more_than_the_least_points():
    points = np.array([[1, 1, 0], [2, 2, 2], [3, 3, 5]])
    table = KeypointTable.from_dict({"a": points, "b": points[:2]})
    assert active_clusters(table, 8, 1).tolist() == [0, 2]
    assert active_clusters(table, 8, 0).tolist() == [0, 2, 5]
    with pytest.raises(UserError, match="the largest has 2"):
        active_clusters(table, 8, 2)


SETTINGS = ("iterations_before_merging=3", "total_iterations=14", "gradient_accumulation=2", "cluster_overlap=0.3")
SETTINGS += ("learning_rate_steps=4,10",)


def prepare(folder) -> Experiment:
    """What step one leaves: a checkpoint and keypoints."""
    database = TinyDatabase()
    experiment = Experiment(folder, "tiny")
    experiment.open()
    step = first_step(database, tiny_options(folder), experiment)
    step.iteration, step.relabelled = 9, True
    step.save_checkpoint()
    database.keypoints().save(experiment.updated_keypoints(9))
    return experiment


def run(folder, *settings) -> None:
    options = tiny_options(folder, "minutes_between_checkpoints=0", *SETTINGS, *settings)
    second_step(TinyDatabase(), options, Experiment(folder, "tiny")).run()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """24 pictures in batches of 2 x 4: epochs of 3 iterations, merging from the second one on."""
    folder = tmp_path_factory.mktemp("whole")
    prepare(folder)
    run(folder)
    return folder


def test_files_of_a_finished_run(uninterrupted):
    experiment = Experiment(uninterrupted, "tiny")
    assert [n for n, _ in experiment.second_step_checkpoints()] == [1, 2, 3, 4, 5]
    assert [n for n, _ in experiment.numbered("MergedKeypoints", ".pickle")] == [6, 12]
    for epoch, rate in ((3, 5e-5), (5, 5e-6)):
        checkpoint = load_checkpoint(experiment.second_step_checkpoint(epoch))
        assert checkpoint["optimizer"]["param_groups"][0]["lr"] == pytest.approx(rate)
    assert checkpoint["iteration"] == 14
    assert {"state_dict", "optimizer", "iteration", "active_channels", "schedualer"} <= set(checkpoint)
    assert checkpoint["schedualer"]["last_epoch"] == 14
    assert checkpoint["state_dict"]["l1.weight"].shape == (12, 32, 1, 1)
    assert checkpoint["active_channels"].dtype.kind == "i"
    merged = KeypointTable.load(experiment.merged_keypoints(12))
    assert set(np.unique(merged.clusters())) == set(checkpoint["active_channels"].tolist())
    assert not experiment.second_step_state().exists()


def test_step_two_begins_with_step_one_s_weights(tmp_path):
    experiment = prepare(tmp_path)
    step = second_step(TinyDatabase(), tiny_options(tmp_path), experiment)
    first = load_checkpoint(experiment.first_step_checkpoint(9))["state_dict"]
    for name, tensor in step.network.state_dict().items():
        if not name.startswith("l1."):
            assert torch.equal(tensor, first[name])


@pytest.mark.parametrize(
    ("settings", "of_first", "of_second"),
    [
        ((), 1e-5, 1e-5),
        (("recipe=consensus",), 1e-5, 0.0),
        (("weight_decay=0.01", "heatmap_weight_decay=0.02"), 0.01, 0.02),
    ],
)
def test_each_step_has_its_own_weight_decay(tmp_path, settings, of_first, of_second):
    experiment, options = prepare(tmp_path), tiny_options(tmp_path, *settings)
    for step, decay in ((first_step, of_first), (second_step, of_second)):
        groups = step(TinyDatabase(), options, experiment).optimizer.param_groups
        assert [group["weight_decay"] for group in groups] == [decay]


def test_a_round_of_step_one_has_to_have_ended(tmp_path):
    """Killed between its checkpoint and its labels, step one leaves the labels of the round before."""
    experiment = prepare(tmp_path)
    content = load_checkpoint(experiment.first_step_checkpoint(9))
    save_checkpoint({**content, "relabelled": False}, experiment.first_step_checkpoint(9))
    with pytest.raises(UserError, match="Train_Firststep.py end it with --resume"):
        second_step(TinyDatabase(), tiny_options(tmp_path), experiment)


def test_poses_of_step_one_have_to_be_there(tmp_path):
    database, experiment, options = TinyDatabase(), prepare(tmp_path), tiny_options(tmp_path, "recipe=consensus")
    database.poses = pose_maps(POSES["any"])
    with pytest.raises(UserError, match="Poses.pickle, which says how objects stand, is missing"):
        second_step(database, options, experiment)
    dump_pickle({}, experiment.poses())
    second_step(database, options, experiment)


def test_the_architecture_need_not_be_told_again(tmp_path):
    experiment = prepare(tmp_path)
    options = tiny_options(tmp_path)
    options.hyper.__dict__.update(width=256, image_size=256)
    options.hyper._given = frozenset()
    step = second_step(TinyDatabase(), options, experiment)
    assert (step.hyper.width, step.hyper.image_size) == (32, 64)


def test_wrong_files_are_named(tmp_path, uninterrupted):
    experiment = Experiment(tmp_path, "tiny")
    experiment.open()
    with pytest.raises(UserError, match="Train_Firststep.py"):
        second_step(TinyDatabase(), tiny_options(tmp_path), experiment)
    prepare(tmp_path)
    with pytest.raises(UserError, match="Train_Secondstep.py"):
        LandmarkDetector.from_experiment(experiment, tiny_options(tmp_path), TinyDatabase())
    # A checkpoint of step one under the name of one of step two.
    content = load_checkpoint(experiment.first_step_checkpoint(9))
    save_checkpoint(content, experiment.second_step_checkpoint(1))
    with pytest.raises(UserError, match="not a checkpoint of step two"):
        LandmarkDetector.from_experiment(experiment, tiny_options(tmp_path), TinyDatabase())
    # A network of another width, which the user insists on.
    whole = Experiment(uninterrupted, "tiny")
    with pytest.raises(UserError, match="width=64"):
        LandmarkDetector.from_experiment(whole, tiny_options(tmp_path, "width=64"), TinyDatabase())
    # Tensors of another shape.
    content = load_checkpoint(whole.second_step_checkpoint(5))
    content["state_dict"]["conv1.weight"] = torch.zeros(3, 3)
    save_checkpoint(content, experiment.second_step_checkpoint(2))
    with pytest.raises(UserError, match="conv1.weight"):
        LandmarkDetector.from_experiment(experiment, tiny_options(tmp_path), TinyDatabase())


def test_predictions_are_in_the_256_pixel_crop(tmp_path, uninterrupted, monkeypatch):
    database, options = TinyDatabase(), tiny_options(tmp_path)
    detector = LandmarkDetector.from_experiment(Experiment(uninterrupted, "tiny"), options, database)
    active = detector.active
    assert detector.iteration == 14
    heatmaps = torch.full((1, 12, 16, 16), 0.1)
    heatmaps[:, active[0], 5, 3] = 0.9
    monkeypatch.setattr(detector.network, "forward_heatmaps", lambda x: heatmaps.expand(len(x), -1, -1, -1))
    predictions = landmarks_of(detector)
    assert predictions.is_test.tolist() == [False] * 24 + [True] * 8
    landmarks = predictions.points
    assert landmarks.shape == (32, len(active), 2)
    # Cell (3, 5) is pixel (12, 20) of the 64-pixel input, four times that in the 256-pixel crop.
    assert landmarks[0, 0].tolist() == [48, 80]
    assert np.isnan(landmarks[:, 1:]).all()
    points, confidences, maps = detector.predict(database.test, "Test")
    assert points[3, 0].tolist() == [12, 20]
    assert confidences[3, 0] == pytest.approx(0.9)
    np.testing.assert_allclose(maps[0], [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_allclose(predictions.groundtruth[24:], 4 * database.test.landmarks)


def test_a_merge_is_said_where_something_changed(tmp_path, monkeypatch):
    """Clusters that coincide with others are named once, and only active ones are counted."""
    experiment = prepare(tmp_path)
    step = second_step(TinyDatabase(), tiny_options(tmp_path), experiment)
    step.active = step.active[:4]
    joins = np.arange(12)
    said = []
    monkeypatch.setattr(experiment, "log", said.append)
    monkeypatch.setattr("Networks.second_step.merge_clusters", lambda *_: joins)
    step.merge(np.zeros((24, 4, 2)), np.zeros((24, 4)))
    assert said == []
    joins[2] = 1
    step.merge(np.zeros((24, 4, 2)), np.zeros((24, 4)))
    assert len(said) == 1
    assert "merged 2 into 1; 3 active clusters" in said[0]
    assert "keypoints per picture in 3 clusters" in said[0]


def test_step_two_says_that_it_found_nothing(tmp_path, capsys, monkeypatch):
    experiment = prepare(tmp_path)
    step = second_step(TinyDatabase(), tiny_options(tmp_path, "total_iterations=1"), experiment)
    with torch.no_grad():
        for parameter in step.network.parameters():
            parameter.zero_()
    step.iteration = 1
    step.run()
    detector = LandmarkDetector(step.learned, step.database, step.options, step.active)
    assert report_failure(experiment, detector.found_share(step.database.training))
    assert "Failed: no landmark is found in over 80% of the pictures, the best one in 0%" in capsys.readouterr().out
