"""Transforms that change fine detail: filters, noise, lossy encoders."""

from typing import Annotated

import cv2
import numpy as np
import PIL.Image
import PIL.ImageFilter

from neardup import media
from neardup.errors import PolicyError
from neardup.transforms.geometry import resized
from neardup.transforms.pixels import Pixels, as_pixels, rounded
from neardup.transforms.spec import Bounds

Quality = Annotated[int, Bounds(1, 100)]
_LONGEST_SIDE = {".jpg": 65_500, ".webp": 16_383, ".png": 1_000_000}


def blur(image: Pixels, sigma: Annotated[float, Bounds(0.01, 1000)] = 2) -> Pixels:
    """Gaussian blur of this standard deviation in pixels."""
    return as_pixels(cv2.GaussianBlur(image, (0, 0), sigma))


def median(image: Pixels, radius: Annotated[int, Bounds(1, 100)] = 2) -> Pixels:
    """Each pixel the median of the square of this radius around it."""
    return as_pixels(cv2.medianBlur(image, 2 * radius + 1))


def motion_blur(image: Pixels, length: Annotated[int, Bounds(1, 1000)] = 15) -> Pixels:
    """Each pixel the mean of so many beside it, as of a camera that moved sideways."""
    return as_pixels(cv2.blur(image, (length, 1)))


def sharpen(
    image: Pixels, amount: Annotated[float, Bounds(0, 20)] = 2, radius: Annotated[float, Bounds(0.1, 100)] = 2
) -> Pixels:
    """The difference from its blurred self added `amount` times (unsharp mask)."""
    mask = PIL.ImageFilter.UnsharpMask(radius, percent=round(100 * amount), threshold=0)
    return as_pixels(PIL.Image.fromarray(image).filter(mask))


def pixelate(image: Pixels, block: Annotated[int, Bounds(1, 1000)] = 8) -> Pixels:
    """Squares of so many pixels a side, each of one colour."""
    height, width = image.shape[:2]
    small = resized(image, 1 / block)
    return as_pixels(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST))


def noise(
    image: Pixels, rng: np.random.Generator, scale: Annotated[float, Bounds(0, 4)] = 0.2, per_channel: bool = False
) -> Pixels:
    """Gaussian noise whose standard deviation is `scale` of white, the same in all channels or not."""
    shape = image.shape if per_channel else (*image.shape[:2], 1)
    return rounded(image + np.float32(255 * scale) * rng.standard_normal(shape, np.float32))


def salt_pepper(image: Pixels, rng: np.random.Generator, fraction: Annotated[float, Bounds(0, 1)] = 0.05) -> Pixels:
    """So large a share of the pixels black or white."""
    chance = rng.random(image.shape[:2], np.float32)
    result = image.copy()
    result[chance < fraction] = 0
    result[chance < fraction / 2] = 255
    return result


def jpeg(image: Pixels, quality: Quality = 95) -> Pixels:
    """What is left after encoding as a JPEG of this quality."""
    return media.decode_image(encoded(image, ".jpg", cv2.IMWRITE_JPEG_QUALITY, quality)).pixels


def webp(image: Pixels, quality: Quality = 80) -> Pixels:
    """What is left after encoding as a lossy WebP of this quality."""
    return media.decode_image(encoded(image, ".webp", cv2.IMWRITE_WEBP_QUALITY, quality)).pixels


def encoded(image: Pixels, suffix: str, setting: int, quality: int) -> bytes:
    """The file that a picture becomes. Raises `PolicyError` for one that is too long for the format."""
    longest = _LONGEST_SIDE[suffix]
    if max(image.shape[:2]) > longest:
        raise PolicyError(f"{max(image.shape[:2]):,} pixels a side do not fit into {suffix} (at most {longest:,})")
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (setting, quality))[1].tobytes()
