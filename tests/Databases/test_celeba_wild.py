import numpy as np
import pytest

from Databases import DATABASES, check
from Databases.groundtruth import protocol_maps
from Utils.options import parse
from Utils.storage.pictures import write_jpeg

NAMES = [f"{i:06d}.jpg" for i in range(1, 7)]
SIZES = [(100, 80), (60, 90), (50, 50), (100, 80), (80, 40), (40, 30)]


@pytest.fixture
def tree(tmp_path):
    """As downloaded: 1-4 are in partition 0; MAFL trains on 1 and 2, tests 5 and 6. The face of 3 is too small."""
    root = tmp_path / "celeba"
    for folder in ("Img/img_celeba", "Anno", "Eval", "MAFL"):
        (root / folder).mkdir(parents=True)
    boxes, points = [], []
    for i, (name, (width, height)) in enumerate(zip(NAMES, SIZES, strict=True)):
        write_jpeg(np.full((height, width, 3), 40 * i, np.uint8), root / "Img/img_celeba" / name)
        share = 0.5 if name == NAMES[2] else 0.6
        boxes.append(f"{name}  2  3  {share * width:.0f}  {share * height:.0f}")
        points.append(f"{name} {' '.join(str(v + i) for v in range(10))}")
    (root / "Anno/list_bbox_celeba.txt").write_text("\n".join(["6", "image_id x_1 y_1 width height", *boxes]))
    (root / "Anno/list_landmarks_celeba.txt").write_text("\n".join(["6", "lefteye_x ...", *points]))
    (root / "Eval/list_eval_partition.txt").write_text("".join(f"{n} {i // 4}\n" for i, n in enumerate(NAMES)))
    (root / "MAFL/training.txt").write_text("\n".join(NAMES[:2]))
    (root / "MAFL/testing.txt").write_text("\n".join(NAMES[4:]))
    paths = tmp_path / "main.yaml"
    paths.write_text(f"CelebAWild_datapath: {root}\nlog_path: {tmp_path / 'Logs'}\n")
    return ["--dataset_name", "CelebAWild", "--paths", str(paths), "--data_path", str(tmp_path), "--device", "cpu"]


def test_pictures_with_large_faces_as_a_whole(tree):
    database = DATABASES["CelebAWild"].open(parse(tree, "", DATABASES, {}))
    database.check_cheaply()
    assert database.training.names.tolist() == [NAMES[0], NAMES[1], NAMES[3]]
    assert database.regression.names.tolist() == NAMES[:2]
    assert database.test.names.tolist() == NAMES[4:]
    assert database.training.boxes[1].tolist() == [0, 0, 60, 90]
    assert database.test.landmarks[0].tolist() == [[4, 5], [6, 7], [8, 9], [10, 11], [12, 13]]
    to_crop = database.crop(database.training.boxes[1], 60, 90, 256)
    np.testing.assert_allclose(to_crop @ [30, 90, 1], [128, 256])
    np.testing.assert_array_equal(protocol_maps(database.test, to_crop[None])[0], to_crop)
    assert database.normalisers(np.array([[[0.0, 0], [3, 4], [9, 9], [9, 9], [9, 9]]])).tolist() == [5]


def test_the_check_knows_it(tree, capsys):
    with pytest.raises(SystemExit) as ended:
        check.main([*tree, "--num_workers", "0"])
    assert ended.value.code == 0, capsys.readouterr()
    assert "test: 2 pictures, 5 points each" in capsys.readouterr().out
