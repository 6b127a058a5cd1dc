"""What the figure does: angles over time for the six actions of the protocol, a function of a seed.

Angles in degrees here, by the names that `pose_bones` takes; an action is a chain of poses, walking is a gait on a
curve. All turn through all directions.
"""

import numpy as np

FRAMES_PER_SECOND = 50
ANGLES = ("bend", "side", "twist", "sway", "look", "nod") + tuple(
    f"{side}_{name}"
    for side in "lr"
    for name in ("arm", "arm_out", "arm_in", "elbow", "wrist", "leg", "leg_out", "knee", "ankle")
)
Pose = dict[str, float]


def move(action: str, frames: int, seed: tuple[int, ...]) -> list[Pose]:
    """The angles, in radians, and places of `frames` frames at 50 per second; action: of `ACTIONS`, or Walking."""
    rng = np.random.default_rng(seed)
    table = _walk(frames, rng) if action == "Walking" else _perform(action, frames, rng)
    radians = {name: column if name in "xy" else np.radians(column) for name, column in table.items()}
    return [{name: float(column[i]) for name, column in radians.items()} for i in range(frames)]


def _walk(frames: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A gait on a circle, either way round; a step is as long as the legs swing."""
    t = np.arange(frames) / FRAMES_PER_SECOND
    swing, radius, way = rng.uniform(19, 26), rng.uniform(0.6, 1.1), rng.choice([-1, 1])
    speed = rng.uniform(0.9, 1.3)  # metres per second
    stride = 4 * 0.87 * np.sin(np.radians(swing))
    phase = 2 * np.pi * (t * speed / stride + rng.uniform())
    angle = rng.uniform(0, 2 * np.pi) + way * t * speed / radius
    zero = np.zeros(frames)
    table: dict[str, np.ndarray] = dict.fromkeys(ANGLES, zero)
    table |= {"x": radius * np.cos(angle), "y": radius * np.sin(angle), "yaw": np.degrees(angle) + way * 90}
    arms, elbow = rng.uniform(14, 30), rng.uniform(12, 35)
    for of, sign in (("l_", 1), ("r_", -1)):
        s, c = sign * np.sin(phase), sign * np.cos(phase)
        table |= {of + "leg": 4 + swing * s, of + "knee": 6 + 52 * np.maximum(c, 0) ** 1.3, of + "ankle": 6 * s}
        table |= {of + "arm": 4 - arms * s, of + "arm_out": zero + 7, of + "elbow": elbow - 12 * s}
    table |= {"twist": -7 * np.sin(phase), "sway": 2.5 * np.cos(phase), "side": -2.5 * np.cos(phase)}
    table |= {"bend": zero + 4, "nod": zero + rng.uniform(-4, 10), "look": 12 * np.sin(0.9 * t + rng.uniform(0, 6))}
    return table


def _perform(action: str, frames: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Poses one after the other, each held for a while, while the body turns and shifts its place."""
    times, poses, at = [0.0], [ACTIONS[action](rng)], 0.0
    low, high = PACE[action]
    while at < frames / FRAMES_PER_SECOND:
        moving, held = rng.uniform(low, high), rng.uniform(0.1, high)
        times += [at + held, at + held + moving]
        poses += [poses[-1], ACTIONS[action](rng)]
        at += held + moving
    t = np.arange(frames) / FRAMES_PER_SECOND
    table = {name: _eased(t, times, [pose.get(name, 0.0) for pose in poses]) for name in ANGLES}
    count = len(times)
    turns = np.cumsum(np.repeat(rng.normal(0, 70, count // 2 + 1), 2)[:count]) + rng.uniform(0, 360)
    table["yaw"] = _eased(t, times, turns.tolist())
    for name in "xy":
        table[name] = _eased(t, times, np.repeat(rng.uniform(-0.5, 0.5, count // 2 + 1), 2)[:count].tolist())
    for name, size in (("bend", 1.0), ("side", 1.0), ("look", 3.0), ("nod", 2.0), ("l_elbow", 3.0), ("r_elbow", 3.0)):
        table[name] = table[name] + size * np.sin(rng.uniform(1.5, 4) * t + rng.uniform(0, 6))  # nobody stands still
    if action == "Greeting":
        waved = np.maximum(table["r_arm_out"] - 60, 0) / 60
        table["r_elbow"] = table["r_elbow"] + 25 * waved * np.sin(9 * t)
    return table


def _eased(t: np.ndarray, times: list[float], values: list[float]) -> np.ndarray:
    """Values at given times, joined by cosine arcs."""
    after = np.clip(np.searchsorted(times, t, side="right"), 1, len(times) - 1)
    start, end = np.array(times)[after - 1], np.array(times)[after]
    share = np.clip((t - start) / np.maximum(end - start, 1e-6), 0, 1)
    a, b = np.array(values)[after - 1], np.array(values)[after]
    return a + (b - a) * (1 - np.cos(np.pi * share)) / 2


def _stance(rng: np.random.Generator) -> Pose:
    """Legs: on both, or the weight on one and the other bent or set out."""
    pose: Pose = {"l_leg_out": rng.uniform(0, 8), "r_leg_out": rng.uniform(0, 8)}
    if rng.random() < 0.6:
        of = rng.choice(["l_", "r_"])
        flexed = rng.uniform(5, 30)
        pose |= {of + "leg": flexed, of + "knee": flexed * rng.uniform(1, 1.8), of + "leg_out": rng.uniform(2, 18)}
        pose |= {of + "ankle": 0.4 * flexed, "sway": rng.uniform(0, 4) * (1 if of == "r_" else -1)}
    pose |= {"bend": rng.normal(3, 5), "side": rng.normal(0, 4), "twist": rng.normal(0, 9)}
    return pose | {"look": rng.normal(0, 22), "nod": rng.normal(5, 9)}


def _arm(rng: np.random.Generator, of: str, kind: str) -> Pose:
    """An arm's pose: hanging, gesturing, pointing, on the hip, crossed, raised or waving."""
    u = rng.uniform
    arm, out, inwards, elbow = {
        "hanging": (u(-8, 12), u(5, 12), u(0, 25), u(5, 25)),
        "gesturing": (u(5, 50), u(5, 30), u(-20, 50), u(55, 115)),
        "pointing": (u(40, 115), u(-5, 60), u(-10, 20), u(0, 20)),
        "on the hip": (u(-28, -12), u(38, 50), u(50, 70), u(85, 100)),
        "crossed": (u(22, 34), u(0, 8), u(62, 78), u(88, 102)),
        "raised": (u(-10, 20), u(95, 160), u(-20, 20), u(0, 70)),
        "waving": (u(-5, 15), u(75, 110), u(-100, -80), u(60, 100)),
        "shaking": (u(30, 45), u(0, 8), u(5, 20), u(35, 60)),
    }[kind]
    return {
        of + "arm": arm,
        of + "arm_out": out,
        of + "arm_in": inwards,
        of + "elbow": elbow,
        of + "wrist": u(-15, 25),
    }


def _arms(rng: np.random.Generator, pairs: tuple[tuple[str, str], ...]) -> Pose:
    """One of some pairs of poses of the arms, mirrored or not."""
    pair = pairs[rng.integers(len(pairs))]
    sides = ("l_", "r_") if rng.random() < 0.5 else ("r_", "l_")
    return _arm(rng, sides[0], pair[0]) | _arm(rng, sides[1], pair[1])


def _directing(rng: np.random.Generator) -> Pose:
    return _stance(rng) | _arms(rng, (("hanging", "pointing"), ("pointing", "pointing"), ("pointing", "on the hip")))


def _discussing(rng: np.random.Generator) -> Pose:
    return _stance(rng) | _arms(rng, (("gesturing", "gesturing"), ("gesturing", "hanging"), ("crossed", "crossed")))


def _posing(rng: np.random.Generator) -> Pose:
    pairs = (("on the hip", "on the hip"), ("raised", "on the hip"), ("raised", "raised"), ("hanging", "raised"))
    return _stance(rng) | _arms(rng, pairs) | {"twist": rng.normal(0, 18), "side": rng.normal(0, 9)}


def _waiting(rng: np.random.Generator) -> Pose:
    pairs = (("hanging", "hanging"), ("crossed", "crossed"), ("on the hip", "hanging"), ("hanging", "gesturing"))
    return _stance(rng) | _arms(rng, pairs) | {"look": rng.normal(0, 40)}


def _greeting(rng: np.random.Generator) -> Pose:
    kind = rng.choice(["waving", "shaking", "hanging"], p=[0.5, 0.3, 0.2])
    bow = rng.uniform(10, 45) if kind != "waving" and rng.random() < 0.4 else rng.normal(2, 4)
    return _stance(rng) | _arm(rng, "r_", str(kind)) | _arm(rng, "l_", "hanging") | {"bend": bow}


ACTIONS = {
    "Directions": _directing,
    "Discussion": _discussing,
    "Posing": _posing,
    "Waiting": _waiting,
    "Greeting": _greeting,
}
# Seconds that a change of pose takes, shortest and longest.
PACE = {
    "Directions": (0.5, 1.0),
    "Discussion": (0.3, 0.7),
    "Posing": (0.7, 1.3),
    "Waiting": (0.8, 1.6),
    "Greeting": (0.5, 1.0),
}
