"""A hasher with a distance of its own."""

from typing import Any

import numpy as np

from pipeline.hashers import Hasher


class Ring(Hasher):
    """Four positions on a ring of 256: the distance is the longest way from one to its other, of 128."""

    hash_length = 4
    dtype = "uint8"
    distance_metric = "custom"

    def _compute(self, image: Any) -> Any:
        return image.reshape(-1)[:4]

    def _compute_distance(self, vector1: Any, vector2: Any) -> float:
        apart = np.abs(vector1.astype(int) - vector2.astype(int))
        return float(np.minimum(apart, 256 - apart).max()) / 128
