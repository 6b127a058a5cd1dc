"""Files of strangers are data or are refused: known tricks one by one, and many mutated files.

FUZZ_EXAMPLES=5000 in the environment mutates so many files of each kind; half a minute per thousand of all three.
"""

import collections
import io
import os
import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import hostile
from Utils.runtime.errors import UserError
from Utils.storage import files
from Utils.storage.files import load_checkpoint, load_pickle, save_checkpoint
from Utils.storage.unpickling import DataUnpickler, unpickle

TRICKS = sorted(hostile.pickles("mark"))
TOUCHED = (torch.storage.TypedStorage, torch.FloatStorage, collections.OrderedDict, torch.nn.Parameter, np.ndarray)
TOUCHED += (torch._utils._rebuild_tensor_v2, files.load_pickle, np.dtype)


def refuse(load, path, mark) -> None:
    with pytest.raises(UserError, match="is refused|cannot be read"):
        load(path)
    assert not mark.exists()
    assert not any(hasattr(target, "hostile_mark") for target in TOUCHED)


@pytest.mark.parametrize("trick", TRICKS)
def test_known_tricks_of_pickles(tmp_path, trick):
    content = hostile.pickles(tmp_path / "mark")[trick]
    (tmp_path / "a.pickle").write_bytes(content)
    refuse(load_pickle, tmp_path / "a.pickle", tmp_path / "mark")
    hostile.archive(content, tmp_path / "a.pth")
    refuse(load_checkpoint, tmp_path / "a.pth", tmp_path / "mark")
    for old in (hostile.old_file(content), content):
        (tmp_path / "old.pth").write_bytes(old)
        refuse(load_checkpoint, tmp_path / "old.pth", tmp_path / "mark")


def test_archives_of_programs_are_refused(tmp_path, monkeypatch):
    """torch.load would give them to torch.jit.load, which runs what is in them."""
    monkeypatch.setattr(torch.jit, "load", lambda *a, **k: (tmp_path / "mark").mkdir())
    hostile.torchscript(tmp_path / "script.pth")
    refuse(load_checkpoint, tmp_path / "script.pth", tmp_path / "mark")


def test_tensors_do_not_reach_beyond_their_storage(tmp_path):
    """Sizes, strides and places of a tensor are numbers in the file."""
    whole = hostile.saved({"a": torch.arange(8.0)}, old=True)
    for what, value in ((b"K\x08", b"K\x09"), (b"K\x00K\x08", b"K\x01K\x08"), (b"K\x01\x85", b"K\x02\x85")):
        assert what in whole
        (tmp_path / "a.pth").write_bytes(whole.replace(what, value))
        with pytest.raises(UserError, match="cannot be read"):
            load_checkpoint(tmp_path / "a.pth")


def test_arrays_do_not_reach_beyond_their_bytes():
    """numpy takes the elements of an array of objects from a list, whose length it does not ask for."""
    whole = pickle.dumps(np.array([None, "a"], object), protocol=2)
    assert unpickle(whole).tolist() == [None, "a"]
    with pytest.raises(ValueError, match="elements of an array"):
        unpickle(whole.replace(b"K\x02\x85", b"K\x7f\x85"))
    whole = pickle.dumps(np.arange(3.0), protocol=4)
    with pytest.raises(ValueError, match="elements of an array"):
        unpickle(whole.replace(b"K\x03\x85", b"K\x04\x85"))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["f4", "f8", "i8", "u1", "b1", "U5", "S3", "c16"])
def test_arrays_come_back(kind, order):
    array = np.arange(12).reshape(3, 4).astype(order + kind)
    for content in (array, array.T, array[:0], array[0, 0]):
        for protocol in (2, 4, 5):
            found = unpickle(pickle.dumps({"a": content}, protocol=protocol))["a"]
            np.testing.assert_array_equal(found, content)
            assert (found.dtype.kind, found.dtype.itemsize) == (content.dtype.kind, content.dtype.itemsize)


def test_a_number_of_the_memo_takes_no_memory():
    """Python's faster unpickler keeps a table as long as the largest number."""
    assert unpickle(b"\x80\x02Nr\xff\xff\xff\xff.") is None


def checkpoint() -> dict:
    """Of all kinds of things that a checkpoint holds."""
    return {
        "state_dict": collections.OrderedDict(
            weight=torch.rand(3, 2), empty=torch.zeros(0, 2), last=torch.rand(2).half()
        ),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "schedualer": {"milestones": collections.Counter([3, 5])},
        "iteration": 7,
        "active_channels": np.array([1, 5]),
        "names": ["a", "b"],
        "strided": torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1),
    }


