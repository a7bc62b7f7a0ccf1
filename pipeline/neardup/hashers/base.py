"""What every hasher can do: compute, encode and compare hashes.

A hasher of one's own needs three class attributes and one method::

    class ShrinkHash(Hasher):
        hash_length, dtype, distance_metric = 64, "uint8", "euclidean"

        def _compute(self, image):
            return cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (8, 8)).flatten()
"""

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

import numpy as np

from neardup.errors import UsageError
from neardup.hashers import encoding
from neardup.hashers.area import Pixels
from neardup.hashers.encoding import Vector
from neardup.hashers.isometric import VARIANTS, isometric_arrays
from neardup.hashers.planes import Planes
from neardup.hashers.reading import ImageInput, to_image_array

DistanceMetric = Literal["hamming", "euclidean", "sqeuclidean", "cosine", "custom"]
Encoded = str | Vector | None
Hash = Encoded | list[Encoded]
Vectors = Vector | list[Vector] | None


class Record(TypedDict):
    """The outcome for one file: a hash (with isometric variants: one per variant) or an error."""

    filepath: str
    hash: Any
    error: str | None


class Hasher:
    """Turns an image into a vector; subclasses define the class attributes below and `_compute`.

    `hash_length` elements of `dtype` ("bool", "uint8" or "float32"), compared by `distance_metric` ("hamming": the
    fraction of differing elements, "euclidean", "sqeuclidean", "cosine", or "custom": the subclass's
    `_compute_distance`). `revision` rises with any change of one output bit.
    """

    hash_length: int
    dtype: str
    distance_metric: str
    takes: Literal["image", "video"] = "image"
    returns_multiple: bool = False
    allow_parallel: bool = True
    revision: int = 1

    # --- what a subclass defines ----------------------------------------------------------------------------------

    def _compute(self, image: Pixels) -> Vectors:
        """The hash of one image, shape (H, W, 3), uint8, RGB; None where the image has none."""
        raise NotImplementedError(f"{type(self).__name__} defines no _compute")

    def _compute_with_quality(self, image: Pixels) -> tuple[Vectors, int]:
        """The hash and the quality, 0 to 100."""
        return self._compute(image), Planes(image).quality

    def _compute_isometric(self, image: Pixels) -> dict[str, Vectors]:
        """The hashes of the eight isometric variants of one image."""
        if type(self)._compute_isometric_from_hash is not Hasher._compute_isometric_from_hash:
            vector = self._compute(image)
            if vector is None:
                return dict.fromkeys(VARIANTS)
            return dict(self._compute_isometric_from_hash(cast("Vector", vector)))
        return {variant: self._compute(pixels) for variant, pixels in isometric_arrays(image).items()}

    def _compute_isometric_from_hash(self, vector: Vector) -> dict[str, Vector]:
        """The hashes of the eight isometric variants, from the hash alone."""
        raise NotImplementedError("This hasher does not support hash rotation.")

    def _compute_distance(self, vector1: Vector, vector2: Vector) -> float:
        """The distance, where `distance_metric` is "custom"."""
        raise NotImplementedError(f"{type(self).__name__} has a custom distance metric but no _compute_distance")

    def _as_points(self, vector: Vector) -> Vector | None:  # noqa: ARG002
        """Where a custom distance is 1 - the inner product of two points, each made of one vector: that point.

        A join then compares such hashes by matrix products; without it, pair by pair with `_compute_distance`.
        """
        return None

    # --- several hashers on one image -----------------------------------------------------------------------------

    def hash_planes(self, planes: Planes) -> tuple[Vectors, int]:
        """The hash and the quality of an image whose derived planes are shared with other hashers."""
        if self._has_own_quality():
            return self._compute_with_quality(planes.rgb)
        return self._compute(planes.rgb), planes.quality

    def hash_planes_isometric(self, planes: Planes) -> tuple[dict[str, Vectors], int]:
        """The hashes of the eight isometric variants and the quality of an image with shared planes."""
        quality = self._compute_with_quality(planes.rgb)[1] if self._has_own_quality() else planes.quality
        return self._compute_isometric(planes.rgb), quality

    def _has_own_quality(self) -> bool:
        return type(self)._compute_with_quality is not Hasher._compute_with_quality

    # --- computing ------------------------------------------------------------------------------------------------

    def compute(self, image: ImageInput, hash_format: str = "base64") -> Hash:
        """The hash of an image: a string, a vector ("vector"), a list of them, or None where it has none."""
        return self._encode(self._compute(to_image_array(image)), hash_format)

    def compute_with_quality(self, image: ImageInput, hash_format: str = "base64") -> tuple[Hash, int]:
        """The hash of an image as `compute` gives it, and its quality, 0 to 100."""
        vectors, quality = self.hash_planes(Planes(to_image_array(image)))
        return self._encode(vectors, hash_format), quality

    def compute_isometric(self, image: ImageInput, hash_format: str = "base64") -> dict[str, Hash]:
        """The hashes of the eight isometric variants: r0, fv, fh, r180, r90, r90fv, r90fh, r270."""
        variants = self._compute_isometric(to_image_array(image))
        return {variant: self._encode(variants[variant], hash_format) for variant in VARIANTS}

    def compute_isometric_from_hash(
        self, hash_string_or_vector: str | Vector, hash_format: str = "base64"
    ) -> dict[str, Hash]:
        """The hashes of the eight isometric variants from the hash, where the hasher can (`NotImplementedError`)."""
        variants = self._compute_isometric_from_hash(self._decode(hash_string_or_vector, hash_format))
        return {variant: self._encode(variants[variant], hash_format) for variant in VARIANTS}

    def compute_parallel(
        self,
        filepaths: Sequence[str | Path],
        progress: Callable[..., Iterable[Any]] | None = None,
        progress_desc: str | None = None,
        max_workers: int = 5,
        isometric: bool = False,
    ) -> list[Record]:
        """One record per file, in the order given; a file that fails has a null hash and an error text.

        `progress` wraps the iteration as `tqdm` does: called with the iterable, `total` and `desc`.
        """
        for path in filepaths:
            if not isinstance(path, (str, os.PathLike)):
                raise UsageError(f"All images should be provided as paths, not {type(path).__name__}")
        if not self.allow_parallel and max_workers != 1:
            warnings.warn("This hash cannot be used in parallel. Setting max_workers to 1.", UserWarning, stacklevel=2)
            max_workers = 1
        work = self.compute_isometric if isometric else self.compute

        def record(path: str | Path) -> Record:
            # The one place of the library API where any failure becomes a record, as its callers expect.
            try:
                return {"filepath": cast("str", path), "hash": work(path), "error": None}
            except Exception as exc:
                return {"filepath": cast("str", path), "hash": None, "error": str(exc)}

        with ThreadPoolExecutor(max_workers=max_workers) as pool:
            records: Iterable[Record] = pool.map(record, filepaths)
            if progress is not None:
                records = progress(records, total=len(filepaths), desc=progress_desc)
            return list(records)

    # --- comparing and encoding -----------------------------------------------------------------------------------

    def compute_distance(self, hash1: str | Vector, hash2: str | Vector, hash_format: str = "base64") -> float:
        """The distance of two hashes, each a string in `hash_format` or a vector."""
        a, b = self._decode(hash1, hash_format), self._decode(hash2, hash_format)
        if self.distance_metric == "custom":
            return float(self._compute_distance(a, b))
        if a.shape != b.shape:
            raise UsageError(f"hashes of lengths {a.size} and {b.size} cannot be compared")
        if self.distance_metric == "hamming":
            return float(np.count_nonzero(a != b) / a.size)
        a, b = a.astype(np.float32), b.astype(np.float32)
        if self.distance_metric == "euclidean":
            return float(np.linalg.norm(a - b))
        if self.distance_metric == "sqeuclidean":
            return float(((a - b) ** 2).sum())
        if self.distance_metric == "cosine":
            return _cosine_distance(a, b)
        raise NotImplementedError(f"Distance metric: {self.distance_metric} not supported.")

    def string_to_vector(self, hash_string: str, hash_format: str = "base64") -> Vector:
        """The vector that an encoded hash of this hasher stands for."""
        return encoding.string_to_vector(hash_string, self.dtype, self.hash_length, hash_format)

    def vector_to_string(self, vector: Vector | None, hash_format: str = "base64") -> Encoded:
        """A vector of this hasher as base64 or hex; the format "vector" returns the vector in this hasher's dtype."""
        return encoding.vector_to_string(vector, self.dtype, hash_format)

    def pack(self, vector: Vector) -> bytes:
        """A vector as the bytes that tables hold; their `.hex()` is the hex format."""
        return encoding.pack(vector, self.dtype)

    def unpack(self, packed: bytes) -> Vector:
        """The vector that `pack` made bytes of."""
        return encoding.unpack(packed, self.dtype, self.hash_length)

    def _encode(self, vectors: Vectors, hash_format: str) -> Hash:
        if self.returns_multiple and vectors is not None:
            return [self.vector_to_string(vector, hash_format) for vector in vectors]
        return self.vector_to_string(cast("Vector | None", vectors), hash_format)

    def _decode(self, value: str | Vector, hash_format: str) -> Vector:
        if value is None:
            raise UsageError("a hash is None: this image has no hash, so it has no distance and no variants")
        if isinstance(value, str):
            return self.string_to_vector(value, "base64" if hash_format == "vector" else hash_format)
        return np.asarray(value)


