"""Labels of the recipe: matched in every picture, in the bootstrap, in the rounds, and by the maps of step two."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from Databases.posed import POSES, pose_maps
from Networks.consensus import labels
from Networks.inference.steadiness import Steadiness
from tests.Networks.test_second_step import prepare
from tests.tiny import TinyDatabase, second_step, tiny_options
from tests.Utils.test_clustering import OBJECTS_AND_BACKGROUND, blobs, stored
from Utils.assignment import assign
from Utils.clustering import foreground
from Utils.descriptors import DescriptorStore
from Utils.keypoints import KeypointTable
from Utils.merging import merge_clusters

often_apart, frequent_inside = labels.often_apart, labels.frequent_inside


class Painted(torch.nn.Module):
    """A network whose descriptor of a cell tells the colour there, and similar colours well apart."""

    l1 = torch.nn.Conv2d(1, 64, 1)

    def forward(self, pictures):
        colours = torch.nn.functional.avg_pool2d(pictures, 4)
        waves = torch.randn(32, 3, generator=torch.Generator().manual_seed(0)) * 12
        angles = torch.einsum("kc,bcyx->bkyx", waves, colours)
        return torch.zeros(len(pictures), 1, 16, 16), torch.cat([angles.sin(), angles.cos()], dim=1)


def test_a_cluster_is_found_in_pictures_whose_labels_lack_it(tmp_path):
    """Ten pictures know the marks; matching finds them in the others too, and invents no cluster."""
    database = TinyDatabase(40, 1)
    whole = database.keypoints()
    known = whole.keep((whole.images() < 10) & (whole.clusters() != 5))
    options = tiny_options(tmp_path, "recipe=consensus", "match_fraction=0.8", "descriptor_window=1")

    table, clusters = labels.matched_keypoints(Painted(), database, options, known, 14, options.hyper)

    assert clusters.centroids.shape == (14, 64)
    assert set(np.unique(table.clusters())) == set(range(12)) - {5}  # no cluster comes from nothing
    assert clusters.thresholds[5] == 0
    found = table.places(12)
    off = np.abs(found - whole.places(12))[10:].max(axis=2)
    assert (~np.isnan(off)).sum() > 0.6 * 30 * 11
    assert (off[~np.isnan(off)] <= 1).mean() > 0.9


def test_maps_that_are_not_kept_give_the_same_labels(tmp_path, monkeypatch):
    database, options = TinyDatabase(), tiny_options(tmp_path, "recipe=consensus")
    kept, clusters = labels.matched_keypoints(Painted(), database, options, database.keypoints(), 12, options.hyper)
    monkeypatch.setattr(labels, "MAPS_KEPT", 0)
    read, clusters_read = labels.matched_keypoints(
        Painted(), database, options, database.keypoints(), 12, options.hyper
    )
    np.testing.assert_array_equal(kept.points, read.points)
    np.testing.assert_array_equal(clusters.centroids, clusters_read.centroids)


def symmetric_store(folder, pictures: int, missing: int = 0) -> tuple[DescriptorStore, np.ndarray]:
    """Eight marks of each picture, shifted as a whole; those of a mirrored pair look nearly alike.

    Of two marks alike, the wrong one looks a little more like the centroid in every third picture. Picture `missing`
    has no keypoint, and what lies outside the boxes in every picture looks just like mark 0.
    """
    rng = np.random.default_rng(2)
    marks = np.array([(4, 4), (12, 4), (3, 8), (13, 8), (6, 11), (10, 11), (8, 2), (8, 14)], float)
    looks = np.repeat(np.eye(256, dtype=np.float32)[:4], 2, axis=0)
    looks[[0, 2, 4, 6], 8] = looks[[1, 3, 5, 7], 9] = 0.3  # left and right
    centroids = looks / np.linalg.norm(looks, axis=1, keepdims=True)
    store = DescriptorStore(folder)
    for picture in range(pictures):
        if picture == missing:
            continue
        seen = looks.copy()
        if picture % 3 == 1:
            seen[:6, [8, 9]] = seen[:6, [9, 8]]
        seen = np.concatenate([seen, looks[:1]])
        seen /= np.linalg.norm(seen, axis=1, keepdims=True)
        points = np.concatenate([marks + rng.integers(-1, 2, 2), [[15.0, 15.0]]])
        store.append(seen, points, np.full(9, picture), flags=np.arange(9) < 8)
    return store, centroids.astype(np.float32)


def test_clusters_agree_on_generic_keypoints(tmp_path):
    """Where left and right look swapped, the picture's other clusters tell them apart."""
    names = np.array([f"{i:02d}.png" for i in range(30)])
    hyper = tiny_options(tmp_path, "recipe=consensus", "bootstrap_match_fraction=0.9").hyper
    store, centroids = symmetric_store(tmp_path, 30)
    with store:
        inside = store.column("flag")
        table = labels.first_labels(store, names, centroids, inside, hyper)
        by_looks = assign(store, 30, centroids, np.ones(8), among=inside)
    left, right = (table.places(8)[:, column, 0] for column in (0, 1))
    both = ~np.isnan(left) & ~np.isnan(right)
    assert both.sum() >= 25
    assert (left[both] < right[both]).all()
    assert len(table.of(0)) == 0  # no keypoint comes from nothing
    assert not (table.points[:, :2] == 15).all(axis=1).any()
    swapped = by_looks.labels.reshape(-1, 9)[:, 0] == 1
    assert swapped.sum() == 10  # by looks alone


