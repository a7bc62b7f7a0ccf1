"""The bit-sliced scan: one query row against 512 reference rows at a time, every pair, exactly.

512 reference rows are stored transposed: bit k of all of them is one 512-bit register. For every three bits, what those
bits add to the distance (a sum bit and a carry bit) is looked up for the query's own three bits, so a query costs two
loads and two carry-save adders per three bits and 512 pairs. The counters start at 2**levels - 1 - radius: overflow
means "too far". Counting stops after the chunk of 24 bits at which all 512 are too far; those that survive the whole
prefix are counted in full. (Carry-save adders: Mula, Kurz, Lemire, "Faster population counts using AVX2", 2018.)
"""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding, ir
from numba import types
from numpy.typing import NDArray

from pipeline.joins.compiled import compiled, count_ones, emitted, lowest_one
from pipeline.joins.matches import Matches, in_order
from pipeline.joins.prefix import CHUNK_BITS, Prefix

BLOCK_ROWS = 512
TRIPLES = CHUNK_BITS // 3
SLICES = 10  # per triple: the sum bit for an even and an odd query, the carry bit for each of 8 queries
QUERY_ROWS = 128  # query rows whose offsets are kept ready; divides BLOCK_ROWS
LOOKUP_BYTES = 1 << 28  # build lookups for so many bytes of reference rows at a time


class Rows(NamedTuple):
    """Hashes as the scan reads them: whole rows of uint64 words, and their prefix bits, 24 to a uint32."""

    words: NDArray[np.uint64]
    prefix: NDArray[np.uint32]


class Job(NamedTuple):
    """What one call of the kernel compares: query rows up to `queries` with the reference rows `first` to `last`."""

    radius_bits: int
    chunks: int
    first_check: int
    queries: int
    first: int
    last: int
    upper: bool  # a self-join: only pairs with query < reference


class Shape(NamedTuple):
    """Types are what numba compiles for, so the shape of the machine code is told by the lengths of two tuples."""

    lanes: tuple[int, ...]  # 64-bit lanes per register: 8 with AVX-512's ternary logic, else 4
    levels: tuple[int, ...]  # bits of a counter; they hold a radius below 2**levels


def machine_shape(radius_bits: int) -> Shape:
    """The shape of the kernel for this CPU and radius; NEARDUP_PORTABLE=1 (for tests) keeps off AVX-512."""
    wide = binding.get_host_cpu_features().get("avx512f", False) and not os.environ.get("NEARDUP_PORTABLE")
    levels = next(levels for levels in (6, 8, 16, 32) if radius_bits < 2**levels)
    return Shape((0,) * (8 if wide else 4), (0,) * levels)


