import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from Utils.runtime.errors import UserError
from Utils.runtime.process import silence_pillow
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
    with pytest.raises(UserError, match=rf"^picture \S+half\.{suffix} (is cut off|cannot be read \((?!picture))"):
        pictures.read_picture(path)


def test_a_png_whose_end_was_never_written_is_named(tmp_path):
    """Zeros take its place; Pillow alone would make a picture of them."""
    Image.effect_noise((60, 60), 99).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    for start in range(500, len(whole) - 20, 100):
        (tmp_path / "a.png").write_bytes(whole[:start].ljust(len(whole), b"\0"))
        with pytest.raises(UserError, match=r"^picture \S+a\.png cannot be read \(broken PNG file"):
            pictures.read_picture(tmp_path / "a.png")


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


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def orientation_as(kind: int, value: bytes) -> bytes:
    """EXIF with orientation 6 as a field of another type than short."""
    return b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, kind, 1) + value + bytes(4)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
def test_orientation_may_stand_in_xmp_alone(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "tif":
        image = Image.fromarray(colours())
        image.save(path, tiffinfo={700: XMP})
    elif suffix == "png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        Image.fromarray(colours()).save(path, pnginfo=info)
    else:
        Image.fromarray(colours()).save(path, xmp=XMP)
    assert pictures.read_picture(path).shape == (60, 40, 3)
    assert pictures.picture_size(path) == (40, 60)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
@pytest.mark.parametrize(
    "exif, turned",
    [
        (orientation_as(4, struct.pack("<I", 6)), True),  # a long
        (orientation_as(2, b"6\0\0\0"), False),  # a text
        (b"Exif\0\0nonsense", False),
    ],
)
def test_size_and_pixels_agree_on_an_odd_orientation(tmp_path, suffix, exif, turned):
    Image.fromarray(colours()).save(tmp_path / f"a.{suffix}", exif=exif)
    size = (40, 60) if turned else (60, 40)
    assert pictures.picture_size(tmp_path / f"a.{suffix}") == size
    assert pictures.read_picture(tmp_path / f"a.{suffix}").shape[1::-1] == size


def test_an_orientation_at_the_end_of_a_png_changes_neither_size_nor_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colours()).save(tmp_path / "a.png")
    whole, body = (tmp_path / "a.png").read_bytes(), b"eXIf" + exif.tobytes()[6:]
    late = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(whole[:-12] + late + whole[-12:])
    assert pictures.picture_size(tmp_path / "a.png") == (60, 40)
    assert pictures.read_picture(tmp_path / "a.png").shape == (40, 60, 3)


@pytest.mark.parametrize(
    "suffix, dtype, factor",
    [
        ("png", np.uint16, 257),  # of 0 to 255
        ("tif", np.uint16, 64.247),  # 14 bits in 16
        ("png", np.uint16, 16.06),  # 12
        ("tif", np.uint16, 16.06),
        ("tif", np.uint16, 4.0118),  # 10
        ("tif", np.uint16, 1),
        ("tif", np.int32, 1),
        ("tif", np.int32, 257),
        ("tif", np.int32, 65793.0),  # 24 bits
        ("tif", np.float32, 1 / 255),
        ("tif", np.float32, 1),
        ("tif", np.float32, 257),
    ],
)
def test_gray_of_any_depth_is_as_bright_as_in_8_bits(tmp_path, suffix, dtype, factor):
    gray = np.linspace(0, 255, 240).round().reshape(12, 20)
    values = gray * factor
    path = tmp_path / f"a.{suffix}"
    Image.fromarray((values if dtype == np.float32 else values.round()).astype(dtype)).save(path)
    read = pictures.read_picture(path)
    assert read.shape == (12, 20, 3)
    assert np.abs(read.astype(int) - gray[..., None]).max() <= 1


@pytest.mark.parametrize(
    "values, said",
    [
        (np.linspace(-1, 1, 100, dtype=np.float32), "run from -1 to 1; expected 0 to 1"),
        (np.full(100, np.nan, np.float32), "run from nan to nan"),
        (np.arange(-5, 95, dtype=np.int32), "run from -5 to 94"),
    ],
)
def test_a_depth_without_a_rule_is_named(tmp_path, values, said):
    Image.fromarray(values.reshape(10, 10)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=rf"a\.tif .*{said}"):
        pictures.read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_colours_of_12_bits_in_16_are_named(tmp_path, suffix):
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), colours().astype(np.uint16) * 16)
    with pytest.raises(UserError, match=rf"a\.{suffix} .*12 of its 16 bits per colour"):
        pictures.read_picture(tmp_path / f"a.{suffix}")


def test_photos_of_a_telephone_with_200_megapixels_are_read(tmp_path, monkeypatch):
    """Its limit is ours and not Pillow's; here at a size that tests can afford."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    pictures.write_jpeg(colours(), tmp_path / "a.jpg")
    assert pictures.read_picture(tmp_path / "a.jpg").shape == (40, 60, 3)
    monkeypatch.setattr(pictures, "MOST_PIXELS", 2399)
    with pytest.raises(UserError, match=r"a\.jpg cannot be read \(60x40 pixels are too many\)"):
        pictures.read_picture(tmp_path / "a.jpg")
    assert 200e6 < 2**28


def test_libraries_say_nothing_about_a_faulty_picture(tmp_path, capfd):
    """Neither of a faulty colour profile nor of a header that claims more than there is."""
    Image.fromarray(colours()).save(tmp_path / "a.png", icc_profile=b"no profile")
    assert np.array_equal(pictures.read_picture(tmp_path / "a.png"), colours())
    whole = (tmp_path / "a.png").read_bytes()
    head = b"IHDR" + struct.pack(">II", 9000, 9000) + whole[24:29]
    (tmp_path / "b.png").write_bytes(whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:-40])
    with pytest.raises(UserError, match=r"b\.png"):
        pictures.read_picture(tmp_path / "b.png")
    jpeg = pictures.encode_jpeg(colours())
    (tmp_path / "c.jpg").write_bytes(jpeg[:700] + bytes(20) + jpeg[720:])
    pictures.read_picture(tmp_path / "c.jpg")
    Image.effect_noise((60, 60), 99).save(tmp_path / "d.tif", compression="tiff_lzw")
    content = (tmp_path / "d.tif").read_bytes()
    (tmp_path / "d.tif").write_bytes(content[:1000] + bytes(500) + content[1500:])
    silence_pillow()
    with pytest.raises(UserError, match=r"d\.tif"):
        pictures.read_picture(tmp_path / "d.tif")
    assert capfd.readouterr() == ("", "")


def test_a_name_that_is_not_utf_8_is_one_line(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.png")
    Image.fromarray(colours()).save(path)
    with pytest.raises(UserError, match=r"the name of picture .* is not in UTF-8; rename the file"):
        pictures.read_picture(path)
