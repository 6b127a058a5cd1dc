"""Videos: what goes in comes out, and a video that ends in the middle gives what there is and says so."""

import struct
import wave
from fractions import Fraction

import av
import numpy as np
import pytest

from Utils.runtime.errors import UserError
from Utils.storage.videos import Video, VideoWriter, frames_at

RATE = Fraction(30000, 1001)


def frames(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """A bright square that moves by two pixels in each frame."""
    pictures = []
    for i in range(count):
        picture = np.full((height, width, 3), 40, np.uint8)
        picture[16:32, 2 * i : 2 * i + 16] = (220, 180, 60)
        pictures.append(picture)
    return pictures


def write(path, pictures, form: str, codec: str, **options: str) -> None:
    """A video of noise and pictures by PyAV alone."""
    with av.open(str(path), "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def pictures_of(video: Video) -> list[np.ndarray]:
    return [frame.picture for frame in video]


def test_a_written_video_is_read_back(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", RATE) as writer:
        for picture in frames(12):
            writer.add(picture)
    video = Video(tmp_path / "a.mp4")
    assert (video.rate, video.frames) == (RATE, 12)
    back = pictures_of(video)
    assert video.fault is None
    assert len(back) == 12
    assert max(np.abs(a.astype(int) - b).mean() for a, b in zip(back, frames(12))) < 4


# Of a telephone held upright (a quarter clockwise), upside down, and lying the other way: the matrix of the track.
MATRICES = {1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}


@pytest.mark.parametrize("quarters", MATRICES)
def test_a_turned_video_is_seen_as_players_show_it(tmp_path, quarters):
    with VideoWriter(tmp_path / "a.mp4", RATE) as writer:
        writer.add(frames(1)[0])
    a, b, c, d = MATRICES[quarters]
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    content = (tmp_path / "a.mp4").read_bytes()
    start = content.index(b"tkhd") + 44  # after version, times, number, duration, layer and volume
    assert content[start : start + 36] == struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(content[:start] + matrix + content[start + 36 :])
    [(_, _, seen)] = Video(tmp_path / "a.mp4")
    assert np.abs(seen.astype(int) - np.rot90(frames(1)[0], -quarters)).mean() < 4


def test_frames_that_do_not_come_evenly_are_all_there(tmp_path):
    times = [0, 1, 2, 7, 8, 20, 21, 23]  # of a tenth of a second
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for time, picture in zip(times, frames(8), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = Video(tmp_path / "a.mp4")
    read = list(video)
    assert (len(read), video.frames, video.fault) == (8, 8, None)
    assert [(frame.number, frame.seconds) for frame in read] == [(i, Fraction(t, 10)) for i, t in enumerate(times)]
    with VideoWriter(tmp_path / "b.mp4", video.rate) as writer:
        for frame in read:
            writer.add(frame.picture, seconds=frame.seconds)
    written = [float(frame.seconds) for frame in Video(tmp_path / "b.mp4")]
    np.testing.assert_allclose(written, np.array(times) / 10, atol=0.001)


def test_a_rate_that_is_that_of_the_clock_is_put_right(tmp_path):
    """As in some files of mkv and webm."""
    with VideoWriter(tmp_path / "a.mp4", RATE) as writer:
        for picture in frames(12):
            writer.add(picture)
    with av.open(str(tmp_path / "a.mp4")) as whole, av.open(str(tmp_path / "a.mkv"), "w") as copied:
        stream = copied.add_stream_from_template(whole.streams.video[0])  # which takes the clock for the rate
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copied.mux(packet)
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert container.streams.video[0].average_rate > 1000
    video = Video(tmp_path / "a.mkv")
    assert abs(video.rate - RATE) < 0.1
    assert (len(list(video)), video.frames, video.fault) == (12, 12, None)


def test_a_clip_that_was_cut_without_encoding_is_whole(tmp_path):
    """Its edit list hides the frames from the last key frame, 36, to where it begins, 45."""
    write_keyed(tmp_path / "whole.mp4", 120, 12)
    with av.open(str(tmp_path / "whole.mp4")) as whole, av.open(str(tmp_path / "a.mp4"), "w") as clip:
        stream = whole.streams.video[0]
        copy = clip.add_stream_from_template(stream)
        for packet in whole.demux(stream):
            if packet.dts is not None and packet.pts * stream.time_base * RATE >= 36:
                packet.pts -= round(45 / RATE / stream.time_base)
                packet.dts -= round(45 / RATE / stream.time_base)
                packet.stream = copy
                clip.mux(packet)
    video = Video(tmp_path / "a.mp4")
    read = list(video)
    assert (len(read), video.frames, video.fault) == (75, 75, None)
    assert [frame.number for frame in read] == list(range(75))
    assert read[-1].seconds == 74 / RATE
    every = list(Video(tmp_path / "whole.mp4"))
    assert all(np.array_equal(frame.picture, every[45 + frame.number].picture) for frame in read)


def test_damaged_packets_are_left_out_and_the_other_frames_keep_their_numbers(tmp_path):
    path, rng = tmp_path / "a.mp4", np.random.default_rng(0)
    write_keyed(path, 60, 12)
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for position, size in (packets[k] for k in (10, 24, 40)):  # 24 is a key frame
        content[position : position + size] = rng.bytes(size)
    path.write_bytes(content)
    video = Video(path)
    numbers = [frame.number for frame in video]
    assert {10, 40}.isdisjoint(numbers)
    assert {*range(10), *range(48, 60)} <= set(numbers)
    assert numbers == sorted(set(numbers))
    assert all(frame.seconds == frame.number / RATE for frame in Video(path))
    lost = 60 - len(numbers)
    assert video.fault == f"video {path} has 3 damaged packets: {lost} of 60 frames are left out"


def test_odd_sides_are_made_even(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", RATE) as writer:
        writer.add(frames(1, 47, 65)[0])
    assert next(iter(Video(tmp_path / "a.mp4"))).picture.shape == (48, 66, 3)


def test_nothing_is_left_of_a_video_that_fails(tmp_path):
    def fail() -> None:
        with VideoWriter(tmp_path / "a.mp4", RATE) as writer:
            writer.add(frames(1)[0])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("form", "codec", "options"), [("mp4", "libx264", {"movflags": "faststart"}), ("matroska", "libx264", {})]
)
def test_a_video_that_ends_in_the_middle(tmp_path, form, codec, options):
    noise = list(np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), dtype=np.uint8))
    write(tmp_path / "whole", noise, form, codec, **options)
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "half").write_bytes(content[: len(content) // 2])
    whole, half = Video(tmp_path / "whole"), Video(tmp_path / "half")
    assert len(list(whole)) == 40
    assert whole.fault is None
    assert 5 < len(list(half)) < 35
    assert "half ends in the middle, after" in half.fault


def test_files_that_are_no_videos_are_named(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"a\.mp4 is not a readable picture or video \(Invalid data found"):
        Video(tmp_path / "a.mp4")
    with wave.open(str(tmp_path / "c.mp4"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", "none"))
        sound.writeframes(bytes(1000))
    with pytest.raises(UserError, match=r"c\.mp4 is not a readable picture or video \(it has no video stream\)"):
        Video(tmp_path / "c.mp4")
    with pytest.raises(UserError, match=r"b\.mp4 does not exist"):
        Video(tmp_path / "b.mp4")


def write_keyed(path, count: int, interval: int, bframes: int = 0) -> None:
    """A video of `frames` with a key frame at every interval-th one."""
    options = {"g": str(interval), "keyint_min": str(interval), "sc_threshold": "0", "bf": str(bframes)}
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.height, stream.width, stream.pix_fmt = 48, 96, "yuv420p"
        for picture in frames(count, width=96):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize("interval, bframes", [(4, 0), (12, 2), (100, 3)])
@pytest.mark.parametrize("wanted", [[0, 10, 20, 30], [7, 8, 29, 31], []])
def test_single_frames_are_those_of_plain_decoding(tmp_path, interval, bframes, wanted):
    write_keyed(tmp_path / "a.mp4", 32, interval, bframes)
    every = pictures_of(Video(tmp_path / "a.mp4"))
    some = list(frames_at(tmp_path / "a.mp4", wanted))
    assert len(some) == len(wanted)
    assert all(np.array_equal(picture, every[i]) for picture, i in zip(some, wanted, strict=True))


def test_what_lies_between_is_not_decoded(tmp_path):
    path = tmp_path / "a.mp4"
    write_keyed(path, 32, 4)
    wanted = [0, 13, 30]
    whole = list(frames_at(path, wanted))
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for position, size in packets[1:12] + packets[16:28]:
        content[position : position + size] = bytes(size)
    path.write_bytes(content)
    assert all(np.array_equal(a, b) for a, b in zip(frames_at(path, wanted), whole, strict=True))


def test_a_frame_beyond_the_end_is_named(tmp_path):
    write_keyed(tmp_path / "a.mp4", 5, 4)
    reader = frames_at(tmp_path / "a.mp4", [4, 5])
    next(reader)
    with pytest.raises(UserError, match=r"a\.mp4 breaks off at frame 5"):
        next(reader)
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"b\.mp4 cannot be read as a video"):
        next(frames_at(tmp_path / "b.mp4", [0]))
