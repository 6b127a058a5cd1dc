"""tools/app.py in a headless Chromium, with a detector that is not a network; about 15 s."""

import shutil

import numpy as np
import pytest
from PIL import Image

from Databases.custom import list_pictures
from Networks.inference.detector import Landmarks
from tools import app
from Utils.named_points import load_regressor
from Utils.runtime.errors import UserError
from Utils.storage.experiment import Experiment
from Utils.storage.pictures import read_picture

LANDMARKS = np.array([(10, 10), (50, 10), (50, 40), (10, 40)], np.float64)


class Shifted:
    """Landmarks of a rectangle, shifted to the right by the picture's brightness."""

    active, names, iteration = np.arange(4), list("abcd"), 3
    mirror = regressor = None

    def cut(self, picture, box):
        return np.zeros((90, 90, 3), np.uint8), np.eye(2, 3), box

    def __call__(self, pictures, boxes):
        read = [picture if isinstance(picture, np.ndarray) else read_picture(picture) for picture in pictures]
        points = LANDMARKS + np.array([own.mean() for own in read])[:, None, None] * (1.0, 0.0)
        confidence = np.full(points.shape[:2], 0.75, np.float32)
        to_crops = np.tile(np.eye(2, 3) / 90, (len(points), 1, 1))
        return Landmarks(points, confidence, np.tile([[0.0, 0, 90, 60]], (len(points), 1)), to_crops, self.names)


@pytest.fixture
def annotator(tmp_path):
    """It has ten pictures and chose two."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(10):
        Image.new("RGB", (90, 60), (i, i, i)).save(folder / f"{i}.png")
    annotator = app.Annotator(
        Shifted(), Experiment(tmp_path / "Logs", "e"), folder, tmp_path / "points.csv", "tip, base, left"
    )
    annotator.choose(2)
    return annotator


def test_points_are_learned_as_they_are_annotated(annotator, tmp_path):
    first, second = annotator.chosen
    assert annotator.following(first, "tip") == (first, "base")
    assert annotator.following(first, "left") == (second, "tip")
    assert annotator.others() == ([], "Click on every point in one picture, to see all others.")
    for file in (first, second):
        annotator.points[file] = np.array([(20.0 + int(file[0]), 30), (40.0 + int(file[0]), 30), (np.nan, np.nan)])
    annotator.points[first][2] = (5.0, 6)
    shown, said = annotator.others()
    assert len(shown) == app.OTHERS
    assert "Pictures annotated: 2" in said
    assert "0.00 pixels" in said
    assert annotator.following(first, "tip") == (second, "left")
    assert annotator.following(second, "left") == (second, "left")
    annotator.save()
    regressor = load_regressor(annotator.experiment.named_points(3), 4)
    found, _ = regressor.predict(LANDMARKS[None] + (4, 0), np.eye(2, 3)[None] / 90)
    np.testing.assert_allclose(found[0, 0], [24, 30], atol=1e-3)
    again = app.Annotator(Shifted(), annotator.experiment, annotator.folder, tmp_path / "points.csv", None)
    np.testing.assert_array_equal(again.points[second], annotator.points[second])
    with pytest.raises(UserError, match="name the points"):
        app.Annotator(Shifted(), annotator.experiment, annotator.folder, tmp_path / "none.csv", None)


def test_uploads_are_checked_and_removed(tmp_path):
    good, bad, out = tmp_path / "a.png", tmp_path / "b.jpg", tmp_path / "out"
    Image.new("RGB", (90, 60)).save(good)
    bad.write_bytes(b"no picture")
    page, videos, files = app.predict(Shifted(), [str(good), str(bad)], out)
    assert page.count("<title>a: 0.75</title>") == 1
    assert "b.jpg" in page
    assert (videos, [file.rpartition(".")[2] for file in files]) == ([], ["csv", "json"])
    assert not good.exists()
    assert not bad.exists()
    bad.write_bytes(b"no picture")
    with pytest.raises(UserError, match="nothing could be read"):
        app.predict(Shifted(), [str(bad)], out)
    assert not bad.exists()
    with pytest.raises(UserError, match="give at most"):
        app.predict(Shifted(), ["a.png"] * 101, out)


def test_a_person_drops_a_picture_clicks_three_points_and_saves(annotator, tmp_path):
    pytest.importorskip("gradio")
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium")
    Image.new("RGB", (90, 60)).save(tmp_path / "new.png")
    with app.serving(annotator.detector, annotator) as address, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        others = []
        page.on("request", lambda request: others.append(request.url) if address not in request.url else None)
        page.goto(address)
        page.locator("#uploads input[type=file]").set_input_files(str(tmp_path / "new.png"))
        page.locator("#found svg circle").nth(3).wait_for()
        page.get_by_role("tab", name="Annotate").click()
        file = annotator.chosen[0]
        picture = page.locator("#picture img")
        for x, name in ((0.25, "base"), (0.5, "left"), (0.75, "tip")):
            picture.evaluate("image => image.decode()")  # until then it has no size to click at
            box, before = picture.bounding_box(), picture.get_attribute("src")
            picture.click(position={"x": x * box["width"], "y": 0.5 * box["height"]})
            page.locator(f"#name input[value={name}]:checked").wait_for(state="attached")
            page.wait_for_function("old => document.querySelector('#picture img').src !== old", arg=before)
        page.locator("#save").click()
        page.locator("#said", has_text="Pictures annotated: 1.").wait_for()
        browser.close()
    np.testing.assert_allclose(annotator.points[file], [(22.5, 30), (45, 30), (67.5, 30)], atol=0.2)
    assert (tmp_path / "points.csv").read_text().startswith("file,tip_x,tip_y,base_x,")
    assert annotator.experiment.named_points(3).is_file()
    assert list_pictures(annotator.folder) == [f"{i}.png" for i in range(10)]
    assert [url for url in others if not url.startswith(("data:", "blob:"))] == []  # nothing leaves the machine
