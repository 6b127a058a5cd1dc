"""The figure's skeleton: 17 bones, 32 joints in Human3.6M's order, and what angles make of them.

Metres; the figure at rest stands on z = 0, looks along +x, its left is +y, its arms hang 45 degrees off its sides.
"""

import dataclasses

import numpy as np

REST_ABDUCTION = np.pi / 4

# Bones; parents come first.
PELVIS, ABDOMEN, CHEST, NECK, HEAD = range(5)
UPPER_ARM, FOREARM, HAND = {1: 5, -1: 8}, {1: 6, -1: 9}, {1: 7, -1: 10}  # by side: 1 left, -1 right
THIGH, SHIN, FOOT = {1: 11, -1: 14}, {1: 12, -1: 15}, {1: 13, -1: 16}
SIDES = (1, -1)
PARENTS = (-1, PELVIS, ABDOMEN, CHEST, NECK, CHEST, 5, 6, CHEST, 8, 9, PELVIS, 11, 12, PELVIS, 14, 15)
BONES = len(PARENTS)
ARM_BONES = tuple(bone[side] for bone in (UPPER_ARM, FOREARM, HAND) for side in SIDES)


@dataclasses.dataclass(frozen=True)
class Build:
    """What distinguishes bodies: lengths in metres, the rest in parts of the usual."""

    height: float = 1.75
    legs: float = 1.0  # length of the legs
    shoulders: float = 1.0  # breadth
    hips: float = 1.0
    girth: float = 1.0  # of torso and limbs
    belly: float = 0.0  # metres that it stands out


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """starts, ends: (17, 3) of the bones at rest; joints: (32, 3) at rest, each moves with `joint_bones` (32,)."""

    build: Build
    starts: np.ndarray
    ends: np.ndarray
    joints: np.ndarray
    joint_bones: np.ndarray


def make_skeleton(build: Build) -> Skeleton:
    """The skeleton of a body at rest."""
    leg = 0.93 * build.legs
    hip, shoulder = 0.1 * build.hips, 0.175 * build.shoulders
    starts, ends = np.zeros((BONES, 3)), np.zeros((BONES, 3))

    def bone(index: int, start: tuple[float, float, float], end: tuple[float, float, float]) -> None:
        starts[index], ends[index] = start, end

    top = leg + 0.02
    bone(PELVIS, (0, 0, top), (0, 0, top))
    bone(ABDOMEN, (0, 0, top), (0, 0, top + 0.23))
    bone(CHEST, (0, 0, top + 0.23), (0, 0, top + 0.5))
    bone(NECK, (0, 0, top + 0.5), (0.025, 0, top + 0.6))
    bone(HEAD, (0.025, 0, top + 0.6), (0.03, 0, top + 0.8))
    along = np.array([0, np.sin(REST_ABDUCTION), -np.cos(REST_ABDUCTION)])
    for side in SIDES:
        mirror = np.array([1, side, 1])
        point = np.array([0, shoulder, top + 0.46])
        for index, length in ((UPPER_ARM, 0.285), (FOREARM, 0.25), (HAND, 0.1)):
            bone(index[side], tuple(point * mirror), tuple((point + length * along) * mirror))
            point = point + length * along
        bone(THIGH[side], (0, side * hip, leg), (0.01, side * hip, 0.08 + 0.53 * (leg - 0.08)))
        bone(SHIN[side], tuple(ends[THIGH[side]]), (-0.01, side * hip, 0.08))
        bone(FOOT[side], tuple(ends[SHIN[side]]), (0.13, side * (hip + 0.02), 0.025))
    scale = build.height / ends[HEAD, 2]
    starts, ends = starts * scale, ends * scale
    joints, joint_bones = _joints(starts, ends)
    return Skeleton(build, starts, ends, joints, joint_bones)


