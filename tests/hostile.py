"""A hasher that some items make crash, hang, exhaust its memory or fail: chosen by their first pixel."""

import ctypes
import fcntl
import os
import stat
import struct
import time
from pathlib import Path

import msgpack
import numpy as np

from neardup.hashers import Hasher

CRASH, HANG, EXHAUST, FAIL, SLOW = (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (7, 0, 0)
FORGE, GARBLE = (5, 0, 0), (6, 0, 0)  # as code that has taken the child over might: into the pipe of its answers
ONCE = "NEARDUP_TEST_ONCE"  # names a file: only while it is not there, and it is made


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
            held.append(np.empty(64 << 20, np.uint8))  # not written to: pages would take seconds on a busy machine
        if mark == SLOW:
            time.sleep(0.7)
        if mark == FAIL:
            raise ValueError("no such picture,\nplease")
        if mark in (FORGE, GARBLE) and _for_the_first_time():
            answer = [1_000_000, {"hashes": [[["r0", 0, None, bytes(8), 100, None]]] * 3}]
            message = msgpack.packb(answer) if mark == FORGE else b"\xc1\xc1"
            os.write(_pipe_of_answers(), struct.pack("<I", len(message)) + message)
        return image[:8, :8, 0] > 127


class Twin(Hostile):
    """The same under another name."""


class Slow(Hostile):
    """Takes its time over every picture."""

    def _compute(self, image: np.ndarray) -> np.ndarray:
        time.sleep(0.02)
        return super()._compute(image)


def _for_the_first_time() -> bool:
    once = os.environ.get(ONCE)
    if once and Path(once).exists():
        return False
    if once:
        Path(once).touch()
    return True


def _pipe_of_answers() -> int:
    files = [int(path.name) for path in Path("/proc/self/fd").iterdir() if int(path.name) > 2 and path.exists()]
    pipes = [file for file in files if stat.S_ISFIFO(os.fstat(file).st_mode)]
    return next(file for file in pipes if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY)
