"""Families of objects: what descriptors learn from that shall find the same part on another individual.

A family is a random design: an outline, parts in mirrored pairs or on the middle line, and a relief. Its members have
that design in other proportions, colours, textures, pose, light and surroundings. So where a part of one member is on
another is known exactly, which no pair of views of one picture can tell. Nothing here is drawn after a kind of
objects that the method is measured on.

A family lies in a plane of its own, x to the right, y down, about one unit from the centre to the outline. A view is
made of it in three steps, all of which can be gone either way: the member's proportions bend the plane, its pose
shifts what stands high against what stands low, and the camera turns, scales and shifts the whole.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from tools.superpoint.homographies import HomographyRange, map_points, random_homography, translation
from Utils.drawing.marks import fill

REACH = 1.5  # units from the centre to the border of a family's rasters
RASTER = 256  # pixels per side of a family's rasters
_SCALE = (RASTER - 1) / (2 * REACH)  # pixels per unit
_COARSE = 64  # pixels per side of the rasters of relief and proportions
_ROUNDS = 5  # of the search for the place that a shift comes from
_TURN = HomographyRange(rotation=20, scale=1.45, stretch=1.0, perspective=0.0, shift=0.1)  # of both members
_OWN_TURN = HomographyRange(rotation=12, scale=1.15, stretch=1.2, perspective=0.15, shift=0.06)  # of each by itself


@dataclass(frozen=True)
class Part:
    """A patch of another tone."""

    contours: tuple[np.ndarray, ...]  # (n, 2) each, drawn one after the other
    tones: tuple[float, ...]  # of each contour, against what it lies on, in the mean of the family
    centre: np.ndarray  # (2,)
    bump: float  # height at its centre
    width: float  # of the bump


@dataclass(frozen=True)
class Family:
    """A design."""

    outline: np.ndarray  # (n, 2)
    parts: tuple[Part, ...]
    dome: float  # height of the middle above the outline
    variety: float  # deviation of the members' proportions, units
    fidelity: float  # chance that a member's part has the family's tone


@dataclass(frozen=True)
class View:
    """One individual before a camera: the way between pixels and the family's plane."""

    outline: np.ndarray  # (n, 2) of the family
    proportions: np.ndarray  # (64, 64, 2) from a place of the member to the family's, difference
    relief: np.ndarray  # (64, 64)
    tilt: np.ndarray  # (2,) shift of a place per height
    camera: np.ndarray  # (3, 3) from the plane to pixels

    def to_family(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 2) pixels -> places in the family's plane."""
        seen = map_points(np.linalg.inv(self.camera), pixels)
        own = seen
        for _ in range(_ROUNDS):
            own = seen - sampled(self.relief, own)[:, None] * self.tilt
        return own + sampled(self.proportions, own)

    def to_pixels(self, places: np.ndarray) -> np.ndarray:
        """(n, 2) places in the family's plane -> pixels."""
        own = places
        for _ in range(_ROUNDS):
            own = places - sampled(self.proportions, own)
        return map_points(self.camera, own + sampled(self.relief, own)[:, None] * self.tilt)

    def shows(self, places: np.ndarray) -> np.ndarray:
        """(n,) bool: whether places of the plane are on the object."""
        mask = np.zeros((_COARSE, _COARSE), np.float32)
        corners = (self.outline / REACH + 1) / 2 * (_COARSE - 1)
        cv2.fillPoly(mask, [np.round(corners * 16).astype(np.int32)], 1.0, shift=4)
        return sampled(mask, places) > 0.5


@dataclass(frozen=True)
class Member(View):
    """One individual as a camera sees it."""

    picture: np.ndarray  # gray (S, S) uint8


