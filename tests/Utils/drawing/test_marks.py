import cv2
import numpy as np
import pytest

from Utils.drawing import marks
from Utils.drawing.marks import (
    TILE,
    mark,
    mark_named,
    overview,
    palette,
    save_picture,
    sheet,
    text_width,
    tile,
    with_legend,
)

RED = np.array([255, 0, 0], np.uint8)


def test_colours_are_distinct_and_fixed():
    colours = palette(100)
    assert colours.shape == (100, 3)
    assert palette(0).shape == (0, 3)
    np.testing.assert_array_equal(palette(7), colours[:7])
    apart = np.abs(colours[:, None].astype(int) - colours[None]).sum(axis=2) + 1000 * np.eye(100, dtype=int)
    assert apart.min() >= 20
    assert apart[:20, :20].min() >= 90


def test_marks_lie_where_the_points_are():
    picture = np.zeros((40, 60, 3), np.uint8)
    points = np.array([[20.5, 10.5], [np.nan, 5], [50.5, 30.5]])
    marked = mark(picture, points, np.array([RED, RED, [0, 0, 255]], np.uint8), radius=3)
    assert marked[10, 20].tolist() == [255, 0, 0]
    assert marked[30, 50].tolist() == [0, 0, 255]
    assert picture.max() == 0
    red = (marked == [255, 0, 0]).all(axis=2)
    y, x = np.nonzero(red)
    assert (x.mean(), y.mean()) == (20, 10)
    assert np.ptp(x) == np.ptp(y)
    assert 4 <= np.ptp(x) <= 6
    assert mark(picture, points[:0], RED).max() == 0


def test_a_mark_that_the_border_cuts_is_a_part_of_the_whole():
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    for corner in ((20.25, 20.5), (20.0, 9.75), (8.5, 31.0)):
        whole = mark(picture, np.array([corner]), palette(1), 4)
        for left, top in ((18, 0), (0, 19), (0, 0)):
            part = mark(picture[top : top + 21, left : left + 21], np.array([corner]) - (left, top), palette(1), 4)
            assert (part == whole[top : top + 21, left : left + 21]).all()


@pytest.mark.parametrize("size", [(32, 32), (256, 256), (1000, 500), (218, 178)])
def test_tiles_of_any_size_have_equal_markers(size):
    height, width = size
    picture = np.zeros((height, width, 3), np.uint8)
    drawn = tile(picture, np.array([[width / 4, height / 2]]), RED)
    assert drawn.shape == (TILE, TILE, 3)
    y, x = np.nonzero((drawn == RED).all(axis=2))
    scale = TILE / max(size)
    left = (TILE - round(width * scale)) // 2
    assert x.mean() + 0.5 == pytest.approx(left + width * scale / 4, abs=0.5)
    assert y.mean() + 0.5 == pytest.approx(TILE / 2, abs=0.5)
    assert 40 <= len(x) <= 60  # a disc of radius 4


@pytest.mark.parametrize("count, rows, columns", [(0, 1, 1), (1, 1, 1), (5, 1, 5), (9, 2, 8), (64, 8, 8), (70, 8, 8)])
def test_sheets(count, rows, columns):
    pictures = [np.full((20, 20, 3), 60, np.uint8)] * count
    drawn = sheet(pictures, [np.array([[10.0, 10]])] * count, RED)
    assert drawn.shape == (rows * 260 + 4, columns * 260 + 4, 3)
    marked = (drawn == RED).all(axis=2)
    assert cv2.connectedComponents(marked.astype(np.uint8))[0] - 1 == min(count, 64)


def test_wide_sheet_with_a_colour_per_point_and_picture():
    pictures = [np.zeros((20, 20, 3), np.uint8)] * 2
    points = [np.array([[5.0, 5], [15, 15]])] * 2
    drawn = sheet(pictures, points, palette(2), columns=13)
    assert drawn.shape == (264, 2 * 260 + 4, 3)
    assert drawn[4 + 64, 4 + 64].tolist() == palette(2)[0].tolist()
    assert drawn[4 + 192, 264 + 192].tolist() == palette(2)[1].tolist()
    drawn = sheet(pictures, points, [palette(2), palette(2)[::-1]], columns=13)
    assert drawn[4 + 192, 264 + 192].tolist() == palette(2)[0].tolist()


def test_saved_pictures_keep_their_channels(tmp_path):
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:] = [200, 30, 10]
    for name in ("Cluster0.jpg", "new/Step2.png"):
        save_picture(picture, tmp_path / name)
        read = cv2.imread(str(tmp_path / name))[8, 8, ::-1]
        assert np.abs(read.astype(int) - [200, 30, 10]).max() <= 3


@pytest.mark.parametrize("width", [264, 3384])
def test_a_legend_shows_every_colour_and_the_named_points(width):
    drawn = np.full((264, width, 3), 90, np.uint8)
    picture = np.full((512, 512, 3), 60, np.uint8)
    points = np.array([[100.0, 100], [400, 300], [np.nan, np.nan]])
    page = with_legend(drawn, picture, points, ["3", "17", "42"], palette(3))
    assert page.shape[1] == max(width, 520)
    np.testing.assert_array_equal(page[:264, :width], drawn)
    key = page[264:776, 4:516]
    assert key[100, 100].tolist() == palette(3)[0].tolist()
    assert key[300, 400].tolist() == palette(3)[1].tolist()
    texts = (key != 60).any(axis=2)
    assert texts[80:100, 80:95].any()  # the name lies away from the other point
    entries = page.copy()
    entries[264:776, 4:516] = 255
    counts = [(entries[264:] == colour).all(axis=2).sum() for colour in palette(3)]
    assert min(counts) > 150  # a disc of radius 9 each, also of the point that the picture lacks


def test_long_names_do_not_cover_each_other(monkeypatch):
    """Neither in the legend nor beside points that lie close together."""
    names = ["the upper suture", "the lower suture"]
    drawn = np.full((264, 1000, 3), 90, np.uint8)
    points = np.array([[250.0, 250], [258, 250]])
    page = with_legend(drawn, np.full((512, 512, 3), 60, np.uint8), points, names, palette(2))
    entries = page[264:300, 528:]
    starts = [np.flatnonzero((entries == colour).all(axis=2).any(axis=0))[0] for colour in palette(2)]
    assert starts[1] - starts[0] >= 36 + text_width(names[0])
    written = []
    monkeypatch.setattr(marks, "write", lambda _, text, left, middle, height: written.append((text, left, middle)))
    height = 11
    mark_named(np.full((512, 512, 3), 60, np.uint8), points, names, palette(2))
    (_, left, middle), (_, other_left, other_middle) = written
    assert abs(middle - other_middle) >= height or abs(left - other_left) >= text_width(names[0], height)


@pytest.mark.parametrize(("count", "shape"), [(1, (164, 616)), (12, (6 * 164, 2 * 616))])
def test_an_overview_has_every_strip_once(count, shape):
    strips = [np.full((128, 600, 3), 10 + number, np.uint8) for number in range(count)]
    page = overview(strips, [str(number) for number in range(count)])
    assert page.shape[:2] == shape
    for number in range(count):
        assert (page == 10 + number).all(axis=2).sum() >= 128 * 600