class ImageHasher(Hasher):
    """A hasher of images: what `Hasher` is, under the name that the reference gives it."""


class PlanesHasher(ImageHasher):
    """A hasher that works from shared planes; subclasses define `_hash` instead of `_compute`."""

    def _hash(self, planes: Planes) -> Vector | None:
        raise NotImplementedError

    def _hash_isometric(self, planes: Planes) -> dict[str, Vectors]:
        """The hashes of the eight variants; by default those of the eight transformed arrays."""
        arrays = isometric_arrays(planes.rgb)
        return {v: self._hash(planes if v == "r0" else Planes(pixels)) for v, pixels in arrays.items()}

    def _quality(self, planes: Planes) -> int:
        return planes.quality

    def hash_planes(self, planes: Planes) -> tuple[Vectors, int]:
        """The hash and the quality of an image whose derived planes are shared with other hashers."""
        return self._hash(planes), self._quality(planes)

    def hash_planes_isometric(self, planes: Planes) -> tuple[dict[str, Vectors], int]:
        """The hashes of the eight isometric variants and the quality of an image with shared planes."""
        return self._hash_isometric(planes), self._quality(planes)

    def _compute(self, image: Pixels) -> Vectors:
        return self._hash(Planes(image))

    def _compute_with_quality(self, image: Pixels) -> tuple[Vectors, int]:
        return self.hash_planes(Planes(image))

    def _compute_isometric(self, image: Pixels) -> dict[str, Vectors]:
        return self._hash_isometric(Planes(image))


def _cosine_distance(a: Vector, b: Vector) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float("nan") if norms == 0 else 1.0 - float(a @ b) / norms
