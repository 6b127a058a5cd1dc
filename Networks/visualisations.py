"""The three visualisations, each a function of database, options and experiment."""

import cv2
import numpy as np

from Databases.database import Database, ImageSet, crop_picture
from Databases.samples import GRID
from Networks.detector import LandmarkDetector
from Utils import crops
from Utils.drawing import TILE, mark, palette, save_picture, sheet
from Utils.experiment import Experiment
from Utils.keypoints import KeypointTable
from Utils.options import Options
from Utils.progress import progress

ROWS, COLUMNS = 8, 8  # of the sheets of step one
RESULT_ROWS, RESULT_COLUMNS = 8, 13  # of the sheet of step two
STRIP, STRIP_PICTURES = 8, 48  # patches of a landmark, and the pictures that they are chosen from
PATCH = 0.35  # of the crop's side
KEYPOINT_COLOUR = np.array([60, 220, 60])
CLUSTER_COLOUR = np.array([240, 60, 60])


def draw_keypoints(database: Database, options: Options, experiment: Experiment) -> None:
    """Step1_Keypoints: 8x8 training images with their keypoints."""
    keypoints = _newest_keypoints(database, experiment)
    chosen = _spread(np.flatnonzero(keypoints.counts() > 0), ROWS * COLUMNS)
    pictures = [_crop(database, database.training, i) for i in chosen]
    points = [_on_crop(keypoints.of(i), options) for i in chosen]
    path = experiment.logs / "Step1_Keypoints.jpg"
    save_picture(sheet(pictures, points, KEYPOINT_COLOUR, COLUMNS, ROWS), path)
    experiment.log(f"Keypoints of {len(chosen)} training pictures: {path}")


def draw_clusters(database: Database, options: Options, experiment: Experiment) -> None:
    """Step1_Clusters: for each cluster a sheet of images that have it, the point marked."""
    keypoints = _newest_keypoints(database, experiment)
    images, clusters = keypoints.images(), keypoints.clusters()
    folder = experiment.logs / "Clusters"
    folder.mkdir(exist_ok=True)
    present = np.unique(clusters[clusters >= 0])
    for k in progress(present, "Clusters", unit="sheet"):
        rows = _spread(np.flatnonzero(clusters == k), ROWS * COLUMNS)
        pictures = [_crop(database, database.training, images[row]) for row in rows]
        points = [_on_crop(keypoints.points[[row]], options) for row in rows]
        save_picture(sheet(pictures, points, CLUSTER_COLOUR, COLUMNS, ROWS, radius=6), folder / f"Cluster{k}.jpg")
    experiment.log(f"{len(present)} clusters: {folder}/Cluster<k>.jpg")


def draw_results(database: Database, options: Options, experiment: Experiment) -> None:
    """Step2: 13x8 test images, each landmark in its own colour."""
    detector = LandmarkDetector.of_experiment(experiment, options, database)
    experiment.open()
    chosen = _spread(np.arange(len(database.test)), RESULT_ROWS * RESULT_COLUMNS)
    images = database.test.subset(chosen)
    points, confidences, _ = detector.predict(images, "Test images")
    points *= TILE / detector.size
    points[confidences < detector.threshold] = np.nan
    pictures = [_crop(database, images, i) for i in range(len(images))]
    colours = palette(len(detector.active))
    path = experiment.logs / "Step2.jpg"
    save_picture(sheet(pictures, list(points), colours, RESULT_COLUMNS, RESULT_ROWS), path)
    experiment.log(f"Landmarks of {len(chosen)} test pictures: {path}")


def landmark_strips(detector: LandmarkDetector, images: ImageSet, side: int) -> list[np.ndarray | None]:
    """For each landmark a row of patches (side, n * side, 3) around it, from pictures spread over the set in which it
    is found, at most STRIP of them; None where it is found in none of those looked at."""
    some = images.subset(_spread(np.arange(len(images)), STRIP_PICTURES))
    points, confidences, _ = detector.predict(some, "Landmarks of the report")
    points = points * (TILE / detector.size)
    pictures = [_crop(detector.database, some, i) for i in range(len(some))]
    strips: list[np.ndarray | None] = []
    for number, colour in enumerate(palette(len(detector.active))):
        rows = _spread(np.flatnonzero(confidences[:, number] >= detector.threshold), STRIP)
        patches = [_patch(pictures[i], points[i, number], colour, side) for i in rows]
        strips.append(np.concatenate(patches, axis=1) if patches else None)
    return strips


def _patch(picture: np.ndarray, point: np.ndarray, colour: np.ndarray, side: int) -> np.ndarray:
    """The surroundings (side, side, 3) of a point of a drawn crop, which is marked."""
    scale = side / (PATCH * TILE)
    around = np.array([[scale, 0.0, side / 2 - scale * point[0]], [0.0, scale, side / 2 - scale * point[1]]])
    patch = crops.warp(picture, around, side, cv2.BORDER_REPLICATE)
    return mark(patch, np.array([[side / 2, side / 2]]), colour, radius=3)


VISUALISATIONS = {
    "Step1_Keypoints": draw_keypoints,
    "Step1_Clusters": draw_clusters,
    "Step2": draw_results,
}


def _newest_keypoints(database: Database, experiment: Experiment) -> KeypointTable:
    """Step one's newest pseudo-groundtruth of the training images."""
    _, path = experiment.newest_updated_keypoints()
    experiment.open()
    return KeypointTable.load(path).align(database.training.names)


def _spread(items: np.ndarray, count: int) -> np.ndarray:
    """At most `count` items, evenly from the whole list."""
    if len(items) <= count:
        return items
    return items[np.linspace(0, len(items) - 1, count).round().astype(int)]


def _crop(database: Database, images: ImageSet, i: int) -> np.ndarray:
    """The crop of picture i, as large as it is drawn."""
    return crop_picture(database, database.read(images, i), images.boxes[i], TILE)[0]


def _on_crop(keypoints: np.ndarray, options: Options) -> np.ndarray:
    """Keypoints (n, 3) of the grid -> (n, 2) pixels of the drawn crop."""
    return keypoints[:, :2] * (GRID * TILE / options.hyper.image_size)
