import numpy as np

from Databases.demo.raster import rasterise, sample, to_pixels


def test_rasteriser_keeps_the_nearer_triangle_and_weighs_the_corners():
    xy = np.array([[0, 0], [0, 4], [4, 0], [0, 0], [0, 4], [4, 0]], float)
    depth = np.array([1, 1, 1, 0, 0, 4], float)  # the second one is nearer where x > 1
    pixel, owner, weights, z = rasterise(xy, depth, np.array([[0, 1, 2], [3, 4, 5]]), 6)
    assert sorted(pixel) == [y * 6 + x for y in range(5) for x in range(5 - y)]
    at = {int(p): k for k, p in enumerate(pixel)}
    assert owner[at[0]] == owner[at[12]] == 0
    assert owner[at[2]] == owner[at[3]] == owner[at[8]] == 1
    np.testing.assert_allclose(weights[at[6 + 2]], [0.25, 0.25, 0.5], atol=1e-6)
    np.testing.assert_allclose(z[at[8]], 2, atol=1e-5)
    assert len(rasterise(xy, depth, np.array([[0, 2, 1]]), 6)[0]) == 0  # seen from behind


def test_textures_by_hand():
    # 4 pixels show -2 to 2: the first one's centre is at -1.5, and y points up.
    np.testing.assert_allclose(
        to_pixels(np.array([[-1.5, 1.5], [0, 0], [2, -2]]), 2, 4), [[0, 0], [1.5, 1.5], [3.5, 3.5]]
    )
    picture = np.float32([[0, 4], [8, 12]])
    # Halfway between all four, on a pixel, and beyond the border, which is repeated.
    np.testing.assert_allclose(sample(picture, np.array([[0.5, 0.5], [1, 0], [0, 7]])), [6, 4, 8])
    assert sample(np.zeros((3, 3, 4), np.float32), np.zeros((600, 2))).shape == (600, 4)
