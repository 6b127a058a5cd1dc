"""Read pictures of any common format as RGB, or say in one line why that fails."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from Utils.runtime.errors import UserError, one_line

SUFFIXES: tuple[str, ...] = (".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".png", ".bmp", ".gif", ".webp", ".avif")
SUFFIXES += (".heic", ".heif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm")
MOST_PIXELS = 2**28  # of one picture
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # of Pillow; EPS runs code
_BITS = (8, 10, 12, 14, 16, 24, 32)  # of gray values
_SHALLOW = 2**4  # of 16 bits per colour Pillow gives the upper 8, which stay below this if only 12 are used
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,  # this and the following exchange width and height
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_picture(path: Path | str) -> np.ndarray:
    """The picture in a file as RGB uint8, (H, W, 3), turned by the orientation that EXIF gives, else XMP.

    Gray becomes three equal channels, transparency is dropped. Gray values of more than 8 bits are scaled from the
    fewest bits (8, 10, 12, 14, 16, 24 or 32) that hold the largest of them, floats up to 1 from 1. Raises UserError,
    with the file's name, if it is missing, empty, cut off, not a picture, or of a size or depth that is not read.
    """
    with _opened(path) as image:
        if image.format == "PNG":
            with Image.open(path, formats=("PNG",)) as copy:
                copy.verify()  # checksums, which loading ignores
        is_deep = ";16" in str(image.tile)
        _orientation(image)  # as in `picture_size`: loading may find another one at the end of a PNG
        image.load()  # turns a TIFF
        turn = _TURNS.get(_orientation(image))
        upright = image if turn is None else image.transpose(turn)
        if image.mode[0] in "IF":
            return np.repeat(_eight_bits(np.asarray(upright))[..., None], 3, axis=2)
        picture = np.array(upright.convert("RGB"))
        if is_deep and picture.max(initial=0) < _SHALLOW:
            raise ValueError("at most 12 of its 16 bits per colour are used; expected 16, or convert it to 8")
        return picture


def picture_size(path: Path | str) -> tuple[int, int]:
    """(width, height) of `read_picture`'s result, from the file's header if possible. Raises the same UserError."""
    with _opened(path) as image:
        if image.format == "TIFF":
            image.load()
        width, height = image.size
        return (height, width) if _orientation(image) >= 5 else (width, height)


@contextlib.contextmanager
def _opened(path: Path | str) -> Iterator[ImageFile.ImageFile]:
    """The picture in a file. Whatever is wrong with it ends the block with a UserError."""
    require_file(path, "picture")
    Image.MAX_IMAGE_PIXELS = None  # photos of telephones exceed Pillow's own limit
    remedy = "restore it or remove it from the list"
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels are too many")
            yield image
    except UnidentifiedImageError as error:
        is_empty = Path(path).stat().st_size == 0
        problem = "is empty" if is_empty else "cannot be read (not a known picture format)"
        raise UserError(f"picture {path} {problem}; {remedy}, or convert it to JPEG") from error
    except Exception as error:  # a damaged file can make a decoder raise nearly anything
        is_cut = "truncated" in str(error).lower()
        problem = (
            "is cut off" if is_cut else f"cannot be read ({getattr(error, 'strerror', None) or one_line(error)})"
        )
        raise UserError(f"picture {path} {problem}; {remedy}") from error


def require_file(path: Path | str, what: str) -> None:
    """UserError for a path that is missing or, like a pipe, not a plain file, or whose name is not in UTF-8."""
    if not Path(path).is_file():
        raise UserError(f"{what} {path} does not exist or is not a file; restore it or remove it from the list")
    if not is_utf8(str(path)):
        raise UserError(f"the name of {what} {path} is not in UTF-8; rename the file")


def is_utf8(name: str) -> bool:
    """Whether text files can hold the name; Python marks the bytes that are not UTF-8."""
    return name.encode(errors="ignore").decode() == name


def _orientation(image: Image.Image) -> int:
    """1 to 8, as EXIF counts them; 1 if the file gives none or nonsense."""
    try:
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)  # not PNG's own, which loads all
    except Exception:  # damaged metadata
        return 1
    return orientation if orientation in _TURNS else 1


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Gray values (H, W) of any type, scaled as `read_picture` says: uint8 (H, W). ValueError for negative values."""
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high < np.inf:
        raise ValueError(f"its values run from {low:g} to {high:g}; expected 0 to 1, or bits from 0")
    is_share = values.dtype.kind == "f" and high < 2
    full = 1 if is_share else next(2**bits - 1 for bits in _BITS if high < 2**bits)
    return (np.minimum(values / np.float64(full), 1) * 255 + 0.5).astype(np.uint8)


def to_gray(picture: np.ndarray) -> np.ndarray:
    """RGB uint8 (H, W, 3) -> luminance uint8 (H, W)."""
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def write_jpeg(picture: np.ndarray, path: Path | str, quality: int = 95) -> None:
    """Write RGB uint8 (H, W, 3) as JPEG under exactly the name `path`."""
    Path(path).write_bytes(encode_jpeg(picture, quality))


def encode_jpeg(picture: np.ndarray, quality: int = 95) -> bytes:
    """RGB uint8 (H, W, 3) -> the bytes of a JPEG file."""
    _, content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return content.tobytes()
