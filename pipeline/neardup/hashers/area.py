"""Resizing by area averaging, equal to OpenCV's in every pixel, several times as fast on large images.

OpenCV adds up float32 products pixel by pixel. Here the sums of whole pixels are integers and only the edges have
fractions, so the means are exact; they are rounded as OpenCV rounds them. Where a mean lies so close to a half that
OpenCV's float32 rounding might tip it, that one pixel is computed as OpenCV does.
"""

import functools
import sys
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Means = npt.NDArray[np.float64]
_Indexes = npt.NDArray[np.intp]

# Below this many pixels OpenCV's own resize is as fast.
_LARGE = 1 << 17
# Pixels per output from which on exact means are faster; OpenCV has a faster resize by whole numbers.
_SHRINK = 64
_SHRINK_WHOLE = 512
# With more doubtful pixels than this, OpenCV's own resize is as fast.
_MANY = 48
# Sums over columns of larger values than this need 64 bits.
_WIDE = 1 << 15
# OpenCV leaves out edge pixels with a smaller share than this.
_SMALLEST_SHARE = 1e-3


def area_resize(plane: Pixels, width: int, height: int) -> Pixels:
    """A plane, shape (H, W) or (H, W, C), uint8, resized by area averaging as `cv2.resize` with INTER_AREA does."""
    if not is_worth_it(plane, width, height):
        return _opencv_resize(plane, width, height)
    return rounded_means(plane, area_means(plane, width, height))


def rounded_means(plane: Pixels, means: Means) -> Pixels:
    """The area means of a plane rounded as OpenCV rounds them."""
    height, width = means.shape[:2]
    doubtful = np.argwhere(is_doubtful(means, plane.shape[1] / width, plane.shape[0] / height))
    if len(doubtful) > _MANY:
        return _opencv_resize(plane, width, height)
    small = np.rint(means).astype(np.uint8)
    for row, column, *channel in doubtful.tolist():
        single = plane[:, :, channel[0]] if channel else plane
        small[(row, column, *channel)] = opencv_pixel(single, (row, column), (width, height))
    return small


