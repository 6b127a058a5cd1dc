"""Training samples: places, pairs, and that they depend on nothing but seed and position."""

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from Databases import loading, samples
from Databases.augmentation import Strength
from Databases.loading import training_batches
from Databases.posed import POSES, pose_maps
from Databases.samples import FirstStepSamples, SecondStepSamples, correspondences
from tests.manual import ROOT
from tests.tiny import MARKS, TinyDatabase
from Utils.runtime.errors import UserError

STILL = Strength(blur=0, contrast=(1, 1), noise=0, multiply=(1, 1), hue=0, scale=(1, 1), shift=0, rotation=0)
CPU = torch.device("cpu")


def first_step(database=None, **changes):
    database = database or TinyDatabase()
    values = {"image_size": 64, "seed": 3, **changes}
    return FirstStepSamples(database, database.keypoints(), **values)


def test_pairs_of_a_hand_made_case():
    points_1 = np.array([[1, 1, 7], [2, 2, 3], [3, 3, 5]])
    points_2 = np.array([[9, 9, 5], [8, 8, 4], [7, 7, 7]])
    rows_1, rows_2, pairs, positive = correspondences(points_1, points_2, np.random.default_rng(0))
    # Clusters 5 and 7 are in both: rows 2, 0 of the first picture and 0, 2 of the second.
    assert rows_1.tolist() == [2, 0]
    assert rows_2.tolist() == [0, 2]
    assert pairs.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert positive.tolist() == [True, False, False, True]


def test_no_common_cluster_makes_no_pair():
    points = np.array([[1, 1, 7]])
    _, _, pairs, positive = correspondences(points, points + (0, 0, 1), np.random.default_rng(0))
    assert pairs.shape == (0, 2)
    assert positive.shape == (0,)


def test_at_most_3000_pairs_with_all_positive_ones():
    points = np.column_stack([np.arange(60), np.arange(60), np.arange(60)])
    _, _, pairs, positive = correspondences(points, points[::-1], np.random.default_rng(0))
    assert len(pairs) == 3000
    assert positive.sum() == 60
    assert len(np.unique(pairs, axis=0)) == 3000


def test_keypoints_follow_the_picture():
    """The pixel at each keypoint of an augmented crop has the colour of its mark."""
    database = TinyDatabase()
    still_colours = Strength(blur=0, contrast=(1, 1), noise=0, multiply=(1, 1), hue=0, scale=(0.9, 1.2))
    batch = first_step(database)
    batch.strength = still_colours
    right = total = 0
    for position in range(20):
        rng = batch.rng_at(position)
        pixels, points = batch.augmented(position, rng)
        inside = ((points[:, :2] >= 1) & (points[:, :2] <= 14)).all(axis=1)
        for x, y, cluster in np.rint(points[inside]).astype(int):
            patch = pixels[4 * y - 3 : 4 * y + 4, 4 * x - 3 : 4 * x + 4].reshape(-1, 3).astype(int)
            colour = database.colours[cluster].astype(int)
            right += (np.abs(patch - colour).max(axis=1) < 12).any()
            total += 1
    assert total > 150
    assert right / total > 0.97


def test_a_still_augmentation_gives_the_stored_keypoints():
    database = TinyDatabase()
    batch = first_step(database)
    batch.strength = STILL
    pixels, points = batch.augmented(2, batch.rng_at(0))
    np.testing.assert_array_equal(points, database.keypoints().of(2).astype(np.int64))
    assert np.abs(pixels.astype(int) - database.read(database.training, 2)).max() <= 1


def test_a_picture_in_a_wrong_pose_has_no_keypoints_on_the_grid():
    database = TinyDatabase()
    database.poses = pose_maps(POSES["any"])
    upright, turned = (
        SecondStepSamples(database, database.keypoints(), np.arange(12), 64, 3, replace(STILL, wrong_pose=share))
        for share in (0.0, 1.0)
    )
    for position in range(5):
        (plain, points), (pixels, nowhere) = upright[position], turned[position]
        assert (points[:, :2] >= 0).all()
        assert (nowhere[:, :2] < -1).all()
        assert nowhere[:, 2].tolist() == points[:, 2].tolist()
        assert pixels.mean() == pytest.approx(plain.mean(), rel=0.02)
        assert np.abs(pixels.astype(int) - plain).mean() > 5
    database.poses = TinyDatabase.poses
    one_way_up = SecondStepSamples(database, database.keypoints(), np.arange(12), 64, 3, turned.strength)
    np.testing.assert_array_equal(one_way_up[0][1], upright[0][1])


def test_samples_are_pure_functions_of_their_position():
    one, other = first_step(), first_step()
    for position in (7, 3, 30, 7):
        a, b = one[position], other[position]
        for x, y in zip(a, b):
            np.testing.assert_array_equal(x, y)
    assert any(not np.array_equal(x, y) for x, y in zip(one[7], one[8]))
    assert any(not np.array_equal(x, y) for x, y in zip(one[7], first_step(seed=4)[7]))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_do_not_depend_on_workers_or_where_they_begin(num_workers, monkeypatch):
    monkeypatch.setattr(loading, "available_cores", lambda: 4)
    expected = list(training_batches(first_step(), 0, 4, 3, 0, CPU))
    found = list(training_batches(first_step(), 2, 4, 3, num_workers, CPU))
    assert len(found) == 2
    for a, b in zip(expected[2:], found):
        for x, y in zip(vars(a).values(), vars(b).values()):
            assert torch.equal(x, y)


