#!/usr/bin/env python3
"""SuperPoint beside OpenCV's FAST, Harris, ORB and SIFT, on a folder of pictures.

    python tools/superpoint/benchmark.py PICTURES... [--count 200] [--weights superpoint.pth]

Every picture is brought to 240x320 gray. Each method sees it twice: from another viewpoint (a random
homography) or in other light (gamma, contrast, brightness, a light from one side), with independent slight
noise in all views. All methods get the same views, the same suppression and the same number of points:

    repeatability  share of the points seen by both views that have a point of the other within 3 pixels
    matching       mutual nearest neighbours that are right within 3 pixels, over the points seen by both
    homography     share of the pairs whose RANSAC homography moves the corners by at most 3 pixels on average

DeTone et al., "SuperPoint", CVPRW 2018, sections 7.2, 7.3 and appendices, define the measures. OpenCV's
detectors run with thresholds low enough to give the number of points asked for. SIFT places its points between
pixels; the row `refined` does so for SuperPoint, by the centroid of the scores around each point.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from Networks.superpoint import load_superpoint
from tools.superpoint.detectors import Features, Method, fast, features, harris, orb, sift, superpoint
from tools.superpoint.homographies import HomographyRange, inside, map_points, random_homography, warp_picture
from tools.superpoint.photometry import add_noise, change_light
from Utils.runtime.arguments import Parser, path_of, whole
from Utils.runtime.errors import UserError, exit_cleanly
from Utils.runtime.process import set_up_process
from Utils.storage.pictures import read_picture, to_gray

HEIGHT, WIDTH = 240, 320
TOLERANCE = 3.0  # pixels
NOISE = 2.0  # gray levels
VIEWPOINT = HomographyRange(rotation=25, scale=1.3, stretch=1.15, perspective=0.2, shift=0.1)
SUFFIXES = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True)
class Scores:
    """One pair of views, one method."""

    points: float
    repeatability: float
    matching: float
    homography: float


Results = dict[tuple[str, str], list[Scores]]  # (kind of views, method) -> one per picture


def frame(path: Path) -> np.ndarray:
    """The middle of a picture, gray uint8 240x320."""
    gray = to_gray(read_picture(path))
    scale = max(HEIGHT / gray.shape[0], WIDTH / gray.shape[1])
    size = (max(round(gray.shape[1] * scale), WIDTH), max(round(gray.shape[0] * scale), HEIGHT))
    gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    y, x = (gray.shape[0] - HEIGHT) // 2, (gray.shape[1] - WIDTH) // 2
    return gray[y : y + HEIGHT, x : x + WIDTH]


def views(gray: np.ndarray, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Two views and the homography between them, with the parts (bool) that show the picture."""
    everything = np.ones((HEIGHT, WIDTH), bool)
    if kind == "light":
        homography, second, valid = np.eye(3), change_light(gray, rng), everything
    else:
        homography = random_homography(rng, WIDTH, HEIGHT, VIEWPOINT)
        second = warp_picture(gray, homography, WIDTH, HEIGHT)
        grid = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), -1).reshape(-1, 2)
        sources = map_points(np.linalg.inv(homography), grid)
        valid = inside(sources, WIDTH, HEIGHT).reshape(HEIGHT, WIDTH)
    return add_noise(gray, rng, NOISE), add_noise(second, rng, NOISE), homography, everything, valid


def evaluate(paths: list[Path], methods: dict[str, Method], seed: int, half_side: int, most: int) -> Results:
    """{(kind, method): list of Scores}, kinds `viewpoint` and `light`."""
    results: Results = {(kind, name): [] for kind in ("viewpoint", "light") for name in methods}
    for number, path in enumerate(tqdm(paths, unit=" pictures", disable=None)):
        gray = frame(path)
        for k, kind in enumerate(("viewpoint", "light")):
            rng = np.random.default_rng([seed, number, k])
            first, second, homography, everything, valid = views(gray, kind, rng)
            for name, method in methods.items():
                one = features(method, first, everything, half_side, most)
                other = features(method, second, valid, half_side, most)
                results[kind, name].append(compare(one, other, homography))
    return results


def compare(first: Features, second: Features, homography: np.ndarray) -> Scores:
    """All measures of one pair; matching and homography are NaN where the method has no descriptor."""
    share, shown = repeatability(first.points, second.points, homography)
    points = (len(first.points) + len(second.points)) / 2
    if first.descriptors is None or second.descriptors is None:
        return Scores(points, share, np.nan, np.nan)
    i, j = mutual_matches(first.descriptors, second.descriptors)
    source, target = first.points[i], second.points[j]
    right = np.linalg.norm(map_points(homography, source) - target, axis=1) <= TOLERANCE
    estimate = None
    if len(i) >= 4:
        cv2.setRNGSeed(0)
        estimate, _ = cv2.findHomography(source, target, cv2.RANSAC, TOLERANCE)
    good = corner_error(estimate, homography) <= TOLERANCE
    return Scores(points, share, float(right.sum() / max(shown, 1)), float(good))


