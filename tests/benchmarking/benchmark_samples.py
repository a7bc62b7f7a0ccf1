"""The golden benchmark: its transforms, written as formulas, and its dataset of ten photos."""

import functools
import json
from pathlib import Path

import cv2
import numpy as np

from conftest import PHOTOS, ROOT
from neardup.benchmarking import BenchmarkImageDataset
from neardup.hashers import Hasher, parse


def noise(image: np.ndarray) -> np.ndarray:
    r, c, k = np.ogrid[: image.shape[0], : image.shape[1], :3]
    return np.clip(image.astype(int) + (97 * r + 57 * c + 31 * k + r * c) % 101 - 50, 0, 255).astype(np.uint8)


def half(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)


TRANSFORMS = {
    "flip": lambda image: image[:, ::-1],
    "noop": lambda image: image,
    "dark": lambda image: {"image": image // 2},  # as albumentations answers
    "half": half,
    "noise": noise,
}


@functools.cache
def golden() -> dict:
    return json.loads((ROOT / "tests/golden/benchmarking.json").read_text())


def golden_hashers() -> dict[str, Hasher]:
    return {name: parse(spec) for name, spec in golden()["hashers"].items()}


def ten_photos() -> BenchmarkImageDataset:
    return BenchmarkImageDataset.from_tuples([(path, category_of(path)) for path in PHOTOS])


def category_of(path: Path) -> str:
    return "odd" if int(path.stem.removeprefix("image")) % 2 else "even"
