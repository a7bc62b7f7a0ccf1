"""Hashers of a user: one with a distance of its own, one that works with what it shares."""

import time
from typing import Any

import numpy as np

from neardup.hashers import Hasher


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


class OneAtATime(Hasher):
    """The first bytes of an image, kept in one place for all threads while it works."""

    hash_length = 8
    dtype = "uint8"
    distance_metric = "hamming"
    _shared: Any = None

    def _compute(self, image: Any) -> Any:
        OneAtATime._shared = image.reshape(-1)[:8].copy()
        time.sleep(0.005)
        return OneAtATime._shared
