"""Sums of 16x16 pixels after a convolution, as OpenCV's float32 Fourier transforms round them, to the last bit.

`cv2.filter2D` convolves with a large kernel by transforms of 256x256 pixels. Where a hash asks whether two responses
that are equal but for rounding differ, the rounding is the answer; so what is added to what, and in which order, is
OpenCV's here (`modules/core/src/dxt.cpp`: radix 4, then 2; rows first, the inverse columns first). What differs is that
16 rows or columns are transformed at once, a lane of a vector each, and that only the rows asked for come back.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types

from neardup.compiled import compiled, emitted

_Float32 = npt.NDArray[np.float32]
_Float64 = npt.NDArray[np.float64]
_Indexes = npt.NDArray[np.int64]

SIDE, LANES = 256, 16
_HALF = SIDE // 2
_GROUPS = _HALF // LANES  # of 16 columns of the half spectrum
_PAIR = 2 * LANES  # a complex number of 16 lanes: the real parts, then the imaginary ones
_SCALE = np.float32(1 / SIDE**2)


# --- vectors ----------------------------------------------------------------------------------------------------------

_VECTOR, _DOUBLES = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.DoubleType(), LANES)


class _Writer:
    """Writes LLVM code on vectors of 16 floats that lie in the arrays given to an intrinsic."""

    def __init__(self, context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> None:
        self.builder = builder
        self.context, self.types, self.arguments = context, signature.args, arguments

    def at(self, argument: int, offset: ir.Value, more: int = 0) -> ir.Value:
        """Where the 16 floats from an offset on lie."""
        array = self.context.make_array(self.types[argument])(self.context, self.builder, self.arguments[argument])
        if more:
            offset = self.builder.add(offset, ir.Constant(offset.type, more))
        return self.builder.bitcast(self.builder.gep(array.data, [offset]), _VECTOR.as_pointer())

    def load(self, argument: int, offset: ir.Value, more: int = 0) -> ir.Value:
        return self.builder.load(self.at(argument, offset, more), align=4)

    def store(self, value: ir.Value, argument: int, offset: ir.Value, more: int = 0) -> None:
        self.builder.store(value, self.at(argument, offset, more), align=4)

    def complex(self, argument: int, offset: ir.Value) -> tuple[ir.Value, ir.Value]:
        return self.load(argument, offset), self.load(argument, offset, LANES)

    def store_complex(self, value: tuple[ir.Value, ir.Value], argument: int, offset: ir.Value) -> None:
        self.store(value[0], argument, offset)
        self.store(value[1], argument, offset, LANES)

    def spread(self, number: ir.Value) -> ir.Value:
        """The same number in all lanes."""
        one = self.builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))

    def wave(self, argument: int, turn: ir.Value) -> tuple[ir.Value, ir.Value]:
        """A root of unity out of an array of (re, im), the same in all lanes."""
        two = self.builder.shl(turn, ir.Constant(turn.type, 1))
        array = self.context.make_array(self.types[argument])(self.context, self.builder, self.arguments[argument])
        ends = [two, self.builder.add(two, ir.Constant(turn.type, 1))]
        re, im = (self.spread(self.builder.load(self.builder.gep(array.data, [end]))) for end in ends)
        return re, im

    def times(self, a: tuple[ir.Value, ir.Value], w: tuple[ir.Value, ir.Value]) -> tuple[ir.Value, ir.Value]:
        """The product of two complex numbers."""
        b = self.builder
        real = b.fsub(b.fmul(a[0], w[0]), b.fmul(a[1], w[1]))
        return real, b.fadd(b.fmul(a[0], w[1]), b.fmul(a[1], w[0]))

    def plus(self, a: tuple[ir.Value, ir.Value], c: tuple[ir.Value, ir.Value]) -> tuple[ir.Value, ir.Value]:
        return self.builder.fadd(a[0], c[0]), self.builder.fadd(a[1], c[1])

    def minus(self, a: tuple[ir.Value, ir.Value], c: tuple[ir.Value, ir.Value]) -> tuple[ir.Value, ir.Value]:
        return self.builder.fsub(a[0], c[0]), self.builder.fsub(a[1], c[1])


def _vector_code(write: Callable[[_Writer, list[ir.Value]], None]) -> Callable[..., Any]:
    """What numba's intrinsics give for code that writes into its arrays and returns nothing."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        write(_Writer(context, builder, signature, arguments), arguments)
        return context.get_dummy_value()

    return code


