"""Hashes that compare the pixels of a very small image: AverageHash and DHash."""

import cv2
import numpy as np

from neardup.errors import UsageError
from neardup.hashers.area import Pixels
from neardup.hashers.base import PlanesHasher, Vectors
from neardup.hashers.encoding import Vector
from neardup.hashers.isometric import VARIANTS, isometric_view
from neardup.hashers.planes import Planes


def average_bits(small: Pixels) -> Vector:
    """Is each pixel brighter than the mean? (Krawetz 2011)"""
    bits: Vector = small > small.mean()
    return bits


def difference_bits(small: Pixels) -> Vector:
    """Is each pixel brighter than its right neighbour? (Krawetz 2013; shape (h, w) gives (h, w - 1))"""
    bits: Vector = small[:, :-1] > small[:, 1:]
    return bits


class AverageHash(PlanesHasher):
    """AverageHash (Krawetz 2011): hash_size x hash_size bits; the grey weighs red as blue, as the reference does."""

    dtype = "bool"
    distance_metric = "hamming"

    def __init__(self, hash_size: int = 8) -> None:
        if hash_size < 2:
            raise UsageError(f"hash_size {hash_size} is too small; AverageHash needs at least 2")
        self.hash_size = hash_size
        self.hash_length = hash_size * hash_size

    def _hash(self, planes: Planes) -> Vector:
        return average_bits(planes.area("gray_swapped", self.hash_size, self.hash_size)).ravel()

    def _hash_isometric(self, planes: Planes) -> dict[str, Vectors]:
        return dict(self._compute_isometric_from_hash(self._hash(planes)))

    def _compute_isometric_from_hash(self, vector: Vector) -> dict[str, Vector]:
        bits = vector.reshape(self.hash_size, self.hash_size)
        return {variant: isometric_view(bits, variant).ravel() for variant in VARIANTS}


class DHash(PlanesHasher):
    """DHash (Krawetz 2013): hash_size x hash_size bits; colours are resized first, then made grey."""

    dtype = "bool"
    distance_metric = "hamming"

    def __init__(self, hash_size: int = 8) -> None:
        if hash_size < 2:
            raise UsageError(f"hash_size {hash_size} is too small; DHash needs at least 2")
        self.hash_size = hash_size
        self.hash_length = hash_size * hash_size

    def _hash(self, planes: Planes) -> Vector:
        small = planes.area("rgb", self.hash_size + 1, self.hash_size)
        return difference_bits(np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), dtype=np.uint8)).ravel()
