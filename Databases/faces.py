"""What data sets of faces share: the method's crop, and a finder for pictures without boxes."""

import numpy as np

from Databases.database import FACE_CROP, Database
from Utils.crops import face_crop
from Utils.face_boxes import find_face


class FaceDatabase(Database):
    crop_rule = FACE_CROP

    def crop(self, box: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
        return face_crop(box, width, height, size)

    def find_box(self, picture: np.ndarray) -> np.ndarray | None:
        return find_face(picture)