@pytest.mark.parametrize(
    ("device", "cores", "expected"), [("cuda", 2, 5), ("cpu", 2, 0), ("cpu", 4, 3), ("cpu", 16, 5)]
)
def test_workers_beside_a_network(device, cores, expected, monkeypatch):
    monkeypatch.setattr(loading, "available_cores", lambda: cores)
    assert loading._workers_beside(torch.device(device), 5) == expected


IN_LITTLE_SHARED_MEMORY = """
import subprocess, torch
from Databases import loading
from tests.tiny import TinyDatabase
from Utils.runtime.errors import exit_cleanly
loading.available_cores = lambda: 8
@exit_cleanly
def main():
    database = TinyDatabase(100)
    for kibibytes in (512, 24):  # a batch has 6 MB
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", "/dev/shm"], check=True)
        batches = loading.crop_batches(database, database.training, 256, 32, 2, torch.device("cpu"))
        print(sum(len(pictures) for pictures, _, _ in batches), flush=True)
main()
"""


def test_workers_need_no_shared_memory_but_for_semaphores():
    private = ["unshare", "--user", "--map-root-user", "--mount"]
    small = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", "/dev/shm"]
    if shutil.which("unshare") is None or subprocess.run([*private, *small], capture_output=True).returncode:
        pytest.skip("this machine lets no process have a /dev/shm of its own")
    command = [*private, sys.executable, "-W", "ignore", "-c", IN_LITTLE_SHARED_MEMORY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "100\n"), done.stderr
    assert "error: 2 worker processes cannot be started (No space left on device); use a smaller" in done.stderr


def test_two_shards_make_the_whole_batch():
    whole = next(training_batches(first_step(), 5, 6, 4, 0, CPU))
    halves = [next(training_batches(first_step(), 5, 6, 4, 0, CPU, shard=(r, 2))) for r in (0, 1)]
    together = torch.stack([half.pictures.reshape(2, 2, 3, 64, 64) for half in halves], dim=1).reshape(8, 3, 64, 64)
    assert torch.equal(together, whole.pictures)
    assert sum(len(half.pairs) for half in halves) == len(whole.pairs)


def test_an_epoch_passes_through_every_picture():
    batch = first_step()
    assert sorted(batch.image_at(i) for i in range(24)) == list(range(24))
    assert [batch.image_at(i) for i in range(24)] != [batch.image_at(i) for i in range(24, 48)]


def test_an_origin_moves_the_epochs():
    database = TinyDatabase()
    active = np.arange(12)
    plain = SecondStepSamples(database, database.keypoints(), active, 64, 3)
    moved = SecondStepSamples(database, database.keypoints(), active, 64, 3, origin=(2, 100))
    assert [moved.image_at(100 + i) for i in range(24)] == [plain.image_at(48 + i) for i in range(24)]


def test_pictures_of_a_pair_are_the_same_half_of_the_time():
    batch = first_step()
    same = 0
    for position in range(200):
        rng = batch.rng_at(position)
        same += rng.random() >= 0.5
    assert 70 < same < 130


def test_batch_layout():
    batch = next(training_batches(first_step(), 0, 1, 3, 0, CPU))
    assert batch.pictures.shape == (6, 3, 64, 64)
    assert batch.pictures.dtype == torch.uint8
    assert batch.pictures.is_contiguous(memory_format=torch.channels_last)
    assert set(batch.keypoints[:, 0].tolist()) <= set(range(6))
    assert batch.keypoints[:, 1:].max() < 16
    first, second = batch.ends[batch.pairs[:, 0], 0], batch.ends[batch.pairs[:, 1], 0]
    assert torch.equal(first % 2, torch.zeros_like(first))
    assert torch.equal(second, first + 1)
    # Sample by sample: m positive pairs, m (m - 1) negative ones.
    for b in range(3):
        of_sample = first == 2 * b
        m = int(batch.positive[of_sample].sum())
        assert int((~batch.positive[of_sample]).sum()) == m * (m - 1)


def test_step_two_keeps_active_clusters_only():
    database = TinyDatabase()
    batch = SecondStepSamples(database, database.keypoints(), np.array([2, 5]), 64, 3)
    found = next(training_batches(batch, 0, 1, 8, 0, CPU))
    assert found.pictures.shape == (8, 3, 64, 64)
    assert set(found.keypoints[:, 1].tolist()) == {2, 5}


def test_pictures_with_few_keypoints_are_left_out():
    database = TinyDatabase()
    table = database.keypoints()
    images = table.images()
    few = table.keep((images != 4) | (table.clusters() < samples.MIN_KEYPOINTS - 1))
    assert 4 not in FirstStepSamples(database, few, 64, 3).eligible
    with pytest.raises(UserError, match="9 keypoints"):
        FirstStepSamples(database, table.keep(table.clusters() < 8), 64, 3)


def test_gray_batches_are_grouped_by_size_and_zoomed():
    database = TinyDatabase()
    read = database.read
    database.read = lambda images, i: read(images, i)[: 64 - 8 * (i % 2)]
    groups = next(loading.gray_batches(database, database.training, 64, (1.0, 2.0), 5, 0, CPU))
    assert [group[0].shape for group in groups] == [(3, 2, 64, 64), (2, 2, 56, 64)]
    assert [group[2].tolist() for group in groups] == [[0, 2, 4], [1, 3]]
    plain, zoomed = groups[0][0][0].numpy()
    # Zoom 2 about the centre: pixel (x, y) shows what was half as far from the centre.
    np.testing.assert_allclose(zoomed[1:-1:2, 1:-1:2][8:24, 8:24], plain[16:48, 16:48][8:24, 8:24], atol=255)
    x, y = (MARKS[5] + database.shifts[0]).astype(int)
    assert abs(int(zoomed[2 * y - 32, 2 * x - 32]) - int(plain[y, x])) <= 1
