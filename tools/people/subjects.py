"""The seven subjects: how they are built and what they wear."""

import dataclasses

from tools.people.body import Body, Dress, make_body
from tools.people.paint import Garment, Outfit, Painter
from tools.people.skeleton import Build, Skeleton, make_skeleton

PALE, TAN, BROWN, DARK = (0.87, 0.68, 0.56), (0.76, 0.56, 0.42), (0.58, 0.39, 0.27), (0.36, 0.23, 0.16)
BLACK_HAIR, BROWN_HAIR, FAIR_HAIR, RED_HAIR, GRAY_HAIR = (
    (0.07, 0.06, 0.06),
    (0.24, 0.15, 0.09),
    (0.62, 0.47, 0.24),
    (0.45, 0.19, 0.08),
    (0.45, 0.44, 0.43),
)
WHITE, NAVY, KHAKI, BLACK, BLUE, RED = (
    (0.86, 0.86, 0.84),
    (0.12, 0.15, 0.32),
    (0.6, 0.52, 0.36),
    (0.1, 0.1, 0.11),
    (0.2, 0.33, 0.6),
    (0.68, 0.14, 0.14),
)
BROWN_EYES, BLUE_EYES = (0.2, 0.1, 0.04), (0.2, 0.4, 0.6)
LEATHER = (0.3, 0.18, 0.09)


@dataclasses.dataclass(frozen=True)
class Subject:
    build: Build
    hair: str  # of `Dress`
    outfit: Outfit


@dataclasses.dataclass(frozen=True)
class Figure:
    """A subject, ready to be posed."""

    skeleton: Skeleton
    body: Body
    painter: Painter


SUBJECTS = {
    "S1": Subject(
        Build(1.66, 1.0, 0.9, 1.12, 0.9),
        "tail",
        Outfit(
            PALE, BROWN_HAIR, BLUE_EYES, Garment(WHITE, RED, "stripes", 0.06), Garment(BLUE, NAVY),
            Garment(WHITE, RED), LEATHER, NAVY, 0.6, 1.93, v_neck=True, seed=1,
        ),
    ),
    "S5": Subject(
        Build(1.62, 0.97, 0.88, 1.12, 1.0),
        "long",
        Outfit(
            TAN, BLACK_HAIR, BROWN_EYES, Garment((0.65, 0.2, 0.42), WHITE, "dots", 0.055), Garment(BLACK, BLACK),
            Garment(BLACK, WHITE), WHITE, WHITE, 1.0, 1.95, hair_line=0.056, seed=5,
        ),
    ),
    "S6": Subject(
        Build(1.79, 1.0, 1.05, 1.0, 1.02),
        "short",
        Outfit(
            PALE, FAIR_HAIR, BLUE_EYES, Garment((0.2, 0.42, 0.3), (0.85, 0.8, 0.4), "plaid", 0.08),
            Garment(KHAKI, KHAKI), Garment(LEATHER, BLACK), LEATHER, WHITE, 1.92, 1.95, buttons=True, seed=6,
        ),
    ),
    "S7": Subject(
        Build(1.84, 1.03, 1.08, 1.0, 0.94),
        "short",
        Outfit(
            DARK, BLACK_HAIR, BROWN_EYES, Garment((0.85, 0.62, 0.15), NAVY, "bars", 0.07),
            Garment((0.35, 0.37, 0.4), BLACK), Garment(RED, WHITE), BLACK, NAVY, 0.65, 1.1, hair_line=0.035, seed=7,
        ),
    ),
    "S8": Subject(
        Build(1.74, 0.98, 1.03, 1.06, 1.12, 0.05),
        "bald",
        Outfit(
            PALE, GRAY_HAIR, BLUE_EYES, Garment((0.4, 0.58, 0.78), WHITE, "plain"), Garment(NAVY, NAVY),
            Garment(BLACK, BLACK), BLACK, RED, 1.9, 1.95, buttons=True, beard=True, glasses=True,
            hair_line=0.0, seed=8,
        ),
    ),
    "S9": Subject(
        Build(1.77, 1.0, 1.06, 1.0, 1.05, 0.02),
        "cap",
        Outfit(
            BROWN, (0.6, 0.12, 0.12), BROWN_EYES, Garment((0.25, 0.25, 0.28), (0.75, 0.75, 0.72), "blocks", 0.05),
            Garment(BLUE, WHITE), Garment(WHITE, BLUE), WHITE, WHITE, 0.7, 1.95, seed=9,
        ),
    ),
    "S11": Subject(
        Build(1.78, 1.01, 1.02, 1.0, 0.97),
        "short",
        Outfit(
            TAN, RED_HAIR, BLUE_EYES, Garment((0.75, 0.74, 0.7), BLUE, "stripes", 0.09),
            Garment((0.28, 0.22, 0.18), BLACK), Garment(KHAKI, BLACK), BLACK, RED, 0.75, 1.94, v_neck=True, seed=11,
        ),
    ),
}  # fmt: skip


def make_figure(subject: Subject) -> Figure:
    """Skeleton, surface and colours; some seconds."""
    outfit = subject.outfit
    skeleton = make_skeleton(subject.build)
    dress = Dress(sleeve=outfit.sleeve, trousers=outfit.trouser_length, hair=subject.hair)
    return Figure(skeleton, make_body(skeleton, dress), Painter(skeleton, outfit))
