"""Files are whole or not there; tests/Utils/storage/test_unpickling.py has those that carry code."""

import errno
import fcntl
import os
import pickle

import numpy as np
import pytest
import torch

from Utils.runtime.errors import UserError
from Utils.storage.files import dump_pickle, held, load_checkpoint, load_pickle, save_checkpoint, writing


def test_writing_replaces_in_one_go(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with writing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failed_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half():
        with writing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_written_files_have_the_usual_rights(tmp_path):
    with writing(tmp_path / "a") as temporary:
        temporary.write_text("x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def refused(number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_drive_without_modes_gets_its_files(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "chmod", refused(number))
    with writing(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a").read_text() == "x"


def test_a_drive_that_cannot_synchronise_gets_its_files_but_a_full_one_says_so(tmp_path, monkeypatch):
    for number in (errno.EINVAL, errno.ENOSYS):
        monkeypatch.setattr(os, "fsync", refused(number))
        with writing(tmp_path / "a") as temporary:
            temporary.write_text(str(number))
        assert (tmp_path / "a").read_text() == str(number)
    for number in (errno.ENOSPC, errno.EIO):
        monkeypatch.setattr(os, "fsync", refused(number))
        with pytest.raises(OSError) as caught, writing(tmp_path / "a") as temporary:
            temporary.write_text("y")
        assert caught.value.errno == number
    assert (tmp_path / "a").read_text() == str(errno.ENOSYS)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_drive_without_locks_is_told_and_used(tmp_path, monkeypatch, capsys, number):
    monkeypatch.setattr(fcntl, "flock", refused(number))
    with held(tmp_path / "lock", "is held"), writing(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert capsys.readouterr().err == (
        f"{tmp_path} is on a drive without locks: run only one process there at a time\n"
    )
    assert (tmp_path / "a").read_text() == "x"


def test_a_lock_that_another_process_holds_is_refused(tmp_path):
    lock = tmp_path / "lock"
    with held(lock, "is held"), pytest.raises(UserError, match="is held"), held(lock, "is held"):
        pass


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_data_come_back_from_a_pickle(tmp_path, protocol):
    content = {
        "a.jpg": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b.jpg": {"prediction": np.full((2, 2), np.nan), "is_it_test_sample": True, "n": np.int64(3)},
        "list": [1, 2.5, "x", None, (1, 2)],
        "empty": np.zeros((0, 3)),
    }
    path = tmp_path / "a.pickle"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    found = load_pickle(path)
    np.testing.assert_array_equal(found["a.jpg"], content["a.jpg"])
    np.testing.assert_array_equal(found["b.jpg"]["prediction"], content["b.jpg"]["prediction"])
    assert found["b.jpg"]["n"] == 3
    assert found["list"] == content["list"]
    assert found["empty"].shape == (0, 3)


def test_numpy_1_names_are_known(tmp_path):
    """Published files were written by NumPy 1, whose array module had another name."""
    content = pickle.dumps(np.arange(3.0), protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path = tmp_path / "old.pickle"
    path.write_bytes(content)
    np.testing.assert_array_equal(load_pickle(path), np.arange(3.0))


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_come_back(tmp_path, zipped):
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.RMSprop(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    content = {
        "state_dict": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "iteration": 7,
        "active_channels": np.array([1, 5]),
        "centroid": torch.rand(4, 3).half(),
        "schedualer": torch.optim.lr_scheduler.MultiStepLR(optimizer, [3]).state_dict(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    path = tmp_path / "a.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found = load_checkpoint(path)
    assert torch.equal(found["state_dict"]["weight"], network.weight)
    assert torch.equal(found["centroid"], content["centroid"])
    assert found["active_channels"].tolist() == [1, 5]
    assert found["optimizer"]["param_groups"] == content["optimizer"]["param_groups"]
    assert found["schedualer"]["milestones"] == {3: 1}


def test_missing_empty_and_cut_files_are_named(tmp_path):
    path = tmp_path / "a.pth"
    with pytest.raises(UserError, match="a.pth does not exist"):
        load_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="a.pth is empty"):
        load_checkpoint(path)
    save_checkpoint({"a": torch.rand(1000)}, path)
    whole = path.read_bytes()
    for length in (1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="a.pth cannot be read"):
            load_checkpoint(path)
    pickled = tmp_path / "a.pickle"
    dump_pickle({"a": np.ones(1000)}, pickled)
    pickled.write_bytes(pickled.read_bytes()[:500])
    with pytest.raises(UserError, match="a.pickle cannot be read"):
        load_pickle(pickled)


def test_garbage_is_named(tmp_path):
    path = tmp_path / "a.pickle"
    path.write_bytes(b"\xff\xd8\xff this is a picture")
    with pytest.raises(UserError, match="a.pickle"):
        load_pickle(path)
    with pytest.raises(UserError, match="a.pickle"):
        load_checkpoint(path)


def test_a_checkpoint_must_be_a_dictionary(tmp_path):
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(UserError, match="list, not a dictionary"):
        load_checkpoint(tmp_path / "a.pth")
