"""Predict.py as a user runs it, with the network of a tiny `make demo`; about half a minute."""

import csv
import json
import os
import shutil
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from PIL import Image

import Predict
from Databases import DATABASES
from Databases.demo.archive import unpack
from Utils import crops
from Utils.drawing.marks import palette
from Utils.hyperparameters import hyperparameters
from Utils.storage.files import load_pickle
from Utils.storage.pictures import read_picture
from Utils.storage.videos import Video, VideoWriter

ALL = ("--threshold", "-9")  # the tiny network is sure of nothing


@pytest.fixture(scope="module")
def demo(make_demo) -> Path:
    """The folder of the Demo set's files."""
    return make_demo.folder / "Logs/DemoData"


@pytest.fixture
def run(make_demo, tmp_path, capsys):
    """Run Predict.py; returns the exit code and what it said of mistakes."""
    paths = tmp_path / "paths.yaml"
    paths.write_text(f"log_path: {make_demo.folder}/Logs\n")

    def predict(*words) -> tuple[int, str]:
        common = ["--dataset_name", "Demo", "--experiment_name", "demo", "--paths", str(paths)]
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            Predict.main([*common, *map(str, words)])
        return end.value.code, capsys.readouterr().err

    return predict


@pytest.fixture
def folder(demo, tmp_path) -> Path:
    """The same picture in all formats, turned once, and one that is cut off."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    picture = Image.open(demo / "test/000002.jpg").convert("RGB")
    for name in ("a.png", "sub/b.bmp", "c.tif", "d.webp"):
        picture.save(folder / name, **({"lossless": True} if name.endswith("webp") else {}))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / "e.jpg", quality=100, subsampling=0, exif=exif)
    (folder / "f.jpg").write_bytes((folder / "e.jpg").read_bytes()[:2000])
    return folder


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "landmarks.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def points_of(row: dict[str, str]) -> np.ndarray:
    return np.array([float(value or "nan") for name, value in row.items() if name.endswith(("_x", "_y"))])


def test_a_folder_of_all_formats(run, folder, tmp_path):
    output = tmp_path / "out"
    code, said = run("--input", folder, "--output", output, *ALL)
    assert code == 1
    assert "f.jpg is cut off" in said
    rows = {row["file"]: points_of(row) for row in rows_of(output)}
    assert list(rows) == ["a.png", "c.tif", "d.webp", "e.jpg", "sub/b.bmp"]
    for name in ("c.tif", "d.webp", "sub/b.bmp"):
        np.testing.assert_array_equal(rows[name], rows["a.png"])
    assert np.abs(rows["e.jpg"] - rows["a.png"]).mean() < 10  # turned upright, where it would be far off
    drawn = {str(path.relative_to(output / "pictures")) for path in (output / "pictures").rglob("*.*")}
    assert drawn == {"a.png", "c.tif.jpg", "d.webp.jpg", "e.jpg", "sub/b.bmp.jpg"}
    picture, annotated = read_picture(folder / "a.png"), read_picture(output / "pictures/a.png")
    assert annotated.shape == picture.shape
    assert (annotated != picture).any()
    (folder / "f.jpg").unlink()
    assert run("--input", folder, "--output", output, *ALL)[0] == 0


def test_files_are_coco_and_groundtruth_for_custom(run, folder, tmp_path):
    (folder / "f.jpg").unlink()
    assert run("--input", folder, "--output", tmp_path / "out", *ALL)[0] == 0
    coco = pytest.importorskip("pycocotools.coco").COCO(str(tmp_path / "out/landmarks.json"))
    assert len(coco.getAnnIds()) == 5
    keypoints = np.array(coco.loadAnns(coco.getAnnIds())[0]["keypoints"]).reshape(-1, 3)
    assert coco.loadCats(1)[0]["keypoints"] == [
        name.removesuffix("_x") for name in rows_of(tmp_path / "out")[0] if name.endswith("_x") and "box" not in name
    ]
    shutil.copy(tmp_path / "out/landmarks.json", folder / "annotations.json")
    options = SimpleNamespace(
        images=str(folder),
        hyper=hyperparameters([], {}, DATABASES["Custom"]),
        log_path=tmp_path / "Logs",
        num_workers=0,
    )
    database = DATABASES["Custom"].open(options)
    read = {name: points for s in (database.training, database.test) for name, points in zip(s.names, s.landmarks)}
    np.testing.assert_allclose(read["a.png"], keypoints[:, :2], atol=1e-5)


def test_landmarks_are_those_of_the_evaluation(run, demo, make_demo, tmp_path):
    """With the data set's boxes, as Test.py wrote them; in pixels of the picture and not of the crop."""
    boxes = unpack(demo, "test", 12).boxes
    table = tmp_path / "boxes.csv"
    lines = [f"{i:06d}.jpg,{','.join(map(str, box.tolist()))}" for i, box in enumerate(boxes.astype(float))]
    table.write_text("\n".join(["file,x1,y1,x2,y2", *lines]) + "\n")
    assert run("--input", demo / "test", "--boxes", table, "--output", tmp_path / "out")[0] == 0
    (file,) = (make_demo.folder / "Logs/demo/CheckPoints").glob("EvaluateStep2Keypoints*.pickle")
    expected = load_pickle(file)
    for row, box in zip(rows_of(tmp_path / "out"), boxes.astype(float)):
        m = crops.face_crop(box, 128, 128, 256)
        ours = crops.apply(m, points_of(row).reshape(-1, 2))
        np.testing.assert_allclose(ours, expected[f"test/{row['file']}"]["prediction"], atol=0.01)


