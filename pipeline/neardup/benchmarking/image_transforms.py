"""Transforms that need a picture of the user's own; those that do not are in `neardup.transforms`."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from neardup.errors import UsageError
from neardup.transforms import Pixels


def apply_watermark(watermark: npt.NDArray[Any], alpha: float = 1.0, size: float = 1.0) -> Callable[[Pixels], Pixels]:
    """A transform that adds a watermark (H, W, 4), RGBA, `alpha` times its levels, in the lower right corner.

    It is scaled to take at most `size` of both sides of the picture; where its own alpha is 0, nothing is added.
    """
    if watermark.ndim != 3 or watermark.shape[2] != 4:
        raise UsageError(f"Watermark must have an alpha channel: shape (height, width, 4), not {watermark.shape}")
    visible = np.where(watermark[..., 3:] > 0, watermark[..., :3], 0).astype(np.uint8)

    def transform(image: Pixels) -> Pixels:
        height, width = image.shape[:2]
        scale = size * min(height / visible.shape[0], width / visible.shape[1])
        tall, wide = int(scale * visible.shape[0]), int(scale * visible.shape[1])
        result = image.copy()
        if tall and wide:
            corner = result[max(height - tall, 0) :, max(width - wide, 0) :]
            mark = cv2.resize(visible, (wide, tall))[: corner.shape[0], : corner.shape[1]]
            corner[:] = cv2.addWeighted(mark, alpha, corner, 1.0, 0)
        return result

    return transform
