"""What the training pictures tell about a network's landmarks, in a small file of the experiment."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from pydantic import BaseModel, NonNegativeInt, ValidationError
from torch import Tensor

from Utils.relations import mirror_images, most_telling
from Utils.runtime.errors import UserError
from Utils.runtime.progress import Progress
from Utils.storage.files import writing

PICTURES = 500  # at most, evenly from the training pictures


class Relations(BaseModel):
    """Landmarks by their clusters' numbers.

    telling: those found often, the ones first that tell most about the others; mirror: pairs that are each other's
    image in a mirrored picture, a landmark on the axis with itself.
    """

    telling: list[NonNegativeInt]
    mirror: list[tuple[NonNegativeInt, NonNegativeInt]]

    @classmethod
    def learned(
        cls,
        batches: Iterable[tuple[Tensor, np.ndarray, np.ndarray]],
        detect: Callable[[Tensor, bool], np.ndarray],
        active: np.ndarray,
        pictures: int,
    ) -> "Relations":
        """From batches of crops; detect: crops, mirrored or not -> active landmarks (n, L, 2), NaN if not found."""
        found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        with Progress("Landmarks: relations", pictures) as progress:
            for crops, _, numbers in batches:
                for mirrored, parts in enumerate(found):
                    parts.append(detect(crops, bool(mirrored)))
                progress.update(len(numbers))
        points, mirrored_points = map(np.concatenate, found)
        images = mirror_images(points, mirrored_points)
        pairs = [(int(active[a]), int(active[b])) for a, b in enumerate(images) if a <= b]
        return cls(telling=active[most_telling(points)].tolist(), mirror=pairs)

    @classmethod
    def load(cls, path: Path, active: np.ndarray) -> "Relations":
        """Raises UserError for a file of another kind or of a network with other landmarks."""
        try:
            relations = cls.model_validate_json(path.read_bytes())
        except ValidationError:
            raise UserError(f"{path} is damaged; remove it, it will be made again") from None
        if not set(relations.telling) | {k for pair in relations.mirror for k in pair} <= set(active.tolist()):
            raise UserError(f"{path} is of another network; remove it, it will be made again")
        return relations

    def save(self, path: Path) -> None:
        with writing(path) as temporary:
            temporary.write_text(self.model_dump_json() + "\n")

    def counterparts(self, active: np.ndarray) -> np.ndarray:
        """The place (L,) in `active` of each landmark's mirror image, -1 for none."""
        place = {int(k): i for i, k in enumerate(active)}
        images = np.full(len(active), -1)
        for a, b in self.mirror:
            if a in place and b in place:
                images[place[a]], images[place[b]] = place[b], place[a]
        return images
