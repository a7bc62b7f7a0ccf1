"""Transforms that lay something on the picture or around it: marks, captions, stickers, a screen."""

from typing import Annotated, Literal

import cv2
import numpy as np
import numpy.typing as npt

from neardup.transforms.geometry import framed
from neardup.transforms.pixels import Pixels, part, rounded
from neardup.transforms.spec import Bounds

Fraction = Annotated[float, Bounds(0, 1)]
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def watermark(image: Pixels, size: Fraction = 0.3, opacity: Fraction = 0.8, text: str = "WATERMARK") -> Pixels:
    """A black text in the lower left corner, `size` of the width wide."""
    mask = np.zeros(image.shape[:2], np.uint8)
    _write(mask, text, part(image.shape[1], size), (0.02, 0.97), 255)
    return blended(image, np.zeros(3), mask, opacity)


def text(image: Pixels, rng: np.random.Generator, size: Fraction = 0.6, text: str = "NICE PICTURE") -> Pixels:
    """A white caption with a black outline, `size` of the width wide, at a random place."""
    result = image.copy()
    place = (float(rng.uniform(0, 1 - size)), float(rng.uniform(0.15, 0.95)))
    for level, bolder in ((0, 3), (255, 1)):
        _write(result, text, part(image.shape[1], size), place, level, bolder)
    return result


def vignette(image: Pixels, sigma: Annotated[float, Bounds(0.05, 100)] = 0.5) -> Pixels:
    """Darker towards the corners: times a Gaussian whose standard deviation is `sigma` of each side."""
    height, width = image.shape[:2]
    rows, columns = (cv2.getGaussianKernel(length, sigma * length, cv2.CV_32F) for length in (height, width))
    light = (rows / rows.max()) @ (columns / columns.max()).T
    return rounded(image * light[..., np.newaxis])


def overlay(image: Pixels, rng: np.random.Generator, size: Fraction = 0.3, opacity: Fraction = 1.0) -> Pixels:
    """A disc of a random colour at a random place, its diameter `size` of the shorter side, as a sticker is."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    centre = (int(rng.integers(width)), int(rng.integers(height)))
    cv2.circle(mask, centre, max(0, part(min(height, width), size / 2)), 255, cv2.FILLED)
    return blended(image, rng.integers(0, 256, 3), mask, opacity)


def cutout(image: Pixels, rng: np.random.Generator, size: Fraction = 0.3) -> Pixels:
    """A black rectangle at a random place, `size` of each side."""
    height, width = image.shape[:2]
    tall, wide = max(1, part(height, size)), max(1, part(width, size))
    y, x = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    result = image.copy()
    result[y : y + tall, x : x + wide] = 0
    return result


def screenshot(
    image: Pixels,
    bar: Annotated[float, Bounds(0, 2)] = 0.1,
    theme: Literal["light", "dark"] = "light",
) -> Pixels:
    """On a phone's screen: a bar with a clock above, a bar with three buttons below, each `bar` of the height."""
    paper, ink = (245, 20) if theme == "light" else (20, 235)
    height, width = image.shape[:2]
    tall = max(1, part(height, bar))
    result = framed(image, (tall, tall, 0, 0), paper)
    _write(result[:tall], "12:34", part(width, 0.15), (0.03, 0.75), ink)
    for button in range(3):
        centre = (width * (2 * button + 1) // 6, tall // 2)
        cv2.circle(result[tall + height :], centre, tall // 4, (ink,) * 3, max(1, tall // 16))
    return result


def blended(image: Pixels, colour: npt.ArrayLike, mask: npt.NDArray[np.uint8], opacity: float) -> Pixels:
    """One colour laid on the picture where a mask (height, width) is, 255 with the whole opacity, 0 to 1."""
    left, top, width, height = cv2.boundingRect(mask)
    box = slice(top, top + height), slice(left, left + width)
    share = (opacity * mask[box] / 255)[..., np.newaxis].astype(np.float32)
    result = image.copy()
    result[box] = rounded(image[box] * (1 - share) + np.asarray(colour, np.float32) * share)
    return result


def _write(
    canvas: npt.NDArray[np.uint8], words: str, width: int, place: tuple[float, float], level: int, bolder: int = 1
) -> None:
    """Write a text so many pixels wide into `canvas`, its lower left corner at these fractions of the sides."""
    (wide, _), _ = cv2.getTextSize(words, _FONT, 1, 1)
    scale = max(width, 1) / max(wide, 1)
    corner = (part(canvas.shape[1], place[0]), part(canvas.shape[0], place[1]))
    cv2.putText(canvas, words, corner, _FONT, scale, (level,) * 3, max(1, round(2 * scale)) * bolder, cv2.LINE_AA)
