"""Transforms in whole-number NumPy: the same pixels in every environment, whatever its OpenCV.

For `neardup benchmark --transform blur=plain_transforms.blur` and for the reference, which takes them as callables.
They stand for those of the reference's documentation.
"""

import numpy as np


def noop(image):
    """As it is."""
    return image


def small(image):
    """Every k-th pixel, so that the longer side has at most 256."""
    step = -(-max(image.shape[:2]) // 256)
    return image[::step, ::step].copy()


def blur(image):
    """Twice the weights 1 4 6 4 1 along both sides."""
    values = image.astype(np.int64)
    for _ in range(2):
        for axis in (0, 1):
            padding = [(2, 2) if axis == side else (0, 0) for side in range(3)]
            padded = np.pad(values, padding, mode="edge")
            length = values.shape[axis]
            parts = [np.take(padded, np.arange(length) + shift, axis) for shift in range(5)]
            values = (parts[0] + 4 * parts[1] + 6 * parts[2] + 4 * parts[3] + parts[4] + 8) // 16
    return values.astype(np.uint8)


def gamma(image):
    """The square of each level."""
    levels = np.arange(256)
    return ((levels * levels + 127) // 255).astype(np.uint8)[image]


def coarse(image):
    """Squares of 4 pixels a side of one colour in 16 levels, as strong compression leaves them."""
    return (image[::4, ::4] // 16 * 16 + 8).repeat(4, 0).repeat(4, 1)[: image.shape[0], : image.shape[1]]


def watermark(image):
    """A dark bar with holes in the lower left corner."""
    result = image.copy()
    height, width = image.shape[:2]
    bar = result[height - height // 8 - height // 20 : height - height // 20, width // 20 : width // 20 + width // 3]
    bar[:, np.arange(bar.shape[1]) % 7 < 5] //= 5
    return result


def vignette(image):
    """Darker with the square of the distance to the centre."""
    height, width = image.shape[:2]
    y, x = np.ogrid[:height, :width]
    far = ((2 * y - height) ** 2 * 1000) // height**2 + ((2 * x - width) ** 2 * 1000) // width**2
    return (image * (3000 - far)[..., np.newaxis] // 3000).astype(np.uint8)


def pad(image):
    """Black bars above and below, each a fifth of the height."""
    bar = np.zeros((image.shape[0] // 5, *image.shape[1:]), np.uint8)
    return np.concatenate([bar, image, bar])


def crop(image):
    """Without a twentieth at each side."""
    height, width = image.shape[:2]
    return image[height // 20 : height - height // 20, width // 20 : width - width // 20].copy()


def noise(image):
    """The same grain on every picture, the product of a multiplication, 51 levels up or down at most."""
    y, x, channel = np.ogrid[: image.shape[0], : image.shape[1], :3]
    grain = ((y * 2654435761 + x * 40503 + channel * 69069) * 2246822519 >> 13) % 103 - 51
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def shear(image):
    """Each row moved by its height times 1/14, as a turn by four degrees moves it."""
    rows = [np.roll(row, (number - image.shape[0] // 2) // 14, axis=0) for number, row in enumerate(image)]
    return np.stack(rows)