def _butterfly(writer: _Writer, offsets: list[ir.Value], factors: list[tuple[ir.Value, ir.Value]]) -> None:
    """The transform of four numbers in place; with factors w1, w2, w3 of all but the first."""
    x0, x1, x2, x3 = (writer.complex(0, offset) for offset in offsets)
    if factors:
        w1, w2, w3 = factors
        x1, x2, x3 = writer.times(x1, w2), writer.times(x2, w1), writer.times(x3, w3)
    even, odd = writer.plus(x0, x1), writer.minus(x0, x1)
    more, less = writer.plus(x2, x3), writer.minus(x2, x3)
    b = writer.builder
    writer.store_complex(writer.plus(even, more), 0, offsets[0])
    writer.store_complex((b.fadd(odd[0], less[1]), b.fsub(odd[1], less[0])), 0, offsets[1])
    writer.store_complex(writer.minus(even, more), 0, offsets[2])
    writer.store_complex((b.fsub(odd[0], less[1]), b.fadd(odd[1], less[0])), 0, offsets[3])


def _four_offsets(writer: _Writer, first: ir.Value, step: ir.Value) -> list[ir.Value]:
    offsets = [first]
    for _ in range(3):
        offsets.append(writer.builder.add(offsets[-1], step))
    return offsets


@emitted
def _four(_context: Any, numbers: Any, first: Any, step: Any) -> Any:
    """The transform of four numbers at first, first + step, ..., in place."""

    def write(writer: _Writer, given: list[ir.Value]) -> None:
        _butterfly(writer, _four_offsets(writer, given[1], given[2]), [])

    return types.void(numbers, first, step), _vector_code(write)


@emitted
def _four_turned(_context: Any, numbers: Any, first: Any, step: Any, waves: Any, turn: Any) -> Any:
    """The same of numbers that are turned by waves[turn], waves[2 · turn], waves[3 · turn] before."""

    def write(writer: _Writer, given: list[ir.Value]) -> None:
        factors, place = [], given[4]
        for _ in range(3):
            factors.append(writer.wave(3, place))
            place = writer.builder.add(place, given[4])
        _butterfly(writer, _four_offsets(writer, given[1], given[2]), factors)

    return types.void(numbers, first, step, waves, turn), _vector_code(write)


@emitted
def _two_turned(_context: Any, numbers: Any, first: Any, step: Any, waves: Any, turn: Any) -> Any:
    """The transform of two numbers in place, the second turned before."""

    def write(writer: _Writer, given: list[ir.Value]) -> None:
        second = writer.builder.add(given[1], given[2])
        x0, x1 = writer.complex(0, given[1]), writer.times(writer.complex(0, second), writer.wave(3, given[4]))
        writer.store_complex(writer.plus(x0, x1), 0, given[1])
        writer.store_complex(writer.minus(x0, x1), 0, second)

    return types.void(numbers, first, step, waves, turn), _vector_code(write)


@emitted
def _copy(_context: Any, source: Any, start: Any, target: Any, first: Any) -> Any:
    """Sixteen floats."""

    def write(writer: _Writer, given: list[ir.Value]) -> None:
        writer.store(writer.load(0, given[1]), 2, given[3])

    return types.void(source, start, target, first), _vector_code(write)


@emitted
def _copy_conjugate(_context: Any, source: Any, start: Any, target: Any, first: Any) -> Any:
    """A complex number with its imaginary part negated."""

    def write(writer: _Writer, given: list[ir.Value]) -> None:
        re, im = writer.complex(0, given[1])
        writer.store_complex((re, writer.builder.fneg(im)), 2, given[3])

    return types.void(source, start, target, first), _vector_code(write)


