import numpy as np
import pytest

from tools.superpoint.families import (
    Family,
    Part,
    closed_curve,
    random_family,
    random_members,
    reflected,
    sampled,
)
from tools.superpoint.samples import cell_centres

SIZE = 96


def one_eyed() -> Family:
    """A flat disc with a dark spot to the right of its middle."""
    rng = np.random.default_rng(0)
    outline = closed_curve(rng, np.zeros(2), 0.9, 0.9, 0.0, rough=0.0)
    spot = closed_curve(rng, np.array([0.4, -0.1]), 0.2, 0.2, 0.0, rough=0.0)
    part = Part((spot,), (-0.9,), np.array([0.4, -0.1]), bump=0.0, width=0.2)
    return Family(outline, (part,), dome=0.3, variety=0.04, fidelity=1.0)


def test_pixels_and_places_go_both_ways():
    errors = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        for member in random_members(random_family(rng), rng, SIZE, []):
            pixels = cell_centres(SIZE)
            places = member.to_family(pixels)
            errors.append(np.linalg.norm(member.to_pixels(places) - pixels, axis=1)[member.shows(places)])
    assert np.quantile(np.concatenate(errors), 0.99) < 0.5


@pytest.mark.parametrize("seed", range(6))
def test_a_part_is_where_it_is_said_to_be(seed):
    rng = np.random.default_rng(seed)
    family = one_eyed()
    for member in random_members(family, rng, SIZE, []):
        spot, beside = member.to_pixels(np.array([[0.4, -0.1], [-0.4, -0.1]]))
        shades = []
        for x, y in np.round(np.stack([spot, beside])).astype(int):
            patch = member.picture[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
            shades.append(float(np.median(patch)) if patch.size else np.nan)
        assert np.isnan(shades).any() or shades[0] < shades[1]


def test_members_differ_in_tone_and_place():
    one, other = random_members(one_eyed(), np.random.default_rng(3), SIZE, [])
    assert np.abs(one.picture.astype(float) - other.picture).mean() > 5
    places = np.array([[0.4, -0.1], [-0.5, 0.3]])
    assert np.linalg.norm(one.to_pixels(places) - other.to_pixels(places), axis=1).max() > 2


def test_what_is_off_the_object_is_not_shown():
    member, _ = random_members(one_eyed(), np.random.default_rng(1), SIZE, [])
    assert member.shows(np.array([[0.0, 0.0], [0.8, 0.0], [1.1, 0.0], [0.0, -1.4]])).tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_designs_are_mirrored_or_not():
    even = odd = 0
    for seed in range(40):
        family = random_family(np.random.default_rng(seed))
        flipped = family.outline * (-1, 1)
        gap = np.linalg.norm(family.outline[:, None] - flipped[None], axis=2).min(1).max()
        even += gap < 1e-6
        odd += gap > 0.02
    assert even > 20
    assert odd > 2


def test_the_other_side():
    part = Part((np.array([[0.1, 0.2], [0.3, 0.2], [0.2, 0.5]]),), (0.3,), np.array([0.2, 0.3]), 0.1, 0.2)
    other = reflected(part)
    np.testing.assert_array_equal(other.contours[0], [[-0.1, 0.2], [-0.3, 0.2], [-0.2, 0.5]])
    np.testing.assert_array_equal(other.centre, [-0.2, 0.3])
    assert (other.tones, other.bump, other.width) == (part.tones, part.bump, part.width)


def test_samples_between_cells_of_a_raster():
    raster = np.tile(np.linspace(-1.5, 1.5, 7, dtype=np.float32), (7, 1))  # the value is x
    np.testing.assert_allclose(
        sampled(raster, np.array([[0.3, 1.0], [-1.2, 0.0], [2.0, 0.0]])), [0.3, -1.2, 1.5], atol=0.02
    )


def test_members_are_functions_of_the_generator():
    pictures = []
    for seed in (4, 4, 5):
        rng = np.random.default_rng(seed)
        pictures.append(random_members(random_family(rng), rng, SIZE, [])[0].picture)
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).any()
