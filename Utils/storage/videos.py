"""Videos through PyAV: read all frames or some, and write frames."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType, TracebackType

import av
import cv2
import numpy as np

from Utils.runtime.errors import UserError, one_line
from Utils.storage.files import writing

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".ogv", ".gif")
SLACK = 0.02  # share of the promised frames that may be missing before a video counts as cut off
_X264: Mapping[str, str] = MappingProxyType({"crf": "18"})  # constant rate factor; lower is better


class Video:
    """The first video stream of a file.

    rate: frames per second; frames: their number by the file's header or duration, 0 if both are missing. Raises
    UserError if the file is missing or not a video.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.fault: str | None = None  # why the frames ended early; known after reading
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
                seconds = Fraction(container.duration or 0, av.time_base)
                self.frames = stream.frames or round(seconds * self.rate)
        except FileNotFoundError:
            raise UserError(f"video {path} does not exist; correct the path") from None
        except (av.FFmpegError, IndexError, OSError, ValueError) as error:
            raise UserError(f"{path} is not a readable picture or video ({one_line(error)})") from error

    def __iter__(self) -> Iterator[np.ndarray]:
        """RGB uint8 (H, W, 3) frames in order, turned as the file says. If they end early, `fault` says why."""
        count = 0
        try:
            with av.open(str(self.path)) as container:
                container.streams.video[0].thread_type = "AUTO"
                for frame in container.decode(video=0):
                    quarters = round(frame.rotation / 90)  # counterclockwise
                    yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarters))
                    count += 1
        except (av.FFmpegError, OSError) as error:
            self.fault = f"video {self.path} ends in the middle, after {count} frames ({one_line(error)})"
        if self.fault is None and count + SLACK * self.frames + 1 < self.frames:
            self.fault = f"video {self.path} ends in the middle, after {count} of {self.frames} frames"


def frames_at(path: Path | str, numbers: Iterable[int]) -> Iterator[np.ndarray]:
    """RGB uint8 (H, W, 3) frames of a video, those with the ascending `numbers`, counted from 0.

    Decoding skips to the last key frame before a wanted frame. Raises UserError if the file is not a video or ends
    before a wanted frame.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            times, keys = _times(container)
            if times:
                container.seek(times[0], stream=stream)
            frames, position = container.decode(stream), 0  # position: of the next frame
            for number in numbers:
                if number >= len(times):
                    raise UserError(f"{path} breaks off at frame {len(times)}")
                key = bisect_right(keys, times[number]) - 1
                if key >= 0 and keys[key] > times[position]:
                    container.seek(keys[key], stream=stream)
                    frames = container.decode(stream)
                found = next(
                    (frame for frame in frames if frame.pts is not None and frame.pts >= times[number]), None
                )
                if found is None or found.pts != times[number]:
                    raise UserError(f"{path} breaks off at frame {number}")
                position = min(number + 1, len(times) - 1)
                yield found.to_ndarray(format="rgb24")
    except (av.FFmpegError, IndexError, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a video ({one_line(error)})") from error


def _times(container: av.container.InputContainer) -> tuple[list[int], list[int]]:
    """Sorted times of all frames and of key frames, in the stream's units. Nothing is decoded."""
    packets = [packet for packet in container.demux(video=0) if packet.size]
    shown = [(packet.pts, packet.is_keyframe) for packet in packets if packet.pts is not None]
    return sorted(time for time, _ in shown), sorted(time for time, is_key in shown if is_key)


class VideoWriter:
    """A context manager that writes an mp4 of RGB frames of one size, whole or not at all.

    Players need even sides, so the last row or column of an odd side is doubled. options: of x264; durable: see
    `writing`.
    """

    def __init__(
        self, path: Path | str, rate: Fraction, options: Mapping[str, str] = _X264, durable: bool = True
    ) -> None:
        self.path, self.rate = path, rate.limit_denominator(65535)
        self.options, self.durable = options, durable
        self.frames = 0
        self._open = ExitStack()
        self._container: av.container.OutputContainer | None = None

    def __enter__(self) -> "VideoWriter":
        return self

    def add(self, picture: np.ndarray, times: int = 1) -> None:
        """Append a picture (H, W, 3) uint8 as `times` frames."""
        height, width = picture.shape[:2]
        even = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        picture = np.ascontiguousarray(even, np.uint8)
        if self._container is None:
            temporary = self._open.enter_context(writing(self.path, self.durable))
            self._container = av.open(str(temporary), "w", format="mp4")
            self._open.callback(self._container.close)
            self._stream = self._container.add_stream("libx264", rate=self.rate, options=dict(self.options))
            self._stream.height, self._stream.width = picture.shape[:2]
            self._stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.time_base = 1 / self.rate
        for _ in range(times):
            frame.pts = self.frames
            self._container.mux(self._stream.encode(frame))
            self.frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._container is not None:
            self._container.mux(self._stream.encode())
        self._open.__exit__(kind, error, trace)
