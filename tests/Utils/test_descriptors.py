import signal
import textwrap
from pathlib import Path

import numpy as np
import pytest

from Utils.descriptors import DescriptorStore

ROOT = Path(__file__).parents[2]


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return rng.standard_normal((1000, 8), dtype=np.float32)


def fill(store, rows, step=37):
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        numbers = np.arange(start, start + len(part))
        points = np.stack([numbers, -numbers], axis=1)
        store.append(part, points, numbers // 10, flags=numbers % 2 == 0)


def test_rows_come_back(rows, tmp_path):
    with DescriptorStore(tmp_path, 8) as store:
        fill(store, rows)
        assert len(store) == 1000
        np.testing.assert_array_equal(store.read(0, 1000), rows)
        assert store.read(3, 5).dtype == np.float32
        pieces = list(store.chunks(300))
        assert [start for start, _ in pieces] == [0, 300, 600, 900]
        np.testing.assert_array_equal(np.concatenate([piece for _, piece in pieces]), store.read(0, 1000))
        assert store.column("point")[7].tolist() == [7, -7]
        assert store.column("image")[[0, 9, 10, 999]].tolist() == [0, 0, 1, 99]
        assert store.column("flag")[:3].tolist() == [True, False, True]
        offsets = store.image_offsets(102)
        assert offsets[:3].tolist() == [0, 10, 20]
        assert offsets[-3:].tolist() == [1000, 1000, 1000]


def test_sample_is_sorted_and_depends_on_the_seed_alone(rows, tmp_path):
    with DescriptorStore(tmp_path, 8) as store:
        fill(store, rows)
        chosen, values = store.sample(100, seed=[3, 1])
        assert (np.diff(chosen) > 0).all()
        np.testing.assert_array_equal(values, rows[chosen])
        assert store.sample(100, seed=[3, 1])[0].tolist() == chosen.tolist()
        assert store.sample(100, seed=[3, 2])[0].tolist() != chosen.tolist()
        assert len(store.sample()[0]) == 1000
        odd = np.arange(1000) % 2 == 1
        assert store.sample(50, among=odd)[0].min() >= 1
        assert (store.sample(50, among=odd)[0] % 2 == 1).all()


def test_images_must_not_go_down(tmp_path):
    with DescriptorStore(tmp_path, 2) as store:
        store.append(np.zeros((2, 2)), np.zeros((2, 2)), [3, 3])
        store.append(np.zeros((0, 2)), np.zeros((0, 2)), [])
        with pytest.raises(ValueError, match="order"):
            store.append(np.zeros((1, 2)), np.zeros((1, 2)), [2])
        with pytest.raises(ValueError, match="order"):
            store.append(np.zeros((2, 2)), np.zeros((2, 2)), [5, 4])


def test_empty_store(tmp_path):
    with DescriptorStore(tmp_path / "new" / "folder", 4) as store:
        assert store.sample()[1].shape == (0, 4)
        assert store.image_offsets(2).tolist() == [0, 0, 0]
        assert list(store.chunks()) == []


def test_appended_arrays_may_be_reused(tmp_path):
    with DescriptorStore(tmp_path, 2) as store:
        batch = np.ones((1, 2), np.float32)
        store.append(batch, np.zeros((1, 2)), [0])
        batch[:] = 7
        assert store.read(0, 1).tolist() == [[1, 1]]


def test_file_has_no_name_once_open(rows, tmp_path):
    store = DescriptorStore(tmp_path, 8)
    fill(store, rows)
    assert list(tmp_path.iterdir()) == []
    store.close()
    store.close()


CRASH = """
    import os, signal, sys
    import numpy as np
    from Utils.descriptors import DescriptorStore
    store = DescriptorStore(sys.argv[1], 64)
    for i in range(20):
        store.append(np.ones((1000, 64)), np.ones((1000, 2)), np.full(1000, i))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_stays_after_kill_9(launcher, tmp_path):
    outcome = launcher.run(ROOT, ["-c", textwrap.dedent(CRASH), tmp_path])
    assert outcome.code == -signal.SIGKILL, outcome
    assert list(tmp_path.iterdir()) == []


FULL = """
    import resource, signal, sys
    import numpy as np
    from Utils.descriptors import DescriptorStore
    from Utils.runtime.errors import exit_cleanly

    @exit_cleanly
    def main():
        store = DescriptorStore(sys.argv[1], 64)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        for i in range(100):
            store.append(np.ones((1000, 64)), np.ones((1000, 2)), np.full(1000, i))

    main()
"""


def test_no_room_is_one_line(launcher, tmp_path):
    outcome = launcher.run(ROOT, ["-c", textwrap.dedent(FULL), tmp_path])
    assert outcome.code == 2, outcome
    assert "cannot write descriptors" in outcome.errors
    assert len(outcome.errors.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
