"""Transforms that change the colour of each pixel and leave it where it is."""

from typing import Annotated

import cv2
import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps

from neardup.transforms.pixels import Pixels, as_pixels, rounded
from neardup.transforms.spec import Bounds

Factor = Annotated[float, Bounds(0, 16)]


def gamma(image: Pixels, gamma: Annotated[float, Bounds(0.01, 100)] = 2) -> Pixels:
    """Each level, as a fraction of white, to the power of `gamma`: above 1 is darker."""
    return as_pixels(cv2.LUT(image, rounded(255 * (np.arange(256) / 255) ** gamma)))


def brightness(image: Pixels, factor: Factor = 1.3) -> Pixels:
    """Each level times `factor`."""
    return as_pixels(PIL.ImageEnhance.Brightness(PIL.Image.fromarray(image)).enhance(factor))


def contrast(image: Pixels, factor: Factor = 1.5) -> Pixels:
    """The distance of each level from the mean grey times `factor`."""
    return as_pixels(PIL.ImageEnhance.Contrast(PIL.Image.fromarray(image)).enhance(factor))


def saturation(image: Pixels, factor: Factor = 1.5) -> Pixels:
    """The distance of each colour from its grey times `factor`."""
    return as_pixels(PIL.ImageEnhance.Color(PIL.Image.fromarray(image)).enhance(factor))


def hue(image: Pixels, degrees: Annotated[float, Bounds(-360, 360)] = 30) -> Pixels:
    """All hues turned by so many degrees of the colour circle."""
    planes = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    planes[..., 0] = (planes[..., 0].astype(np.int32) + round(degrees / 2)) % 180
    return as_pixels(cv2.cvtColor(planes, cv2.COLOR_HSV2RGB))


def grayscale(image: Pixels) -> Pixels:
    """The luma in all three channels."""
    return as_pixels(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))


def invert(image: Pixels) -> Pixels:
    """The negative."""
    return 255 - image


def equalize(image: Pixels) -> Pixels:
    """Levels spread so that all are about equally frequent, channel by channel."""
    return as_pixels(PIL.ImageOps.equalize(PIL.Image.fromarray(image)))


def posterize(image: Pixels, bits: Annotated[int, Bounds(1, 8)] = 3) -> Pixels:
    """Only the highest bits of each channel."""
    return as_pixels(PIL.ImageOps.posterize(PIL.Image.fromarray(image), bits))


def palette(image: Pixels, colors: Annotated[int, Bounds(2, 256)] = 32) -> Pixels:
    """Reduced to so many colours, as a GIF is."""
    picture = PIL.Image.fromarray(image).quantize(colors, dither=PIL.Image.Dither.NONE)
    return as_pixels(picture.convert("RGB"))