def test_several_objects_of_a_picture_and_globs(run, folder, tmp_path):
    table = tmp_path / "boxes.csv"
    table.write_text("file,x1,y1,x2,y2\na.png,0,0,60,60\na.png,40,40,120,120\n")
    assert run("--input", folder / "a*", "--boxes", table, "--output", tmp_path / "out", *ALL)[0] == 0
    content = json.loads((tmp_path / "out/landmarks.json").read_text())
    assert [row["bbox"] for row in content["annotations"]] == [[0, 0, 60, 60], [40, 40, 80, 80]]
    assert len(content["images"]) == 1


def test_a_video_keeps_its_rate_and_frames(run, demo, tmp_path, monkeypatch):
    """Of landmarks that stand still but for some noise, whatever the tiny network has learned."""
    rate = Fraction(30000, 1001)
    picture = read_picture(demo / "test/000000.jpg")
    with VideoWriter(tmp_path / "a.mp4", rate) as writer:
        for _ in range(20):
            writer.add(picture)
    tracks = {}
    for smooth in ((), ("--smooth",)):
        noise = np.random.default_rng(0)

        def trembling(detector, pictures, noise=noise):
            count = (len(pictures), len(detector.active))
            return 30 + noise.normal(0, 0.5, (*count, 2)), np.ones(count, np.float32)

        monkeypatch.setattr("Networks.inference.detector.LandmarkDetector.run", trembling)
        output = tmp_path / f"out{len(smooth)}"
        assert run("--input", tmp_path / "a.mp4", "--output", output, *ALL, *smooth)[0] == 0
        rows = rows_of(output)
        assert [row["frame"] for row in rows] == [str(i) for i in range(20)]
        assert [float(row["seconds"]) for row in rows] == [round(i / float(rate), 6) for i in range(20)]
        tracks[smooth] = np.stack([points_of(row) for row in rows])
        video = Video(output / "pictures/a.mp4")
        assert (video.rate, len(list(video))) == (rate, 20)
    jitter = {smooth: np.abs(np.diff(track[5:], axis=0)).mean() for smooth, track in tracks.items()}
    assert jitter[("--smooth",)] < 0.5 * jitter[()]


