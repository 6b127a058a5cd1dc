"""Files as Human3.6M's download has them: a video, the joints' places, and a mask of the box per frame.

Beside them, for measurements, where the figure is in the pictures that were rendered.
"""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import cv2
import h5py
import numpy as np

from tools.people.motion import FRAMES_PER_SECOND
from Utils.storage.files import writing
from Utils.storage.videos import VideoWriter

RATE = Fraction(FRAMES_PER_SECOND)
X264 = {"preset": "veryfast", "crf": "19", "threads": "1", "g": "50"}  # g: frames from one key frame to the next
SILHOUETTES = "Silhouettes"


def files_of(subjects: Path, subject: str, stem: str) -> tuple[Path, Path, Path, Path]:
    """Video, poses, masks and silhouettes of a recording below a folder with the subjects."""
    base = subjects / subject
    return (
        base / "Videos" / f"{stem}.mp4",
        base / "MyPoseFeatures" / "D2_Positions" / f"{stem}.cdf",
        base / "MySegmentsMat" / "ground_truth_bb" / f"{stem}.mat",
        base / SILHOUETTES / f"{stem}.h5",
    )


def video_writer(file: Path) -> VideoWriter:
    """Writes the frames of a recording's video (H.264, 50 per second)."""
    return VideoWriter(file, RATE, X264, durable=False)


def write_poses(file: Path, joints: np.ndarray) -> None:
    """joints: (frames, 32, 2) in pixels -> the variable Pose, (1, frames, 64)."""
    from cdflib.cdfwrite import CDF

    file.parent.mkdir(parents=True, exist_ok=True)
    frames = len(joints)
    variable = {"Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True, "Dim_Sizes": [frames, 64]}
    cdf = CDF(str(file), delete=True)
    cdf.write_var(variable, var_data=joints.astype(np.float32).reshape(1, frames, 64))
    cdf.close()


def write_masks(file: Path, boxes: Iterable[tuple[int, int, int, int]], size: int) -> None:
    """Per frame a mask (size, size), as MATLAB's v7.3: 1 in the box x1, y1, x2, y2, its last pixels included."""
    boxes = list(boxes)
    with (
        writing(file, durable=False) as temporary,
        h5py.File(temporary, "w", locking=False, userblock_size=512) as mat,
    ):
        masks = mat.create_dataset("Masks", (len(boxes), 1), dtype=h5py.ref_dtype)
        stored: dict[tuple[int, int, int, int], h5py.Reference] = {}
        for i, box in enumerate(boxes):
            if box not in stored:
                mask = np.zeros((size, size), np.uint8)
                mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = 1
                options = {"compression": "gzip", "compression_opts": 1, "chunks": (size, size)}
                stored[box] = mat.create_dataset(f"#refs#/{i}", data=mask.T, **options).ref
            masks[i, 0] = stored[box]


def write_silhouettes(file: Path, frames: list[int], silhouettes: list[np.ndarray]) -> None:
    """Where the figure is, (H, W) bool each, in the frames of these numbers."""
    with writing(file, durable=False) as temporary, h5py.File(temporary, "w", locking=False) as h5:
        h5["frames"] = np.array(frames)
        for number, silhouette in zip(frames, silhouettes, strict=True):
            encoded = cv2.imencode(".png", silhouette.astype(np.uint8) * 255)[1]
            h5[f"pictures/{number}"] = encoded.ravel()


def read_silhouettes(file: Path, frames: Iterable[int]) -> Iterable[np.ndarray]:
    """The silhouettes (H, W) bool of frames that were rendered, in turn."""
    with h5py.File(file, "r") as h5:
        for number in frames:
            decoded = cv2.imdecode(h5[f"pictures/{number}"][()], cv2.IMREAD_GRAYSCALE)
            yield np.asarray(decoded) > 0


def box_of(silhouette: np.ndarray) -> tuple[int, int, int, int]:
    """First and last pixels x1, y1, x2, y2 of what is true; the whole picture where nothing is."""
    columns, rows = np.flatnonzero(silhouette.any(0)), np.flatnonzero(silhouette.any(1))
    if not len(columns):
        return 0, 0, silhouette.shape[1] - 1, silhouette.shape[0] - 1
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])
