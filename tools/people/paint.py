"""Colours of skin, hair, face and clothes, as functions of a point of the surface at rest."""

import dataclasses

import numpy as np

from tools.people.skeleton import (
    ABDOMEN,
    CHEST,
    FOOT,
    FOREARM,
    HEAD,
    NECK,
    PELVIS,
    SHIN,
    SIDES,
    THIGH,
    UPPER_ARM,
    Skeleton,
)

Colour = tuple[float, float, float]
_NOISE = 64  # samples a side of the lattice that mottles everything


@dataclasses.dataclass(frozen=True)
class Garment:
    """pattern: plain, stripes, bars (upright), plaid, dots or blocks; period in metres."""

    colour: Colour
    second: Colour
    pattern: str = "plain"
    period: float = 0.05


@dataclasses.dataclass(frozen=True)
class Outfit:
    """All colours of a subject. waist, neckline: metres above the pelvis."""

    skin: Colour
    hair: Colour
    eyes: Colour
    shirt: Garment
    trousers: Garment
    shoes: Garment
    belt: Colour
    print_colour: Colour  # on the chest and, as a number, on the back
    sleeve: float
    trouser_length: float
    neckline: float = 0.47
    v_neck: bool = False
    buttons: bool = False
    beard: bool = False
    glasses: bool = False
    hair_line: float = 0.052  # metres from the top of the head to the hair's edge on the forehead
    seed: int = 0


