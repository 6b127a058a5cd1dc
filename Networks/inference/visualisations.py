"""The visualisations, each a function of database, options and experiment."""

import cv2
import numpy as np

from Databases.database import Database, ImageSet, crop_picture, evenly
from Databases.samples import GRID, grid_side
from Networks.inference.detector import LandmarkDetector
from Networks.inference.landmarks import landmarks_of
from Utils import crops
from Utils.drawing.marks import TILE, mark, overview, palette, save_picture, sheet, tile, with_legend
from Utils.drawing.reports import report_failure
from Utils.evaluation import missing_share
from Utils.keypoints import KeypointTable
from Utils.movement import OFTEN
from Utils.options import Options
from Utils.predictions import load_predictions
from Utils.runtime.errors import UserError
from Utils.runtime.progress import progress
from Utils.storage.experiment import Experiment

SIDE = 8  # rows and columns of the sheets of step one
RESULT_ROWS, RESULT_COLUMNS = 8, 13  # on the sheet of step two
STRIP, STRIP_PICTURES = 8, 48  # patches per landmark, and pictures to choose them from
PATCH = 0.35  # of the crop's side
KEY_SIDE = 2 * TILE  # pixels of the picture that names the landmarks
OVERVIEW_PICTURES, OVERVIEW_SHRINK = 6, 2  # per cluster on the page of all clusters
KEYPOINT_COLOUR = np.array([60, 220, 60])
CLUSTER_COLOUR = np.array([240, 60, 60])


def draw_newest_keypoints(database: Database, options: Options, experiment: Experiment) -> None:
    """Step1_Keypoints: 8x8 training images with step one's newest keypoints."""
    draw_keypoints(_newest_keypoints(database, options, experiment), database, options, experiment)


def draw_keypoints(keypoints: KeypointTable, database: Database, options: Options, experiment: Experiment) -> None:
    """Step1_Keypoints.jpg: 8x8 training images with these keypoints."""
    chosen = evenly(np.flatnonzero(keypoints.counts() > 0), SIDE**2)
    pictures = [_crop(database, database.training, i) for i in chosen]
    points = [_on_crop(keypoints.of(i), options) for i in chosen]
    path = experiment.logs / "Step1_Keypoints.jpg"
    save_picture(sheet(pictures, points, KEYPOINT_COLOUR, SIDE, SIDE), path)
    experiment.log(f"Keypoints of {len(chosen)} training pictures: {path}")


def draw_clusters(database: Database, options: Options, experiment: Experiment) -> None:
    """Step1_Clusters: a sheet per cluster of images with its point marked, and a page of all clusters."""
    keypoints = _newest_keypoints(database, options, experiment)
    images, clusters = keypoints.images(), keypoints.clusters()
    folder = experiment.logs / "Clusters"
    folder.mkdir(exist_ok=True)
    present = np.unique(clusters[clusters >= 0])
    strips, names = [], []
    for k in progress(present, "Clusters", unit="sheet"):
        rows = evenly(np.flatnonzero(clusters == k), SIDE**2)
        pictures = [_crop(database, database.training, images[row]) for row in rows]
        points = [_on_crop(keypoints.points[[row]], options) for row in rows]
        save_picture(sheet(pictures, points, CLUSTER_COLOUR, SIDE, SIDE, radius=6), folder / f"Cluster{k}.jpg")
        strips.append(_strip(pictures, points))
        names.append(f"{k}  ({(clusters == k).sum()} keypoints)")
    if strips:
        save_picture(overview(strips, names), folder / "Overview.jpg")
    experiment.log(f"{len(present)} clusters: {folder}/Cluster<k>.jpg, and all on one page: {folder}/Overview.jpg")


def _strip(pictures: list[np.ndarray], points: list[np.ndarray]) -> np.ndarray:
    """A row of some of a cluster's pictures, small."""
    some = evenly(np.arange(len(pictures)), OVERVIEW_PICTURES)
    tiles = [tile(pictures[i], points[i], CLUSTER_COLOUR, radius=10) for i in some]
    tiles += [np.full_like(tiles[0], 255)] * (OVERVIEW_PICTURES - len(tiles))
    row = np.concatenate(tiles, axis=1)
    return cv2.resize(row, None, fx=1 / OVERVIEW_SHRINK, fy=1 / OVERVIEW_SHRINK, interpolation=cv2.INTER_AREA)


def draw_results(database: Database, options: Options, experiment: Experiment) -> None:
    """Step2: up to 13x8 test images with the landmarks that Test.py evaluates, each in its colour, named below."""
    detector = LandmarkDetector.from_experiment(experiment, options, database)
    experiment.open()
    found = _found(detector, experiment)
    report_failure(experiment, found)
    kept = np.flatnonzero(found > OFTEN)
    images, pictures, points, _ = _some(detector, database.test, RESULT_ROWS * RESULT_COLUMNS)
    points = points[:, kept]
    names, colours = [str(k) for k in detector.active[kept]], palette(len(found))[kept]
    drawn = sheet(pictures, list(points), colours, RESULT_COLUMNS, RESULT_ROWS)
    fullest = int(np.isfinite(points).all(axis=2).sum(axis=1).argmax())
    key = _crop(database, images, fullest, KEY_SIDE)
    path = experiment.result("Step2.jpg")
    save_picture(with_legend(drawn, key, KEY_SIDE / TILE * points[fullest], names, colours), path)
    experiment.log(f"{len(kept)} landmarks of {len(found)}, on {len(pictures)} test pictures: {path}")


