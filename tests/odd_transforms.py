"""Transforms that some pictures make crash, hang or fail: chosen by their first pixel, as in `hostile`."""

import ctypes

import numpy as np

from hostile import CRASH, FAIL, HANG


def hostile(image: np.ndarray) -> np.ndarray:
    mark = tuple(image[0, 0].tolist())
    if mark == CRASH:
        ctypes.string_at(0)
    while mark == HANG:
        pass
    if mark == FAIL:
        raise ValueError("no such picture,\nplease")
    return 255 - image


def to_text(image: np.ndarray) -> str:
    return "not a picture"
