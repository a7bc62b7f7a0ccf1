"""The hasher of one's own in the reference's documentation: `--hasher seed_hash.ShrinkHash`."""

import cv2
import numpy as np

from neardup.hashers import Hasher


class ShrinkHash(Hasher):
    """The picture made 8 x 8 pixels."""

    hash_length = 64
    dtype = "uint8"
    distance_metric = "euclidean"

    def _compute(self, image: np.ndarray) -> np.ndarray:
        return cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dsize=(8, 8)).flatten()
