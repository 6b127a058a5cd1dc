"""Videos through PyAV: the frames of one, and one of frames."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np

from Utils.errors import UserError, one_line
from Utils.files import writing

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".ogv", ".gif")
_QUALITY = "18"  # constant rate factor of x264; lower is better


class Video:
    """The first video stream of a file.

    rate: frames per second; frames: how many the file says it has, 0 where it does not say. Raises UserError where
    the file is missing or no video.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.fault: str | None = None  # why the frames ended early, once they have been read
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
                self.frames = stream.frames
        except FileNotFoundError:
            raise UserError(f"video {path} does not exist; correct the path") from None
        except (av.FFmpegError, IndexError, OSError, ValueError) as error:
            raise UserError(f"{path} is no picture or video that can be read ({one_line(error)})") from error

    def __iter__(self) -> Iterator[np.ndarray]:
        """RGB uint8 (H, W, 3) frames in order, turned as the file says. Where it ends early, `fault` tells why."""
        count = 0
        try:
            with av.open(str(self.path)) as container:
                container.streams.video[0].thread_type = "AUTO"
                for frame in container.decode(video=0):
                    yield _turned(frame.to_ndarray(format="rgb24"), frame.rotation)
                    count += 1
        except (av.FFmpegError, OSError) as error:
            self.fault = f"video {self.path} ends in the middle, after {count} frames ({one_line(error)})"
        if self.fault is None and count < self.frames:
            self.fault = f"video {self.path} ends in the middle, after {count} of {self.frames} frames"


def _turned(picture: np.ndarray, degrees: int) -> np.ndarray:
    """A frame as it is meant to be seen; degrees: counterclockwise, a multiple of 90."""
    return np.ascontiguousarray(np.rot90(picture, round(degrees / 90) % 4)) if degrees else picture


class VideoWriter:
    """An mp4 of RGB frames, all of the first one's size; whole or not at all. Use as a context manager.

    Sides must be even for the players' sake: the last row or column is doubled where they are not.
    """

    def __init__(self, path: Path | str, rate: Fraction) -> None:
        self.rate = rate.limit_denominator(65535)
        self._file = writing(path)
        self._container: av.container.OutputContainer | None = None
        self._stream: av.video.stream.VideoStream | None = None

    def __enter__(self) -> "VideoWriter":
        self._container = av.open(str(self._file.__enter__()), "w", format="mp4")
        return self

    def add(self, picture: np.ndarray) -> None:
        """Append a frame (H, W, 3) uint8."""
        assert self._container is not None
        height, width = picture.shape[:2]
        picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self.rate, options={"crf": _QUALITY})
            self._stream.height, self._stream.width = picture.shape[:2]
            self._stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._container is not None
        try:
            if kind is None and self._stream is not None:
                self._container.mux(self._stream.encode())
        finally:
            self._container.close()
            self._file.__exit__(kind, error, trace)