@emitted
def _part_real(_context: Any, numbers: Any, low: Any, high: Any, waves: Any, turn: Any) -> Any:
    """From the transform of 128 pairs, that of 256 numbers: frequencies k and 128 - k, in place; `turn` is k."""

    def write(writer: _Writer, given: list[ir.Value]) -> None:
        b, half = writer.builder, writer.spread(ir.Constant(ir.FloatType(), 0.5))
        low, high = writer.complex(0, given[1]), writer.complex(0, given[2])
        odd = b.fmul(half, b.fadd(low[1], high[1])), b.fmul(half, b.fsub(high[0], low[0]))
        even = b.fmul(half, b.fadd(low[0], high[0])), b.fmul(half, b.fsub(low[1], high[1]))
        odd = writer.times(odd, writer.wave(3, given[4]))
        writer.store_complex(writer.plus(even, odd), 0, given[1])
        writer.store_complex((b.fsub(even[0], odd[0]), b.fsub(odd[1], even[1])), 0, given[2])

    return types.void(numbers, low, high, waves, turn), _vector_code(write)


@emitted
def _join_real(
    _context: Any, source: Any, low: Any, high: Any, target: Any, to_low: Any, to_high: Any, waves: Any, turn: Any
) -> Any:
    """The inverse of `_part_real`, doubled, into another array."""

    def write(writer: _Writer, given: list[ir.Value]) -> None:
        b = writer.builder
        low, high = writer.complex(0, given[1]), writer.complex(0, given[2])
        w = writer.wave(6, given[7])
        even = b.fadd(low[0], high[0]), b.fsub(low[1], high[1])
        odd = b.fsub(low[0], high[0]), b.fadd(low[1], high[1])
        turned_re = b.fadd(b.fmul(odd[0], w[0]), b.fmul(odd[1], w[1]))
        turned_im = b.fsub(b.fmul(odd[1], w[0]), b.fmul(odd[0], w[1]))
        writer.store_complex((b.fsub(even[0], turned_im), b.fsub(b.fneg(even[1]), turned_re)), 3, given[4])
        writer.store_complex((b.fadd(even[0], turned_im), b.fsub(even[1], turned_re)), 3, given[5])

    return types.void(source, low, high, target, to_low, to_high, waves, turn), _vector_code(write)


@emitted
def _ends(_context: Any, numbers: Any, first: Any) -> Any:
    """(a, b) becomes (a + b, a - b)."""

    def write(writer: _Writer, given: list[ir.Value]) -> None:
        a, b = writer.complex(0, given[1])
        writer.store_complex((writer.builder.fadd(a, b), writer.builder.fsub(a, b)), 0, given[1])

    return types.void(numbers, first), _vector_code(write)


@emitted
def _join_ends(_context: Any, source: Any, start: Any, target: Any, first: Any) -> Any:
    """(a, b) becomes (a + b, b - a), elsewhere."""

    def write(writer: _Writer, given: list[ir.Value]) -> None:
        a, b = writer.complex(0, given[1])
        writer.store_complex((writer.builder.fadd(a, b), writer.builder.fsub(b, a)), 2, given[3])

    return types.void(source, start, target, first), _vector_code(write)


@emitted
def _join_middle(_context: Any, source: Any, start: Any, target: Any, first: Any) -> Any:
    """A complex number doubled, elsewhere."""

    def write(writer: _Writer, given: list[ir.Value]) -> None:
        number = writer.complex(0, given[1])
        writer.store_complex(writer.plus(number, number), 2, given[3])

    return types.void(source, start, target, first), _vector_code(write)


