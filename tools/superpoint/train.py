#!/usr/bin/env python3
r"""Train our own SuperPoint from nothing but free photos and rendered pictures.

    python tools/superpoint/train.py --folder runs/superpoint            # all stages, hours on two cores
    python tools/superpoint/train.py --folder runs/superpoint --resume   # go on where it was stopped
    python tools/superpoint/train.py --folder runs/superpoint --export data/SuperPoint/superpoint.pth \
        --place 0.5 --odds 0.4 --bias -10.5

A plan is a list of stages:
    corners             labels from homographic adaptation of a free corner detector
    shapes:N            N iterations of the detector alone, on synthetic shapes and few photos
    detector:N          the same, on more photos
    joint:N             N iterations of detector and descriptor on pairs of views
    parts:N             the same, the descriptor also following histograms of gradients
    families:N          the same, most pairs being two objects of a random family, for the descriptor alone
    head:N              N iterations of the detector's last two layers; all else, and so descriptors, stays
    adapt               new labels, from homographic adaptation of the network of the stage before
"""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

# Threads that wait spin only briefly: without end they starve whatever else runs, without any they wake too late.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import cv2
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from Networks.checkpoints import load_weights
from Networks.superpoint import SuperPoint, load_superpoint
from tools.superpoint.labels import classical_corners, label_pictures, load_labels, network_detector
from tools.superpoint.losses import LossOptions
from tools.superpoint.samples import RELIABLE, PairSource
from tools.superpoint.trainer import Trainer, TrainingOptions, load_state
from tools.superpoint.weights import calibrated, fresh_superpoint, uncalibrated, unit_length, whitened
from Utils.runtime.arguments import Parser, path_of, real, whole
from Utils.runtime.errors import UserError, exit_cleanly
from Utils.runtime.process import set_up_process
from Utils.storage.files import held, remove_left_overs, save_checkpoint

PLAN = "corners shapes:900 joint:14000 parts:4000 adapt families:6500 head:3000"


@dataclass(frozen=True)
class Kind:
    """What a stage that trains looks at."""

    share_of_shapes: float
    size: int  # pixels per side of a view
    learning_rate: float
    losses: LossOptions = LossOptions()
    share_of_families: float = 0.0
    least_share: float = RELIABLE  # of the views that found a label; rarer ones are not taught
    head_alone: bool = False


# Where in a cell a point lies is learned on shapes, whose corners are plain, far sooner than on photos.
TRAINING = {
    "shapes": Kind(share_of_shapes=0.9, size=64, learning_rate=3e-3, losses=LossOptions(describes=False)),
    "detector": Kind(share_of_shapes=0.5, size=64, learning_rate=2e-3, losses=LossOptions(describes=False)),
    "joint": Kind(share_of_shapes=0.25, size=96, learning_rate=2e-3),
    # The hinge pushes all cells of a picture apart, where the histograms of most are somewhat alike.
    "parts": Kind(
        share_of_shapes=0.15,
        size=128,
        learning_rate=2e-3,
        losses=LossOptions(descriptor_weight=0.0, contrast_weight=0.15, classical_weight=10.0),
    ),
    # Neither hinge nor histograms: both hold that what looks different is another point.
    "families": Kind(
        share_of_shapes=0.1,
        size=128,
        learning_rate=2e-3,
        losses=LossOptions(descriptor_weight=0.0, contrast_weight=1.0),
        share_of_families=0.6,
    ),
    # The surest labels are the better teachers, where all layers before know already what a point is.
    "head": Kind(
        share_of_shapes=0.15,
        size=128,
        learning_rate=2e-3,
        losses=LossOptions(describes=False),
        least_share=0.7,
        head_alone=True,
    ),
}
LABELLING = ("corners", "adapt")


@dataclass(frozen=True)
class Stage:
    """One step of the plan: its kind, and its iterations where it trains."""

    number: int
    kind: str
    iterations: int

    def file(self, folder: Path) -> Path:
        """Where the stage leaves its labels or its network."""
        return folder / f"{self.number}_{self.kind}.{'pth' if self.kind in TRAINING else 'pickle'}"


