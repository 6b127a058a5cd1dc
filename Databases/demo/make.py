"""Renders the pictures that ship: `python -m Databases.demo.make`, in about two minutes of one core."""

import io
import zipfile

import numpy as np

from Databases.demo.archive import ARCHIVE, COUNTS, SIZE, picture_name
from Databases.demo.mesh import annotate
from Databases.demo.render import render_scene
from Databases.demo.scene import sample_scene
from Utils.runtime.arguments import Parser
from Utils.runtime.errors import exit_cleanly
from Utils.runtime.process import set_up_process
from Utils.runtime.progress import progress
from Utils.storage.files import writing
from Utils.storage.pictures import encode_jpeg

SEED, QUALITY = 0, 85


def make_picture(split: str, index: int) -> tuple[bytes, np.ndarray, np.ndarray]:
    """A picture as the bytes of a JPEG file, its landmarks and its box."""
    scene = sample_scene(SEED, split, index)
    return encode_jpeg(render_scene(scene, SIZE), QUALITY), *annotate(scene, SIZE)


@exit_cleanly
def main(argv: list[str] | None = None) -> None:
    set_up_process()
    Parser(description=__doc__).parse_args(argv)
    with writing(ARCHIVE) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for split, count in COUNTS.items():
            landmarks, boxes = [], []
            for i in progress(range(count), f"Rendering the Demo set, {split}"):
                content, points, box = make_picture(split, i)
                archive.writestr(zipfile.ZipInfo(picture_name(split, i)), content)
                landmarks.append(points)
                boxes.append(box)
            buffer = io.BytesIO()
            np.savez_compressed(buffer, landmarks=np.stack(landmarks), boxes=np.stack(boxes))
            archive.writestr(zipfile.ZipInfo(f"{split}.npz"), buffer.getvalue())


if __name__ == "__main__":
    main()
