from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from Databases import DATABASES, check
from Databases.celeba import CelebA
from Databases.celeba_wild import CelebAWild
from Databases.groundtruth import protocol_maps
from Utils.crops import apply, warp
from Utils.options import Paths, parse
from Utils.runtime.errors import UserError
from Utils.storage.files import dump_pickle
from Utils.storage.pictures import write_jpeg

NAMES = [f"{i:06d}.jpg" for i in range(1, 9)]
BOX = [50, 60, 120, 170]


@pytest.fixture
def tree(tmp_path):
    """Eight pictures: 1-5 and 8 in partition 0, 7 in 1, 6 in 2; MAFL trains on 2 and 1, tests 6 and 8."""
    pictures, lists = tmp_path / "celeba" / "Img" / "img_align_celeba_hq", tmp_path / "data" / "CelebA"
    pictures.mkdir(parents=True)
    lists.mkdir(parents=True)
    for i, name in enumerate(NAMES):
        write_jpeg(np.full((218, 178, 3), 20 * i, np.uint8), pictures / name)
    parts = [0, 0, 0, 0, 0, 2, 1, 0]
    (lists / "list_eval_partition.txt").write_text("".join(f"{n} {p}\n" for n, p in zip(NAMES, parts)))
    (lists / "mafl_training.txt").write_text(f"{NAMES[1]}\n{NAMES[0]}\n")
    (lists / "mafl_testing.txt").write_text(f"{NAMES[5]} \n{NAMES[7]}")
    dump_pickle(
        {name: np.array(BOX, float) + i for i, name in enumerate(NAMES)}, lists / "CelebABoundingBoxes.pickle"
    )
    points = np.arange(136, dtype=float).reshape(68, 2)
    dump_pickle({name: points + i for i, name in enumerate(NAMES)}, lists / "MaflGroundtruthLandmarks.pickle")
    (tmp_path / "main.yaml").write_text(f"CelebA_datapath: {tmp_path / 'celeba'}\nlog_path: {tmp_path / 'Logs'}\n")
    return tmp_path


def open_tree(tree, protocol="paper") -> CelebA:
    return CelebA.open(SimpleNamespace(paths=Paths(tree / "main.yaml"), data_path=tree / "data", protocol=protocol))


def write_list(tree, name, rows) -> Path:
    """A list of CelebA's own, in the download."""
    path = tree / "celeba" / "Anno" / f"list_{name}_celeba.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["8", "columns", *(f"{name}  {row}" for name, row in zip(NAMES, rows))]) + "\n")
    return path


def test_splits_are_the_papers(tree):
    database = open_tree(tree)
    database.check_cheaply()
    assert database.training.names.tolist() == NAMES[:5]  # partition 0 without MAFL's test pictures
    assert database.regression.names.tolist() == [NAMES[1], NAMES[0]]
    assert database.test.names.tolist() == [NAMES[5], NAMES[7]]
    assert database.training.boxes[3].tolist() == [53, 63, 123, 173]
    assert database.training.landmarks is None
    assert database.test.landmarks[1, 2].tolist() == [4 + 7, 5 + 7]
    assert database.read(database.training, 2).shape == (218, 178, 3)


def test_its_own_five_points(tree):
    """All of MAFL's training pictures are annotated; errors are measured in the picture, not in the crop."""
    points = write_list(tree, "landmarks_align", [" ".join(str(10 * i + v) for v in range(10)) for i in range(8)])
    database = open_tree(tree, "mafl5")
    assert database.regression.names.tolist() == [NAMES[1], NAMES[0]]
    assert database.test.landmarks[0].tolist() == [[50 + 2 * i, 51 + 2 * i] for i in range(5)]
    maps = protocol_maps(database.test, np.zeros((2, 2, 3)))
    assert apply(maps, np.array([178.0, 109])[None]).tolist() == [[[256, 128]]] * 2
    points.write_text(points.read_text().partition("\n")[2])
    with pytest.raises(UserError, match=r"list_landmarks_align_celeba\.txt is not a list of CelebA's"):
        open_tree(tree, "mafl5-tpami")