def test_a_video_that_ends_in_the_middle_keeps_its_frames(run, demo, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (30, 64, 64, 3), dtype=np.uint8)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        for picture in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    content = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(content[: len(content) // 2])
    code, said = run("--input", tmp_path / "a.mkv", "--output", tmp_path / "out")
    assert code == 1
    assert "a.mkv ends in the middle" in said
    assert 3 < len(rows_of(tmp_path / "out")) < 30
    assert (tmp_path / "out/pictures/a.mkv.mp4").exists()


def test_a_name_that_is_not_utf_8_is_named_and_passed_over(run, folder, tmp_path):
    (folder / "f.jpg").unlink()
    for name in (b"\xff.png", b"\xff.mp4"):
        shutil.copy(folder / "a.png", folder / os.fsdecode(name))
    code, said = run("--input", folder, "--output", tmp_path / "out")
    assert code == 1
    assert sum("is not in UTF-8; rename the file" in line for line in said.splitlines()) == 2
    assert len(rows_of(tmp_path / "out")) == 5


def test_bad_input_is_one_line(run, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    boxes = {}
    for name, line in (
        ("outside", "a.png,900,900,950,950"),
        ("unknown", "z.png,1,1,5,5"),
        ("short", "a.png,1,1,x,5"),
    ):
        boxes[name] = tmp_path / f"{name}.csv"
        boxes[name].write_text(f"file,x1,y1,x2,y2\n{line}\n")
    a = folder / "a.png"
    for words, message in (
        (("--input", tmp_path / "none"), "none does not exist"),
        (("--input", tmp_path / "no*"), "matches no pictures or videos"),
        (("--input", tmp_path / "empty"), "contains no pictures or videos"),
        (("--input", folder / "f.jpg"), "nothing could be read"),
        (("--input", a, "--output", tmp_path / "file"), "is a file; give a folder"),
        (("--input", a, "--boxes", tmp_path / "none.csv"), "none.csv does not exist"),
        (("--input", a, "--boxes", boxes["outside"]), "a box of a.png is empty, incomplete or outside"),
        (("--input", a, "--boxes", boxes["unknown"]), "z.png"),
        (("--input", a, "--boxes", boxes["short"]), "not a number"),
        (("--input", folder, "--boxes", boxes["outside"]), "no box for 5 pictures"),
    ):
        output = () if "--output" in words else ("--output", tmp_path / "out")
        code, said = run(*words, *output)
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        assert (code, len(errors)) == (2, 1), said
        assert message in errors[0]
        assert "Traceback" not in said


def test_nothing_of_the_users_is_overwritten(run, folder, tmp_path):
    (folder / "f.jpg").unlink()
    for table, output, message in (
        (tmp_path / "landmarks.csv", tmp_path, "landmarks.csv that no earlier run wrote"),
        (folder / "landmarks.csv", folder, "--output is the folder of the pictures"),
    ):
        table.write_text("file,x0,y0\na.png,1,2\n")
        code, said = run("--input", folder, "--output", output)
        assert code == 2
        assert message in said
        assert table.read_text() == "file,x0,y0\na.png,1,2\n"
    (tmp_path / "landmarks.csv").unlink()
    folder.rename(tmp_path / "pictures")
    before = (tmp_path / "pictures/a.png").read_bytes()
    assert run("--input", tmp_path / "pictures", "--output", tmp_path)[0] == 2
    assert (tmp_path / "pictures/a.png").read_bytes() == before


def test_results_below_the_input_are_not_taken_for_it(run, folder):
    (folder / "f.jpg").unlink()
    for _ in range(2):
        assert run("--input", folder, "--output", folder / "out")[0] == 0
    assert len(rows_of(folder / "out")) == 5


def test_colours_are_those_of_the_sheet(run, demo, tmp_path):
    """The disc of the surest landmark has the colour that `palette` gives its place among all."""
    big = cv2.resize(read_picture(demo / "test/000001.jpg"), (600, 600))
    cv2.imwrite(str(tmp_path / "a.png"), big[..., ::-1])
    assert run("--input", tmp_path / "a.png", "--output", tmp_path / "out", *ALL)[0] == 0
    points = points_of(rows_of(tmp_path / "out")[0]).reshape(-1, 2)
    x, y = points[-1].astype(int)
    annotated = read_picture(tmp_path / "out/pictures/a.png")
    assert annotated[y, x].tolist() == palette(len(points))[-1].tolist()
