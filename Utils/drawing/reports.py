"""The results of an evaluation in an experiment's Logs: curves, tables, and lines in the log."""

from collections.abc import Sequence

import numpy as np

from Utils.drawing.marks import palette
from Utils.drawing.plots import write_curve, write_few_annotations
from Utils.evaluation import Errors
from Utils.movement import FOLLOWS, OFTEN, Movement
from Utils.protocols import few_annotations
from Utils.storage.experiment import Experiment
from Utils.storage.files import write_rows

LANDMARK_COLUMNS = (
    "landmark",
    "colour",
    "found_percent",
    "residual_pixels",
    "movement_pixels",
    "r2",
    "backward_percent",
    "steadiness_percent",
    "steadiness_r2",
    "others_r2",
)

TRAIN_LONGER = (
    "continue with Train_Secondstep.py --resume and a higher --set total_iterations; if that does not help, train "
    "step one longer or on more pictures"
)


def report_failure(
    experiment: Experiment, found: np.ndarray, steady: np.ndarray | None = None, remedy: str = TRAIN_LONGER
) -> bool:
    """Whether no landmark is found often, or under a quarter of those follow the picture; if so, log what to try.

    found: (L,) share of the pictures with each landmark; steady: (L,) bool, None where it is unknown.
    """
    often = found > OFTEN
    if not often.any():
        experiment.log(
            f"Failed: no landmark is found in over {100 * OFTEN:.0f}% of the pictures, the best one in "
            f"{100 * found.max(initial=0):.0f}%; {remedy}"
        )
        return True
    if steady is not None and 4 * steady[often].sum() < often.sum():
        experiment.log(
            f"Failed: only {steady[often].sum()} of {often.sum()} landmarks follow a picture that is turned and "
            f"shifted; the others may be places in the crop, not parts of the object; {remedy}"
        )
        return True
    return False


def report_errors(experiment: Experiment, errors: Errors, seed: int) -> None:
    """Write ForwardError, BackwardError and FewShot (.jpg, .csv) and log the final errors.

    A protocol without backward errors writes none. seed: chooses the annotated pictures of FewShot.
    """
    for note in errors.notes:
        experiment.log(f"Evaluation: {note}")
    paths = [experiment.result("ForwardError.jpg"), experiment.result("FewShot.jpg")]
    write_curve(errors.forward, paths[0], "groundtruth landmarks")
    write_few_annotations(few_annotations(errors, seed), paths[1])
    measures_backward = not np.isnan(errors.backward).any()
    if measures_backward:
        paths.append(experiment.result("BackwardError.jpg"))
        write_curve(errors.backward, paths[2], "discovered landmarks")
    experiment.log(f"Curves, with their numbers beside them (.csv): {', '.join(map(str, paths))}")
    experiment.log(f"Landmarks evaluated: {len(errors.landmarks)}")
    if len(errors.landmarks):
        experiment.log(f"Forward error:  {errors.forward_percent:.2f}% of the normaliser")
        if measures_backward:
            experiment.log(f"Backward error: {errors.backward_percent:.2f}% of the normaliser")
    else:
        experiment.log(f"Forward error:  {errors.forward_percent:.2f}% of the normaliser, the mean shape's")
        experiment.log("Backward error: unknown without landmarks")


def report_landmarks(
    experiment: Experiment,
    landmarks: np.ndarray,
    found: np.ndarray,
    movement: Movement | None = None,
    errors: Errors | None = None,
    steadiness: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> None:
    """Write Landmarks.csv, a row per landmark, and log how many follow their part. Unknown values stay empty.

    landmarks: (L,) their clusters, which are their names in all files; colours are those of Step2.jpg. found: (L,)
    share of the pictures with each. errors: its `landmarks` are indices below L. steadiness: error in percent of the
    crop's side and R2 under known warps, R2 by the other landmarks, (L,) each.
    """
    empty = np.full(len(landmarks), np.nan)
    backward = empty.copy()
    if errors is not None:
        backward[errors.landmarks] = 100 * errors.backward
    explained = [empty] * 3 if movement is None else [movement.residual, movement.movement, movement.r2]
    columns = [100 * found, *explained, backward, *(steadiness or (empty, empty, empty))]
    path = experiment.result("Landmarks.csv")
    rows: list[Sequence[object]] = [LANDMARK_COLUMNS]
    for k, colour, *values in zip(landmarks, palette(len(landmarks)), *columns, strict=True):
        name = f"#{bytes(colour.tolist()).hex()}"
        rows.append([k, name, *("" if np.isnan(value) else f"{value:.4g}" for value in values)])
    write_rows(rows, path)
    if movement is not None:
        often = movement.often_found()
        experiment.log(
            f"Landmarks found in over {100 * OFTEN:.0f}% of the pictures: {len(often.r2)}; "
            f"{movement.following().sum()} of them follow their part (R2 over {FOLLOWS}); {often.describe()}"
        )
    experiment.log(f"A table of all landmarks: {path}")


def report_steadiness(experiment: Experiment, found: np.ndarray, steady: np.ndarray, error: np.ndarray) -> None:
    """Log what is known of landmarks without groundtruth.

    found: (L,) share of the test images with each landmark; steady: (L,) bool; error: (L,) percent of the crop's
    side.
    """
    experiment.log("No groundtruth landmarks: forward and backward error are unknown")
    experiment.log(
        f"Landmarks: {len(found)}, each found in {100 * found.mean():.1f}% of the test pictures on average; "
        f"{steady[found > OFTEN].sum()} of them are found in over {100 * OFTEN:.0f}% and follow known warps"
    )
    if np.isfinite(error).any():
        experiment.log(f"Steadiness under known warps: {np.nanmean(error):.2f}% of the picture's side")