@emitted
def _correlate(_context: Any, source: Any, start: Any, kernel: Any, at: Any, target: Any, first: Any) -> Any:
    """The conjugate of a · conj(b), each part computed in float64 and rounded once."""

    def write(writer: _Writer, given: list[ir.Value]) -> None:
        b = writer.builder
        numbers = (*writer.complex(0, given[1]), *writer.complex(2, given[3]))
        a_re, a_im, k_re, k_im = (b.fpext(number, _DOUBLES) for number in numbers)
        re = b.fadd(b.fmul(a_re, k_re), b.fmul(a_im, k_im))
        im = b.fsub(b.fmul(a_im, k_re), b.fmul(a_re, k_im))
        writer.store_complex((b.fptrunc(re, _VECTOR), b.fneg(b.fptrunc(im, _VECTOR))), 4, given[5])

    return types.void(source, start, kernel, at, target, first), _vector_code(write)


@emitted
def _transpose(_context: Any, source: Any, start: Any, apart: Any, target: Any, first: Any, wide: Any) -> Any:
    """16x16 floats: vectors that lie `apart` become vectors that lie `wide`."""

    def write(writer: _Writer, given: list[ir.Value]) -> None:
        b = writer.builder
        rows, offset = [], given[1]
        for _ in range(LANES):
            rows.append(writer.load(0, offset))
            offset = b.add(offset, given[2])
        span = LANES // 2
        while span:  # each step swaps the off-diagonal squares of twice the side
            low = [lane + (LANES - span if lane & span else 0) for lane in range(LANES)]
            high = [lane + (LANES if lane & span else span) for lane in range(LANES)]
            masks = [ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes) for lanes in (low, high)]
            for row in range(LANES):
                if not row & span:
                    pair = rows[row], rows[row + span]
                    rows[row], rows[row + span] = (b.shuffle_vector(*pair, mask) for mask in masks)
            span //= 2
        offset = given[4]
        for row in rows:
            writer.store(row, 3, offset)
            offset = b.add(offset, given[5])

    return types.void(source, start, apart, target, first, wide), _vector_code(write)


# --- transforms -------------------------------------------------------------------------------------------------------


@functools.cache
def _waves() -> _Float32:
    """The 256th roots of unity, (re, im) each, with the rounding of the recurrence that OpenCV computes them by."""
    step = complex(0.99969881869620425, -0.02454122852291229)
    roots = np.zeros((SIDE, 2), np.float32)
    roots[0, 0], roots[_HALF, 0] = 1, -1
    re, im = step.real, step.imag
    for k in range(1, _HALF):
        roots[k] = re, im
        roots[SIDE - k] = re, -im
        re, im = re * step.real - im * step.imag, re * step.imag + im * step.real
    return roots


@functools.cache
def _bit_reversed() -> _Indexes:
    """Where each of 256 numbers goes before the transform; of 128, each is at twice its index."""
    return np.array([int(f"{k:08b}"[::-1], 2) for k in range(SIDE)], np.int64)


@compiled
def _transform(numbers: _Float32, count: int, waves: _Float32) -> None:
    """128 or 256 complex numbers of 16 lanes, in bit-reversed order, in place."""
    size, turn = 1, SIDE
    while size * 4 <= count:
        step, size, turn = size, size * 4, turn // 4
        for first in range(0, count, size):
            _four(numbers, first * _PAIR, step * _PAIR)
        for j in range(1, step):
            w = j * turn
            for first in range(j, count, size):
                _four_turned(numbers, first * _PAIR, step * _PAIR, waves, w)
    if size < count:
        for j in range(size):
            _two_turned(numbers, j * _PAIR, size * _PAIR, waves, 2 * j)


