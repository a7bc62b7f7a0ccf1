"""A hasher that some items make crash, hang, exhaust its memory or fail: chosen by their first pixel."""

import ctypes
import time

import numpy as np

from pipeline.hashers import Hasher

CRASH, HANG, EXHAUST, FAIL = (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0)


class Hostile(Hasher):
    hash_length = 64
    dtype = "bool"
    distance_metric = "hamming"

    def _compute(self, image: np.ndarray) -> np.ndarray:
        mark = tuple(image[0, 0].tolist())
        if mark == CRASH:
            ctypes.string_at(0)
        while mark == HANG:
            pass
        held = []
        while mark == EXHAUST:
            held.append(bytearray(64 << 20))
        if mark == FAIL:
            raise ValueError("no such picture,\nplease")
        return image[:8, :8, 0] > 127


class Slow(Hostile):
    """Takes its time over every picture."""

    def _compute(self, image: np.ndarray) -> np.ndarray:
        time.sleep(0.02)
        return super()._compute(image)