def same(a, b) -> bool:
    """Whether two contents are equal throughout."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("old", [False, True])
def test_checkpoints_are_read_as_torch_reads_them(tmp_path, old):
    content = checkpoint()
    (tmp_path / "a.pth").write_bytes(hostile.saved(content, old))
    assert same(load_checkpoint(tmp_path / "a.pth"), content)
    shared = torch.rand(10)
    (tmp_path / "a.pth").write_bytes(hostile.saved({"a": shared[2:5], "b": shared}, old))
    assert same(load_checkpoint(tmp_path / "a.pth"), {"a": shared[2:5], "b": shared})


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "insert", "repeat"]),
        st.floats(0, 1, allow_subnormal=False),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=6,
)


def mutated(content: bytes, changes) -> bytes:
    for what, where, value in changes:
        place = int(where * len(content))
        if what == "set":
            content = content[:place] + bytes([value]) + content[place + 1 :]
        elif what == "cut":
            content = content[: place + 1] if value > 200 else content[:place] + content[place + 1 :]
        elif what == "insert":
            content = content[:place] + bytes([value]) + content[place:]
        else:
            content = content[:place] + content[place : place + 1 + value % 20] + content[place:]
    return content


EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 100))
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
ARCHIVE, OLD = hostile.saved(checkpoint()), hostile.saved(checkpoint(), old=True)
PICKLES = [
    pickle.dumps(
        {"a.jpg": np.arange(6.0).reshape(2, 3), "b": [1, 2.5, "x", None, (1, 2)], "n": np.int64(3)}, protocol=p
    )
    for p in (0, 2, 4, 5)
]


def read_mutated(path, whole: bytes, changes):
    """What is read from a file after the changes, None where it is refused."""
    path.write_bytes(mutated(whole, changes))
    try:
        return load_checkpoint(path)
    except UserError:
        return None


@FUZZ
@given(MUTATIONS)
def test_mutated_archives_are_refused_or_the_same(tmp_path_factory, changes):
    """Each part of an archive has a checksum, so that there is no third."""
    path = tmp_path_factory.getbasetemp() / "mutated.pth"
    found = read_mutated(path, ARCHIVE, changes)
    if found is not None:
        path.write_bytes(ARCHIVE)
        assert same(found, load_checkpoint(path))


@FUZZ
@given(MUTATIONS)
def test_mutated_old_files_are_refused_or_data(tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / "mutated.pth"
    found = read_mutated(path, OLD, changes)
    if found is not None:
        save_checkpoint(found, path)  # what is data can be written


@FUZZ
@given(st.sampled_from(PICKLES), MUTATIONS)
def test_mutated_pickles_are_refused_or_data(tmp_path_factory, whole, changes):
    path = tmp_path_factory.getbasetemp() / "mutated.pickle"
    path.write_bytes(mutated(whole, changes))
    try:
        found = load_pickle(path)
    except UserError:
        return
    pickle.dumps(found)


def test_random_instructions_are_refused_or_data():
    """3000 programs of the pickle machine's own instructions."""
    draw = random.Random(7)
    instructions = [bytes([number]) for number in DataUnpickler.dispatch]
    pieces = [
        *instructions,
        b"K\x01",
        b"X\x01\x00\x00\x00a",
        b"ccollections\nOrderedDict\n",
        b"cnumpy\ndtype\n",
        b"h\x00",
    ]
    ended = collections.Counter()
    for _ in range(3000):
        program = b"\x80\x02" + b"".join(draw.choice(pieces) for _ in range(draw.randint(1, 12))) + b"."
        try:
            unpickle(program)
            ended["data"] += 1
        except Exception as error:
            ended[type(error).__name__] += 1
    assert ended["data"] > 10
    assert ended["RefusedError"] > 100
    assert not any(hasattr(target, "hostile_mark") for target in TOUCHED)


def test_equal_texts_are_one():
    """So that what is written again has the same bytes."""
    first, second = DataUnpickler(io.BytesIO(pickle.dumps(["".join(["a", "b"]), "".join(["a", "b"])]))).load()
    assert first is second


def test_the_kind_of_an_array_does_not_change_afterwards():
    """Characters are checked in the order of bytes that the array keeps."""
    kind = b"cnumpy\ndtype\n(" + hostile.text("U1") + b"tRq\x01"
    array = b"cnumpy._core.numeric\n_frombuffer\n(C\x04\x01\x00\x00\x00h\x01K\x01\x85" + hostile.text("C") + b"tR"
    turned = b"h\x01(K\x03" + hostile.text(">") + b"NNNK\x04K\x04K\x08tb0."
    assert unpickle(hostile.PROTOCOL_2 + kind + array + turned).tolist() == ["\x01"]