@compiled
def _real_forward(numbers: _Float32, waves: _Float32) -> None:
    """Frequencies 0 to 127 of 256 real numbers, given as pairs in bit-reversed order; 128 is the second part of 0."""
    _transform(numbers, _HALF, waves)
    _ends(numbers, 0)
    for k in range(1, _HALF // 2):
        _part_real(numbers, k * _PAIR, (_HALF - k) * _PAIR, waves, k)
    _copy_conjugate(numbers, _HALF // 2 * _PAIR, numbers, _HALF // 2 * _PAIR)


@compiled
def _real_inverse(spectrum: _Float32, numbers: _Float32, order: _Indexes, waves: _Float32) -> None:
    """256 real numbers, not scaled, as pairs of which the second is negated; `numbers` is another array."""
    _join_ends(spectrum, 0, numbers, 0)
    for k in range(1, _HALF // 2):
        low, high = order[2 * k], order[2 * (_HALF - k)]
        _join_real(spectrum, k * _PAIR, (_HALF - k) * _PAIR, numbers, low * _PAIR, high * _PAIR, waves, k)
    _join_middle(spectrum, _HALF // 2 * _PAIR, numbers, order[_HALF] * _PAIR)
    _transform(numbers, _HALF, waves)


@compiled
def _forward_rows(
    across: _Float32,
    width: int,
    corner: tuple[int, int],
    size: tuple[int, int],
    tables: tuple[_Indexes, _Float32],
    numbers: _Float32,
    half: _Float32,
) -> None:
    """Frequencies 0 to 127 of the rows of a tile, into `half`: group of 16 columns, row, part, column."""
    order, waves = tables
    top, left = corner
    height, columns = size
    for first in range(0, height, LANES):
        for x in range(columns):
            _copy(across, (left + x) * width + top + first, numbers, order[x & ~1] * _PAIR + (x & 1) * LANES)
        for x in range(columns, SIDE):
            numbers[order[x & ~1] * _PAIR + (x & 1) * LANES :][:LANES] = 0
        _real_forward(numbers, waves)
        for group in range(_GROUPS):
            for part in range(2):
                to = (group * SIDE + first) * _PAIR + part * LANES
                _transpose(numbers, group * LANES * _PAIR + part * LANES, _PAIR, half, to, _PAIR)


@compiled
def _forward_ends(half: _Float32, height: int, tables: tuple[_Indexes, _Float32], numbers: _Float32) -> _Float32:
    """The transforms of the columns of frequencies 0 and 128, in lanes 0 and 1 of `numbers`; their values before.

    They are real: a group of their own. Of what they become only frequencies 0 to 128 are used, and the others derived
    from them, which is not the same in float32.
    """
    order, waves = tables
    ends = np.zeros(SIDE * 2, np.float32)
    for row in range(height):
        ends[2 * row], ends[2 * row + 1] = half[row * _PAIR], half[row * _PAIR + LANES]
    numbers[:] = 0
    for row in range(height):
        for lane in range(2):
            numbers[order[row] * _PAIR + lane] = ends[2 * row + lane]
    _transform(numbers, SIDE, waves)
    return ends


@compiled
def _forward_columns(half: _Float32, start: int, tables: tuple[_Indexes, _Float32], numbers: _Float32) -> None:
    """The transforms of a group of columns, which begins at `start`."""
    order, waves = tables
    for row in range(SIDE):
        _copy(half, start + row * _PAIR, numbers, order[row] * _PAIR)
        _copy(half, start + row * _PAIR + LANES, numbers, order[row] * _PAIR + LANES)
    _transform(numbers, SIDE, waves)


@compiled
def _spectrum(across: _Float32, size: tuple[int, int], tables: tuple[_Indexes, _Float32], target: _Float32) -> None:
    """See `spectrum`."""
    numbers = np.empty(SIDE * _PAIR, np.float32)
    _forward_rows(across, size[0], (0, 0), size, tables, numbers, target)
    ends = _GROUPS * SIDE * _PAIR
    _forward_ends(target, size[0], tables, numbers)
    for row in range(_HALF + 1):
        for lane in range(2):
            target[ends + row * _PAIR + lane] = numbers[row * _PAIR + lane]
            if row % _HALF:
                target[ends + row * _PAIR + LANES + lane] = numbers[row * _PAIR + LANES + lane]
    for group in range(_GROUPS):
        start = group * SIDE * _PAIR
        _forward_columns(target, start, tables, numbers)
        for number in range(0, SIDE * _PAIR, LANES):
            _copy(numbers, number, target, start + number)
    for number in range(0, SIDE * _PAIR, LANES):  # frequency 0 is in the ends
        target[number] = 0


@compiled
def _block_sums(
    across: _Float32,
    width: int,
    corner: tuple[int, int],
    size: tuple[int, int],
    kernel: _Float32,
    wanted: npt.NDArray[np.bool_],
    tables: tuple[_Indexes, _Float32],
    sums: _Float64,
) -> None:
    """See `block_sums`; `across` is the transposed image as it lies in memory, its lines `width` long."""
    order, waves = tables
    height = size[0]
    numbers, more = np.empty(SIDE * _PAIR, np.float32), np.empty(SIDE * _PAIR, np.float32)
    half = np.zeros(_GROUPS * SIDE * _PAIR, np.float32)
    _forward_rows(across, width, corner, size, tables, numbers, half)
    ends = _forward_ends(half, height, tables, numbers)
    for row in range(_HALF + 1):
        at, mirrored = order[row] * _PAIR, order[-row] * _PAIR
        _correlate(numbers, row * _PAIR, kernel, (_GROUPS * SIDE + row) * _PAIR, more, at)
        if row % _HALF:
            _copy_conjugate(more, at, more, mirrored)
        else:
            more[at + LANES : at + _PAIR] = 0
    _transform(more, SIDE, waves)
    for row in range(SIDE):
        ends[2 * row], ends[2 * row + 1] = more[row * _PAIR], more[row * _PAIR + 1]
    for group in range(_GROUPS):
        start = group * SIDE * _PAIR
        _forward_columns(half, start, tables, numbers)
        for row in range(SIDE):
            _correlate(numbers, row * _PAIR, kernel, start + row * _PAIR, more, order[row] * _PAIR)
        _transform(more, SIDE, waves)
        for row in range(SIDE):
            _copy_conjugate(more, row * _PAIR, half, start + row * _PAIR)
    for row in range(SIDE):
        half[row * _PAIR], half[row * _PAIR + LANES] = ends[2 * row], ends[2 * row + 1]
    for block in range(sums.shape[0]):
        if wanted[block]:
            for group in range(_GROUPS):
                for part in range(2):
                    start = (group * SIDE + block * LANES) * _PAIR + part * LANES
                    _transpose(half, start, _PAIR, numbers, group * LANES * _PAIR + part * LANES, _PAIR)
            _real_inverse(numbers, more, order, waves)
            for column in range(sums.shape[1]):
                total = 0.0
                for pair in range(column * LANES // 2, (column + 1) * LANES // 2):
                    for lane in range(LANES):
                        total += np.float64(more[pair * _PAIR + lane] * _SCALE)
                        total -= np.float64(more[pair * _PAIR + LANES + lane] * _SCALE)
                sums[block, column] = total


def block_sums(
    across: _Float32, corner: tuple[int, int], size: tuple[int, int], kernel: _Float32, wanted: npt.NDArray[np.bool_]
) -> _Float64:
    """The sums of the 16x16 blocks of one tile of `cv2.filter2D`; rows of blocks that are not wanted mean nothing.

    `across` is the transposed image, float32, with a frame of 8 pixels; the tile of height x width pixels (multiples of
    16, at most 256) begins at `corner` (row, column) of it; `kernel` is a `spectrum`.
    """
    sums = np.zeros((size[0] // LANES - 1, size[1] // LANES - 1))
    _block_sums(across.ravel(), across.shape[1], corner, size, kernel, wanted, (_bit_reversed(), _waves()), sums)
    return sums


def spectrum(kernel: _Float32) -> _Float32:
    """The transform of a kernel of at most 17x17 pixels, in the order of `block_sums`.

    Not by `cv2.dft`: where OpenCV may use Intel's library, it rounds otherwise on other processors.
    """
    across = np.zeros((len(kernel), 2 * LANES), np.float32)
    across[:, : len(kernel)] = kernel.T
    packed = np.zeros((_GROUPS + 1) * SIDE * _PAIR, np.float32)
    _spectrum(across.ravel(), across.shape[::-1], (_bit_reversed(), _waves()), packed)
    return packed