def draw_named_points(database: Database, options: Options, experiment: Experiment) -> None:
    """Points: the user's named points on up to 13x8 test images, named below."""
    detector = LandmarkDetector.from_experiment(experiment, options, database)
    detector.learn_names(experiment)
    if detector.regressor is None:
        raise UserError(f"{experiment.folder} has no named points; learn some with tools/name_points.py")
    experiment.open()
    images, pictures, drawn_landmarks, to_tiles = _some(
        detector, detector.database.test, RESULT_ROWS * RESULT_COLUMNS
    )
    landmarks = crops.apply(crops.invert(to_tiles), drawn_landmarks)
    points, confidence = detector.regressor.predict(landmarks, to_tiles / TILE, np.stack(pictures))
    points = crops.apply(to_tiles, points)
    names, colours = detector.regressor.names, palette(points.shape[1])
    drawn = sheet(pictures, list(points), colours, RESULT_COLUMNS, RESULT_ROWS)
    surest = int(confidence.mean(axis=1).argmax())
    key = _crop(detector.database, images, surest, KEY_SIDE)
    path = experiment.logs / "Points.jpg"
    save_picture(with_legend(drawn, key, KEY_SIDE / TILE * points[surest], names, colours), path)
    experiment.log(f"{len(names)} named points on {len(pictures)} test pictures: {path}")


def _found(detector: LandmarkDetector, experiment: Experiment) -> np.ndarray:
    """Share (L,) of the pictures in which Test.py finds each landmark, from its predictions or found anew."""
    test = detector.database.test
    if test.landmarks is None:
        return detector.found_share(test, len(test))
    path = experiment.predictions(detector.iteration)
    return 1 - missing_share((load_predictions(path) if path.exists() else landmarks_of(detector)).points)


def landmark_strips(detector: LandmarkDetector, images: ImageSet, side: int) -> list[np.ndarray | None]:
    """For each landmark a row (side, n * side, 3) of patches around it, at most STRIP; None if it is never found."""
    _, pictures, points, _ = _some(detector, images, STRIP_PICTURES)
    strips: list[np.ndarray | None] = []
    for own, colour in zip(points.swapaxes(0, 1), palette(points.shape[1]), strict=True):
        rows = evenly(np.flatnonzero(np.isfinite(own[:, 0])), STRIP)
        patches = [_patch(pictures[i], own[i], colour, side) for i in rows]
        strips.append(np.concatenate(patches, axis=1) if patches else None)
    return strips


def _some(
    detector: LandmarkDetector, images: ImageSet, most: int
) -> tuple[ImageSet, list[np.ndarray], np.ndarray, np.ndarray]:
    """At most `most` of the images, their crops as drawn, and the landmarks (n, L, 2) in these, NaN if not found.

    Also returns the maps (n, 2, 3) from the images to the drawn crops.
    """
    some = images.subset(evenly(np.arange(len(images)), most))
    points, confidences, to_crops = detector.predict(some, "Pictures to draw")
    points[confidences < detector.threshold] = np.nan
    pictures = [_crop(detector.database, some, i) for i in range(len(some))]
    scale = TILE / detector.size
    return some, pictures, scale * points, scale * to_crops


def _patch(picture: np.ndarray, point: np.ndarray, colour: np.ndarray, side: int) -> np.ndarray:
    """The surroundings (side, side, 3) of a point (2,) of a drawn crop, with the point marked."""
    scale = side / (PATCH * TILE)
    around = np.array([[scale, 0.0, side / 2 - scale * point[0]], [0.0, scale, side / 2 - scale * point[1]]])
    patch = crops.warp(picture, around, side, cv2.BORDER_REPLICATE)
    return mark(patch, np.array([[side / 2, side / 2]]), colour, radius=3)


def _newest_keypoints(database: Database, options: Options, experiment: Experiment) -> KeypointTable:
    """Step one's newest pseudo-groundtruth of the training images."""
    _, path = experiment.newest_updated_keypoints()
    experiment.open()
    return KeypointTable.load(path, grid_side(options.hyper)).align(database.training.names, path)


def _crop(database: Database, images: ImageSet, i: int, side: int = TILE) -> np.ndarray:
    """The crop (side, side, 3) of picture i, by default as large as a tile of a sheet."""
    return crop_picture(database, database.read(images, i), images.boxes[i], side)[0]


def _on_crop(keypoints: np.ndarray, options: Options) -> np.ndarray:
    """Keypoints (n, 3) of the grid -> (n, 2) pixels of the drawn crop."""
    return keypoints[:, :2] * (GRID * TILE / options.hyper.image_size)


VISUALISATIONS = {
    "Step1_Keypoints": draw_newest_keypoints,
    "Step1_Clusters": draw_clusters,
    "Step2": draw_results,
    "Points": draw_named_points,
}
