import cv2
import numpy as np
import pytest
from PIL import Image

from Utils.runtime.errors import UserError
from Utils.storage import pictures


def colours() -> np.ndarray:
    """40 x 60 picture with a red, a green, a blue and a white quarter."""
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:20, :30, 0] = 255
    picture[:20, 30:, 1] = 255
    picture[20:, :30, 2] = 255
    picture[20:, 30:] = 255
    return picture


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_lossless_formats_give_their_pixels_in_rgb(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(colours()).save(tmp_path / f"a.{suffix}", **options)
    assert np.array_equal(pictures.read_picture(tmp_path / f"a.{suffix}"), colours())
    assert pictures.picture_size(tmp_path / f"a.{suffix}") == (60, 40)


def test_jpeg_is_rgb(tmp_path):
    pictures.write_jpeg(colours(), tmp_path / "a.jpg")
    read = pictures.read_picture(tmp_path / "a.jpg").astype(int)
    assert np.abs(read[10, 15] - [255, 0, 0]).max() < 12
    assert np.abs(read[30, 15] - [0, 0, 255]).max() < 12


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_exif_orientation_is_honoured(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(colours()).save(tmp_path / f"a.{suffix}", exif=exif, **options)
    read = pictures.read_picture(tmp_path / f"a.{suffix}")
    assert read.shape == (60, 40, 3)
    assert pictures.picture_size(tmp_path / f"a.{suffix}") == (40, 60)
    turned = np.rot90(colours(), -1)
    centres = np.ix_((15, 45), (10, 30))
    assert np.abs(read[centres].astype(int) - turned[centres]).max() < 12


def test_gray_alpha_palette_and_16_bit_become_rgb(tmp_path):
    gray = np.arange(0, 250, 10, dtype=np.uint8).reshape(5, 5)
    as_rgb = np.repeat(gray[..., None], 3, axis=2)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    cv2.imwrite(str(tmp_path / "deep.png"), gray.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "deep.tif"), np.repeat(gray[..., None], 3, 2).astype(np.uint16) * 257)
    Image.fromarray(gray).convert("LA").save(tmp_path / "transparent.png")
    for name in ("gray.png", "deep.png", "deep.tif", "transparent.png"):
        assert np.array_equal(pictures.read_picture(tmp_path / name), as_rgb), name
    Image.fromarray(colours()).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    assert np.array_equal(pictures.read_picture(tmp_path / "palette.png"), colours())


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp"])
def test_a_cut_off_picture_is_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3)).astype(np.uint8)
    path = tmp_path / f"half.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-1500])
    with pytest.raises(UserError, match=rf"half\.{suffix} (is cut off|cannot be read)"):
        pictures.read_picture(path)


def test_a_jpeg_with_bytes_after_its_end_is_whole(tmp_path):
    path = tmp_path / "a.jpg"
    pictures.write_jpeg(colours(), path)
    path.write_bytes(path.read_bytes() + b"camera notes")
    assert pictures.read_picture(path).shape == (40, 60, 3)


@pytest.mark.parametrize("read", [pictures.read_picture, pictures.picture_size])
def test_missing_empty_and_foreign_files_are_named(tmp_path, read):
    with pytest.raises(UserError, match=r"a\.jpg does not exist"):
        read(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").touch()
    with pytest.raises(UserError, match=r"b\.jpg is empty"):
        read(tmp_path / "b.jpg")
    (tmp_path / "c.jpg").write_text("no picture at all")
    with pytest.raises(UserError, match=r"c\.jpg cannot be read \(not a known picture format\)"):
        read(tmp_path / "c.jpg")


def test_gray_is_luminance():
    picture = np.zeros((1, 3, 3), np.uint8)
    picture[0, 0], picture[0, 1], picture[0, 2] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    assert pictures.to_gray(picture).tolist() == [[76, 150, 29]]  # 0.299, 0.587, 0.114
