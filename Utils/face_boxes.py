"""Boxes of faces by the cascades that OpenCV ships, in the method's convention.

The method's boxes are the extent of 68 landmarks, plus a third of its height for the forehead. A fixed linear map
turns a cascade's detection into such a box.
"""

import functools
import threading
from pathlib import Path

import cv2
import cv2.data
import numpy as np

from Utils.runtime.errors import UserError, one_line
from Utils.storage.pictures import read_picture, to_gray

# Each is tried if the ones before found nothing. Profiles are searched facing both ways.
CASCADES = ("frontalface_default", "frontalface_alt2", "profileface")
# x1, y1, x2, y2 of the method's box in a detection of side 1: medians over 550 photos with 68 labelled points.
FROM_DETECTION = {
    "frontalface_default": (0.074, -0.036, 0.922, 1.084),
    "frontalface_alt2": (0.057, -0.042, 0.926, 1.104),
    "profileface": (0.023, 0.046, 0.791, 1.039),
}
PADDING = 0.25  # of the longer side; the cascades miss faces at the border
SMALLEST = 0.2  # of the shorter side; each picture shows one large face
SCALE_STEP, NEIGHBOURS = 1.1, 3
LONGEST_SIDE = 320  # larger pictures are shrunk for the search
SAME_PLACE = 0.5  # least intersection over union with the median box in aligned pictures


@functools.cache
def _cascade(name: str, thread: int) -> cv2.CascadeClassifier:
    """Each thread needs its own."""
    return cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml")


def find_face(picture: np.ndarray) -> np.ndarray | None:
    """The surest face of a picture (H, W, 3): its box x1, y1, x2, y2 in picture pixels, or None."""
    gray = to_gray(picture)
    shrink = min(1.0, LONGEST_SIDE / max(gray.shape))
    if shrink < 1:
        gray = cv2.resize(gray, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    pad = int(PADDING * max(gray.shape))
    padded = cv2.copyMakeBorder(gray, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    smallest = int(SMALLEST * min(gray.shape))
    for name in CASCADES:
        found = _best(name, padded, smallest)
        if found is not None:
            return (found - pad) / shrink
    return None


def _best(name: str, gray: np.ndarray, smallest: int) -> np.ndarray | None:
    """The surest detection of one cascade as a box of the method's convention."""
    candidates = []
    for mirrored in (False, True) if name == "profileface" else (False,):
        seen = np.ascontiguousarray(gray[:, ::-1]) if mirrored else gray
        found, _, weights = _cascade(name, threading.get_ident()).detectMultiScale3(
            seen, SCALE_STEP, NEIGHBOURS, minSize=(smallest, smallest), outputRejectLevels=True
        )
        candidates += [(float(weight), mirrored, place) for weight, place in zip(np.ravel(weights), found)]
    if not candidates:
        return None
    _, mirrored, (x, y, side, _) = max(candidates, key=lambda candidate: candidate[0])
    box = np.array([x, y, x, y]) + np.array(FROM_DETECTION[name]) * side
    if mirrored:
        box[[0, 2]] = gray.shape[1] - box[[2, 0]]
    return box


def find_face_in_file(folder: Path, file: str) -> tuple[tuple[int, int], np.ndarray | None] | str:
    """(width, height) of a picture below `folder`, and its face's box; or why it is unreadable."""
    try:
        picture = read_picture(Path(folder) / file)
    except UserError as error:
        return one_line(error)
    return picture.shape[1::-1], find_face(picture)


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) and (n, 4) or (4,) -> (n,)."""
    overlap = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(-1)
    areas = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return overlap / np.maximum(areas - overlap, 1e-9)


def are_aligned(boxes: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether pictures (boxes (n, 4), NaN without a face; sizes (n, 2)) show the face in the same place."""
    found = boxes[~np.isnan(boxes).any(1)]
    if not len(found) or (sizes != sizes[0]).any():
        return False
    return bool(np.median(intersection_over_union(found, np.median(found, axis=0))) > SAME_PLACE)


def settle_aligned(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4) of aligned pictures -> boxes (n, 4), and whether each was replaced (n,).

    The median box replaces missing boxes and those far from it, which are not faces. The others move half the way to
    the median, which halves the detector's scatter. Raises UserError if no picture has a face.
    """
    known = ~np.isnan(boxes).any(1)
    if not known.any():
        raise UserError("no face was found in any picture; write boxes.csv by hand")
    median = np.median(boxes[known], axis=0)
    replaced = ~known
    replaced[known] = intersection_over_union(boxes[known], median) < SAME_PLACE
    return np.where(replaced[:, None], median, (boxes + median) / 2), replaced
