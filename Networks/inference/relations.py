"""What the training pictures tell about a network's landmarks, in a small file of the experiment."""

from pathlib import Path

import numpy as np
from pydantic import BaseModel, NonNegativeInt, ValidationError

from Utils.relations import mirror_images, most_telling
from Utils.runtime.errors import UserError
from Utils.storage.files import writing


class Relations(BaseModel):
    """Landmarks by their clusters' numbers.

    telling: those found often, the ones first that tell most about the others; mirror: pairs that are each other's
    image in a mirrored picture, a landmark on the axis with itself.
    """

    telling: list[NonNegativeInt]
    mirror: list[tuple[NonNegativeInt, NonNegativeInt]]

    @classmethod
    def learned(cls, points: np.ndarray, mirrored: np.ndarray, active: np.ndarray) -> "Relations":
        """From the landmarks `active` (L,) in pictures (n, L, 2), and in mirrored pictures, mirrored back."""
        pairs = [(int(active[a]), int(active[b])) for a, b in enumerate(mirror_images(points, mirrored)) if a <= b]
        return cls(telling=active[most_telling(points)].tolist(), mirror=pairs)

    @classmethod
    def load(cls, path: Path, active: np.ndarray) -> "Relations":
        """Raises UserError for a file of another kind or of a network with other landmarks."""
        try:
            relations = cls.model_validate_json(path.read_bytes())
        except ValidationError:
            raise UserError(f"{path} is damaged; remove it, it will be made again") from None
        if not {*relations.telling, *sum(relations.mirror, ())} <= set(active.tolist()):
            raise UserError(f"{path} is of another network; remove it, it will be made again")
        return relations

    def save(self, path: Path) -> None:
        with writing(path) as temporary:
            temporary.write_text(self.model_dump_json() + "\n")

    def counterparts(self, active: np.ndarray) -> np.ndarray:
        """The place (L,) in `active` of each landmark's mirror image, -1 for none."""
        image = {a: b for pair in self.mirror for a, b in (pair, pair[::-1])}
        place = {int(k): i for i, k in enumerate(active)}
        return np.array([place.get(image.get(k, -1), -1) for k in place])
