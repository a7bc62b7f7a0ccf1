"""The benchmark of the reference's documentation on sample photos: its transforms, hashers and tables.

Transforms by imgaug are replaced by those of the catalogue. (imgaug's JpegCompression(95) means strong compression:
it stores with quality 7.)
"""

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from conftest import SAMPLES
from neardup import benchmarking, hashers, transforms

TRANSFORMS = {
    "blur2": "blur:sigma=2",
    "gamma2": "gamma:2",
    "jpeg95": "jpeg:quality=7",
    "pad0.2": "pad:0.2",
    "crop0.05": "crop:0.05",
    "noise0.2": "noise:0.2",
    "rotate4": "rotate:4",
    "noop": "noop:256",
}
# What the documentation's table says of 3,854 pictures, and how far 21 pictures may be from it.
EASY = ("blur2", "gamma2", "jpeg95", "watermark", "vignette")


def watermark(image: np.ndarray) -> np.ndarray:
    """A text a fifth of the width wide, nearly black, in the lower left corner."""
    thickness, font = 5, cv2.FONT_HERSHEY_SIMPLEX
    (width, height), _ = cv2.getTextSize("TEST", font, 5, thickness)
    factor = 0.2 * image.shape[1] / width
    layer = np.zeros((*image.shape[:2], 4), np.uint8)
    corner = (int(height * factor), int(image.shape[0] - height * factor))
    cv2.putText(layer, "TEST", corner, font, 5 * factor, (0, 0, 0, 200), thickness)
    colour, alpha = layer[..., :3].astype(np.float32), layer[..., 3:].astype(np.float32)
    return ((image.astype(np.float32) * (255 - alpha) + colour * alpha) / 255).astype(np.uint8)


def vignette(image: np.ndarray) -> np.ndarray:
    """Times a Gaussian half as wide as the picture."""
    rows, columns = (cv2.getGaussianKernel(length, length / 2) for length in image.shape[:2])
    light = columns.T * rows
    return (image * (light / light.max())[..., np.newaxis]).astype(np.uint8)


class ShrinkHash(hashers.Hasher):
    """The picture made 8 x 8 pixels."""

    hash_length = 64
    dtype = "uint8"
    distance_metric = "euclidean"

    def _compute(self, image: np.ndarray) -> np.ndarray:
        return cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dsize=(8, 8)).flatten()


HASHERS = {
    "ahash": hashers.AverageHash(hash_size=16),
    "dhash": hashers.DHash(hash_size=16),
    "pdq": hashers.PDQHash(),
    "phash": hashers.PHash(hash_size=16),
    "marrhildreth": hashers.MarrHildreth(),
    "wavelet": hashers.WaveletHash(hash_size=16),
    "blockmean": hashers.BlockMean(),
    "shrinkhash": ShrinkHash(),
}


@pytest.fixture(scope="module")
def hashes(tmp_path_factory: pytest.TempPathFactory) -> benchmarking.BenchmarkHashes:
    folder = str(tmp_path_factory.mktemp("benchmark") / "transformed")
    photos = sorted(str(path) for name in ("endless-sky", "scratch") for path in (SAMPLES / name).glob("*.jpg"))
    dataset = benchmarking.BenchmarkImageDataset.from_tuples(
        files=[(path, path.split(os.path.sep)[-2]) for path in photos]
    )
    named: dict[str, Callable] = {name: transforms.parse(text) for name, text in TRANSFORMS.items()}
    dataset.transform(
        transforms={"watermark": watermark, "vignette": vignette, **named}, storage_dir=folder, errors="raise"
    )
    transformed = benchmarking.BenchmarkImageTransforms.load(path_to_zip_or_directory=folder, verify_md5=False)
    assert len(transformed.df) == 10 * len(photos) == 210
    assert max(cv2.imread(str(Path(transformed.df.filepath[0]))).shape) == 256
    return transformed.compute_hashes(hashers=HASHERS)


def test_its_three_tables(hashes: benchmarking.BenchmarkHashes) -> None:
    metrics = hashes.compute_threshold_recall(fpr_threshold=1e-4).reset_index()
    columns = ["category", "transform_name", "hasher_name", "threshold", "recall", "fpr", "n_exemplars"]
    assert list(metrics.columns) == columns
    assert len(metrics) == 2 * 10 * 8
    assert set(metrics[metrics.category == "scratch"].n_exemplars) == {7}
    by_transform = hashes.compute_threshold_recall(grouping=["transform_name"], fpr_threshold=1e-4).reset_index()
    assert list(by_transform.columns) == columns[1:]
    assert len(by_transform) == 10 * 8
    assert set(by_transform.n_exemplars) == {21}
    simple = hashes.compute_threshold_recall(grouping=[], fpr_threshold=1e-4).reset_index()
    assert list(simple.columns) == columns[2:]
    assert simple.hasher_name.tolist() == sorted(HASHERS)
    assert set(simple.n_exemplars) == {210}


def test_they_read_like_those_of_the_documentation(hashes: benchmarking.BenchmarkHashes) -> None:
    recall = hashes.compute_threshold_recall(grouping=["transform_name"], fpr_threshold=1e-4).recall
    assert (recall["noop"] == 100).all()
    for transform in EASY:
        for hasher in ("pdq", "phash"):
            assert recall[transform, hasher] == 100, (transform, hasher)
    simple: pd.Series = hashes.compute_threshold_recall(grouping=[], fpr_threshold=1e-4).recall
    assert min(simple.pdq, simple.phash) > max(simple.ahash, simple.wavelet, simple.shrinkhash)
    assert recall["pad0.2"].max() < 100


def test_histograms_of_it(hashes: benchmarking.BenchmarkHashes) -> None:
    few = hashes.filter(hasher_name=["phash", "shrinkhash"])
    assert len(few.show_histograms(grouping=["transform_name"], fpr_threshold=1e-4).axes) == 20
