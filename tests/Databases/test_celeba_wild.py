import numpy as np
import pytest

from Databases import DATABASES, check
from Utils.options import parse
from Utils.storage.pictures import write_jpeg

NAMES = [f"{i:06d}.jpg" for i in range(1, 7)]
SIZES = [(100, 80), (60, 90), (50, 50), (100, 80), (80, 40), (40, 30)]


@pytest.fixture
def tree(tmp_path):
    """As downloaded: 1-4 are in partition 0; MAFL trains on 1 and 2, tests 5 and 6. The face of 3 is too small."""
    root = tmp_path / "celeba"
    shares = (0.5 if name == NAMES[2] else 0.6 for name in NAMES)
    for file, lines in (
        ("Anno/list_bbox_celeba", [f"2 3 {s * w:.0f} {s * h:.0f}" for (w, h), s in zip(SIZES, shares)]),
        ("Anno/list_landmarks_celeba", [" ".join(str(v + i) for v in range(10)) for i in range(6)]),
        ("Eval/list_eval_partition", [str(i // 4) for i in range(6)]),
    ):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        head = ["6", "columns"] if file.startswith("Anno") else []
        rows = [f"{name}  {line}" for name, line in zip(NAMES, lines, strict=True)]
        (root / f"{file}.txt").write_text("\n".join([*head, *rows]) + "\n")
    for folder in ("MAFL", "Img/img_celeba"):
        (root / folder).mkdir(parents=True)
    (root / "MAFL/training.txt").write_text("\n".join(NAMES[:2]))
    (root / "MAFL/testing.txt").write_text("\n".join(NAMES[4:]))
    for name, (width, height) in zip(NAMES, SIZES, strict=True):
        write_jpeg(np.zeros((height, width, 3), np.uint8), root / "Img/img_celeba" / name)
    paths = tmp_path / "main.yaml"
    paths.write_text(f"CelebAWild_datapath: {root}\nlog_path: {tmp_path / 'Logs'}\n")
    return ["--dataset_name", "CelebAWild", "--paths", str(paths), "--data_path", str(tmp_path), "--device", "cpu"]


def test_pictures_with_large_faces_as_a_whole(tree):
    database = DATABASES["CelebAWild"].open(parse(tree, "", DATABASES, {}))
    assert database.training.names.tolist() == [NAMES[0], NAMES[1], NAMES[3]]
    assert database.regression.names.tolist() == NAMES[:2]
    assert database.test.names.tolist() == NAMES[4:]
    assert database.training.boxes[1].tolist() == [0, 0, 60, 90]
    assert database.test.landmarks[0].tolist() == [[4, 5], [6, 7], [8, 9], [10, 11], [12, 13]]
    np.testing.assert_allclose(database.crop(database.training.boxes[1], 60, 90, 256) @ [30, 90, 1], [128, 256])


def test_the_check_knows_it(tree, capsys):
    with pytest.raises(SystemExit) as ended:
        check.main([*tree, "--num_workers", "0"])
    assert ended.value.code == 0
    assert "test: 2 pictures, 5 points each" in capsys.readouterr().out