def sampled(raster: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Bilinear samples of a raster (R, R) or (R, R, C) over the plane at places (n, 2); the border goes on beyond."""
    pixels = ((places / REACH + 1) / 2 * (len(raster) - 1)).astype(np.float32)
    found = cv2.remap(
        raster, pixels[None, :, 0], pixels[None, :, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return found[0]


# Designs


def random_family(rng: np.random.Generator) -> Family:
    """A new design."""
    mirrored = rng.random() < 0.75
    outline = closed_curve(rng, np.zeros(2), rng.uniform(0.75, 1.05), rng.uniform(0.65, 1.0), 0.0, rough=0.12)
    if mirrored:
        count = len(outline)
        outline = (outline + outline[(count // 2 - np.arange(count)) % count] * (-1, 1)) / 2
    parts: list[Part] = []
    for _ in range(int(rng.integers(2, 6))):  # on the middle line
        centre = np.array([0.0 if mirrored else rng.uniform(-0.6, 0.6), rng.uniform(-0.8, 0.8)])
        parts.append(random_part(rng, centre))
    for _ in range(int(rng.integers(3, 7))):
        part = random_part(rng, np.array([rng.uniform(0.15, 0.75), rng.uniform(-0.8, 0.8)]))
        parts += [part, reflected(part)] if mirrored else [part]
    return Family(
        outline=outline,
        parts=tuple(parts),
        dome=float(rng.uniform(0.1, 0.6)),
        variety=float(rng.uniform(0.01, 0.06)),
        fidelity=float(rng.uniform(0.75, 1.0)),
    )


def random_part(rng: np.random.Generator, centre: np.ndarray) -> Part:
    """A blob, a polygon or a bow, perhaps with one or two smaller ones within."""
    size, aspect, turn = np.exp(rng.uniform(np.log(0.06), np.log(0.35))), rng.uniform(0.3, 1.0), rng.uniform(0, np.pi)
    form = rng.random()
    if form < 0.55:
        contours = [closed_curve(rng, centre, size, size * aspect, turn, rough=0.1)]
    elif form < 0.75:
        corners = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
        contours = [centre + size * np.stack([np.cos(corners), aspect * np.sin(corners)], 1)]
    else:
        contours = [bow(centre, size, size * rng.uniform(0.1, 0.3), rng.uniform(-1, 1), turn)]
    tones = [float(rng.choice([-1, 1]) * rng.uniform(0.15, 0.6))]
    while form < 0.75 and rng.random() < 0.45 and len(contours) < 3:
        shrink = rng.uniform(0.35, 0.7)
        inner = centre + rng.uniform(-0.1, 0.1, 2) * size
        contours.append(closed_curve(rng, inner, size * shrink ** len(contours), size * shrink * aspect, turn, 0.05))
        tones.append(-tones[-1] * float(rng.uniform(0.6, 1.5)))
    bump = float(rng.normal(0, 0.12)) if rng.random() < 0.7 else 0.0
    return Part(tuple(contours), tuple(tones), centre, bump, float(size * rng.uniform(0.5, 1.2)))


def reflected(part: Part) -> Part:
    """The part on the other side."""
    flip = np.array([-1, 1])
    contours = tuple(contour * flip for contour in part.contours)
    return Part(contours, part.tones, part.centre * flip, part.bump, part.width)


def closed_curve(
    rng: np.random.Generator, centre: np.ndarray, long: float, short: float, turn: float, rough: float
) -> np.ndarray:
    """(32, 2): an ellipse whose radius varies by a few slow waves."""
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    waves = np.arange(2, 5)[:, None]
    heights, phases = rng.normal(size=(3, 1)) / waves**0.5, rng.uniform(0, 2 * np.pi, (3, 1))
    radius = 1 + rough * (heights * np.cos(waves * angle + phases)).sum(0)
    flat = np.stack([long * radius * np.cos(angle), short * radius * np.sin(angle)], 1)
    return centre + flat @ rotation(turn).T


def bow(centre: np.ndarray, length: float, thickness: float, bend: float, turn: float) -> np.ndarray:
    """(24, 2): a bent stroke with pointed ends."""
    along = np.linspace(-1, 1, 12)
    middle = bend * 0.6 * length * (1 - along**2)
    half = thickness / 2 * (1 - along**2) ** 0.5
    upper, lower = (np.stack([along * length, edge], 1) for edge in (middle - half, middle + half))
    return centre + np.concatenate([upper, lower[::-1]]) @ rotation(turn).T


def rotation(angle: float) -> np.ndarray:
    """(2, 2)."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


# Members


def random_members(
    family: Family, rng: np.random.Generator, size: int, surroundings: list[np.ndarray]
) -> tuple[Member, Member]:
    """Two individuals, seen from nearly the same side; surroundings: pictures that what lies behind is cut from."""
    turn = random_homography(rng, size, size, _TURN)
    middle = (size - 1) / 2
    to_view = translation(np.array([middle, middle])) @ np.diag([0.5 * size, 0.5 * size, 1.0])
    views = []
    for _ in range(2):
        camera = turn @ random_homography(rng, size, size, _OWN_TURN) @ to_view
        views.append(random_member(family, rng, size, camera, surroundings))
    return views[0], views[1]


def random_member(
    family: Family, rng: np.random.Generator, size: int, camera: np.ndarray, surroundings: list[np.ndarray]
) -> Member:
    """One individual."""
    strength = np.exp(rng.normal(0, 0.35, len(family.parts) // 2 + 1))  # of tones; some parts have the same
    relief = member_relief(family, rng)
    coarse = rng.normal(0, family.variety, (5, 5, 2)).astype(np.float32)
    proportions = cv2.resize(coarse, (_COARSE, _COARSE), interpolation=cv2.INTER_CUBIC)
    view = View(family.outline, proportions, relief, rng.uniform(-0.45, 0.45, 2), camera)
    coat = member_coat(family, rng, strength, surroundings) * light_on(relief, rng)
    rows = np.arange(0, size, dtype=np.float64)
    pixels = np.stack(np.meshgrid(rows, rows), -1).reshape(-1, 2)
    places = view.to_family(pixels)
    mask: np.ndarray = np.zeros((RASTER, RASTER), np.uint8)
    fill(mask, (family.outline + REACH) * _SCALE, 255)
    share = sampled(mask.astype(np.float32) / 255, places).reshape(size, size)
    front = sampled(coat.astype(np.float32), places).reshape(size, size)
    picture = front * share + background(rng, size, surroundings) * (1 - share)
    picture = (picture.clip(0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.25:
        cover(picture, rng)
    return Member(**vars(view), picture=picture)


def member_relief(family: Family, rng: np.random.Generator) -> np.ndarray:
    """(64, 64) heights: a dome with the parts' bumps."""
    axis = np.linspace(-REACH, REACH, _COARSE, dtype=np.float32)
    x, y = axis[None], axis[:, None]
    relief = family.dome * np.exp(-(x**2 + y**2) / 0.8)
    for part in family.parts:
        if part.bump:
            height = part.bump * np.float32(np.exp(rng.normal(0, 0.2)))
            relief += height * np.exp(-((x - part.centre[0]) ** 2 + (y - part.centre[1]) ** 2) / (2 * part.width**2))
    return relief.astype(np.float32)


def member_coat(
    family: Family, rng: np.random.Generator, strength: np.ndarray, surroundings: list[np.ndarray]
) -> np.ndarray:
    """(256, 256) in [0, 1]: the tones of the surface without light."""
    base = rng.uniform(0.2, 0.9)
    coat: np.ndarray = np.full((RASTER, RASTER), base * 255, np.uint8)
    for number, part in enumerate(family.parts):
        tone = base
        against = float(strength[number % len(strength)]) * (1 if rng.random() < family.fidelity else -1)
        grow = np.exp(rng.normal(0, 0.1))
        for contour, difference in zip(part.contours, part.tones, strict=True):
            tone = float(np.clip(tone + difference * against, 0.02, 1))
            fill(coat, ((contour - part.centre) * grow + part.centre + REACH) * _SCALE, tone * 255)
    tones = cv2.GaussianBlur(coat, (0, 0), float(rng.uniform(0.5, 2.5))).astype(np.float32) / 255
    if rng.random() < 0.5:
        grain = cv2.resize(
            rng.normal(0, rng.uniform(0.01, 0.1), (int(rng.choice([32, 64, 128, 256])),) * 2).astype(np.float32),
            (RASTER, RASTER),
            interpolation=cv2.INTER_LINEAR,
        )
        tones = tones * (1 + grain)
    if surroundings and rng.random() < 0.3:
        patch = cut(rng, surroundings, RASTER)
        tones = tones * (1 + rng.uniform(0.1, 0.6) * (patch - patch.mean()))
    return tones


def light_on(relief: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(256, 256): how bright a light from somewhere makes the relief."""
    down, across = np.gradient(relief, 2 * REACH / (_COARSE - 1))
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1.2)
    direction = np.array([np.cos(angle) * slope, np.sin(angle) * slope, 1.0])
    direction /= np.linalg.norm(direction)
    facing = (direction[2] - across * direction[0] - down * direction[1]) / np.sqrt(1 + across**2 + down**2)
    ambient = rng.uniform(0.3, 0.8)
    light = (ambient + (1 - ambient) * facing.clip(0)).astype(np.float32)
    return cv2.resize(light, (RASTER, RASTER), interpolation=cv2.INTER_CUBIC)


def background(rng: np.random.Generator, size: int, surroundings: list[np.ndarray]) -> np.ndarray:
    """(S, S) in [0, 1]: a piece of a picture, or a soft cloud."""
    if surroundings and rng.random() < 0.6:
        return cut(rng, surroundings, size)
    coarse = rng.uniform(-0.3, 0.3, (4, 4)).astype(np.float32)
    cloud = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return (rng.uniform(0.05, 0.95) + cloud).clip(0, 1)


def cut(rng: np.random.Generator, pictures: list[np.ndarray], size: int) -> np.ndarray:
    """(size, size) in [0, 1]: a random square of a random RGB or gray picture."""
    picture = pictures[int(rng.integers(len(pictures)))]
    side = int(rng.uniform(0.2, 0.9) * min(picture.shape[:2]))
    y, x = (int(rng.integers(0, length - side)) for length in picture.shape[:2])
    square = cv2.resize(picture[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
    return (square.mean(-1) if square.ndim == 3 else square).astype(np.float32) / 255


def cover(picture: np.ndarray, rng: np.random.Generator) -> None:
    """Hide some of a picture behind one or two strokes or patches."""
    size = len(picture)
    for _ in range(int(rng.integers(1, 3))):
        centre, length, bend, turn = rng.uniform(0, size, 2), rng.uniform(0.1, 0.5) * size, *rng.uniform(-1, 1, 2)
        stroke = bow(centre, length, length * rng.uniform(0.05, 0.6), bend, np.pi * turn)
        fill(picture, stroke, int(rng.integers(256)))