def read_plan(text: str) -> list[Stage]:
    """`corners detector:1500 ...` -> stages. Raises UserError for an unknown or incomplete stage."""
    stages = []
    for number, word in enumerate(text.split(), 1):
        kind, _, count = word.partition(":")
        if kind not in (*LABELLING, *TRAINING):
            raise UserError(f"--plan has the unknown stage {word}; known are {', '.join((*LABELLING, *TRAINING))}")
        if (kind in TRAINING) != count.isdigit():
            raise UserError(f"--plan has {word}; write it as {kind}{':ITERATIONS' if kind in TRAINING else ''}")
        stages.append(Stage(number, kind, int(count or 0)))
    return stages


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=path_of, required=True, help="labels and checkpoints lie here")
    parser.add_argument("--plan", default=PLAN, help=f"stages, in order (default: {PLAN})")
    parser.add_argument("--seed", type=whole(0, 2**63 - 1), default=1993)
    parser.add_argument("--batch_size", type=whole(1, 65_536), default=8, help="pairs of views per iteration")
    parser.add_argument(
        "--views", type=whole(1, 10_000), default=30, help="views per picture in homographic adaptation"
    )
    parser.add_argument("--threads", type=whole(0, 1024), default=0, help="CPU threads (default: all)")
    parser.add_argument(
        "--start",
        type=path_of,
        help="an exported file to begin with in place of chance; --place, --odds and --bias are those of its export",
    )
    parser.add_argument("--resume", action="store_true", help="keep what the folder has and go on")
    parser.add_argument("--export", type=path_of, help="only write the newest network, calibrated, in fp16")
    parser.add_argument("--place", type=real(1e-3, 1e3), default=1.0, help="with --export: temperature within a cell")
    parser.add_argument(
        "--odds", type=real(1e-3, 1e3), default=1.0, help="with --export: temperature of point or no point"
    )
    parser.add_argument(
        "--bias", type=real(-1e3, 1e3), default=0.0, help='with --export: added to the logit "no point"'
    )
    parser.add_argument(
        "--whiten",
        type=real(0.0, 1.0),
        default=1.0,
        help="with --export: strength of the descriptors' whitening, 0 (none) to 1",
    )
    return parser.parse_args()


def run_plan(stages: list[Stage], arguments: argparse.Namespace) -> None:
    """Carry out the stages that are not done yet."""
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    refusal = f"{folder} is being written by another process; wait for its end, or give another --folder"
    with held(folder / ".training.lock", refusal):
        if not arguments.resume and any(stage.file(folder).exists() for stage in stages):
            raise UserError(f"{folder} holds a training already; give --resume to go on or another --folder")
        remove_left_overs(folder)
        _run_plan(stages, arguments)


def _run_plan(stages: list[Stage], arguments: argparse.Namespace) -> None:
    if arguments.start:
        network = uncalibrated(load_superpoint(arguments.start), arguments.place, arguments.odds, arguments.bias)
    else:
        first_views = PairSource([], size=64, share_of_shapes=1.0).batch(16, arguments.seed, stage=0, iteration=0)
        network = fresh_superpoint(arguments.seed, first_views.pictures)
    labels: Path | None = None
    for stage in stages:
        path = stage.file(arguments.folder)
        if stage.kind in TRAINING:
            network = train(stage, network, labels, arguments)
            continue
        if not path.exists():
            detect = classical_corners if stage.kind == "corners" else network_detector(network)
            label_pictures(detect, path, arguments.views, arguments.seed)
        labels = path


def train(stage: Stage, network: SuperPoint, labels: Path | None, arguments: argparse.Namespace) -> SuperPoint:
    """One stage of training; returns the averaged network."""
    kind = TRAINING[stage.kind]
    options = TrainingOptions(
        iterations=stage.iterations,
        batch_size=arguments.batch_size,
        learning_rate=kind.learning_rate,
        losses=kind.losses,
        head_alone=kind.head_alone,
        seed=arguments.seed,
        stage=stage.number,
    )
    pictures = load_labels(labels, arguments.seed, kind.least_share) if labels else []
    source = PairSource(pictures, kind.size, kind.share_of_shapes if labels else 1.0, kind.share_of_families)
    path = stage.file(arguments.folder)
    if kind.losses.describes and not path.exists():
        network = unit_length(network, source.batch(8, arguments.seed, stage.number, iteration=0).pictures)
    trainer = Trainer(network, source, options)
    if path.exists():
        trainer.resume(path)
    trainer.train(path, description=f"{stage.number} {stage.kind}")
    return averaged(path)


def averaged(path: Path) -> SuperPoint:
    """The moving average of the weights in a stage's checkpoint."""
    network = SuperPoint()
    content = load_state(path)
    load_weights(network, content["average"], path, "remove the file")
    return network


def export(stages: list[Stage], arguments: argparse.Namespace) -> None:
    """Write the newest network of the folder in half precision."""
    trained = [stage.file(arguments.folder) for stage in stages if stage.kind in TRAINING]
    found = [path for path in trained if path.exists()]
    if not found:
        raise UserError(f"{arguments.folder} holds no trained network yet; run without --export first")
    network = calibrated(averaged(found[-1]), arguments.place, arguments.odds, arguments.bias)
    if arguments.whiten > 0:
        labelled = [stage.file(arguments.folder) for stage in stages if stage.kind in LABELLING]
        source = PairSource(load_labels(labelled[0], arguments.seed, RELIABLE), size=96, share_of_shapes=0.1)
        network = whitened(network, source.batch(200, arguments.seed, stage=0, iteration=0), arguments.whiten)
    save_checkpoint({name: tensor.half() for name, tensor in network.state_dict().items()}, arguments.export)
    print(f"{found[-1]} -> {arguments.export}")


@exit_cleanly
def main() -> None:
    """Train, or export."""
    set_up_process()
    arguments = read_arguments()
    stages = read_plan(arguments.plan)
    cv2.setNumThreads(1)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.export:
        export(stages, arguments)
    else:
        run_plan(stages, arguments)


if __name__ == "__main__":
    main()
