"""Transforms that move pixels: sizes, cuts, frames, turns."""

from typing import Annotated, Literal

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

from neardup.transforms.pixels import Pixels, as_pixels, part, scaled
from neardup.transforms.spec import Bounds

Level = Annotated[int, Bounds(0, 255)]


def noop(image: Pixels, longer_side: Annotated[int, Bounds(0, 65_535)] = 0) -> Pixels:
    """The picture itself, or resized so that its longer side has so many pixels."""
    return resized(image, longer_side / max(image.shape[:2])) if longer_side else image.copy()


def resize(image: Pixels, scale: Annotated[float, Bounds(0.001, 16)] = 0.5) -> Pixels:
    """Both sides times `scale`."""
    return resized(image, scale)


def downscale(image: Pixels, scale: Annotated[float, Bounds(0.001, 1)] = 0.5) -> Pixels:
    """Made smaller by `scale` and back to the old size, so that detail is lost."""
    height, width = image.shape[:2]
    return to_size(resized(image, scale), width, height)


def aspect(image: Pixels, ratio: Annotated[float, Bounds(0.1, 10)] = 1.25) -> Pixels:
    """The width times `ratio`, the height as it was."""
    return to_size(image, scaled(image.shape[1], ratio), image.shape[0])


def crop(image: Pixels, fraction: Annotated[float, Bounds(0, 0.49)] = 0.05) -> Pixels:
    """Without `fraction` of the height at the top and the bottom, and of the width on the left and the right."""
    height, width = image.shape[:2]
    y, x = min(part(height, fraction), (height - 1) // 2), min(part(width, fraction), (width - 1) // 2)
    return image[y : height - y, x : width - x].copy()


def pad(
    image: Pixels,
    fraction: Annotated[float, Bounds(0, 4)] = 0.2,
    sides: Literal["vertical", "horizontal", "all"] = "vertical",
    level: Level = 0,
) -> Pixels:
    """Bars of `fraction` of that side's length: at the top and the bottom, at the left and the right, or all round."""
    y = 0 if sides == "horizontal" else part(image.shape[0], fraction)
    x = 0 if sides == "vertical" else part(image.shape[1], fraction)
    return framed(image, (y, y, x, x), level)


def border(image: Pixels, fraction: Annotated[float, Bounds(0, 4)] = 0.05, level: Level = 255) -> Pixels:
    """A frame of one width all round, `fraction` of the shorter side."""
    width = max(1, part(min(image.shape[:2]), fraction)) if fraction else 0
    return framed(image, (width, width, width, width), level)


def shift(image: Pixels, fraction: Annotated[float, Bounds(0, 1)] = 0.1, level: Level = 0) -> Pixels:
    """Moved down and to the right by `fraction` of each side; what leaves the picture is lost."""
    height, width = image.shape[:2]
    y, x = part(height, fraction), part(width, fraction)
    moved = framed(image[: height - y, : width - x], (y, 0, x, 0), level) if y < height and x < width else None
    return np.full_like(image, level) if moved is None else moved


def mirror_tile(
    image: Pixels, columns: Annotated[int, Bounds(1, 8)] = 2, rows: Annotated[int, Bounds(1, 8)] = 2
) -> Pixels:
    """The picture and its mirror images side by side, as tiles."""
    height, width = image.shape[:2]
    size = (0, (rows - 1) * height, 0, (columns - 1) * width)
    return as_pixels(cv2.copyMakeBorder(image, *size, cv2.BORDER_REFLECT))


def flip(image: Pixels, direction: Literal["horizontal", "vertical"] = "horizontal") -> Pixels:
    """Mirrored left to right, or top to bottom."""
    return (image[:, ::-1] if direction == "horizontal" else image[::-1]).copy()


def rotate90(image: Pixels, turns: Annotated[int, Bounds(-3, 3)] = 1) -> Pixels:
    """So many quarter turns, counter-clockwise."""
    return np.rot90(image, turns).copy()


def rotate(image: Pixels, degrees: Annotated[float, Bounds(-360, 360)] = 4, level: Level = 0) -> Pixels:
    """Turned clockwise about the centre, in a picture of the same size."""
    picture = PIL.Image.fromarray(image)
    return as_pixels(picture.rotate(-degrees, PIL.Image.Resampling.BILINEAR, fillcolor=(level,) * 3))


def shear(image: Pixels, degrees: Annotated[float, Bounds(-60, 60)] = 5, level: Level = 0) -> Pixels:
    """Leaning to the right by so many degrees about the centre, in a picture of the same size."""
    lean = float(np.tan(np.radians(degrees)))
    matrix = (1.0, lean, -lean * image.shape[0] / 2, 0.0, 1.0, 0.0)
    return _mapped(image, PIL.Image.Transform.AFFINE, matrix, level)


def perspective(
    image: Pixels, rng: np.random.Generator, fraction: Annotated[float, Bounds(0, 0.4)] = 0.05, level: Level = 0
) -> Pixels:
    """Seen from an angle: each corner moved by up to `fraction` of both sides, at random."""
    height, width = image.shape[:2]
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
    moved = corners + rng.uniform(-fraction, fraction, (4, 2)) * (width, height)
    return _mapped(image, PIL.Image.Transform.PERSPECTIVE, _homography(moved, corners), level)


def resized(image: Pixels, scale: float) -> Pixels:
    """Both sides times `scale`, at least one pixel each."""
    return to_size(image, scaled(image.shape[1], scale), scaled(image.shape[0], scale))


def to_size(image: Pixels, width: int, height: int) -> Pixels:
    """Resized by averaging areas where that makes it smaller, otherwise by cubic interpolation."""
    smaller = width <= image.shape[1] and height <= image.shape[0]
    return as_pixels(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC))


def framed(image: Pixels, widths: tuple[int, int, int, int], level: int) -> Pixels:
    """With bars of so many pixels: top, bottom, left, right."""
    return as_pixels(cv2.copyMakeBorder(image, *widths, cv2.BORDER_CONSTANT, value=(level,) * 3))


def _mapped(image: Pixels, kind: PIL.Image.Transform, numbers: tuple[float, ...], level: int) -> Pixels:
    picture = PIL.Image.fromarray(image)
    # Pillow and not OpenCV, whose remapping ends at 32,767 pixels a side
    return as_pixels(
        picture.transform(picture.size, kind, numbers, PIL.Image.Resampling.BILINEAR, fillcolor=(level,) * 3)
    )


def _homography(source: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """The eight numbers of the projective map that takes four points to four others."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        values += [u, v]
    return tuple(np.linalg.solve(np.array(rows), np.array(values)).tolist())