def repeatability(first: np.ndarray, second: np.ndarray, homography: np.ndarray) -> tuple[float, float]:
    """Share of the points that both views show and that are found again; and the mean number of such points."""
    there, back = map_points(homography, first), map_points(np.linalg.inv(homography), second)
    seen_first, seen_second = inside(there, WIDTH, HEIGHT), inside(back, WIDTH, HEIGHT)
    shown = seen_first.sum() + seen_second.sum()
    if not shown or not len(first) or not len(second):
        return 0.0, shown / 2
    gaps = np.sqrt(((there[:, None] - second[None]) ** 2).sum(-1))
    found = (gaps.min(1)[seen_first] <= TOLERANCE).sum()
    gaps_back = np.sqrt(((back[:, None] - first[None]) ** 2).sum(-1))
    found += (gaps_back.min(1)[seen_second] <= TOLERANCE).sum()
    return float(found / shown), shown / 2


def mutual_matches(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the descriptors that are each other's nearest."""
    gaps = distances(first, second)
    nearest, nearest_back = gaps.argmin(1), gaps.argmin(0)
    mutual = nearest_back[nearest] == np.arange(len(first))
    return np.flatnonzero(mutual), nearest[mutual]


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, m) Euclidean distances; Hamming where the descriptors are bits."""
    if first.dtype == np.uint8:
        return np.bitwise_count(first[:, None] ^ second[None]).sum(-1).astype(float)
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * first @ second.T
    return np.sqrt(np.maximum(squares, 0))


def corner_error(estimate: np.ndarray | None, homography: np.ndarray) -> float:
    """Mean distance of the picture's corners under both homographies, pixels."""
    if estimate is None or not np.isfinite(estimate).all():
        return float("inf")
    corners = np.array([[0, 0], [WIDTH - 1, 0], [WIDTH - 1, HEIGHT - 1], [0, HEIGHT - 1]], float)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = np.linalg.norm(map_points(estimate, corners) - map_points(homography, corners), axis=1).mean()
    return float(gap) if np.isfinite(gap) else float("inf")


def table(results: Results) -> str:
    """The means over all pictures, one line per method."""
    header = f"{'':12s}" + "".join(f"{kind:^44s}" for kind in ("viewpoint", "light"))
    columns = "".join(f"{name:>11s}" for name in ("points", "repeat.", "matching", "homogr."))
    lines = [header, f"{'method':12s}{columns}{columns}"]
    for name in dict.fromkeys(name for _, name in results):
        cells = ""
        for kind in ("viewpoint", "light"):
            rows = np.array([[s.points, s.repeatability, s.matching, s.homography] for s in results[kind, name]])
            points, *shares = rows.mean(0)
            cells += f"{points:11.0f}" + "".join(f"{'-' if np.isnan(v) else f'{v:.3f}':>11s}" for v in shares)
        lines.append(f"{name:12s}{cells}")
    return "\n".join(lines)


def find_pictures(folders: list[Path], count: int) -> list[Path]:
    """`count` pictures, as many from each folder, evenly spread over its sorted names."""
    chosen = []
    for k, folder in enumerate(folders):
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not found:
            raise UserError(f"{folder} holds no .jpg or .png picture; give a folder of pictures")
        share = count * (k + 1) // len(folders) - count * k // len(folders)
        chosen += [found[i] for i in np.linspace(0, len(found) - 1, min(share, len(found))).astype(int)]
    return chosen


@exit_cleanly
def main() -> None:
    """Read the options, measure, print the table."""
    set_up_process()
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=path_of, nargs="+", metavar="PICTURES", help="folders of pictures")
    parser.add_argument("--count", type=whole(1, 10**7), default=200, help="pictures over all folders (default: 200)")
    parser.add_argument("--weights", default="", help="a SuperPoint file (default: our own)")
    parser.add_argument("--seed", type=whole(0, 2**63 - 1), default=1993)
    parser.add_argument("--points", type=whole(1, 10**6), default=300, help="at most so many points per view")
    parser.add_argument(
        "--suppression", type=whole(1, 1000), default=4, help="half-side of the suppressed square, pixels"
    )
    options = parser.parse_args()
    paths = find_pictures(options.folders, options.count)
    network = load_superpoint(options.weights)
    methods: dict[str, Method] = {"FAST": fast, "Harris": harris, "ORB": orb, "SIFT": sift}
    methods |= {"SuperPoint": superpoint(network), "  refined": superpoint(network, refined=True)}
    results = evaluate(paths, methods, options.seed, options.suppression, options.points)
    print(f"{len(paths)} pictures, {WIDTH}x{HEIGHT}, at most {options.points} points, seed {options.seed}")
    print(table(results))


if __name__ == "__main__":
    main()