def test_what_is_as_frequent_outside_is_no_foreground(tmp_path):
    objects, background, intruders, strays = (
        blobs(count, [centre], 0.1, seed) for seed, (count, centre) in enumerate(OBJECTS_AND_BACKGROUND)
    )
    inside = np.repeat([True, False, True, False], [40, 40, 30, 18])
    with stored(tmp_path, np.concatenate([objects, background, intruders, strays])) as store:
        kept = frequent_inside(store, inside, ~inside, clusters=2)
        assert kept[:40].all()  # though strays outside look like them: there are fewer than half as many
        assert not kept[40:].any()
        # The paper's rule gives the intruders a centroid of their own, and they stay.
        assert foreground(store, inside, ~inside, outside_clusters=2, inside_clusters=2)[80:110].any()
        assert frequent_inside(store, np.ones(128, bool), np.zeros(128, bool), clusters=2).all()
        assert not frequent_inside(store, np.zeros(128, bool), np.ones(128, bool), clusters=2).any()
        assert not frequent_inside(store, np.zeros(128, bool), np.zeros(128, bool)).any()


def test_labels_are_matched_anew_in_all_pictures(tmp_path, monkeypatch):
    """Maps that know the marks find them in pictures whose labels lack them; from half of the way to merges on."""
    experiment = prepare(tmp_path)
    settings = (
        "recipe=consensus",
        "map_match_fraction=0.8",
        "least_steadiness=0",
        "iterations_before_merging=4",
        "total_iterations=9",
    )
    step = second_step(TinyDatabase(), tiny_options(tmp_path, *settings), experiment)
    whole = step.keypoints
    step.keypoints = whole.keep(whole.images() < 6)
    marks = torch.from_numpy(step.database.training.landmarks / 4).round().long()

    def maps(pictures: torch.Tensor) -> torch.Tensor:
        of_batch = torch.zeros(len(pictures), 12, 16, 16)
        for b, picture in enumerate(pictures):
            i = next(i for i, pixels in enumerate(crops) if torch.equal(pixels, (255 * picture).round().byte()))
            of_batch[b, torch.arange(12), marks[i, :, 1], marks[i, :, 0]] = 0.9
        return of_batch

    crops = [torch.from_numpy(step.database.read(step.database.training, i)).permute(2, 0, 1) for i in range(24)]
    monkeypatch.setattr(step.learned, "forward_heatmaps", maps)
    assert [labels.matching_is_due(iteration, step.hyper) for iteration in (2, 3, 9)] == [False, True, False]
    step.iteration = 3
    step.active = step.active[:10]
    step.finish_epoch()
    assert set(np.unique(step.keypoints.clusters())) == set(range(10))
    assert (step.keypoints.counts()[6:] > 0).mean() > 0.8
    assert 0.7 * 240 < len(step.keypoints.points) < 0.9 * 240
    off = step.keypoints.places(12) - marks.numpy()
    assert np.abs(off[~np.isnan(off)]).max() == 0
    saved = KeypointTable.load(experiment.merged_keypoints(3))
    assert (saved.points == step.keypoints.points).all()


def test_where_poses_are_tried_clusters_are_looked_for_in_the_boxes_only():
    database, maps = TinyDatabase(), torch.zeros(2, 3, 16, 16)
    database.training = replace(database.training, boxes=np.tile([0.0, 0.0, 32.0, 64.0], (24, 1)))
    to_crop, numbers = np.tile(np.eye(2, 3), (2, 1, 1)), np.array([4, 9])
    assert labels.on_object(database, to_crop, numbers, maps).all()
    database.poses = pose_maps(POSES["any"])
    inside = labels.on_object(database, to_crop, numbers, maps)
    assert inside.shape == (2, 1, 16, 16)
    assert inside[..., :9].all()  # up to the cell at 32 pixels
    assert not inside[..., 9:].any()


@pytest.mark.parametrize(("least", "stay"), [(0.2, [0, 2]), (0.95, [2])])
def test_unsteady_clusters_are_left_out_at_the_end(tmp_path, monkeypatch, least, stay):
    """The steadiest one stays in any case; a cluster that is never found is not steady."""
    experiment = prepare(tmp_path)
    step = second_step(TinyDatabase(), tiny_options(tmp_path, "recipe=consensus"), experiment)
    step.active = np.array([0, 1, 2, 3])
    r2 = np.array([0.5, 0.1, 0.9, np.nan])
    monkeypatch.setattr(
        labels, "training_steadiness", lambda *_: Steadiness(np.ones(4), np.zeros(4), r2, np.zeros((0, 4, 2)))
    )
    labels.drop_unsteady(step, least)
    assert step.active.tolist() == stay


def test_clusters_that_stand_apart_in_the_labels_do_not_join():
    # 0 and 1 are labelled in the same four images, far apart in all; 0 and 2 in two, in one of them in one place.
    places = np.full((10, 3, 2), np.nan)
    places[:6, 0] = 50
    places[2:10, 1] = 90
    places[4:, 2] = 50
    places[5, 2] = 80
    apart = often_apart(places, 0.3)
    assert apart.tolist() == [[False, True, False], [True, False, True], [False, True, False]]
    assert not often_apart(places, 4 / 6)[0, 1]  # in four of the six images of the rarer one, which is not more
    assert not often_apart(places, 1.0).any()
    predictions, confidence = np.full((10, 3, 2), 50.0), np.full((10, 3), 0.9)
    counts = np.array([6, 8, 6])
    assert merge_clusters(predictions, confidence, counts, np.arange(3)).tolist() == [1, 1, 1]
    assert merge_clusters(predictions, confidence, counts, np.arange(3), apart=apart).tolist() == [0, 1, 0]
    joins = merge_clusters(predictions[:, 1:], confidence[:, 1:], counts, np.array([0, 2]), apart=apart)
    assert joins.tolist() == [0, 1, 0]