class Painter:
    """The colours of one dressed figure."""

    def __init__(self, skeleton: Skeleton, outfit: Outfit) -> None:
        self.skeleton, self.outfit = skeleton, outfit
        rng = np.random.default_rng(outfit.seed)
        self.noise = rng.uniform(-1, 1, (_NOISE,) * 3).astype(np.float32)
        self.marks = rng.random((16, 16)) < 0.5  # blocks of prints
        self.size = skeleton.build.height / 1.75

    def __call__(self, bones: np.ndarray, points: np.ndarray) -> np.ndarray:
        """bones (n,), points at rest (n, 3) -> linear-ish RGB (n, 3) in 0 to 1."""
        outfit = self.outfit
        colours = np.empty((len(points), 3), np.float32)
        colours[:] = outfit.skin
        skin = np.ones(len(points), bool)
        for group, paint in (
            ((PELVIS, ABDOMEN, CHEST), self._torso),
            ((*UPPER_ARM.values(), *FOREARM.values()), self._arms),
            ((*THIGH.values(), *SHIN.values()), self._legs),
            (tuple(FOOT.values()), self._feet),
            ((HEAD, NECK), self._head),
        ):
            rows = np.flatnonzero(np.isin(bones, group))
            if len(rows):
                dressed, chosen = paint(points[rows], bones[rows])
                colours[rows[dressed]] = chosen[dressed]
                skin[rows[dressed]] = False
        mottled = 0.6 * self._mottle(points, 0.03) + 0.4 * self._mottle(points, 0.011)
        strength = np.where(skin, 0.06, 0.16)
        return np.clip(colours * (1 + strength * mottled)[:, None], 0, 1)

    def _mottle(self, points: np.ndarray, period: float) -> np.ndarray:
        """Noise (n,) of a lattice with `period` metres a cell, interpolated along z."""
        at = points / period
        cell = np.floor(at).astype(np.int32)
        x, y, z = (cell & (_NOISE - 1)).T
        share = (at[:, 2] - cell[:, 2]).astype(np.float32)
        above = (z + 1) & (_NOISE - 1)
        return self.noise[x, y, z] * (1 - share) + self.noise[x, y, above] * share

    def _cloth(self, garment: Garment, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Colours of a pattern; u: metres around, v: metres along."""
        a, b = np.array(garment.colour, np.float32), np.array(garment.second, np.float32)
        p = garment.period
        along, around = (v / p) % 1 < 0.5, (u / p) % 1 < 0.5
        if garment.pattern == "stripes":
            share = along.astype(np.float32)
        elif garment.pattern == "bars":
            share = around.astype(np.float32)
        elif garment.pattern == "plaid":
            share = 0.45 * ((v / p) % 1 < 0.35) + 0.45 * ((u / p) % 1 < 0.35)
        elif garment.pattern == "dots":
            share = (np.hypot((u / p) % 1 - 0.5, (v / p) % 1 - 0.5) < 0.27).astype(np.float32)
        elif garment.pattern == "blocks":
            share = self.marks[(np.floor(u / p) % 16).astype(int), (np.floor(v / p) % 16).astype(int)] * 0.8
        else:
            share = np.zeros(len(u), np.float32)
        return a + (b - a) * share[:, None]

    def _torso(self, p: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outfit, up = self.outfit, (p[:, 2] - self.skeleton.starts[PELVIS][2]) / self.size
        front, y = p[:, 0] > 0, p[:, 1] / self.size
        around = np.arctan2(p[:, 1], p[:, 0]) * 0.14
        colours = self._cloth(outfit.shirt, np.where(np.abs(y) < 0.13, y, around), up)
        dark = np.array(outfit.shirt.colour, np.float32) * 0.45
        patch = front & (np.abs(up - 0.34) < 0.055) & (np.abs(y) < 0.1)
        drawn = patch & self.marks[((y + 0.5) / 0.022).astype(int) % 16, ((up + 0.5) / 0.022).astype(int) % 16]
        back = ~front & (np.abs(up - 0.33) < 0.09) & (np.abs(np.abs(y) - 0.05) < 0.035)
        hole = (np.abs(up - 0.33) < 0.055) & (np.abs(np.abs(y) - 0.05) < 0.014)
        colours[drawn | (back & ~hole)] = outfit.print_colour
        if outfit.buttons:
            colours[front & (np.abs(y) < 0.014)] = dark
            colours[front & (np.hypot(y, (up % 0.085) - 0.04) < 0.009)] = 0.95
        colours[(np.abs(np.abs(around) - 0.14 * np.pi / 2) < 0.004) & (up < 0.4)] = dark  # side seams
        depth = outfit.neckline - (0.12 * np.maximum(0, 1 - np.abs(y) / 0.07) * front if outfit.v_neck else 0)
        bare = (up > depth) & (np.abs(y) < 0.095)
        colours[(up > depth - 0.018) & (np.abs(y) < 0.11)] = dark
        trousers = up < 0.035
        colours[trousers] = self._trousers(p[trousers])
        colours[np.abs(up - 0.045) < 0.018] = outfit.belt
        colours[front & (np.abs(up - 0.045) < 0.016) & (np.abs(y) < 0.024)] = (0.85, 0.8, 0.6)
        return ~bare, colours

    def _trousers(self, p: np.ndarray) -> np.ndarray:
        """Cloth with seams, pockets on the seat and at the front."""
        trousers = self.outfit.trousers
        colours = self._cloth(trousers, np.arctan2(np.abs(p[:, 1]) - 0.1, p[:, 0]) * 0.08, p[:, 2])
        up = (p[:, 2] - self.skeleton.starts[PELVIS][2]) / self.size
        y = np.abs(p[:, 1]) / self.size
        dark = np.array(trousers.colour, np.float32) * 0.5
        edge = np.maximum(np.abs(up + 0.06) / 0.06, np.abs(y - 0.085) / 0.045)
        colours[(p[:, 0] < -0.02) & (np.abs(edge - 0.95) < 0.12)] = dark
        colours[(p[:, 0] > 0.03) & (np.abs(up + 0.02 - 1.1 * (y - 0.1)) < 0.006) & (y > 0.05)] = dark
        colours[(p[:, 0] > 0) & (y < 0.006) & (up > -0.1)] = dark
        return colours

    def _along(self, p: np.ndarray, bones: np.ndarray, upper: dict[int, int], lower: dict[int, int]) -> np.ndarray:
        """How far along its limb a point is: 0 to 1 in the upper bone, 1 to 2 in the lower."""
        along = np.zeros(len(p))
        for offset, limb in ((0, upper), (1, lower)):
            for side in SIDES:
                rows = bones == limb[side]
                a, b = self.skeleton.starts[limb[side]], self.skeleton.ends[limb[side]]
                along[rows] = offset + (p[rows] - a) @ (b - a) / ((b - a) @ (b - a))
        return along

    def _arms(self, p: np.ndarray, bones: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outfit, shirt = self.outfit, self.outfit.shirt
        along = self._along(p, bones, UPPER_ARM, FOREARM)
        around = np.arctan2(p[:, 0], np.abs(p[:, 1]) + p[:, 2] - 1.6) * 0.06
        colours = self._cloth(shirt, around, along * 0.27)
        colours[np.abs(along - outfit.sleeve + 0.05) < 0.05] = np.array(shirt.colour, np.float32) * 0.45
        watch = (p[:, 1] > 0) & (np.abs(along - 1.9) < 0.06)
        colours[watch] = (0.08, 0.08, 0.1)
        return (along < outfit.sleeve) | watch, colours

    def _legs(self, p: np.ndarray, bones: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outfit, trousers = self.outfit, self.outfit.trousers
        along = self._along(p, bones, THIGH, SHIN)
        colours = self._trousers(p)
        y = np.abs(p[:, 1])
        dark = np.array(trousers.colour, np.float32) * 0.5
        outer = y > np.abs(self.skeleton.starts[THIGH[1]][1])
        colours[outer & (np.abs(p[:, 0]) < 0.006)] = dark
        colours[np.abs(along - outfit.trouser_length + 0.04) < 0.03] = dark
        knee = (np.abs(along - 1.0) < 0.11) & (p[:, 0] > 0.02)
        colours[knee] = colours[knee] * 0.75 + 0.12
        sock = (along > 1.84) & (along > outfit.trouser_length)
        colours[sock] = (0.85, 0.85, 0.85)
        return (along < outfit.trouser_length) | sock, colours

    def _feet(self, p: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shoes = self.outfit.shoes
        ankle = self.skeleton.starts[FOOT[1]]
        x, y = (p[:, 0] - ankle[0]) / self.size, np.abs(p[:, 1]) - ankle[1] - 0.01
        colours = self._cloth(shoes, x, y)
        top = (p[:, 2] > 0.055) & (np.abs(y) < 0.025) & (x > 0.02)
        laces = top & ((x / 0.022) % 1 < 0.5)
        colours[laces] = 0.92
        side = (np.abs(y) > 0.025) & (np.abs(x - 0.05 - 0.6 * (p[:, 2] - 0.04)) < 0.014)
        colours[side] = shoes.second
        colours[p[:, 2] < 0.02] = shoes.second
        return np.ones(len(p), bool), colours

    def _head(self, p: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hair, and on the front eyes, brows, mouth, nostrils, beard and glasses."""
        outfit, top = self.outfit, self.skeleton.ends[HEAD]
        x, y, down = ((p - top) * [1, 1, -1] / self.size**0.5).T
        side = np.abs(y)
        colours = np.empty((len(p), 3), np.float32)
        colours[:] = outfit.skin
        marked = np.zeros(len(p), bool)

        def put(where: np.ndarray, colour: Colour | np.ndarray) -> None:
            colours[where] = colour
            marked[where] = True

        skin = np.array(outfit.skin)
        face = x > 0.03
        if outfit.beard:
            put((down > 0.155) & (x > 0.005) & (down < 0.24), np.array(outfit.hair) * 0.9)
        put(face & (np.hypot(y / 0.026, (down - 0.187) / 0.008) < 1), (0.62, 0.22, 0.2))
        put(face & (side < 0.022) & (np.abs(down - 0.187) < 0.0016), (0.3, 0.08, 0.08))
        put(face & (np.hypot((side - 0.034) / 0.017, (down - 0.112) / 0.0085) < 1), (0.95, 0.95, 0.93))
        put(face & (np.hypot(side - 0.034, down - 0.112) < 0.0082), outfit.eyes)
        put(face & (np.hypot(side - 0.034, down - 0.112) < 0.0042), (0.02, 0.02, 0.02))
        brow = np.abs(down - 0.093 - 0.15 * (side - 0.034)) < 0.0045
        put(face & brow & (np.abs(side - 0.034) < 0.021), np.array(outfit.hair) * 0.7)
        put(face & (np.hypot((side - 0.008) / 0.004, (down - 0.163) / 0.004) < 1), skin * 0.35)
        if outfit.glasses:
            ring = np.abs(np.maximum(np.abs(side - 0.035) / 0.024, np.abs(down - 0.113) / 0.018) - 1)
            put(face & (ring < 0.14), (0.05, 0.05, 0.05))
            put((np.abs(down - 0.105) < 0.003) & (x < 0.07) & (x > 0), (0.05, 0.05, 0.05))
        streaks = 1 + 0.35 * np.sign(np.sin(700 * y + 260 * x + 40 * down))[:, None] * 0.5
        edge = outfit.hair_line + 0.35 * np.maximum(0.075 - x, 0) + 0.2 * np.maximum(side - 0.05, 0)
        edge = np.where(x < 0.012, 0.135 + 0.6 * np.maximum(0.012 - x, 0), edge)
        edge = np.where(x < -0.058, 0.33, edge) if outfit.hair_line > 0.055 else np.where(x < -0.03, 0.19, edge)
        hair = down < edge
        colours[hair] = np.array(outfit.hair) * streaks[hair]
        ear = (side > 0.072) & (np.abs(x) < 0.03) & (np.abs(down - 0.125) < 0.035)
        colours[ear] = skin * 0.93
        return marked | hair | ear, colours
