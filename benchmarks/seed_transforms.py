"""The ten transforms of the reference's documentation as OpenCV calls, for a Python that has neither imgaug nor us."""

import cv2
import numpy as np


def noop(image):
    """At most 256 pixels a side."""
    scale = 256 / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def watermark(image):
    """As in the documentation."""
    text = {"text": "TEST", "fontFace": cv2.FONT_HERSHEY_SIMPLEX}
    (width, height), _ = cv2.getTextSize(**text, fontScale=5, thickness=5)
    factor = 0.2 * image.shape[1] / width
    org = (int(height * factor), int(image.shape[0] - height * factor))
    layer = np.zeros((*image.shape[:2], 4), np.uint8)
    layer = cv2.putText(layer, **text, org=org, color=(0, 0, 0, 200), fontScale=5 * factor, thickness=5)
    layer = layer.astype(np.float32)
    return ((image.astype(np.float32) * (255 - layer[..., 3:]) + layer[..., :3] * layer[..., 3:]) / 255).astype(
        np.uint8
    )


def vignette(image):
    """As in the documentation."""
    height, width = image.shape[:2]
    light = cv2.getGaussianKernel(width, width / 2).T * cv2.getGaussianKernel(height, height / 2)
    return (image * (light / light.max())[..., np.newaxis]).astype(np.uint8)


def blur(image):
    """Gaussian, 2 pixels."""
    return cv2.GaussianBlur(image, (0, 0), 2)


def gamma(image):
    """Squared levels."""
    return cv2.LUT(image, np.rint(255 * (np.arange(256) / 255) ** 2).astype(np.uint8))


def jpeg(image):
    """What imgaug's strength 95 is: quality 7."""
    return cv2.imdecode(cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 7))[1], cv2.IMREAD_COLOR)


def pad(image):
    """A fifth of the height above and below."""
    bar = round(image.shape[0] * 0.2)
    return cv2.copyMakeBorder(image, bar, bar, 0, 0, cv2.BORDER_CONSTANT)


def crop(image):
    """A twentieth less at each side."""
    y, x = (round(side * 0.05) for side in image.shape[:2])
    return image[y : image.shape[0] - y, x : image.shape[1] - x].copy()


def noise(image):
    """Gaussian, a fifth of white, the same in all channels."""
    grain = np.random.default_rng(1).standard_normal((*image.shape[:2], 1), np.float32)
    return np.clip(image + 51 * grain, 0, 255).astype(np.uint8)


def rotate(image):
    """By 4 degrees."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), -4, 1)
    return cv2.warpAffine(image, turn, (width, height))
