"""Videos through PyAV: read all frames or some, and write frames."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import NamedTuple

import av
import cv2
import numpy as np

from Utils.runtime.errors import UserError, one_line
from Utils.storage.files import writing
from Utils.storage.pictures import require_file

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".ogv", ".gif")
TICKS = 256  # of a written video's clock per frame, for rates that vary
ODD_RATE = 1.5  # by which a rate must miss that of the frames' times to be put right
SLACK = 0.02  # share of the promised frames that may be missing before a video counts as cut off
_X264: Mapping[str, str] = MappingProxyType({"crf": "18"})  # constant rate factor; lower is better


class Frame(NamedTuple):
    """A frame of a video: its number among all frames, from 0, its time in seconds from the first one, and RGB uint8
    pixels (H, W, 3), turned as the file says.
    """

    number: int
    seconds: Fraction
    picture: np.ndarray


class Video:
    """The first video stream of a file.

    rate: frames per second; frames: the number of those that are shown, by the file's header or duration, 0 if both
    are missing. Raises UserError if the file is missing, has a name that is not UTF-8, or is not a video.
    """

    def __init__(self, path: Path | str) -> None:
        require_file(path, "video")
        self.path = Path(path)
        self.fault: str | None = None  # which frames are missing; known after reading
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
                self._times, _ = _times(container)
                span = Fraction(stream.time_base or 0) * (self._times[-1] - self._times[0] if self._times else 0)
                measured = (len(self._times) - 1) / span if span else self.rate
                if not 1 / ODD_RATE < measured / self.rate < ODD_RATE:  # some mkv and webm give that of their clock
                    self.rate = measured
                seconds = Fraction(container.duration or 0, av.time_base)
                if stream.duration and stream.time_base:
                    seconds = stream.duration * stream.time_base
                # A clip that was cut without encoding it again holds frames that are not shown.
                self.frames = min(stream.frames or 2**62, round(seconds * self.rate) or stream.frames)
        except (av.FFmpegError, IndexError, OSError, ValueError) as error:
            raise UserError(f"{path} is not a readable picture or video ({_reason(error)})") from error

    def __iter__(self) -> Iterator[Frame]:
        """The frames in order, without damaged ones. If some are missing, `fault` says how many."""
        count, number, damaged = 0, -1, 0
        try:
            times = self._times
            with av.open(str(self.path)) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                for packet in container.demux(stream):
                    try:
                        frames = packet.decode()
                    except av.FFmpegError:
                        damaged += 1
                        continue
                    for frame in frames:
                        number += 1
                        seconds = number / self.rate
                        if frame.pts is not None and times:
                            number = max(number, bisect_left(times, frame.pts) if damaged else 0)
                            seconds = (frame.pts - times[0]) * stream.time_base
                        quarters = round(frame.rotation / 90)  # counterclockwise
                        picture = np.rot90(frame.to_ndarray(format="rgb24"), quarters)
                        yield Frame(number, seconds, np.ascontiguousarray(picture))
                        count += 1
        except (av.FFmpegError, OSError) as error:
            self.fault = f"video {self.path} ends in the middle, after {count} frames ({_reason(error)})"
            return
        if damaged:
            lost, total = len(times) - count, len(times)
            self.fault = f"video {self.path} has {damaged} damaged packets: {lost} of {total} frames are left out"
        elif count + SLACK * self.frames + 1 < self.frames:
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
        raise UserError(f"{path} cannot be read as a video ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    if isinstance(error, IndexError):
        return "it has no video stream"
    return getattr(error, "strerror", None) or one_line(error)


def _times(container: av.container.InputContainer) -> tuple[list[int], list[int]]:
    """Sorted times of all frames that are shown, and of key frames, in the stream's units. Nothing is decoded."""
    shown: list[tuple[int, bool]] = []
    with suppress(av.FFmpegError):  # the end is missing
        for packet in container.demux(video=0):
            if packet.size and not packet.is_discard and packet.pts is not None:
                shown.append((packet.pts, packet.is_keyframe))
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
        self._next = 0  # in ticks
        self._open = ExitStack()
        self._container: av.container.OutputContainer | None = None

    def __enter__(self) -> "VideoWriter":
        return self

    def add(self, picture: np.ndarray, times: int = 1, seconds: Fraction | None = None) -> None:
        """Append a picture (H, W, 3) uint8 as `times` frames; seconds: of the first, default: one frame later."""
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
            self._stream.codec_context.time_base = 1 / (TICKS * self.rate)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.time_base = 1 / (TICKS * self.rate)
        if seconds is not None:
            self._next = max(self._next - TICKS + 1, round(seconds / frame.time_base))
        for _ in range(times):
            frame.pts = self._next
            self._container.mux(self._stream.encode(frame))
            self._next += TICKS

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._container is not None:
            self._container.mux(self._stream.encode())
        self._open.__exit__(kind, error, trace)
