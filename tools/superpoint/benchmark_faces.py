#!/usr/bin/env python3
r"""What SuperPoint gives the method on faces: keypoints per face, and how well its clusters keep their place.

    python tools/superpoint/benchmark_faces.py CELEBA_TREE [--count 500] [--weights superpoint.pth] \
        [--picture faces.png]

CELEBA_TREE holds the pictures and data/CelebA/{CelebABoundingBoxes,MaflGroundtruthLandmarks}.pickle. Keypoints
come at the method's settings (three zooms, joined, inside the box), 40% outliers are dropped, the rest is
clustered (k-means), thresholded and assigned as in the bootstrap. Each keypoint is then carried to the mean
face by the affine map that fits the 68 landmarks best, and measured there, in percent of the distance
of the eyes' outer corners: the median distance of a cluster's points to the cluster's median place. Two
yardsticks beside it: one place for all keypoints (chance), and points clustered by their places on the mean
face themselves (the best that any descriptor could do with so many clusters).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from Databases.loading import zoom_about_centre
from Networks.generic_keypoints import generic_keypoints
from Networks.superpoint import SuperPoint, load_superpoint
from Utils.assignment import distance_thresholds
from Utils.clustering import kmeans
from Utils.crops import warp
from Utils.hyperparameters import Hyperparameters, hyperparameters
from Utils.runtime.arguments import Parser, path_of, real, whole
from Utils.runtime.errors import UserError, exit_cleanly
from Utils.runtime.process import set_up_process
from Utils.storage.files import load_pickle
from Utils.storage.pictures import read_picture, to_gray

OUTER_EYE_CORNERS = (36, 45)  # of the 68 landmarks, counted from 0
NEIGHBOURS = 100


@dataclass(frozen=True)
class FacePoints:
    """Keypoints of all faces in flat arrays."""

    points: np.ndarray  # (n, 2) picture pixels
    descriptors: np.ndarray  # (n, 256)
    faces: np.ndarray  # (n,) index of the face

    def keep(self, mask: np.ndarray) -> "FacePoints":
        """Those where mask (n,) is True."""
        return FacePoints(self.points[mask], self.descriptors[mask], self.faces[mask])


def find_keypoints(
    network: SuperPoint, pictures: Sequence[np.ndarray], boxes: np.ndarray, hyper: Hyperparameters
) -> FacePoints:
    """The generic keypoints of every face that lie inside its box."""
    points, descriptors, faces = [], [], []
    for face, (picture, box) in enumerate(zip(pictures, boxes)):
        gray = to_gray(picture)
        height, width = gray.shape
        zooms = [zoom_about_centre(width, height, zoom) for zoom in hyper.zooms_superpoint]
        views = np.stack([warp(gray, zoom, (width, height)) for zoom in zooms])
        found, described, _ = generic_keypoints(network, torch.from_numpy(views)[None], hyper)
        place = found.numpy()
        inside = ((place >= box[:2]) & (place <= box[2:])).all(1)
        points.append(place[inside])
        descriptors.append(described.float().numpy()[inside])
        faces.append(np.full(inside.sum(), face))
    return FacePoints(np.concatenate(points), np.concatenate(descriptors), np.concatenate(faces))


def without_outliers(found: FacePoints, fraction: float) -> FacePoints:
    """Drop the points whose descriptors lie furthest from their neighbours."""
    likeness = found.descriptors @ found.descriptors.T
    likeness.partition(likeness.shape[1] - NEIGHBOURS, axis=1)
    score = np.median(likeness[:, -NEIGHBOURS:], axis=1)
    return found.keep(score >= np.quantile(score, fraction))


def assign(found: FacePoints, centroids: np.ndarray) -> np.ndarray:
    """(n,) the cluster of each point, -1 for none; a cluster at most once per face."""
    gaps = ((found.descriptors**2).sum(1)[:, None] + (centroids**2).sum(1)) - 2 * found.descriptors @ centroids.T
    nearest = gaps.argmin(1)
    own = gaps[np.arange(len(gaps)), nearest]
    limits = distance_thresholds(nearest, own, len(centroids))
    cluster = np.full(len(gaps), -1)
    for face in np.unique(found.faces):
        rows = np.flatnonzero(found.faces == face)
        i, k = linear_sum_assignment(gaps[rows])
        good = gaps[rows[i], k] < limits[k]
        cluster[rows[i[good]]] = k[good]
    return cluster


def mean_face(landmarks: np.ndarray) -> np.ndarray:
    """(68, 2): the mean of faces (n, 68, 2) after each was moved and scaled to fit the others."""
    centred = landmarks - landmarks.mean(1, keepdims=True)
    return (centred / np.sqrt((centred**2).mean((1, 2), keepdims=True))).mean(0)


def to_mean_face(points: np.ndarray, faces: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Points (n, 2) of faces (n,) -> places on the mean face, in percent of its eye distance."""
    target = mean_face(landmarks)
    target = target * 100 / np.linalg.norm(np.subtract(*target[list(OUTER_EYE_CORNERS)]))
    source = np.concatenate([landmarks, np.ones_like(landmarks[..., :1])], -1)
    maps = np.linalg.pinv(source) @ target  # (faces, 3, 2)
    return np.einsum("ni,nij->nj", np.column_stack([points, np.ones(len(points))]), maps[faces])