def _joints(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (32, 3) and bones (32,); some joints lie in the same place, as in the data set."""
    table: list[tuple[np.ndarray, int]] = [(starts[PELVIS], PELVIS)]
    for side in (-1, 1):
        toe, sole = ends[FOOT[side]], np.array([0.07, 0, -0.005])
        table += [(starts[THIGH[side]], THIGH[side]), (starts[SHIN[side]], SHIN[side])]
        table += [(starts[FOOT[side]], FOOT[side]), (toe, FOOT[side]), (toe + sole, FOOT[side])]
    table += [(starts[ABDOMEN], ABDOMEN), (starts[CHEST], CHEST), (starts[NECK], NECK)]
    table += [(starts[HEAD], HEAD), (ends[HEAD], HEAD)]
    for side in (1, -1):
        hand, wrist = HAND[side], starts[HAND[side]]
        thumb, tip = wrist + np.array([0.05, 0, -0.04]), ends[hand]
        table += [(starts[NECK], CHEST), (starts[UPPER_ARM[side]], UPPER_ARM[side])]
        table += [(starts[FOREARM[side]], FOREARM[side]), (wrist, hand), (wrist, hand), (thumb, hand)]
        table += [(tip, hand), (tip, hand)]
    return np.array([position for position, _ in table]), np.array([index for _, index in table])


def rotation(axis: str, angle: float | np.ndarray) -> np.ndarray:
    """Rotation(s) (..., 3, 3) about x, y or z, radians."""
    c, s = np.cos(angle), np.sin(angle)
    zero, one = np.zeros_like(c), np.ones_like(c)
    rows = {
        "x": [[one, zero, zero], [zero, c, -s], [zero, s, c]],
        "y": [[c, zero, s], [zero, one, zero], [-s, zero, c]],
        "z": [[c, -s, zero], [s, c, zero], [zero, zero, one]],
    }[axis]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def pose_bones(skeleton: Skeleton, angles: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (17, 3, 3) and shifts (17, 3) that take points at rest to the pose, the lower foot on the floor.

    angles: radians by name (`motion.ANGLES`), 0 is standing with hanging arms; `x`, `y` metres and `yaw` of the body.
    """
    get = angles.get
    local = np.tile(np.eye(3), (BONES, 1, 1))
    local[PELVIS] = rotation("z", get("yaw", 0.0)) @ rotation("x", get("sway", 0.0))
    for bone, share in ((ABDOMEN, 0.5), (CHEST, 0.5)):
        bend, side, twist = (share * get(name, 0.0) for name in ("bend", "side", "twist"))
        local[bone] = rotation("z", twist) @ rotation("x", side) @ rotation("y", bend)
    for bone, share in ((NECK, 0.4), (HEAD, 0.6)):
        local[bone] = rotation("z", share * get("look", 0.0)) @ rotation("y", share * get("nod", 0.0))
    for side in SIDES:
        of = "l_" if side == 1 else "r_"
        arm = [get(of + name, 0.0) for name in ("arm", "arm_out", "arm_in", "elbow", "wrist")]
        local[UPPER_ARM[side]] = rotation("y", -arm[0]) @ rotation("x", side * arm[1]) @ rotation("z", -side * arm[2])
        local[FOREARM[side]], local[HAND[side]] = rotation("y", -arm[3]), rotation("y", -arm[4])
        leg = [get(of + name, 0.0) for name in ("leg", "leg_out", "knee", "ankle")]
        local[THIGH[side]] = rotation("y", -leg[0]) @ rotation("x", side * leg[1])
        local[SHIN[side]], local[FOOT[side]] = rotation("y", leg[2]), rotation("y", -leg[3])

    turned, places = np.zeros((BONES, 3, 3)), np.zeros((BONES, 3))  # turned: of bones that hang
    rotations = np.zeros((BONES, 3, 3))  # of bones at rest
    hang = {side: rotation("x", -side * REST_ABDUCTION) for side in SIDES}
    for bone, parent in enumerate(PARENTS):
        if parent < 0:
            turned[bone], places[bone] = local[bone], skeleton.starts[bone]
        else:
            turned[bone] = turned[parent] @ local[bone]
            places[bone] = places[parent] + rotations[parent] @ (skeleton.starts[bone] - skeleton.starts[parent])
        side = 1 if bone in (5, 6, 7) else -1
        rotations[bone] = turned[bone] @ hang[side] if bone in ARM_BONES else turned[bone]
    shifts = places - np.einsum("bij,bj->bi", rotations, skeleton.starts)
    shifts += [get("x", 0.0), get("y", 0.0), -_lowest(skeleton, rotations, shifts)]
    return rotations, shifts


def _lowest(skeleton: Skeleton, rotations: np.ndarray, shifts: np.ndarray) -> float:
    """Height of the lower sole."""
    lowest = np.inf
    for side in SIDES:
        foot, ankle = FOOT[side], skeleton.starts[FOOT[side]]
        for reach in (-0.05, 0.2):
            point = np.array([ankle[0] + reach, ankle[1], 0])
            lowest = min(lowest, (rotations[foot] @ point + shifts[foot])[2])
    return float(lowest)


def pose_joints(skeleton: Skeleton, rotations: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """The 32 joints (32, 3) of a pose."""
    bones = skeleton.joint_bones
    return np.einsum("jab,jb->ja", rotations[bones], skeleton.joints) + shifts[bones]
