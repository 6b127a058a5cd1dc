"""Render a laboratory in the layout of Human3.6M's download: seven subjects, six actions, four cameras.

    python tools/people/make.py --output people

Writes below <output>/training/subjects what PrePreprocessHuman.py reads, and beside it, in Silhouettes, where the
figure is in each picture. All is a function of --seed and the other options. Videos that are there are left as they
are, so that a run that was cut off goes on.
"""

import dataclasses
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from Databases.human36_preparation import ACTIONS
from Databases.human36_preparation import SUBJECTS as PROTOCOL
from tools.people.cameras import CAMERAS, Camera
from tools.people.motion import move
from tools.people.recordings import box_of, files_of, video_writer, write_masks, write_poses, write_silhouettes
from tools.people.room import make_room
from tools.people.skeleton import pose_bones, pose_joints
from tools.people.studio import Studio, pose_figure
from tools.people.subjects import SUBJECTS, make_figure
from Utils.options import available_cores
from Utils.runtime.arguments import MOST_WORKERS, Parser, path_of, whole
from Utils.runtime.errors import UserError, exit_cleanly, one_line
from Utils.runtime.parallel import parallel_map
from Utils.runtime.process import set_up_process
from Utils.runtime.progress import progress
from Utils.storage.files import remove_left_overs


@dataclasses.dataclass(frozen=True)
class Take:
    """One performance, filmed by all cameras. every: frames between pictures that are rendered."""

    subject: str
    action: str
    number: int
    frames: int
    every: int

    def stem(self, camera: str) -> str:
        return f"{self.action} {self.number}.{camera}"


@dataclasses.dataclass(frozen=True)
class Stage:
    """What all takes share."""

    subjects: Path
    seed: int
    studios: tuple[Studio, ...]


@exit_cleanly
def main(argv: list[str] | None = None) -> None:
    set_up_process()
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, type=path_of, help="folder to write to")
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), metavar="S")
    parser.add_argument("--actions", nargs="+", choices=ACTIONS, default=list(ACTIONS), metavar="ACTION")
    parser.add_argument("--cameras", type=whole(1, len(CAMERAS)), default=len(CAMERAS), help="the first N")
    parser.add_argument("--takes", type=whole(1, 100), default=1, help="of each action")
    parser.add_argument("--frames", type=whole(1, 10**5), default=210, help="of a video of a training subject")
    parser.add_argument("--test_frames", type=whole(1, 10**5), default=600, help="of one of S11")
    parser.add_argument(
        "--all_frames",
        action="store_true",
        help="render every frame; without it, those that the protocol uses, each shown until the next",
    )
    parser.add_argument("--seed", type=whole(0, 2**31 - 1), default=0)
    parser.add_argument("--num_workers", type=whole(0, MOST_WORKERS), default=available_cores())
    given = parser.parse_args(argv)
    try:
        import embreex  # noqa: F401
        import skimage  # noqa: F401
    except ImportError as error:
        raise UserError(f"{one_line(error)}; pip install -r {Path(__file__).with_name('requirements.txt')}") from None
    subjects = given.output / "training" / "subjects"
    try:
        subjects.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {given.output}: {one_line(error)}; give another folder") from error
    cameras = CAMERAS[: given.cameras]
    takes = []
    for subject in given.subjects:
        split, step = PROTOCOL[subject]
        frames = given.frames if split == "train" else given.test_frames
        for action in given.actions:
            takes += [
                Take(subject, action, number + 1, frames, 1 if given.all_frames else step)
                for number in range(given.takes)
            ]
    remove_left_overs(*subjects.glob("S*/Videos"))
    missing = [take for take in takes if not is_there(subjects, take, cameras)]
    if missing:
        room = make_room(given.seed)
        stage = Stage(subjects, given.seed, tuple(Studio(camera, room) for camera in cameras))
        takes_done = parallel_map(film, stage, missing, given.num_workers, chunk=1)
        for _ in progress(takes_done, "Rendering", total=len(missing), unit="take"):
            pass
    pictures = sum(-(-take.frames // take.every) for take in missing) * len(cameras)
    print(f"{given.output}: {len(takes) * len(cameras)} videos, {pictures} pictures rendered now")


def is_there(subjects: Path, take: Take, cameras: tuple[Camera, ...]) -> bool:
    """Whether a take has all its videos."""
    return all(files_of(subjects, take.subject, take.stem(camera.name))[0].is_file() for camera in cameras)


def film(stage: Stage, take: Take) -> None:
    """Render a take and write its files, the videos last."""
    figure = make_figure(SUBJECTS[take.subject])
    place = (stage.seed, list(SUBJECTS).index(take.subject), ACTIONS.index(take.action), take.number)
    poses = [pose_bones(figure.skeleton, angles) for angles in move(take.action, take.frames, place)]
    joints = np.array([pose_joints(figure.skeleton, *pose) for pose in poses])
    rendered = list(range(0, take.frames, take.every))
    silhouettes: list[list[np.ndarray]] = [[] for _ in stage.studios]
    files = [files_of(stage.subjects, take.subject, take.stem(studio.camera.name)) for studio in stage.studios]
    for paths in files:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        writers = [stack.enter_context(video_writer(paths[0])) for paths in files]
        for frame in rendered:
            posed = pose_figure(figure, *poses[frame])
            for i, studio in enumerate(stage.studios):
                picture, silhouette = studio.photograph(posed)
                writers[i].add(picture, min(take.every, take.frames - frame))
                silhouettes[i].append(silhouette)
        shown = np.repeat(np.arange(len(rendered)), take.every)[: take.frames]
        for studio, paths, seen in zip(stage.studios, files, silhouettes, strict=True):
            boxes = [box_of(silhouette) for silhouette in seen]
            write_poses(paths[1], studio.camera.project(joints[rendered][shown]))
            write_masks(paths[2], [boxes[i] for i in shown], studio.camera.size)
            write_silhouettes(paths[3], rendered, seen)


if __name__ == "__main__":
    main()