def spreads(places: np.ndarray, cluster: np.ndarray, least: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Per cluster with `least` points or more: median distance to its median place, and its number of points."""
    kept = [k for k in range(cluster.max() + 1) if (cluster == k).sum() >= least]
    spread = [
        np.median(np.linalg.norm(p - np.median(p, axis=0), axis=1)) for p in (places[cluster == k] for k in kept)
    ]
    return np.array(spread), np.array([(cluster == k).sum() for k in kept])


def read_tree(tree: Path, count: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Pictures, boxes (n, 4) and landmarks (n, 68, 2) of the first `count` faces that have landmarks."""
    lists = tree / "data" / "CelebA"
    landmarks = load_pickle(lists / "MaflGroundtruthLandmarks.pickle")
    boxes = load_pickle(lists / "CelebABoundingBoxes.pickle")
    files = {path.name: path for path in tree.rglob("*.jpg")}
    names = [name for name in sorted(landmarks) if name in boxes and name in files][:count]
    if not names:
        raise UserError(f"{tree} holds no picture with a box and landmarks; give a CelebA folder")
    pictures = [read_picture(files[name]) for name in names]
    return pictures, np.array([boxes[n] for n in names], float), np.array([landmarks[n] for n in names], float)


def draw(pictures: list[np.ndarray], found: FacePoints, path: Path, rows: int = 4, columns: int = 8) -> None:
    """A sheet of the first faces with their keypoints, twice enlarged."""
    tiles = []
    for face, picture in enumerate(pictures[: rows * columns]):
        tile = cv2.resize(picture, None, fx=2, fy=2)[..., ::-1].copy()
        for x, y in found.points[found.faces == face]:
            cv2.circle(tile, (round(2 * x), round(2 * y)), 3, (0, 255, 0), 1, cv2.LINE_AA)
        tiles.append(tile)
    sheet = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles) - columns + 1, columns)]
    cv2.imwrite(str(path), np.vstack(sheet))


@exit_cleanly
def main() -> None:
    """Read the options, measure, print."""
    set_up_process()
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=path_of, metavar="CELEBA_TREE")
    parser.add_argument("--count", type=whole(1, 10**7), default=500, help="faces (default: 500)")
    parser.add_argument("--weights", default="", help="a SuperPoint file (default: our own)")
    parser.add_argument("--threshold", type=real(0.0, 1.0), default=0.1)
    parser.add_argument("--suppression", type=whole(1, 1000), default=6)
    parser.add_argument("--outliers", type=real(0.0, 0.999), default=0.4)
    parser.add_argument("--clusters", type=whole(2, 100_000), default=100)
    parser.add_argument("--picture", type=path_of, help="write a sheet of faces with keypoints here")
    options = parser.parse_args()
    pictures, boxes, landmarks = read_tree(options.tree, options.count)
    network = load_superpoint(options.weights)
    settings = [f"confidence_superpoint={options.threshold}", f"nms_superpoint={options.suppression}"]
    hyper = hyperparameters(settings, {})
    found = find_keypoints(network, pictures, boxes, hyper)
    counts = np.bincount(found.faces, minlength=len(pictures))
    low, middle, high = np.percentile(counts, [5, 50, 95])
    print(f"{len(pictures)} faces, keypoints per face: median {middle:.0f}, 5% {low:.0f}, 95% {high:.0f}")
    if options.picture:
        draw(pictures, found, options.picture)
    if len(found.points) < max(5 * options.clusters, 4 * NEIGHBOURS):
        raise UserError(
            f"only {len(found.points)} keypoints, too few for {options.clusters} clusters; lower --threshold"
        )
    found = without_outliers(found, options.outliers)
    places = to_mean_face(found.points, found.faces, landmarks)
    cluster = assign(found, kmeans(found.descriptors, options.clusters))
    best = kmeans(np.ascontiguousarray(places, np.float32), options.clusters)
    by_place = ((places[:, None] - best[None]) ** 2).sum(-1).argmin(1)
    print("spread of clusters, % of eye distance (mean over points; 25%, 50%, 75% of the clusters):")
    for name, groups in (("descriptors", cluster), ("one place", np.zeros(len(places), int)), ("by place", by_place)):
        spread, size = spreads(places, groups)
        mean, quarters = np.average(spread, weights=size), np.percentile(spread, [25, 50, 75])
        numbers = " ".join(f"{number:5.1f}" for number in (mean, *quarters))
        print(f"  {name:12s}{numbers}   {len(size)} clusters, {size.sum()} points")


if __name__ == "__main__":
    main()