def area_means(plane: Pixels, width: int, height: int) -> Means:
    """The exact mean of the area under each output pixel, float64, for width <= W and height <= H."""
    rows, columns = edges(plane.shape[0], height), edges(plane.shape[1], width)
    lines = plane.reshape(plane.shape[0], -1)
    bands = [
        cv2.reduce(lines[first:stop], 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
        for first, stop in zip(rows.first, [*rows.first[1:], len(lines)], strict=True)
    ]
    # The sums of whole rows and the rows that an edge divides; both are summed along their columns, then combined.
    stacked = np.concatenate([*bands, lines[rows.first]])
    if plane.ndim == 3:
        stacked = np.ascontiguousarray(stacked.reshape(2 * height, plane.shape[1], -1).transpose(0, 2, 1))
    sums = _along_last(stacked, columns)
    whole, divided = sums[:height], sums[height:]
    shape = (height, *(1,) * (sums.ndim - 1))
    result = whole - rows.left.reshape(shape) * divided
    result[:-1] += rows.right.reshape(shape)[:-1] * divided[1:]
    result /= (plane.shape[0] / height) * (plane.shape[1] / width)
    return np.ascontiguousarray(result.transpose(0, 2, 1)) if plane.ndim == 3 else result


class Edges(NamedTuple):
    """Where an axis is cut: output k covers the pixels from first[k] to first[k + 1], less and plus parts of both.

    `left[k]` is the part of pixel first[k] that is not output k's, `right[k]` the part of pixel first[k + 1] that is.
    """

    first: _Indexes
    left: Means
    right: Means


@functools.lru_cache(maxsize=64)
def edges(length: int, outputs: int) -> Edges:
    """The cuts of `length` pixels into `outputs` equal parts, tiny parts left out as OpenCV leaves them out."""
    cuts = np.arange(outputs + 1, dtype=np.int64) * length
    first, part = cuts // outputs, (cuts % outputs) / outputs
    left = np.where(1 - part > _SMALLEST_SHARE, part, 1.0)[:-1]
    right = np.where(part > _SMALLEST_SHARE, part, 0.0)[1:]
    return Edges(first[:-1], left, right)


def is_doubtful(means: Means, scale_x: float, scale_y: float) -> npt.NDArray[np.bool_]:
    """Might float32 sums round a mean to another integer? The bound is half a unit in the last place per addition.

    That is at most 2^-24 of the sum so far, which grows to the mean, and at most 2^-25 of the range.
    """
    doubt = (scale_x + scale_y + 6) * np.minimum(means, 255 / 2) * 2.0**-24 + 255 * 2.0**-22
    doubtful: npt.NDArray[np.bool_] = np.abs(means - np.floor(means) - 0.5) < doubt
    return doubtful


def shrinks_unevenly(plane: Pixels, width: int, height: int) -> bool:
    """Is this a resize of a large plane by no whole numbers? OpenCV is slow at that alone."""
    rows, columns = plane.shape[:2]
    shrinks = width <= columns and height <= rows
    return shrinks and not _by_whole_numbers(plane, width, height) and rows * columns >= _LARGE


def is_worth_it(plane: Pixels, width: int, height: int) -> bool:
    """Are exact means faster than OpenCV's resize? They are for few outputs."""
    rows, columns = plane.shape[:2]
    shrink = _SHRINK_WHOLE if _by_whole_numbers(plane, width, height) else _SHRINK
    shrinks: bool = width <= columns and height <= rows
    return shrinks and rows * columns >= max(_LARGE, shrink * width * height)


def _by_whole_numbers(plane: Pixels, width: int, height: int) -> bool:
    """Does OpenCV take both scales for whole numbers? It computes them in float64, so not all that are."""
    scales = 1.0 / (height / plane.shape[0]), 1.0 / (width / plane.shape[1])
    return all(abs(scale - round(scale)) < sys.float_info.epsilon for scale in scales)


def block_sum_bounds(plane: Pixels, rows: range, columns: range, size: tuple[int, int]) -> tuple[float, float]:
    """The least and the greatest possible sum of the pixels of a block of the resized plane.

    `rows` and `columns` are those of the resized plane, whose (width, height) is `size`.
    """
    first_row, row_shares = _shares(plane.shape[0], size[1], rows)
    first_column, column_shares = _shares(plane.shape[1], size[0], columns)
    window = plane[first_row : first_row + row_shares.shape[1], first_column : first_column + column_shares.shape[1]]
    means = row_shares @ window.astype(np.float64) @ column_shares.T
    doubt = np.count_nonzero(is_doubtful(means, plane.shape[1] / size[0], plane.shape[0] / size[1]))
    total = float(np.rint(means).sum())
    return total - doubt, total + doubt


@functools.lru_cache(maxsize=32)
def _shares(length: int, outputs: int, chosen: range) -> tuple[int, Means]:
    """The first pixel under the chosen outputs, and the share that each of them has of the pixels from there on."""
    first, stop = chosen.start * length // outputs, -(-chosen.stop * length // outputs)
    pixel, output = np.arange(first, stop)[None, :] * outputs, np.arange(chosen.start, chosen.stop)[:, None] * length
    overlap = np.minimum(pixel + outputs, output + length) - np.maximum(pixel, output)
    return first, np.where(overlap > _SMALLEST_SHARE * outputs, overlap, 0) / length


def _along_last(values: npt.NDArray[np.int32], cuts: Edges) -> Means:
    """Integer sums between the cuts of the last axis, with the divided pixels' parts."""
    whole = np.add.reduceat(values, cuts.first, axis=-1, dtype=np.int64 if values.max() > _WIDE else np.int32)
    divided = values[..., cuts.first]
    sums: Means = whole - cuts.left * divided
    sums[..., :-1] += cuts.right[:-1] * divided[..., 1:]
    return sums


def _opencv_resize(plane: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def opencv_pixel(plane: Pixels, position: tuple[int, int], size: tuple[int, int]) -> int:
    """One output pixel by OpenCV's float32 sums, along the rows first, or integer sums for whole scales."""
    if _by_whole_numbers(plane, *size):
        high, wide = plane.shape[0] // size[1], plane.shape[1] // size[0]
        block = plane[position[0] * high :, position[1] * wide :][:high, :wide]
        return int(np.rint(np.float32(block.sum()) * np.float32(1 / (high * wide))))
    first_row, row_shares = _opencv_shares(plane.shape[0], size[1], position[0])
    first_column, column_shares = _opencv_shares(plane.shape[1], size[0], position[1])
    window = plane[first_row : first_row + len(row_shares), first_column : first_column + len(column_shares)]
    lines = np.add.accumulate(window.astype(np.float32) * column_shares, axis=1)[:, -1]
    return int(np.rint(np.add.accumulate(lines * row_shares)[-1]))


@functools.lru_cache(maxsize=1024)
def _opencv_shares(length: int, outputs: int, output: int) -> tuple[int, npt.NDArray[np.float32]]:
    """The first pixel under an output pixel, and the share of each, rounded as OpenCV rounds it."""
    scale = 1.0 / (outputs / length)
    start = output * scale
    stop = start + scale
    cell = min(scale, length - start)
    last = min(int(np.floor(stop)), length - 1)
    first = min(int(np.ceil(start)), last)
    shares = [np.float32(1.0 / cell)] * (last - first)
    if first - start > _SMALLEST_SHARE:
        shares.insert(0, np.float32((first - start) / cell))
        first -= 1
    if stop - last > _SMALLEST_SHARE:
        shares.append(np.float32(min(min(stop - last, 1.0), cell) / cell))
    return first, np.array(shares, np.float32)
