"""Labels of the free pictures: homographic adaptation of a free corner detector, or of the network itself.

DeTone et al., "SuperPoint", CVPRW 2018, section 5.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from Networks.superpoint import SuperPoint, score_map
from tools.superpoint.homographies import HomographyRange, inside, map_points, random_homography, warp_picture
from tools.superpoint.photometry import degrade
from tools.superpoint.photos import all_pictures
from tools.superpoint.samples import LabelledPicture, random_gray
from Utils.runtime.errors import UserError
from Utils.runtime.progress import Progress
from Utils.storage.files import dump_pickle, load_pickle

SUPPRESSION = 4  # half-side of the square in which only the best point stays
AREA_PER_POINT = 180  # a detector gives one point for so many pixels: 430 on 240x320
LEAST_REPEATED = 0.2  # points found in fewer views are not kept as labels
ADAPTATION = HomographyRange(rotation=30, scale=1.4, stretch=1.2, perspective=0.25, shift=0.05)

Detector = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # gray uint8 -> points (n, 2)


def classical_corners(gray: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The strongest Shi-Tomasi corners at a random scale: the free teacher of the first labels; (n, 2)."""
    blurred = cv2.GaussianBlur(gray, (0, 0), float(rng.uniform(0.7, 2.0)))
    found = cv2.goodFeaturesToTrack(
        blurred,
        maxCorners=gray.size // AREA_PER_POINT,
        qualityLevel=1e-3,
        minDistance=SUPPRESSION,
        blockSize=int(rng.choice([3, 5, 7])),
    )
    return np.zeros((0, 2)) if found is None else found.reshape(-1, 2)


def network_detector(network: SuperPoint) -> Detector:
    """The network as a detector for `adapt`: the best pixels of its score map."""
    network = network.eval()

    @torch.inference_mode()
    def detect(gray: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
        picture = torch.from_numpy(gray)[None, None].float() / 255
        with torch.autocast("cpu", torch.bfloat16):
            semi = network.detect(network.encode(picture.contiguous(memory_format=torch.channels_last)))
        heat = score_map(semi)[0].numpy()
        rows, columns = np.nonzero(local_maxima(heat))
        best = np.argsort(-heat[rows, columns], kind="stable")[: gray.size // AREA_PER_POINT]
        return np.stack([columns[best], rows[best]], 1).astype(float)

    return detect


def adapt(
    picture: np.ndarray, detect: Detector, rng: np.random.Generator, views: int
) -> tuple[np.ndarray, np.ndarray]:
    """Homographic adaptation (section 5): points (n, 2) that `detect` finds again under random views.

    The picture is warped and degraded `views` times; what is found is mapped back. A point's weight is the
    share of the views showing it in which it was found within 2 pixels; (n,) in [LEAST_REPEATED, 1].
    """
    height, width = picture.shape[:2]
    hits, shown = np.zeros((2, height, width), np.float32)
    white = np.ones((height, width), np.float32)
    for _ in range(views):
        matrix = random_homography(rng, width, height, ADAPTATION)
        view = degrade(warp_picture(random_gray(picture, rng), matrix, width, height), rng)
        back = map_points(np.linalg.inv(matrix), detect(view, rng))
        columns, rows = np.round(back[inside(back, width, height)]).astype(int).T
        np.add.at(hits, (rows, columns), 1)
        frame = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], float)
        seen = np.zeros_like(white)
        cv2.fillConvexPoly(seen, np.round(map_points(np.linalg.inv(matrix), frame)).astype(np.int32), 1.0)
        shown += seen
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)).astype(np.float32)
    repeated = cv2.filter2D(hits, -1, disc, borderType=cv2.BORDER_CONSTANT) / np.maximum(shown, views / 5)
    place = cv2.GaussianBlur(hits, (0, 0), 1.2, borderType=cv2.BORDER_CONSTANT)
    peaks = local_maxima(place) & (repeated >= LEAST_REPEATED)
    rows, columns = np.nonzero(peaks)
    return np.stack([columns, rows], 1).astype(float), np.minimum(repeated[peaks], 1)


def local_maxima(heat: np.ndarray, half_side: int = SUPPRESSION) -> np.ndarray:
    """(H, W) bool: positive and the largest within the square around."""
    side = 2 * half_side + 1
    return (heat > 0) & (heat >= cv2.dilate(heat, np.ones((side, side), np.uint8)))


def label_pictures(detect: Detector, path: Path, views: int, seed: int) -> None:
    """Homographic adaptation of every free picture, once; the labels go to a pickle at `path`."""
    pictures = all_pictures(seed)
    labels = []
    with Progress("Labels", len(pictures), "picture") as progress:
        for k, (picture, _) in enumerate(pictures):
            points, weights = adapt(picture, detect, np.random.default_rng([seed, k]), views)
            labels.append(np.column_stack([points, weights]).astype(np.float32))
            progress.show(points=len(points))
            progress.update()
    dump_pickle(labels, path)


def load_labels(path: Path, seed: int, least: float) -> list[LabelledPicture]:
    """The free pictures with those labels of `label_pictures` that at least this share of the views found."""
    labelled = []
    labels = load_pickle(path)
    if not isinstance(labels, list) or not all(map(_are_labels, labels)):
        raise UserError(f"{path} holds no labels of pictures; remove it to make them again")
    for (picture, chance), rows in zip(all_pictures(seed), labels):
        rows = rows[rows[:, 2] >= least]
        labelled.append(LabelledPicture(picture, rows[:, :2].astype(float), rows[:, 2], chance))
    return labelled


def _are_labels(rows: object) -> bool:
    """Whether these are points and weights (n, 3)."""
    return isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.shape[1] == 3 and bool(np.isfinite(rows).all())
