"""What is made of an image by transforms, and the hashes of that."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from neardup.errors import MediaError
from neardup.hashers import Hasher, Planes
from neardup.media import DecodePolicy, decode_image
from neardup.transforms import Pixels, encoded_png, parse, seed_of
from neardup.work.answers import Answer, HasherError, HashRow, blamed_on_hasher, failed, no_hash
from neardup.work.image import image_rows
from neardup.work.watch import DECODING, Watch


@dataclass(frozen=True)
class Altering:
    """What is made of each image before it is hashed; nothing when there are no transforms.

    The first transform is applied to the image, the others to what the first gave. Random draws depend on the item's
    bytes alone, so that a corpus that moved gives the same hashes.
    """

    transforms: tuple[str, ...] = ()
    encode: str = ""  # a transform that every result goes through, such as jpeg:95
    keep_images: bool = False  # send the altered pictures back, too

    @property
    def stamp(self) -> str:
        """What tells hashes of altered pictures from others: text, empty where nothing is altered."""
        encoded = f", each as {self.encode}" if self.encode else ""
        kept = ", kept" if self.keep_images else ""
        return f"altered by {' | '.join(self.transforms)}{encoded}{kept}" if self.transforms else ""

    def stages(self, hashers: Sequence[str]) -> list[str]:
        """What an image goes through after decoding, in order: each transform, then the hashers."""
        if not self.transforms:
            return [f"hasher {hasher}" for hasher in hashers]
        return [
            name
            for transform in self.transforms
            for name in (f"transform {transform}", *(f"hasher {hasher} after {transform}" for hasher in hashers))
        ]


def altered_answer(
    data: bytes, hashers: Sequence[Hasher], policy: DecodePolicy, altering: Altering, watch: Watch
) -> Answer:
    """Decode an image once and hash what each transform makes of it; a row's variant is the transform."""
    watch.enter(DECODING)
    try:
        image = decode_image(data, policy)
    except MediaError as error:
        return failed(error)
    height, width = image.pixels.shape[:2]
    answer = Answer(image.format, width, height, None, image.frame_count, image.partial, error=image.warning)
    answer.hashes = [[] for _ in hashers]
    seed = seed_of(hashlib.sha256(data).hexdigest())
    source: Pixels | None = image.pixels
    lost = ""
    for number, variant in enumerate(altering.transforms):
        first = number * (1 + len(hashers))
        picture, reason = None, lost or watch.skipped.get(first, "")
        if source is not None and not reason:
            watch.enter(first + 1)
            picture, reason = _altered(source, variant, altering, seed)
        if altering.keep_images:
            answer.images.append(None if picture is None else encoded_png(picture))
        if number == 0:
            source, lost = picture, f"the first transform failed: {reason}" if reason else ""
        planes = None if picture is None else Planes(picture)
        for stage, (hasher, rows) in enumerate(zip(hashers, answer.hashes, strict=True), first + 1):
            skipped = reason or watch.skipped.get(stage, "")
            if not skipped:
                watch.enter(stage + 1)
            found = [no_hash(skipped)] if planes is None or skipped else _rows(hasher, planes)
            rows += [row._replace(variant=variant) for row in found]
    return answer


_transform = cache(parse)


def _altered(source: Pixels, variant: str, altering: Altering, seed: int) -> tuple[Pixels | None, str]:
    """What a transform makes of a picture, or why it makes nothing: it may be anyone's code, as a hasher."""
    try:
        with blamed_on_hasher():
            return _transform("+".join(filter(None, (variant, altering.encode))))(source, seed), ""
    except HasherError as error:
        return None, str(error)


def _rows(hasher: Hasher, planes: Planes) -> list[HashRow]:
    try:
        return image_rows(hasher, planes, isometric=False)
    except HasherError as error:
        return [no_hash(str(error))]
