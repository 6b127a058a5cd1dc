"""A tiny download of Human3.6M for tests: videos, poses and masks in its formats."""

from pathlib import Path

import cv2
import h5py
import numpy as np

FRAMES = 60
BOX = (40, 30, 79, 109)  # of every mask: first and last pixels
SIZE = (160, 140)  # of the videos: width, height


def pose_of(seed: int, frames: int = FRAMES) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 140, (frames, 32, 2)).astype(np.float32)


def write_recording(base: Path, stem: str, seed: int, frames=(FRAMES,) * 3, videos: str = "Videos") -> None:
    """A video whose gray level counts frames, poses, and masks, in the formats of the download."""
    from cdflib.cdfwrite import CDF

    folders = [base / videos, base / "MyPoseFeatures" / "D2_Positions", base / "MySegmentsMat" / "ground_truth_bb"]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(folders[0] / f"{stem}.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 50, SIZE)
    for i in range(frames[0]):
        writer.write(np.full((SIZE[1], SIZE[0], 3), 60 + 3 * (i % 60), np.uint8))
    writer.release()
    cdf = CDF(str(folders[1] / f"{stem}.cdf"), delete=True)
    specification = {"Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True}
    pose = pose_of(seed, frames[1]).reshape(1, frames[1], 64)
    cdf.write_var({**specification, "Dim_Sizes": [frames[1], 64]}, var_data=pose)
    cdf.close()
    x1, y1, x2, y2 = BOX
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    mask[y1 : y2 + 1, x1 : x2 + 1] = 1
    with h5py.File(folders[2] / f"{stem}.mat", "w", userblock_size=512) as mat:
        masks = mat.create_dataset("Masks", (frames[2], 1), dtype=h5py.ref_dtype)
        stored = mat.create_dataset("#refs#/a", data=mask.T, compression="gzip").ref
        empty = mat.create_dataset("#refs#/b", data=0 * mask.T, compression="gzip").ref
        for i in range(frames[2]):
            masks[i, 0] = empty if stem.startswith("Waiting") and i == 10 else stored