def test_whole_pictures_in_the_wild(tree, capsys):
    """The faces of all but 2 and 4 cover 36% of their pictures, these a quarter."""
    sizes = [(100 - 10 * i, 80) for i in range(8)]
    shares = [0.5 if i in (1, 3) else 0.6 for i in range(8)]
    write_list(tree, "bbox", [f"2 3 {s * w:.0f} {s * h:.0f}" for (w, h), s in zip(sizes, shares)])
    write_list(tree, "landmarks", [" ".join(str(v + i) for v in range(10)) for i in range(8)])
    (folder := tree / "celeba" / "Img" / "img_celeba").mkdir()
    for name, (width, height) in zip(NAMES, sizes):
        write_jpeg(np.zeros((height, width, 3), np.uint8), folder / name)
    (tree / "main.yaml").write_text(f"CelebAWild_datapath: {tree / 'celeba'}\nlog_path: {tree / 'Logs'}\n")
    arguments = [
        "--dataset_name",
        "CelebAWild",
        "--paths",
        str(tree / "main.yaml"),
        "--data_path",
        str(tree / "data"),
    ]
    database = CelebAWild.open(parse(arguments, "", DATABASES, {}))
    assert database.training.names.tolist() == [NAMES[0], NAMES[2], NAMES[4]]
    assert database.regression.names.tolist() == NAMES[:1]
    assert database.test.names.tolist() == [NAMES[5], NAMES[7]]
    assert database.training.boxes[1].tolist() == [0, 0, 80, 80]
    assert database.test.landmarks[0].tolist() == [[5, 6], [7, 8], [9, 10], [11, 12], [13, 14]]
    np.testing.assert_allclose(database.crop(database.training.boxes[0], 100, 80, 256) @ [50, 80, 1], [128, 256])
    with pytest.raises(SystemExit) as ended:
        check.main([*arguments, "--num_workers", "0"])
    assert ended.value.code == 0
    assert "test: 2 pictures, 5 points each" in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["celeba/Img", "celeba/Img/img_align_celeba_hq"])
def test_lists_of_the_download_and_any_folder_of_it(tree, folder):
    lists = tree / "data" / "CelebA"
    for name, place in (
        ("list_eval_partition.txt", "Eval/list_eval_partition.txt"),
        ("mafl_training.txt", "MAFL/training.txt"),
        ("mafl_testing.txt", "MAFL/testing.txt"),
    ):
        (tree / "celeba" / place).parent.mkdir(exist_ok=True)
        (lists / name).rename(tree / "celeba" / place)
    (tree / "main.yaml").write_text(f"CelebA_datapath: {tree / folder}\n")
    assert open_tree(tree).test.path(0) == tree / "celeba" / "Img" / "img_align_celeba_hq" / NAMES[5]


def test_crop_by_hand(tree):
    database = open_tree(tree)
    # d = ((1.2 * 120 - 50) + (2 * 170 - 60)) / 2 = 187: margin 14; window 36, 46 to 134, 184
    m = database.crop(database.training.boxes[0], 178, 218, 256)
    assert np.allclose(apply(m, np.array([[36.0, 46], [134, 184], [85, 115]])), [[0, 0], [256, 256], [128, 128]])
    assert warp(database.read(database.training, 0), m, 256).shape == (256, 256, 3)


def test_normaliser_is_the_distance_of_41_and_46(tree):
    points = np.zeros((1, 68, 2))
    points[0, 41], points[0, 46] = (100, 90), (130, 130)
    assert open_tree(tree).normalisers(points).tolist() == [50]


def test_what_is_missing_is_named(tree):
    lists = tree / "data" / "CelebA"
    (tree / "celeba" / "Img" / "img_align_celeba_hq" / NAMES[2]).unlink()
    with pytest.raises(UserError, match=rf"1 picture of the training list of CelebA missing, first .*{NAMES[2]}"):
        open_tree(tree).check_cheaply()
    (lists / "MaflGroundtruthLandmarks.pickle").unlink()
    assert open_tree(tree).test.landmarks is None
    dump_pickle(dict.fromkeys(NAMES[1:], BOX), lists / "CelebABoundingBoxes.pickle")
    with pytest.raises(UserError, match=rf"has no box for 1 picture, first {NAMES[0]}; .*find_boxes"):
        open_tree(tree)
    for box in ([1, 2, 3], [1, [2], 3, 4], [[[1, 2, 3, 4, 5]]], {"x": 1}):
        dump_pickle(dict.fromkeys(NAMES, box), lists / "CelebABoundingBoxes.pickle")
        with pytest.raises(UserError, match="is not 4 numbers"):
            open_tree(tree)
    (lists / "CelebABoundingBoxes.pickle").unlink()
    with pytest.raises(UserError, match=r"CelebABoundingBoxes\.pickle does not exist; .*tools/find_boxes\.py"):
        open_tree(tree)
    (lists / "list_eval_partition.txt").write_text("a.jpg b.jpg c.jpg")
    with pytest.raises(UserError, match=r"list_eval_partition\.txt does not consist of lines"):
        open_tree(tree)
    (lists / "list_eval_partition.txt").unlink()
    with pytest.raises(UserError, match=r"list_eval_partition\.txt does not exist, nor Eval/"):
        open_tree(tree)


def test_lists_may_begin_with_a_byte_order_mark(tree):
    expected = open_tree(tree).training.names.tolist()
    for file in (tree / "data" / "CelebA").glob("*.txt"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert open_tree(tree).training.names.tolist() == expected


def test_a_path_that_is_missing_or_without_pictures_is_named(tree):
    (tree / "empty").mkdir()
    (tree / "main.yaml").write_text(f"CelebA_datapath: {tree / 'empty'}\n")
    with pytest.raises(UserError, match="no pictures .* correct CelebA_datapath"):
        open_tree(tree)
    (tree / "main.yaml").write_text("CelebA_datapath: ''\n")
    with pytest.raises(UserError, match="CelebA_datapath is empty"):
        open_tree(tree)
