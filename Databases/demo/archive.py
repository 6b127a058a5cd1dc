"""The pictures that ship, in one archive, which `make` renders."""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from Databases.database import ImageSet
from Utils.storage.files import remove_left_overs, writing

ARCHIVE = Path(__file__).parent / "pictures.zip"  # <split>/000000.jpg ..., and <split>.npz with landmarks and boxes
COUNTS = {"train": 1000, "test": 200}
SIZE = 128  # pixels


def picture_name(split: str, index: int) -> str:
    return f"{split}/{index:06d}.jpg"


def unpack(folder: Path, split: str, count: int) -> ImageSet:
    """The first `count` pictures of a split as files below `folder`. Missing and damaged files are written again."""
    remove_left_overs(folder / split)
    names = [picture_name(split, i) for i in range(count)]
    with zipfile.ZipFile(ARCHIVE) as archive:
        for name in names:
            path = folder / name
            if not path.is_file() or zlib.crc32(path.read_bytes()) != archive.getinfo(name).CRC:
                with writing(path, durable=False) as temporary:
                    temporary.write_bytes(archive.read(name))
        points = np.load(io.BytesIO(archive.read(f"{split}.npz")))
    return ImageSet(folder, np.array(names), points["boxes"][:count], points["landmarks"][:count], size=(SIZE, SIZE))
