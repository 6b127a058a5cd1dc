import numpy as np

from Databases.demo.mesh import annotate
from Databases.demo.surface import LANDMARKS
from Databases.demo.visible import visible_samples
from tests.Databases.demo.frontal import frontal_scene


def test_landmarks_agree_with_the_rendered_surface():
    """Where a landmark of the skin is visible, the rasterised skin there has the landmark's chart position."""
    scene = frontal_scene()
    canvas = 256
    samples = visible_samples(scene, canvas)
    landmarks, _ = annotate(scene, canvas)
    for name, chart in {"nose tip": (0, 0.15), "forehead": (0, 0.95), "right whisker pad": (0.22, -0.10)}.items():
        x, y = landmarks[LANDMARKS.index(name)]
        i = np.flatnonzero(samples.pixel == int(y) * canvas + int(x))
        # One pixel is 1/64 head radius; the skin is at most steep enough to make that 0.03 radians.
        np.testing.assert_allclose(samples.skin[i, :2], [chart], atol=0.03, err_msg=name)
