import numpy as np
import pytest

from Databases import DATABASES, check
from Utils.options import parse
from Utils.runtime.errors import UserError
from Utils.storage.pictures import write_jpeg


@pytest.fixture
def tree(tmp_path):
    """Six pictures of 60x40 of classes 1, 1, 2, 2, 3, 3; the first of each class is for training."""
    root, number = tmp_path / "CUB_200_2011", range(1, 7)
    names = [f"{i // 2 + 1:03d}.Bird/{i}.jpg" for i in range(6)]
    for i, name in enumerate(names):
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        write_jpeg(np.full((40, 60, 3), 40 * i, np.uint8), root / "images" / name)
    (root / "parts").mkdir()
    for file, lines in (
        ("images", (f"{i} {name}" for i, name in zip(number, names))),
        ("image_class_labels", (f"{i} {(i + 1) // 2}" for i in number)),
        ("train_test_split", (f"{i} {i % 2}" for i in number)),
        ("bounding_boxes", (f"{i} 10.0 20.0 30.0 {i + 1}.0" for i in number)),
        ("parts/part_locs", (f"{i} {k} {k}.5 {i}.0 {int(k != 3)}" for i in number for k in range(1, 16))),
    ):
        (root / f"{file}.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "main.yaml").write_text(f"CUB_datapath: {root}\nlog_path: {tmp_path / 'Logs'}\n")
    return root, ["--dataset_name", "CUB", "--paths", str(tmp_path / "main.yaml"), "--device", "cpu"]


def opened(arguments, *more):
    return DATABASES["CUB"].open(parse([*arguments, *more], "", DATABASES, {}, flags=("protocol",)))


def test_split_boxes_and_hidden_points(tree):
    database = opened(tree[1])
    assert database.training.names.tolist() == ["001.Bird/0.jpg", "002.Bird/2.jpg", "003.Bird/4.jpg"]
    assert database.regression.names.tolist() == database.training.names.tolist()
    assert database.test.boxes[1].tolist() == [10, 20, 40, 25]
    points = database.test.landmarks[1]
    assert points.shape == (15, 2)
    assert np.isnan(points[2]).all()
    assert points[3].tolist() == [4.5, 4]


def test_a_crop_is_a_square_cut_off_at_the_picture(tree):
    database = opened(tree[1])
    # 30 wide and 4 high about (25, 22): from 7 to 37 of 40 rows; lower in the picture it is cut off.
    assert (database.crop(np.array([10.0, 20, 40, 24]), 60, 40, 60) @ [10, 7, 1]).tolist() == [0, 0]
    cut = database.crop(np.array([10.0, 30, 40, 40]), 60, 40, 60)
    assert (cut @ [40, 40, 1]).tolist() == [60, 60]
    assert (cut @ [10, 20, 1]).tolist() == [0, 0]


def test_some_classes_and_mistakes(tree):
    database = opened(tree[1], "--set", "cub_classes=1,3", "--protocol", "cub")
    assert database.training.names.tolist() == ["001.Bird/0.jpg", "003.Bird/4.jpg"]
    assert database.test.names.tolist() == ["001.Bird/1.jpg", "003.Bird/5.jpg"]
    with pytest.raises(UserError, match="--protocol mafl5: CUB lacks its points; give one of paper, cub"):
        opened(tree[1], "--protocol", "mafl5")
    (tree[0] / "train_test_split.txt").write_text("1 0\n2 1\n")
    with pytest.raises(UserError, match=r"train_test_split\.txt is missing, or has not 1 x 2 values"):
        opened(tree[1])


def test_the_check_knows_it(tree, capsys):
    with pytest.raises(SystemExit) as ended:
        check.main([*tree[1], "--num_workers", "0", "--protocol", "cub"])
    assert ended.value.code == 0
    assert "test: 3 pictures, 15 points each" in capsys.readouterr().out
