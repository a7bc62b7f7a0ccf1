"""How good is a hash: pictures, what transforms make of them, their hashes, and what a threshold finds of them.

dataset = BenchmarkImageDataset.from_tuples([(path, category), ...])
transformed = dataset.transform({"noop": "noop:256", "blur2": "blur:2", "mine": my_function}, "transformed")
hashes = transformed.compute_hashes({"phash": PHash(hash_size=16), "mine": MyHash()})
hashes.compute_threshold_recall(fpr_threshold=1e-4, grouping=["transform_name"])
"""

from pipeline.benchmarking import image, image_transforms
from pipeline.benchmarking.frames import BenchmarkError, ChangedFileError
from pipeline.benchmarking.hashes import BenchmarkHashes
from pipeline.benchmarking.image import BenchmarkImageDataset, BenchmarkImageTransforms, TransformError

__all__ = [
    "BenchmarkError",
    "BenchmarkHashes",
    "BenchmarkImageDataset",
    "BenchmarkImageTransforms",
    "ChangedFileError",
    "TransformError",
    "image",
    "image_transforms",
]
