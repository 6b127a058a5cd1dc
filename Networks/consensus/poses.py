"""Poses: how the object of each picture is turned and mirrored, found without labels before anything is learned.

SuperPoint's descriptors bear some 45 degrees of turning and no mirror. So each picture is described in all poses, and
one template of descriptors is found together with the pose in which each picture fits it best: k-means with one
centroid and a hidden pose. Mirrored faces fit almost as well as faces; such a folder keeps its pictures as they are.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.nn import functional

from Databases import DATABASES
from Databases.database import Database, crop_picture
from Databases.posed import POSES, TURNS, contradicting, pose_maps
from Networks.checkpoints import load_clusters
from Networks.execution import autocast
from Networks.superpoint import SuperPoint, load_superpoint
from Utils import crops
from Utils.options import Options
from Utils.runtime import distributed
from Utils.runtime.progress import progress
from Utils.storage.experiment import Experiment
from Utils.storage.files import dump_pickle
from Utils.storage.pictures import to_gray

SIDE = 96  # pixels of the crops that are described
POOLED = 2  # a feature is the mean of 2x2 cells of descriptors, since the object is not exactly in the middle
WINDOW = 0.35  # standard deviation of the weight of a place by its distance from the middle, in sides
STARTS = 4  # pictures that the template starts from
ITERATIONS = 15
FIRST_SHARPNESS, LAST_SHARPNESS = 5.0, 60.0  # of the choice of poses
RAREST = 1e-3  # added to the share of each pose
ONE_WAY_UP, FACING_BOTH_WAYS = 0.5, 0.05  # how well pictures at least fit each other as they are, relative to posed
TEMPLATE_PICTURES = 500  # enough to find the template
DECISION_PICTURES = 100  # enough to tell whether a folder needs poses
FEWEST = 20  # pictures that tell it
NEIGHBOURS, CORRECTIONS = 30, 3  # most similar pictures by which a pose is corrected, and how often
SURE = 2 / 3  # share of the pictures that are trained on: the ones whose poses are surest


def find_poses(database: Database, options: Options, experiment: Experiment) -> Database:
    """The data set with its training pictures in their poses, if they need poses; else as it is.

    Decides a data set's setting `poses=auto`, so that checkpoints record what was decided.
    """
    hyper = options.hyper
    if getattr(hyper, "poses", "one") == "one":
        return database
    known = experiment.bootstrap_clusters()
    if options.resume and known.exists():
        hyper.poses = load_clusters(known)["hyperparameters"]["poses"]  # type: ignore[attr-defined]
    else:
        poses = _found(options, experiment) if distributed.is_main() else None
        hyper.poses = distributed.from_main(poses)  # type: ignore[attr-defined]
    return database if hyper.poses == "one" else DATABASES[options.dataset_name].open(options)  # type: ignore[attr-defined]


def _found(options: Options, experiment: Experiment) -> str:
    """How the training pictures stand, a key of `POSES` or `one`; writes the surest poses, name -> (2, 2) turn."""
    hyper = options.hyper
    wanted = hyper.poses  # type: ignore[attr-defined]
    hyper.poses = "any"  # type: ignore[attr-defined]  # square crops, which hold an object in any pose
    experiment.poses().unlink(missing_ok=True)  # of a run that was killed before its bootstrap had ended
    database = DATABASES[options.dataset_name].open(options)
    images, count = database.training, len(database.training)
    if wanted == "auto" and count < FEWEST:
        return "one"
    network = load_superpoint(options.paths.optional("path_to_superpoint_checkpoint"), options.device)
    order = np.random.default_rng(hyper.seed).permutation(count)

    def described(pictures: np.ndarray, poses: Sequence[int], title: str) -> Iterator[np.ndarray]:
        for i in progress(pictures.tolist(), f"Poses: {title}"):
            picture, _ = crop_picture(database, database.read(images, i), images.boxes[i], SIDE)
            yield describe(network, to_gray(picture), poses, hyper.precision)

    all_poses = range(2 * TURNS)
    some = np.stack(list(described(order[:DECISION_PICTURES], all_poses, "do the pictures stand one way up?")))
    if wanted == "auto":
        wanted, line = decision(some)
        experiment.log(f"Poses: {line}")
    if wanted == "one":
        return wanted
    poses = POSES[wanted]
    more = described(order[DECISION_PICTURES:TEMPLATE_PICTURES], poses, "template")
    some = np.concatenate([some[:, poses], *(features[None] for features in more)])
    template = find_template(some)
    posed = pose_by_neighbours(template, some)
    rest = described(order[len(some) :], poses, "others")
    scores = [scores_by_neighbours(template.unit(some), posed, themselves=True)]
    scores += [scores_by_neighbours(template.unit(features[None]), posed) for features in rest]
    chosen, margins = np.concatenate(scores).argmax(axis=1), margins_of(np.concatenate(scores), poses)
    sure = np.argsort(-margins, kind="stable")[: math.ceil(SURE * count)]
    turns = pose_maps(poses)[chosen[sure], :, :2]
    dump_pickle(dict(zip(images.names[order[sure]].tolist(), turns, strict=True)), experiment.poses())
    experiment.log(f"Poses: the {len(sure)} surest of {count} training pictures are turned alike and trained on")
    return wanted


def decision(features: np.ndarray) -> tuple[str, str]:
    """How pictures stand, `one`, `mirrored` or `any`, and a line about it; features: (n, 2 TURNS, F) in all poses.

    Pictures of objects that are turned by any angle do not fit each other at all as they are. If objects face left or
    right, half of the pairs of pictures do.
    """
    template = find_template(features)
    share = template.upright / max(template.fit, 1e-9)
    fit = f"as they are, pictures fit each other {max(share, 0):.0%} as well as posed"
    if share >= ONE_WAY_UP:
        return "one", f"objects stand one way up ({fit})"
    if share >= FACING_BOTH_WAYS:
        return "mirrored", f"objects face left or right ({fit})"
    return "any", f"objects are turned by any angle ({fit})"


def pose_by_neighbours(template: "Template", features: np.ndarray) -> np.ndarray:
    """Features (n, F) of pictures in their poses: those of the template, corrected by the most similar pictures."""
    unit = template.unit(features)
    posed = unit[np.arange(len(unit)), (unit @ template.direction).argmax(axis=1)]
    for _ in range(CORRECTIONS):
        chosen = scores_by_neighbours(unit, posed, themselves=True).argmax(axis=1)
        posed = unit[np.arange(len(unit)), chosen]
    return posed


def scores_by_neighbours(unit: np.ndarray, posed: np.ndarray, themselves: bool = False) -> np.ndarray:
    """Mean similarity (n, P) of pictures in each pose, (n, P, F), to their nearest among the posed ones (m, F).

    themselves: both are the same pictures, and no picture is its own neighbour.
    """
    similarity = np.einsum("npf,mf->npm", unit, posed, optimize=True)
    if themselves:
        similarity[np.arange(len(unit)), :, np.arange(len(unit))] = -1
    nearest = min(NEIGHBOURS, len(posed) - 1)
    return np.partition(similarity, -nearest, axis=2)[:, :, -nearest:].mean(axis=2)


def margins_of(scores: np.ndarray, poses: Sequence[int]) -> np.ndarray:
    """How much better (n,) the best pose is than any that contradicts it: mirrored, or 90 degrees or more away.

    scores: (n, P) in these poses, indices of `pose_maps`.
    """
    maps = pose_maps(poses)
    contradicts = contradicting(maps, maps[scores.argmax(axis=1)])
    return scores.max(axis=1) - np.where(contradicts, scores, -np.inf).max(axis=1)


@torch.inference_mode()
def describe(network: SuperPoint, gray: np.ndarray, poses: Sequence[int], precision: str) -> np.ndarray:
    """A picture's square crop described in some poses: gray (SIDE, SIDE) uint8 -> (P, F) float16.

    The object is in the middle of the crop, which is large enough for it in any pose.
    """
    device = network.convDb.weight.device
    maps = pose_maps(poses) * (1, 1, SIDE)
    posed = np.stack([crops.warp(gray, pose, SIDE, cv2.BORDER_REFLECT_101) for pose in maps])
    with autocast(device, precision):
        _, descriptors = network(torch.from_numpy(posed).to(device)[:, None].float() / 255)
    pooled = functional.avg_pool2d(descriptors.float(), POOLED)
    weighted = pooled * torch.from_numpy(window(pooled.shape[-1])).to(pooled)
    return weighted.flatten(1).half().cpu().numpy()


def window(cells: int) -> np.ndarray:
    """Weight (cells, cells) of each place: less away from the middle, none outside the circle that turns within."""
    along = (np.arange(cells) + 0.5) / cells - 0.5
    distance = np.hypot(along[:, None], along)
    return np.exp(-(distance**2) / (4 * WINDOW**2)) * (distance < 0.5)


@dataclass(frozen=True)
class Template:
    """What the object looks like in its pose.

    direction: (F,) float32; centre: (F,), the mean feature of all pictures in all poses. fit: mean agreement of the
    pictures in their poses; upright: that of the pictures as they are. Both leave a picture's own part out.
    """

    direction: np.ndarray
    centre: np.ndarray
    fit: float
    upright: float

    def unit(self, features: np.ndarray) -> np.ndarray:
        """Features (..., F) as they are compared: from the centre, of length 1."""
        return _unit(features.astype(np.float32) - self.centre)


def find_template(features: np.ndarray, starts: Sequence[int] | None = None) -> Template:
    """The template of pictures in unknown poses, the best of several starts. features: (n, P, F).

    Which of the poses counts as upright is the choice of the picture that it started from.
    """
    count = len(features)
    centre = features.mean(axis=(0, 1), dtype=np.float32)
    unit = _unit(features.astype(np.float32) - centre)
    upright = unit[:, 0]
    fit_upright = float(((upright @ upright.sum(axis=0)) - 1).mean() / max(count - 1, 1))
    starts = np.linspace(0, count - 1, min(STARTS, count)).astype(int).tolist() if starts is None else starts
    direction, fit = max((_fit(unit, start) for start in starts), key=lambda found: found[1])
    return Template(direction, centre, fit, fit_upright)


def _fit(unit: np.ndarray, start: int) -> tuple[np.ndarray, float]:
    """Template (F,) and fit from one picture as it is: features (n, P, F) of unit length."""
    count = len(unit)
    scores = unit @ unit[start, 0]
    weights = _softmax(8 * scores / scores.std())
    for step in range(ITERATIONS):
        own = np.einsum("np,npf->nf", weights, unit)
        template = own.sum(axis=0)
        # A picture's own part would hold it in the pose that it has.
        scores = (unit @ template - np.einsum("npf,nf->np", unit, own)) / max(count - 1, 1)
        usual = np.abs(scores - scores.mean(axis=1, keepdims=True)).max(axis=1).mean()
        sharpness = FIRST_SHARPNESS * (LAST_SHARPNESS / FIRST_SHARPNESS) ** (step / (ITERATIONS - 1))
        weights = _softmax(sharpness * scores / max(usual, 1e-9) + np.log(weights.mean(axis=0) + RAREST))
    return template / count, float((weights * scores).sum(axis=1).mean())


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _softmax(values: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    raised = np.exp(values - values.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)
