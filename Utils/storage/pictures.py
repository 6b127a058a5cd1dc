"""Read pictures of any common format as RGB, or say in one line why that fails."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from Utils.runtime.errors import UserError, one_line

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"
_PILLOW_ERRORS = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
_ORIENTATION_TAG = 0x0112
_TRANSPOSING = (5, 6, 7, 8)  # values of the tag that exchange width and height


def read_picture(path: Path | str) -> np.ndarray:
    """The picture in a file as RGB uint8, (H, W, 3), turned as its EXIF orientation says.

    Gray becomes three equal channels, transparency is dropped, 16 bits become 8. Raises UserError, with the file's
    name, if it is missing, empty, cut off or not a picture.
    """
    content = _content(path)
    picture = _decode(content) if _is_whole(content) else None
    return _decode_slowly(content, path) if picture is None else picture


def picture_size(path: Path | str) -> tuple[int, int]:
    """(width, height) of `read_picture`'s result, from the file's header if possible. Raises the same UserError."""
    _require_file(path)
    try:
        with Image.open(path) as image:
            if image.format != "TIFF":  # Pillow's versions differ in whether this size is turned
                width, height = image.size
                return (height, width) if _orientation(image) in _TRANSPOSING else (width, height)
    except _PILLOW_ERRORS:
        pass  # read_picture knows more formats, and says what is wrong with the file
    height, width = read_picture(path).shape[:2]
    return width, height


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


def _require_file(path: Path | str) -> None:
    """UserError for a path that is missing or, like a pipe, not a plain file."""
    if not Path(path).is_file():
        raise UserError(f"picture {path} does not exist or is not a file; restore it or remove it from the list")


def _content(path: Path | str) -> bytes:
    _require_file(path)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"picture {path} cannot be read ({error.strerror}); check the disk and the permissions"
        ) from error
    if not content:
        raise UserError(f"picture {path} is empty; restore it or remove it from the list")
    return content


def _decode(content: bytes) -> np.ndarray | None:
    """Decode with OpenCV; None if it cannot."""
    cv2.setLogLevel(0)  # it prints about files that it cannot read
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if picture is None else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture)


def _decode_slowly(content: bytes, path: Path | str) -> np.ndarray:
    """Decode with Pillow, which also tells what is wrong. Only OpenCV reads TIFF files with 16 bits per colour."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            turned = ImageOps.exif_transpose(image)
            if turned.mode.startswith("I;16"):
                return np.repeat((np.asarray(turned) >> 8).astype(np.uint8)[..., None], 3, axis=2)
            return np.array(turned.convert("RGB"))
    except _PILLOW_ERRORS as error:
        picture = _decode(content) if isinstance(error, UnidentifiedImageError) else None
        if picture is None:
            raise UserError(_unreadable(path, error)) from error
        return picture


def _unreadable(path: Path | str, error: Exception) -> str:
    if "truncated" in str(error):
        return f"picture {path} is cut off; restore it or remove it from the list"
    reason = one_line(error) if "BytesIO" not in str(error) else "not a known picture format"
    return f"picture {path} cannot be read ({reason}); restore it or remove it from the list"


def _is_whole(content: bytes) -> bool:
    """Whether a JPEG or PNG file ends with its end marker, which proves it whole."""
    if content.startswith(_JPEG):
        return content.endswith(b"\xff\xd9")
    if content.startswith(_PNG):
        return content[-8:-4] == b"IEND"
    return False


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation tag, 1 to 8."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # reading the tag would decode the whole picture
    return image.getexif().get(_ORIENTATION_TAG, 1)
