"""The three visualisations, each a function of database, options and experiment."""

import numpy as np

from Databases.database import Database, ImageSet, evenly
from Databases.samples import GRID
from Networks.checkpoints import adopt_architecture, load_first_step
from Networks.second_step import load_landmark_network, predict
from Networks.steadiness import CONFIDENT
from Utils import crops
from Utils.drawing import TILE, palette, save_picture, sheet
from Utils.experiment import Experiment
from Utils.keypoints import KeypointTable
from Utils.options import Options
from Utils.progress import progress

ROWS, COLUMNS = 8, 8  # of the sheets of step one
RESULT_ROWS, RESULT_COLUMNS = 8, 13  # of the sheet of step two
KEYPOINT_COLOUR = np.array([60, 220, 60])
CLUSTER_COLOUR = np.array([240, 60, 60])


def draw_keypoints(database: Database, options: Options, experiment: Experiment) -> None:
    """Step1_Keypoints: 8x8 training images with their keypoints."""
    keypoints = _newest_keypoints(database, options, experiment)
    chosen = evenly(np.flatnonzero(keypoints.counts() > 0), ROWS * COLUMNS)
    pictures = [_crop(database, database.training, i) for i in chosen]
    points = [_on_crop(keypoints.of(i), options) for i in chosen]
    path = experiment.logs / "Step1_Keypoints.jpg"
    save_picture(sheet(pictures, points, KEYPOINT_COLOUR, COLUMNS, ROWS), path)
    experiment.log(f"Keypoints of {len(chosen)} training pictures: {path}")


def draw_clusters(database: Database, options: Options, experiment: Experiment) -> None:
    """Step1_Clusters: for each cluster a sheet of images that have it, the point marked."""
    keypoints = _newest_keypoints(database, options, experiment)
    images, clusters = keypoints.images(), keypoints.clusters()
    folder = experiment.logs / "Clusters"
    folder.mkdir(exist_ok=True)
    present = np.unique(clusters[clusters >= 0])
    for k in progress(present, "Clusters", unit="sheet"):
        rows = evenly(np.flatnonzero(clusters == k), ROWS * COLUMNS)
        pictures = [_crop(database, database.training, images[row]) for row in rows]
        points = [_on_crop(keypoints.points[[row]], options) for row in rows]
        save_picture(sheet(pictures, points, CLUSTER_COLOUR, COLUMNS, ROWS, radius=6), folder / f"Cluster{k}.jpg")
    experiment.log(f"{len(present)} clusters: {folder}/Cluster<k>.jpg")


def draw_results(database: Database, options: Options, experiment: Experiment) -> None:
    """Step2: 13x8 test images, each landmark in its own colour."""
    network, active, _ = load_landmark_network(experiment, options)
    experiment.open()
    chosen = evenly(np.arange(len(database.test)), RESULT_ROWS * RESULT_COLUMNS)
    images = database.test.subset(chosen)
    points, confidences, _ = predict(network, database, images, options, "Test images")
    points *= TILE / options.hyper.image_size
    points[confidences < CONFIDENT] = np.nan
    pictures = [_crop(database, images, i) for i in range(len(images))]
    colours = palette(len(active))
    path = experiment.logs / "Step2.jpg"
    save_picture(sheet(pictures, list(points[:, active]), colours, RESULT_COLUMNS, RESULT_ROWS), path)
    experiment.log(f"Landmarks of {len(chosen)} test pictures: {path}")


VISUALISATIONS = {
    "Step1_Keypoints": draw_keypoints,
    "Step1_Clusters": draw_clusters,
    "Step2": draw_results,
}


def _newest_keypoints(database: Database, options: Options, experiment: Experiment) -> KeypointTable:
    """Step one's newest pseudo-groundtruth of the training images; sets the picture size it was made at."""
    _, path = experiment.newest_updated_keypoints()
    checkpoints = experiment.first_step_checkpoints()
    if checkpoints:
        adopt_architecture(options.hyper, load_first_step(checkpoints[-1][1]), checkpoints[-1][1])
    experiment.open()
    return KeypointTable.load(path).align(database.training.names)


def _crop(database: Database, images: ImageSet, i: int) -> np.ndarray:
    """The crop of picture i, as large as it is drawn."""
    picture = database.read(images, i)
    height, width = picture.shape[:2]
    return crops.warp(picture, database.crop(images.boxes[i], width, height, TILE), TILE)


def _on_crop(keypoints: np.ndarray, options: Options) -> np.ndarray:
    """Keypoints (n, 3) of the grid -> (n, 2) pixels of the drawn crop."""
    return keypoints[:, :2] * (GRID * TILE / options.hyper.image_size)
