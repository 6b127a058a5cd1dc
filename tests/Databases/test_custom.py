import hashlib
import json
import os
import re
import struct
import unicodedata
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from Databases.custom import Custom, list_pictures
from Utils.crops import apply
from Utils.hyperparameters import hyperparameters
from Utils.options import Paths
from Utils.runtime.errors import UserError
from Utils.storage.pictures import read_picture


def save(path: Path, width: int, height: int, level: int = 128, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), level, np.uint8)).save(path, **options)


def open_folder(folder: Path, *settings: str, **changes) -> Custom:
    options = SimpleNamespace(
        images=str(folder),
        log_path=folder.parent / "Logs",
        num_workers=1,
        hyper=hyperparameters(settings, {}, Custom),
    )
    options.__dict__.update(changes)
    return Custom.open(options)


def everything(database: Custom) -> dict[str, tuple]:
    """name -> (set, index) over training and test."""
    sets = (database.training, database.test)
    return {str(name): (images, i) for images in sets for i, name in enumerate(images.names)}


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures of several formats and sizes, in a tree."""
    folder = tmp_path / "pictures"
    for i, suffix in enumerate(
        ["jpg", "jpeg", "png", "bmp", "webp", "tif", "JPG", "PNG", "tiff", "jpg", "png", "bmp"]
    ):
        save(folder / ("deep/down" if i % 3 == 0 else ".") / f"{i:02d}.{suffix}", 60 + i, 40, level=10 * i)
    (folder / "notes.txt").write_text("no picture")
    save(folder / ".hidden" / "x.jpg", 60, 40)
    return folder


def test_any_tree_any_format_no_annotations(folder):
    database = open_folder(folder)
    database.check_cheaply()
    found = everything(database)
    assert len(found) == 12
    assert "deep/down/00.jpg" in found
    images, i = found["05.tif"]
    assert images.boxes[i].tolist() == [0, 0, 65, 40]  # the whole picture
    assert database.read(images, i).shape == (40, 65, 3)
    assert database.read(images, i)[0, 0].tolist() == [50, 50, 50]
    assert database.training.landmarks is None
    assert database.regression.names.tolist() == database.training.names.tolist()
    assert np.allclose(database.crop(images.boxes[i], 65, 40, 256), [[256 / 65, 0, 0], [0, 256 / 40, 0]])


def test_a_fixed_hash_of_the_name_puts_a_tenth_in_test(tmp_path):
    folder = tmp_path / "pictures"
    for i in range(60):
        save(folder / f"{i}.png", 20, 20)
    database = open_folder(folder)
    names = [f"{i}.png" for i in range(60)]
    tested = [name for name in names if int(hashlib.sha1(name.encode()).hexdigest()[:12], 16) % 10 == 0]
    assert sorted(database.test.names.tolist()) == sorted(tested)
    assert 2 <= len(tested) <= 12
    assert len(database.training) == 60 - len(tested)
    for name in tested:  # what is tested does not depend on what else there is
        (folder / name).unlink()
    assert len(open_folder(folder).test) == 1  # but there is always one


def test_exif_orientation_counts_for_boxes(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "p" / "a.jpg", 80, 40, exif=exif)
    save(tmp_path / "p" / "b.jpg", 80, 40)
    found = everything(open_folder(tmp_path / "p"))
    assert [found[n][0].boxes[found[n][1]].tolist() for n in ("a.jpg", "b.jpg")] == [[0, 0, 40, 80], [0, 0, 80, 40]]


def test_large_pictures_are_cut_to_the_surroundings_of_the_box_and_shrunk(tmp_path):
    folder = tmp_path / "p"
    picture = np.zeros((1000, 2000, 3), np.uint8)
    picture[400:600, 1000:1400] = 255  # the object fills its box
    folder.mkdir()
    Image.fromarray(picture).save(folder / "big.png")
    save(folder / "small.png", 300, 200)
    (folder / "boxes.csv").write_text("file,x1,y1,x2,y2\nbig.png,1000,400,1400,600\nsmall.png,,,,\n")
    (folder / "landmarks.csv").write_text("file,x0,y0,x1,y1\nbig.png,1000,400,1400,600\nsmall.png,10,20,,30\n")
    (folder / "split.csv").write_text("file,split\nbig.png,train\nsmall.png,test\n")
    database = open_folder(folder)
    # grown by half the mean side 300: window 850, 250 to 1550, 750; 700 x 500 shrunk to 450 x 321
    assert database.training.windows.tolist() == [[850, 250, 1550, 750]]
    assert database.training.sizes.tolist() == [[450, 321]]
    sx, sy = 450 / 700, 321 / 500
    assert np.allclose(database.training.boxes, [[150 * sx, 150 * sy, 550 * sx, 350 * sy]])
    assert np.allclose(database.training.landmarks[0], [[150 * sx, 150 * sy], [550 * sx, 350 * sy]])
    read = database.read(database.training, 0)
    assert read.shape == (321, 450, 3)
    bright = np.argwhere(read[..., 0] > 127)
    assert np.abs(bright.min(0) - [150 * sy, 150 * sx]).max() <= 1
    assert np.abs(bright.max(0) + 1 - [350 * sy, 550 * sx]).max() <= 1
    assert np.array_equal(database.read(database.training, 0), read)  # the kept copy
    assert len(list((tmp_path / "Logs" / "Custom").rglob("*.jpg"))) == 1
    assert database.test.landmarks[0, 0].tolist() == [10, 20]
    assert np.isnan(database.test.landmarks[0, 1]).all()  # half a point is none
    assert database.test.boxes.tolist() == [[0, 0, 300, 200]]
    assert open_folder(folder, "working_size=350").training.sizes.tolist() == [[350, 250]]
    assert open_folder(folder, "working_size=350").training.sizes.tolist() == [[350, 250]]
    assert open_folder(folder, "image_size=128").training.sizes.tolist() == [[225, 161]]  # as many for the crop


def test_a_window_at_the_corner_is_not_taken_for_the_picture(tmp_path):
    save(tmp_path / "p" / "a.png", 700, 357)
    (tmp_path / "p" / "boxes.csv").write_text("file,x1,y1,x2,y2\na.png,10,8,200,200\n")
    images, i = everything(open_folder(tmp_path / "p"))["a.png"]
    # grown by half the mean side 191: -85.5, -87.5 to 295.5, 295.5
    assert images.windows[i].tolist() == [0, 0, 296, 296]
    assert open_folder(tmp_path / "p").read(images, i).shape == (296, 296, 3)


@pytest.mark.parametrize(("width", "kept"), [(630, [630, 357]), (631, [296, 296])])
def test_a_picture_of_up_to_1_4_times_the_working_size_stays_as_it_is(tmp_path, width, kept):
    save(tmp_path / "p" / "a.png", width, 357)
    (tmp_path / "p" / "boxes.csv").write_text("file,x1,y1,x2,y2\na.png,10,8,200,200\n")
    database = open_folder(tmp_path / "p")
    images, i = everything(database)["a.png"]
    assert images.sizes[i].tolist() == kept
    assert database.read(images, i).shape[1::-1] == tuple(kept)


def test_a_picture_that_changes_its_size_is_named(tmp_path):
    save(tmp_path / "p" / "a.png", 30, 30)
    database = open_folder(tmp_path / "p")
    save(tmp_path / "p" / "a.png", 31, 30)
    with pytest.raises(UserError, match=r"a\.png has changed its size; run again"):
        database.read(database.test, 0)


def test_a_changed_picture_is_read_anew(tmp_path):
    save(tmp_path / "p" / "a.png", 900, 900, level=50)
    save(tmp_path / "p" / "b.png", 30, 30)
    images, i = everything(open_folder(tmp_path / "p"))["a.png"]
    assert open_folder(tmp_path / "p").read(images, i).max() == 50
    save(tmp_path / "p" / "a.png", 901, 903, level=200)
    database = open_folder(tmp_path / "p")
    images, i = everything(database)["a.png"]
    assert database.read(images, i).min() == 200


def test_crop_has_a_margin(folder):
    database = open_folder(folder)
    # mean side 150, 8% of it 12: window 38, 48 to 162, 270 (the picture's end)
    m = database.crop(np.array([50.0, 60, 150, 260]), 400, 270, 256)
    assert np.allclose(apply(m, np.array([[38.0, 48], [162, 270]])), [[0, 0], [256, 256]])


def write_landmarks(folder: Path, names: list[str]) -> None:
    rows = [f"{name},1,2,4,6,7,10" for name in names]
    (folder / "landmarks.csv").write_text("file,x0,y0,x1,y1,x2,y2\n" + "\n".join(rows))


def test_split_file_and_normalisers(folder):
    names = [f"{i:02d}.{s}" for i, s in ((1, "jpeg"), (2, "png"), (4, "webp"), (5, "tif"))]
    (folder / "split.csv").write_text(
        f"file,split\n{names[0]},train\n{names[1]},test\n{names[2]},regression\n./{names[3]}, train\n"
    )
    write_landmarks(folder, names)
    database = open_folder(folder)
    assert database.training.names.tolist() == [names[0], names[3]]  # what the file does not name is left out
    assert database.regression.names.tolist() == [names[2]]
    assert database.test.names.tolist() == [names[1]]
    points = database.test.landmarks
    assert np.allclose(database.normalisers(points), [np.sqrt(6 * 8)])
    assert open_folder(folder, "normalise_by=0,2").normalisers(points).tolist() == [10]
    with pytest.raises(UserError, match="has points 0 to 2, but errors are divided .* 0 and 3"):
        open_folder(folder, "normalise_by=0,3").normalisers(points)
    for wrong in ("1", "a,b", "1,1", "-1,2", "0,1,2"):
        with pytest.raises(UserError, match="normalise_by="):
            open_folder(folder, f"normalise_by={wrong}")


def test_regression_pictures_are_training_pictures_with_landmarks(folder):
    database = open_folder(folder)
    known = database.training.names.tolist()[2:5]
    write_landmarks(folder, known)
    assert open_folder(folder).regression.names.tolist() == known


def write_coco(folder: Path, annotations: list[dict], images=None) -> None:
    images = images or [{"id": 7, "file_name": "01.jpeg"}, {"id": 9, "file_name": "elsewhere/00.jpg"}]
    (folder / "annotations.json").write_text(json.dumps({"images": images, "annotations": annotations}))


def test_coco_annotations(folder):
    write_coco(
        folder,
        [
            {"image_id": 9, "bbox": [5, 6, 30, 20], "keypoints": [1, 2, 2, 3, 4, 0]},
            {"image_id": 7, "bbox": [1, 1, 10, 10], "keypoints": [5, 6, 1, 7, 8, 2]},
            {"image_id": 9, "bbox": [20, 6, 30, 20], "keypoints": []},
            {"image_id": 9, "bbox": [0, 0, 60, 40], "iscrowd": 1},
        ],
    )
    (folder / "split.csv").write_text("file,split\n01.jpeg,test\ndeep/down/00.jpg,train\n")
    database = open_folder(folder)
    assert database.training.names.tolist() == ["deep/down/00.jpg#0", "deep/down/00.jpg#1"]
    assert database.training.boxes.tolist() == [[5, 6, 35, 26], [20, 6, 50, 26]]
    assert database.training.landmarks[0, 0].tolist() == [1, 2]
    assert np.isnan(database.training.landmarks[0, 1]).all()
    assert np.isnan(database.training.landmarks[1]).all()
    assert database.test.names.tolist() == ["01.jpeg"]
    assert database.test.landmarks.tolist() == [[[5, 6], [7, 8]]]
    assert database.read(database.training, 1).shape == (40, 60, 3)


def test_broken_coco_files_are_named(folder):
    for content, message in (
        ("[", "is not a COCO keypoints file"),
        ("{}", "images: is missing"),
        ('{"images": [], "annotations": []}', "has no annotations"),
    ):
        (folder / "annotations.json").write_text(content)
        with pytest.raises(UserError, match=message):
            open_folder(folder)
    write_coco(folder, [{"image_id": 1}], [{"id": 1, "file_name": "no.jpg"}])
    with pytest.raises(UserError, match=r"names 'no\.jpg', which is not among the pictures"):
        open_folder(folder)
    write_coco(folder, [{"image_id": 3}])
    with pytest.raises(UserError, match="an annotation of image 3, which its images lack"):
        open_folder(folder)
    write_coco(folder, [{"image_id": 7, "keypoints": [1, 2, 2]}, {"image_id": 9, "keypoints": [1, 2, 2] * 2}])
    with pytest.raises(UserError, match=r"objects with \[3, 6\] numbers in `keypoints`"):
        open_folder(folder)


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("boxes.csv", "file,x1,y1,x2,y2\nno.jpg,1,2,3,4\n", r"names 'no\.jpg', which is not among the pictures"),
        ("boxes.csv", "file,x1,y1,x2,y2\n01.jpeg,1,2,3,4\n", r"has no box for 11 pictures, first 02\.png"),
        ("boxes.csv", "file,x1,y1,x2\n01.jpeg,1,2,3\n", "has no box|no column"),
        ("boxes.csv", "name,x1\n01.jpeg,1\n", "has no column `file`"),
        ("boxes.csv", "", "cannot be read as a table"),
        ("boxes.csv", None, "cannot be read as a table .*No such file"),
        ("landmarks.csv", "file,x0,y0\n01.jpeg,1,a\n", "a cell that is not a number"),
        ("landmarks.csv", "file,x0,y0,x1\n01.jpeg,1,2,3\n", "has 3 columns beside `file`"),
        ("landmarks.csv", "file,x1,y1\n01.jpeg,1,2\n", "has no column `x0`"),
        ("split.csv", "file,split\n01.jpeg,training\n", "split 'training' of 01.jpeg"),
        ("split.csv", "file,split\n01.jpeg,train\n01.jpeg,test\n", r"names 01\.jpeg twice"),
    ],
)
def test_broken_tables_are_named(folder, file, content, message):
    if content is None:  # a link to where nothing is
        (folder / file).symlink_to("nowhere")
    else:
        (folder / file).write_text(content)
    with pytest.raises(UserError, match=message):
        open_folder(folder)


@pytest.mark.parametrize("name", ["{}/a.png", "C:\\data\\p\\a.png", ".\\a.png", "a.png  "])
def test_names_of_tables_of_other_programs(tmp_path, name):
    save(tmp_path / "p" / "a.png", 60, 40)
    (tmp_path / "p" / "boxes.csv").write_text(f"file,x1,y1,x2,y2\n{name.format(tmp_path / 'p')},1,2,30,20\n")
    assert open_folder(tmp_path / "p").test.boxes.tolist() == [[1, 2, 30, 20]]


def test_a_name_that_fits_several_pictures_is_named(tmp_path):
    for place in ("x/a.png", "y/a.png"):
        save(tmp_path / "p" / place, 60, 40)
    (tmp_path / "p" / "boxes.csv").write_text("file,x1,y1,x2,y2\nx/a.png,1,2,30,20\na.png,1,2,30,20\n")
    with pytest.raises(UserError, match=r"names 'a\.png', which could be several pictures; correct the name"):
        open_folder(tmp_path / "p")


@pytest.mark.parametrize("box", ["10,,50,30", "10,10,50", "10,10,inf,30", "100,100,120,130"])
def test_half_a_box_is_named(tmp_path, box):
    save(tmp_path / "p" / "a.png", 60, 40)
    (tmp_path / "p" / "boxes.csv").write_text(f"file,x1,y1,x2,y2\na.png,{box}\n")
    with pytest.raises(UserError, match=r"of a\.png is empty, incomplete or outside"):
        open_folder(tmp_path / "p")


def test_other_columns_of_named_landmarks_are_passed_over(tmp_path):
    save(tmp_path / "p" / "a.png", 60, 40)
    header = "file,object,tip_x,tip_y,tip_confidence,tail_x,tail_y"
    (tmp_path / "p" / "landmarks.csv").write_text(f"{header}\na.png,0,1,2,0.5,30,20\n")
    assert open_folder(tmp_path / "p").test.landmarks.tolist() == [[[1, 2], [30, 20]]]


def test_unreadable_and_tiny_pictures_are_named_and_passed_over(folder, capsys):
    (folder / "zz.jpg").touch()
    save(folder / "zy.png", 8, 50)
    (folder / "zx.heic").write_bytes(b"\0\0\0\x18ftypheic")
    save(folder / os.fsdecode(b"\xff.png"), 60, 40)
    for name in ("01.jpeg", "deep/down/00.jpg"):
        cut = (folder / name).with_stem("zv")
        cut.write_bytes((folder / name).read_bytes()[:-100])
    rows = [f"{name},,,," for name in list_pictures(folder)[:-1]]
    (folder / "boxes.csv").write_text("\n".join(["file,x1,y1,x2,y2", *rows]))
    database = open_folder(folder)
    capsys.readouterr()
    database.check_cheaply()
    assert len(everything(database)) == 12
    said = capsys.readouterr().err.splitlines()
    assert [re.sub(r".*/", "", line) for line in said] == [
        "zv.jpg is cut off; restore it or remove it from the list",
        "zv.jpeg is cut off; restore it or remove it from the list",
        "zx.heic cannot be read (not a known picture format); restore it or remove it from the list, "
        "or convert it to JPEG",
        "zy.png has only 8x50 pixels; take it out of the folder",
        "zz.jpg is empty; restore it or remove it from the list, or convert it to JPEG",
        "\\udcff.png is not in UTF-8; rename the file",
        "6 pictures left out",
    ]


def test_a_picture_is_read_as_a_whole_once(folder, monkeypatch):
    """To see whether it is cut off; from then on only if it has changed."""
    before = everything(open_folder(folder)).keys()
    (folder / "02.png").write_bytes((folder / "02.png").read_bytes()[:-30])
    read = []
    monkeypatch.setattr("Databases.custom.read_picture", lambda path: read.append(path) or read_picture(path))
    left = everything(open_folder(folder)).keys()
    assert before - left == {"02.png"}
    assert read == [folder / "02.png"]
    (sizes,) = folder.parent.rglob("sizes.pickle")
    sizes.write_bytes(b"damaged")
    assert everything(open_folder(folder)).keys() == left
    assert len(read) > len(left)


def test_a_folder_without_a_readable_picture_is_an_error(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jpg").touch()
    with pytest.raises(UserError, match=r"no picture in .*p can be read, first: .*a\.jpg is empty"):
        open_folder(tmp_path / "p")


def test_folders_that_are_missing_or_empty_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no pictures"):
        open_folder(tmp_path / "empty")
    with pytest.raises(UserError, match="--images .* is not a directory"):
        open_folder(tmp_path / "no")
    (tmp_path / "main.yaml").write_text("Custom_datapath: ''\n")
    with pytest.raises(UserError, match="Custom_datapath is empty"):
        open_folder(tmp_path / "no", images=None, paths=Paths(tmp_path / "main.yaml"))


def test_logs_inside_the_folder_are_no_pictures(folder):
    save(folder / "Logs" / "sheet.jpg", 60, 40)
    assert len(everything(open_folder(folder, log_path=folder / "Logs"))) == 12
    with pytest.raises(UserError, match="log_path is the folder of the pictures"):
        open_folder(folder, log_path=folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bbox": [1, 2, 3]}, "annotations.1.bbox"),
        ({"bbox": [float("inf"), 1, 5, 5]}, "annotations.1.bbox"),
        ({"keypoints": [10**400, 1, 2]}, "annotations.1.keypoints"),
        ({"keypoints": [[1, 2, 2]]}, "annotations.1.keypoints"),
        ({"image_id": [7]}, "annotations.1.image_id"),
    ],
)
def test_coco_entries_that_are_no_places_are_named(folder, change, said):
    write_coco(folder, [{"image_id": 9, "bbox": [5, 6, 30, 20]}, {"image_id": 7, "bbox": [1, 1, 10, 10], **change}])
    with pytest.raises(UserError, match=said):
        open_folder(folder)


def test_what_only_looks_like_a_picture_is_named(folder):
    odd = folder / "odd.jpg"
    for target in ("nowhere", odd):
        odd.symlink_to(target)
        [said] = open_folder(folder).left_out
        assert re.fullmatch(r"picture .*odd\.jpg does not exist or is not a file; restore .*", said)
        odd.unlink()


def test_a_picture_of_more_pixels_than_any_memory(folder):
    """A small file whose header claims what would fill 10 GB."""
    Image.new("1", (6, 6)).save(folder / "bomb.png")
    content = (folder / "bomb.png").read_bytes()
    head = b"IHDR" + struct.pack(">II", 60_000, 60_000) + content[24:29]
    (folder / "bomb.png").write_bytes(content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:])
    [said] = open_folder(folder).left_out
    assert "bomb.png cannot be read (60000x60000 pixels are too many)" in said


def test_left_overs_of_shrunk_pictures_are_removed(folder):
    left = open_folder(folder).cache / ".a.xyz.part.jpg"
    left.parent.mkdir(parents=True)
    left.touch()
    os.utime(left, (0, 0))
    open_folder(folder)
    assert not left.exists()


@pytest.mark.parametrize("size", [-1, 15])
def test_working_sizes_have_a_bound(folder, size):
    with pytest.raises(UserError, match=f"--set working_size={size}: must be at least 16, or 0"):
        open_folder(folder, f"working_size={size}")


def write_boxes(folder: Path, boxes: list[list[float]]) -> None:
    """Pictures of 640x480 with a box each."""
    lines = ["file,x1,y1,x2,y2"]
    for i, box in enumerate(boxes):
        save(folder / f"{i}.png", 640, 480)
        lines.append(f"{i}.png,{','.join(map(str, box))}")
    (folder / "boxes.csv").write_text("\n".join(lines))


@pytest.mark.parametrize(
    "scale, said", [((640, 480, 640, 480), "shares of the sides"), ((6.4, 4.8, 6.4, 4.8), "percent")]
)
def test_boxes_in_other_units_are_named(tmp_path, scale, said):
    pixels = np.array(
        [[64, 48, 320, 240], [100, 96, 620, 470], [10, 10, 200, 200], [90, 0, 400, 80], [0, 0, 640, 480]]
    )
    write_boxes(tmp_path / "p", (pixels / scale).tolist())
    with pytest.raises(UserError, match=f"the boxes of the pictures in .* seem to be {said}; write pixels"):
        open_folder(tmp_path / "p")
    write_boxes(tmp_path / "p", pixels)
    open_folder(tmp_path / "p")


def test_landmarks_in_shares_are_named(folder):
    (folder / "landmarks.csv").write_text("file,x0,y0,x1,y1\n01.jpeg,0.2,0.3,0.9,1\n")
    with pytest.raises(UserError, match="the landmarks of .* end at 1 and seem to be shares of the sides"):
        open_folder(folder)


def test_a_box_of_one_pixel_is_empty(tmp_path):
    write_boxes(tmp_path / "p", [[100, 100, 101, 101]])
    with pytest.raises(UserError, match=r"the box 100, 100, 101, 101 of 0\.png is empty"):
        open_folder(tmp_path / "p")


def test_coco_of_pictures_of_another_size_is_named(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "p" / "a.jpg", 80, 40, exif=exif)
    save(tmp_path / "p" / "b.jpg", 80, 40)
    objects = [{"image_id": i, "bbox": [5, 5, 20, 20]} for i in (1, 2)]
    for (width, height), wrong in (
        ((80, 40), r"a\.jpg has 40x80 .* 80x40"),
        ((40, 80), r"b\.jpg has 80x40 .* 40x80"),
    ):
        images = [{"id": i, "file_name": f"{n}.jpg", "width": width, "height": height} for i, n in enumerate("ab", 1)]
        write_coco(tmp_path / "p", objects, images)
        with pytest.raises(UserError, match=wrong + r" \(1 such objects\)"):
            open_folder(tmp_path / "p")
    images[0] |= {"width": 40, "height": 80}
    images[1] |= {"width": 80, "height": 40}
    write_coco(tmp_path / "p", objects, images)
    open_folder(tmp_path / "p")


def test_coco_of_several_kinds_of_objects_is_named(folder):
    objects = [{"image_id": 9, "bbox": [5, 6, 30, 20]}, {"image_id": 7, "bbox": [1, 1, 10, 10]}]
    write_coco(folder, [{**objects[0], "category_id": 1}, {**objects[1], "category_id": 3}])
    with pytest.raises(UserError, match="has objects of the categories 1, 3; keep one kind of object"):
        open_folder(folder)
    write_coco(folder, [{**entry, "category_id": 3} for entry in objects])
    open_folder(folder)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_tables_of_spreadsheets_are_read(tmp_path, newline):
    """A byte order mark, semicolons, decimal commas, and empty rows and columns."""
    save(tmp_path / "p" / "a.png", 60, 40)
    save(tmp_path / "p" / "b.png", 60, 40)
    lines = ["file ;x1; y1;x2;y2;;", "a.png;1,5;2;30,25;20;;", ";;;;;;", "b.png;1;2;3,5;4.5;;", ";;;;;;", ""]
    (tmp_path / "p" / "boxes.csv").write_bytes(b"\xef\xbb\xbf" + newline.join(lines).encode())
    (tmp_path / "p" / "split.csv").write_text("file,split\na.png,train\n,\nb.png,test\n,\n")
    database = open_folder(tmp_path / "p")
    assert database.training.boxes.tolist() == [[1.5, 2, 30.25, 20]]
    assert database.test.boxes.tolist() == [[1, 2, 3.5, 4.5]]


@pytest.mark.parametrize("on_disk, in_table", [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_are_the_same_composed_and_decomposed(tmp_path, on_disk, in_table):
    on_disk, in_table = (unicodedata.normalize(form, "sch\u00f6n.png") for form in (on_disk, in_table))
    save(tmp_path / "p" / on_disk, 60, 40)
    (tmp_path / "p" / "boxes.csv").write_text(f"file,x1,y1,x2,y2\n{in_table},1,2,30,20\n")
    assert open_folder(tmp_path / "p").test.boxes.tolist() == [[1, 2, 30, 20]]
    (tmp_path / "p" / "boxes.csv").unlink()
    write_coco(tmp_path / "p", [{"image_id": 1, "bbox": [1, 2, 3, 4]}], [{"id": 1, "file_name": f"x/{in_table}"}])
    content = (tmp_path / "p" / "annotations.json").read_bytes()
    (tmp_path / "p" / "annotations.json").write_bytes(b"\xef\xbb\xbf" + content)
    assert open_folder(tmp_path / "p").test.boxes.tolist() == [[1, 2, 4, 6]]
