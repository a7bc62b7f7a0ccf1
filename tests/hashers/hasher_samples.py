"""The images that golden hashes exist for, and the golden hashes themselves."""

import base64
import functools
import json
from pathlib import Path

import numpy as np

from neardup.hashers import Hasher, tools

ROOT = Path(__file__).parents[2]
PHOTOS = tuple(f"image{n}.jpg" for n in range(1, 11))


@functools.cache
def golden() -> dict:
    return json.loads((ROOT / "tests/golden/image_hashes.json").read_text())


def golden_specs() -> list[str]:
    """The configurations that golden vectors exist for, those of ImageHash among them."""
    return [*golden()["hashers"], *json.loads((ROOT / "tests/golden/imagehash.json").read_text())["hashers"]]


def listed(hasher: Hasher, hashes: object) -> list:
    """The hashes of one image as a list, whether the hasher gives one or several."""
    return hashes if hasher.returns_multiple else [hashes]


def golden_bits(text: str) -> np.ndarray:
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))


def golden_floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


def photo_path(name: str) -> Path:
    return ROOT / "samples/perception" / name


@functools.cache
def image(name: str) -> np.ndarray:
    """A photo by its file name, or an array by the formula the golden file states, such as `F(64,48)`; read-only."""
    pixels = tools.read(photo_path(name)) if name in PHOTOS else _synthetic(name)
    pixels.setflags(write=False)
    return pixels


def _synthetic(name: str) -> np.ndarray:
    formula, _, arguments = name.rstrip(")").partition("(")
    numbers = [int(text) for text in arguments.split(",")]
    return _FORMULAS[formula](*numbers)


def _axes(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.arange(height)[:, None, None], np.arange(width)[None, :, None], np.arange(3)


def _f(height: int, width: int) -> np.ndarray:
    r, c, ch = _axes(height, width)
    return (((17 + ch) * r + (31 - 5 * ch) * c + (r * c) % (251 - 10 * ch) + 40 * ch) % 256).astype(np.uint8)


def _s(height: int, width: int) -> np.ndarray:
    r, c, ch = _axes(height, width)
    return ((abs(r * (3 + ch) // 2 - c) + r * c // (40 + 7 * ch) + 10 * ch) % 256).astype(np.uint8)


def _const(value: int, height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def _hramp(height: int, width: int) -> np.ndarray:
    row = np.round(255 * np.arange(width) / (width - 1)).astype(np.uint8)
    return _three(np.tile(row, (height, 1)))


def _vramp(height: int, width: int) -> np.ndarray:
    return np.ascontiguousarray(_hramp(width, height).swapaxes(0, 1))


def _square(height: int, width: int) -> np.ndarray:
    gray = np.zeros((height, width), np.uint8)
    gray[8:24, 8:24] = 255
    return _three(gray)


def _low_detail(height: int, width: int) -> np.ndarray:
    t = np.concatenate([np.arange(50), np.arange(49, -1, -1)])
    gray = (t[:, None] * t[None, :] * 255 / 2401).astype(np.uint8)
    gray[50:], gray[:, 50:] = 0, 0
    assert gray.shape == (height, width)
    return _three(gray)


def _three(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[..., None], 3, axis=2)


_FORMULAS = {
    "F": _f,
    "S": _s,
    "const": _const,
    "hramp": _hramp,
    "vramp": _vramp,
    "square": _square,
    "low_detail": _low_detail,
}