def scan(
    queries: Rows, references: Rows | None, radius_bits: int, prefix: Prefix, chunk_pairs: int
) -> Iterator[Matches]:
    """All matches of a query and a reference row, in chunks; without `references`, pairs i < j among the queries."""
    upper = references is None
    references = references or queries
    shape = machine_shape(radius_bits)
    room = max(chunk_pairs, BLOCK_ROWS)
    found = Matches(np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int32))
    n_references, count = len(references.words), 0
    step = max(1, LOOKUP_BYTES // (prefix.chunks * TRIPLES * SLICES * 64)) * BLOCK_ROWS
    for first in range(0, n_references, step):
        last = min(first + step, n_references)
        lookups = _aligned((-(-(last - first) // BLOCK_ROWS), prefix.chunks, TRIPLES, SLICES, 8))
        fill_lookups(references.prefix[first:last], lookups)
        limit = min(last, len(queries.words)) if upper else len(queries.words)
        job = Job(radius_bits, prefix.chunks, prefix.first_check, limit, first, last, upper)
        place = np.array([0, -1, 0], np.int64)
        while place[0] < limit:
            count = scan_blocks(queries, references.words, lookups, job, shape, found, place, count)
            if place[0] < limit:
                yield from _pieces(found, count, chunk_pairs)
                count = 0
    yield from _pieces(found, count, chunk_pairs)


def rows_with_prefix(words: NDArray[np.uint64], prefix: Prefix) -> Rows:
    """The rows with their prefix bits gathered."""
    gathered = np.zeros((len(words), (prefix.chunks + 1) // 2), np.uint64)
    gather_prefix(words, prefix.order, gathered)
    return Rows(words, gathered.view(np.uint32))


def _pieces(found: Matches, count: int, chunk_pairs: int) -> Iterator[Matches]:
    if count:
        matches = in_order(found.part(0, count))
        for start in range(0, count, chunk_pairs):
            yield matches.part(start, start + chunk_pairs)


def _aligned(shape: tuple[int, ...]) -> NDArray[np.uint64]:
    """Zeros that start at a multiple of 64 bytes."""
    size = int(np.prod(shape))
    raw = np.zeros(size + 8, np.uint64)
    start = (-raw.ctypes.data % 64) // 8
    return raw[start : start + size].reshape(shape)


@compiled
def _transpose(square: NDArray[np.uint64]) -> None:
    """Transpose 64 × 64 bits in place: bit c of word r becomes bit r of word c."""
    mask = np.uint64(0x00000000FFFFFFFF)
    half = 32
    while half:
        shift = np.uint64(half)
        for start in range(0, 64, 2 * half):
            for k in range(start, start + half):
                swap = ((square[k] >> shift) ^ square[k + half]) & mask
                square[k] ^= swap << shift
                square[k + half] ^= swap
        half >>= 1
        mask ^= mask << np.uint64(half)


@compiled
def gather_prefix(words: NDArray[np.uint64], order: NDArray[np.int64], gathered: NDArray[np.uint64]) -> None:
    """Bits `order` of each row, 24 to each half of the uint64 words of `gathered`."""
    n_rows, n_words = words.shape
    square = np.empty(64, np.uint64)
    slices = np.empty(n_words * 64, np.uint64)
    for start in range(0, n_rows, 64):
        rows = min(64, n_rows - start)
        for w in range(n_words):
            for r in range(rows):
                square[r] = words[start + r, w]
            square[rows:] = 0
            _transpose(square)
            slices[w * 64 : w * 64 + 64] = square
        for g in range(gathered.shape[1]):
            square[:] = 0
            for half in range(2):
                for k in range(24):
                    place = (2 * g + half) * 24 + k
                    if place < order.shape[0] and order[place] >= 0:
                        square[32 * half + k] = slices[order[place]]
            _transpose(square)
            for r in range(rows):
                gathered[start + r, g] = square[r]


@compiled
def fill_lookups(prefix: NDArray[np.uint32], lookups: NDArray[np.uint64]) -> None:
    """What three bits of 512 rows add to the distance, for every chunk, triple and slice; 64 rows to each word."""
    n_blocks, n_chunks, n_triples, _, _ = lookups.shape
    n_rows = prefix.shape[0]
    square = np.empty(64, np.uint64)
    for block in range(n_blocks):
        for lane in range(8):
            start = block * 512 + lane * 64
            rows = max(0, min(64, n_rows - start))
            for c in range(n_chunks):
                for r in range(rows):
                    square[r] = prefix[start + r, c]
                square[rows:] = 0
                _transpose(square)
                for t in range(n_triples):
                    x, y, z = square[3 * t], square[3 * t + 1], square[3 * t + 2]
                    lookups[block, c, t, 0, lane] = x ^ y ^ z
                    lookups[block, c, t, 1, lane] = ~(x ^ y ^ z)
                    for pattern in range(4):
                        p = ~x if pattern & 1 else x
                        q = ~y if pattern & 2 else y
                        carry = (p & q) | (z & (p ^ q))
                        lookups[block, c, t, 2 + pattern, lane] = carry
                        lookups[block, c, t, 9 - pattern, lane] = ~carry


@compiled
def fill_offsets(prefix: NDArray[np.uint32], start: int, stop: int, offsets: NDArray[np.uint16]) -> None:
    """For the rows start to stop, per triple the byte offsets of their sum slice and of their carry slice."""
    n_chunks = offsets.shape[1]
    for row in range(start, stop):
        for c in range(n_chunks):
            bits = prefix[row, c]
            for t in range(8):
                pattern = (bits >> np.uint32(3 * t)) & np.uint32(7)
                odd = (pattern ^ (pattern >> np.uint32(1)) ^ (pattern >> np.uint32(2))) & np.uint32(1)
                offsets[row - start, c, t, 0] = np.uint16(odd * np.uint32(64))
                offsets[row - start, c, t, 1] = np.uint16(np.uint32(128) + pattern * np.uint32(64))


class _Adder:
    """Emits carry-save adders: `push` a vector of weight 2**level; `settle` leaves one vector per level."""

    def __init__(self, builder: ir.IRBuilder, counters: list[ir.Value], overflow: ir.Value) -> None:
        self.builder = builder
        self.vector = overflow.type
        self.pending = [[counter] for counter in counters]
        self.overflow = overflow

    def push(self, level: int, value: ir.Value) -> None:
        if level == len(self.pending):
            self.overflow = self.builder.or_(self.overflow, value)
        else:
            self.pending[level].append(value)

    def settle(self) -> list[ir.Value]:
        for level, values in enumerate(self.pending):
            values.append(values.pop(0))  # the counter last: all before it is independent of earlier chunks
            while len(values) >= 3:
                x, y, z = values[:3]
                self.push(level + 1, self._ternary(x, y, z, 0xE8))
                values[:3] = []
                values.append(self._ternary(x, y, z, 0x96))
            if len(values) == 2:
                x, y = values
                self.push(level + 1, self.builder.and_(x, y))
                values[:] = [self.builder.xor(x, y)]
        return [values[0] for values in self.pending]

    def _ternary(self, x: ir.Value, y: ir.Value, z: ir.Value, table: int) -> ir.Value:
        b = self.builder
        if self.vector.count == 8:
            kind = ir.FunctionType(self.vector, [self.vector, self.vector, self.vector, ir.IntType(32)])
            function = b.module.declare_intrinsic("llvm.x86.avx512.pternlog.q.512", fnty=kind)
            return b.call(function, [x, y, z, ir.Constant(ir.IntType(32), table)])
        differ = b.xor(x, y)
        if table == 0x96:
            return b.xor(differ, z)
        return b.or_(b.and_(x, y), b.and_(differ, z))


@emitted
def next_survivors(
    _context: Any, _lookups: Any, _offsets: Any, _count: Any, job: Any, _survivors: Any, shape: Any
) -> Any:
    """The first of `count` query rows with surviving reference rows, left as ones in `survivors`; `count` if none has.

    `lookups`, `offsets` and `survivors` are addresses: of this block's lookups, of the first row's offsets, of 8 words.
    """
    i64, i32, i16 = ir.IntType(64), ir.IntType(32), ir.IntType(16)
    n_lanes, n_levels = (field.count for field in shape.types)
    vector = ir.VectorType(i64, n_lanes)
    chunk_bytes, offset_bytes = TRIPLES * SLICES * 64, TRIPLES * 4
    signature = types.int64(types.uint64, types.uint64, types.int64, job, types.uint64, shape)

    def number(value: int) -> ir.Constant:
        return ir.Constant(i64, value)

    def write(_context: Any, b: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        lookups, offsets, count, job_value, survivors, _ = arguments
        radius, chunks, first_check = (b.extract_value(job_value, place) for place in range(3))
        ones = ir.Constant(vector, [-1] * n_lanes)
        zeros = ir.Constant(vector, [0] * n_lanes)

        def load(base: ir.Value, kind: ir.Type, extra: int, align: int) -> ir.Value:
            value = b.load(b.inttoptr(b.add(base, number(extra)), kind.as_pointer()))
            value.align = align
            return value

        def everywhere(bit: ir.Value) -> ir.Value:
            first = b.insert_element(zeros, b.sub(number(0), bit), ir.Constant(i32, 0))
            return b.shuffle_vector(first, zeros, ir.Constant(ir.VectorType(i32, n_lanes), [0] * n_lanes))

        room = b.sub(number(2**n_levels - 1), radius)
        start = [everywhere(b.and_(b.lshr(room, number(level)), number(1))) for level in range(n_levels)]
        entry = b.block
        names = ("head", "row", "chunk", "look", "far", "some", "keep", "onward", "done")
        head, row, chunk, look, far, some, keep, onward, done = (b.append_basic_block(f"scan_{name}") for name in names)
        b.branch(head)

        b.position_at_end(head)
        query = b.phi(i64)
        query.add_incoming(number(0), entry)
        b.cbranch(b.icmp_signed("<", query, count), row, done)

        b.position_at_end(row)
        row_offsets = b.add(offsets, b.mul(query, b.mul(chunks, number(offset_bytes))))
        b.branch(chunk)

        b.position_at_end(chunk)
        place = b.phi(i64)
        place.add_incoming(number(0), row)
        counters = [b.phi(vector) for _ in range(n_levels)]
        overflow = b.phi(vector)
        for phi, value in zip([*counters, overflow], [*start, zeros], strict=True):
            phi.add_incoming(value, row)
        table = b.add(lookups, b.mul(place, number(chunk_bytes)))
        pointers = b.add(row_offsets, b.mul(place, number(offset_bytes)))
        adder = _Adder(b, counters, overflow)
        for triple in range(TRIPLES):
            for level in range(2):
                offset = b.zext(load(pointers, i16, triple * 4 + level * 2, 2), i64)
                adder.push(level, load(b.add(table, offset), vector, triple * SLICES * 64, 8 * n_lanes))
        counted = adder.settle()
        following = b.add(place, number(1))
        b.cbranch(b.icmp_signed(">=", following, first_check), look, onward)

        b.position_at_end(look)
        near = b.bitcast(b.icmp_signed("!=", adder.overflow, ones), ir.IntType(n_lanes))
        b.cbranch(b.icmp_signed("==", near, ir.Constant(near.type, 0)), far, some)

        b.position_at_end(some)
        b.cbranch(b.icmp_signed("==", following, chunks), keep, onward)

        b.position_at_end(onward)
        place.add_incoming(following, onward)
        for phi, value in zip([*counters, overflow], [*counted, adder.overflow], strict=True):
            phi.add_incoming(value, onward)
        b.branch(chunk)

        b.position_at_end(far)
        query.add_incoming(b.add(query, number(1)), far)
        b.branch(head)

        b.position_at_end(keep)
        stored = b.store(b.not_(adder.overflow), b.inttoptr(survivors, vector.as_pointer()))
        stored.align = 8
        b.branch(done)

        b.position_at_end(done)
        return query

    return signature, write


@compiled
def scan_blocks(
    queries: Rows,
    references: NDArray[np.uint64],
    lookups: NDArray[np.uint64],
    job: Job,
    shape: Shape,
    found: Matches,
    place: NDArray[np.int64],
    count: int,
) -> int:
    """Fill `found` from `count` on and return the new count.

    `place` (first row of the query batch, strip of reference rows, query row) says where to go on when the room has run
    out; its first entry reaches `job.queries` when all is done.
    """
    words = queries.words
    found_i, found_j, found_distance = found.i, found.j, found.distance
    n_words = words.shape[1]
    lanes = len(shape.lanes)
    strip_rows = 64 * lanes
    parts = 8 // lanes
    strips = (job.last - job.first + strip_rows - 1) // strip_rows
    offsets = np.empty((QUERY_ROWS, job.chunks, 8, 2), np.uint16)
    offsets_row_bytes = job.chunks * 32
    block_bytes = lookups.strides[0]
    survivors = np.zeros(8, np.uint64)
    start, strip, row = place
    while start < job.queries:
        stop = min(start + QUERY_ROWS, job.queries)
        fill_offsets(queries.prefix, start, stop, offsets)
        if strip < 0:
            strip = max(0, (start - job.first) // strip_rows) if job.upper else 0
            row = start
        while strip < strips:
            table = lookups.ctypes.data + (strip // parts) * block_bytes + (strip % parts) * lanes * 8
            base = job.first + strip * strip_rows
            while True:
                pointers = offsets.ctypes.data + (row - start) * offsets_row_bytes
                row += next_survivors(table, pointers, stop - row, job, survivors.ctypes.data, shape)
                if row >= stop:
                    break
                if found_i.shape[0] - count < strip_rows:
                    place[0], place[1], place[2] = start, strip, row
                    return count
                for lane in range(lanes):
                    left = survivors[lane]
                    while left != np.uint64(0):
                        other = base + 64 * lane + lowest_one(left)
                        left &= left - np.uint64(1)
                        if other < job.last and (other > row or not job.upper):
                            distance = 0
                            for w in range(n_words):
                                distance += count_ones(words[row, w] ^ references[other, w])
                            if distance <= job.radius_bits:
                                found_i[count] = row
                                found_j[count] = other
                                found_distance[count] = distance
                                count += 1
                row += 1
            strip += 1
            row = start
        start = stop
        strip = -1
    place[0] = start
    return count
