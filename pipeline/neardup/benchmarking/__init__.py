"""How good is a hash: pictures or videos, what transforms make of them, their hashes, what a threshold finds.

dataset = BenchmarkImageDataset.from_tuples([(path, category), ...])
transformed = dataset.transform({"noop": "noop:256", "blur2": "blur:2", "mine": my_function}, "transformed")
hashes = transformed.compute_hashes({"phash": PHash(hash_size=16), "mine": MyHash()})
hashes.compute_threshold_recall(fpr_threshold=1e-4, grouping=["transform_name"])

Videos likewise: BenchmarkVideoDataset, transforms such as "clip" or "reencode:codec=vp9", video hashers.
"""

from neardup.benchmarking import image, image_transforms, video, video_transforms
from neardup.benchmarking.frames import BenchmarkError, ChangedFileError
from neardup.benchmarking.hashes import BenchmarkHashes
from neardup.benchmarking.image import BenchmarkImageDataset, BenchmarkImageTransforms, TransformError
from neardup.benchmarking.video import BenchmarkVideoDataset, BenchmarkVideoTransforms

__all__ = [
    "BenchmarkError",
    "BenchmarkHashes",
    "BenchmarkImageDataset",
    "BenchmarkImageTransforms",
    "BenchmarkVideoDataset",
    "BenchmarkVideoTransforms",
    "ChangedFileError",
    "TransformError",
    "image",
    "image_transforms",
    "video",
    "video_transforms",
]
