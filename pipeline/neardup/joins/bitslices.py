"""The bit-sliced scan: one query row against 512 reference rows at a time, exactly.

512 reference rows are stored transposed: bit k of all of them is one 512-bit register. For every four bits, what those
bits add to the count (a bit of weight one and a bit of weight two) is looked up for the query's own four bits, so a
query costs two loads and two carry-save adders per four bits and 512 pairs. Four differing bits of four are counted as
two, as two bits cannot say four: the count is never above the distance. The counters start at 2**levels - 1 - radius:
overflow means "too far". Counting stops after the chunk of 32 bits at which all 512 are too far; those that survive all
chunks are compared in full. (Carry-save adders: Mula, Kurz, Lemire, "Faster population counts using AVX2", 2018.)
"""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import numpy as np
from llvmlite import binding, ir
from numba import types
from numpy.typing import NDArray

from neardup.compiled import compiled, count_ones, emitted, lowest_one
from neardup.joins.crowds import Crowd
from neardup.joins.matches import Matches, in_order

BLOCK_ROWS = 512
LANES = BLOCK_ROWS // 64
CHUNK_BITS = 32
QUADS = CHUNK_BITS // 4
SLICES = 18  # per four bits: whether an odd number differs, for an even and an odd query; whether two or more, for each
QUERY_ROWS = 256
LOOKUP_BYTES = 1 << 22  # reference rows are taken by so many bytes of lookups at a time: they should stay in cache


class Table(NamedTuple):
    """Hashes in buckets: `words` (n, words), those of bucket k from `starts[k]` to `starts[k + 1]`.

    `rows` holds the number of each row in the caller's array.
    """

    words: NDArray[np.uint64]
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]


class Probe(NamedTuple):
    """Which buckets meet, and what is counted there.

    A bucket k meets k ^ mask for all `masks`. Counted are the 32 bits from each of `chunk_starts` on, disjoint. A pair
    that is within `earlier_radii[q]` on the bits `earlier_masks[q]` (words) was found before.
    """

    masks: NDArray[np.int64]
    chunk_starts: NDArray[np.int64]
    first_check: int  # chunks after which survivors are first looked for
    earlier_masks: NDArray[np.uint64]
    earlier_radii: NDArray[np.int64]


class Blocks(NamedTuple):
    """Reference rows cut into blocks of at most 512, each of one bucket: those of bucket k are `firsts[k]` and on."""

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    firsts: NDArray[np.int64]


class Job(NamedTuple):
    """Numbers for the kernel: the radius, chunks to count, the blocks at hand, and whether this is a self-join."""

    radius_bits: int
    chunks: int
    first_check: int
    first_block: int
    last_block: int
    itself: bool


class Work(NamedTuple):
    """All that one call of the kernel reads."""

    queries: Table
    references: Table
    blocks: Blocks
    lookups: NDArray[np.uint64]
    probe: Probe
    job: Job
    crowd: Crowd


class Shape(NamedTuple):
    """numba compiles for types, so the shape of the machine code is told by the lengths of two tuples."""

    lanes: tuple[int, ...]  # 64-bit lanes per register: 8 with AVX-512's ternary logic, else 4
    levels: tuple[int, ...]  # bits of a counter; they hold a radius below 2**levels


def machine_shape(radius_bits: int) -> Shape:
    """The shape of the kernel for this CPU and radius; NEARDUP_PORTABLE=1 (for tests) keeps off AVX-512."""
    wide = binding.get_host_cpu_features().get("avx512f", False) and not os.environ.get("NEARDUP_PORTABLE")
    levels = next(levels for levels in (6, 8, 16, 32) if radius_bits < 2**levels)
    return Shape((0,) * (8 if wide else 4), (0,) * levels)


class Buffers:
    """Memory that is used again from band to band: to get it anew costs more than to fill it."""

    def __init__(self, chunk_pairs: int) -> None:
        room = max(chunk_pairs, BLOCK_ROWS)
        self.chunk_pairs = chunk_pairs
        self.found = Matches(np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int32))
        self._words = np.empty(0, np.uint64)

    def lookups(self, n_blocks: int, n_chunks: int) -> NDArray[np.uint64]:
        """Room for the lookups of so many blocks, from a multiple of 64 bytes on, its values undefined."""
        size = n_blocks * n_chunks * QUADS * SLICES * 8
        if len(self._words) < size + 8:
            self._words = np.empty(size + size // 8 + 8, np.uint64)
        start = (-self._words.ctypes.data % 64) // 8
        return self._words[start : start + size].reshape(n_blocks, n_chunks, QUADS, SLICES, 8)


def scan(
    queries: Table, references: Table | None, probe: Probe, radius_bits: int, buffers: Buffers, crowd: Crowd
) -> Iterator[Matches]:
    """The matches between buckets that meet, in chunks; without `references`, of each pair of query rows once.

    Matches of two rows that are crowded by then are left out; all others are counted, whoever found them.
    """
    itself = references is None
    references = queries if references is None else references
    shape = machine_shape(radius_bits)
    found, count = buffers.found, 0
    blocks, chunks = cut_blocks(references.starts), len(probe.chunk_starts)
    n_blocks, n_buckets = len(blocks.starts), len(queries.starts) - 1
    step = max(1, LOOKUP_BYTES // (chunks * QUADS * SLICES * 64))
    for first in range(0, n_blocks, step):
        last = min(first + step, n_blocks)
        lookups = buffers.lookups(last - first, chunks)
        fill_lookups(references.words, blocks.starts[first:last], blocks.stops[first:last], probe.chunk_starts, lookups)
        job = Job(radius_bits, chunks, probe.first_check, first, last, itself)
        work = Work(queries, references, blocks, lookups, probe, job, crowd)
        place = np.array([0, -1, 0, -1, 0], np.int64)
        while place[0] < n_buckets:
            count = scan_buckets(work, shape, found, place, count)
            if place[0] < n_buckets:
                yield from _chunks(found, count, buffers.chunk_pairs)
                count = 0
    yield from _chunks(found, count, buffers.chunk_pairs)


def cut_blocks(starts: NDArray[np.int64]) -> Blocks:
    """The blocks of all buckets."""
    per_bucket = -(-np.diff(starts) // BLOCK_ROWS)
    firsts = np.concatenate([[0], np.cumsum(per_bucket)])
    place = np.arange(firsts[-1]) - np.repeat(firsts[:-1], per_bucket)
    block_starts = np.repeat(starts[:-1], per_bucket) + BLOCK_ROWS * place
    stops = np.minimum(block_starts + BLOCK_ROWS, np.repeat(starts[1:], per_bucket))
    return Blocks(block_starts, stops, firsts)


def _chunks(found: Matches, count: int, chunk_pairs: int) -> Iterator[Matches]:
    if count:
        matches = in_order(found.part(0, count))
        for start in range(0, count, chunk_pairs):
            yield matches.part(start, start + chunk_pairs)


def counted(differ: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the scan counts where these of eight bits differ: each of them, but two for all four of a quad."""
    uncounted = (differ >> 4 == 15).view(np.uint8) + (differ & 15 == 15).view(np.uint8)
    return cast("NDArray[np.uint8]", np.bitwise_count(differ) - 2 * uncounted)


@compiled
def straddling(word: np.uint64, following: np.uint64, first: int) -> np.uint64:
    """64 bits of two words from bit `first` % 64 of the first word on."""
    shift = np.uint64(first & 63)
    return (word >> shift) | ((following << np.uint64(1)) << (np.uint64(63) - shift))


@compiled
def transpose(square: NDArray[np.uint64]) -> None:
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
def reorder_bits(words: NDArray[np.uint64], order: NDArray[np.int64], reordered: NDArray[np.uint64]) -> None:
    """Bit k of each row of `reordered` is bit `order[k]` of the row of `words`; bits past the last are zero."""
    n_rows, n_words = words.shape
    square = np.empty(64, np.uint64)
    slices = np.empty(n_words * 64, np.uint64)
    for start in range(0, n_rows, 64):
        rows = min(64, n_rows - start)
        for w in range(n_words):
            for r in range(64):
                square[r] = words[start + r, w] if r < rows else np.uint64(0)
            transpose(square)
            for k in range(64):  # assigned as a slice, this would take numba two seconds to compile
                slices[w * 64 + k] = square[k]
        for w in range(reordered.shape[1]):
            for k in range(64):
                square[k] = slices[order[64 * w + k]] if 64 * w + k < order.shape[0] else np.uint64(0)
            transpose(square)
            for r in range(rows):
                reordered[start + r, w] = square[r]


@compiled
def fill_lookups(
    words: NDArray[np.uint64],
    block_starts: NDArray[np.int64],
    block_stops: NDArray[np.int64],
    chunk_starts: NDArray[np.int64],
    lookups: NDArray[np.uint64],
) -> None:
    """What four bits of the rows of a block add to the count, for every chunk, quad and slice; 64 rows a word.

    Rows that a block lacks are given the count 3 everywhere.
    """
    n_blocks, n_chunks = lookups.shape[0], lookups.shape[1]
    absent = np.empty(LANES, np.uint64)
    slices = np.empty((n_chunks * CHUNK_BITS, LANES), np.uint64)
    for block in range(n_blocks):
        slice_bits(words, block_starts[block], block_stops[block], chunk_starts, slices)
        for lane in range(LANES):
            rows = max(0, min(64, block_stops[block] - block_starts[block] - lane * 64))
            absent[lane] = ~np.uint64(0) << np.uint64(rows) if rows < 64 else np.uint64(0)
        for c in range(n_chunks):
            for t in range(QUADS):
                four = slices[(c * QUADS + t) * 4 : (c * QUADS + t) * 4 + 4]
                quad = lookups[block, c, t]
                for lane in range(LANES):
                    odd = four[0, lane] ^ four[1, lane] ^ four[2, lane] ^ four[3, lane]
                    quad[0, lane] = odd | absent[lane]
                    quad[1, lane] = ~odd | absent[lane]
                for pattern in range(16):
                    flip_w = np.uint64(0) - np.uint64(pattern & 1)
                    flip_x = np.uint64(0) - np.uint64(pattern >> 1 & 1)
                    flip_y = np.uint64(0) - np.uint64(pattern >> 2 & 1)
                    flip_z = np.uint64(0) - np.uint64(pattern >> 3)
                    for lane in range(LANES):
                        w, x = four[0, lane] ^ flip_w, four[1, lane] ^ flip_x
                        y, z = four[2, lane] ^ flip_y, four[3, lane] ^ flip_z
                        quad[2 + pattern, lane] = (w & x) | (y & z) | ((w | x) & (y | z)) | absent[lane]


@compiled
def slice_bits(
    words: NDArray[np.uint64], start: int, stop: int, chunk_starts: NDArray[np.int64], slices: NDArray[np.uint64]
) -> None:
    """The counted bits of the rows start to stop, transposed: word l of slice k is bit k of rows 64 l to 64 l + 63."""
    n_words, n_chunks = words.shape[1], chunk_starts.shape[0]
    square = np.empty(64, np.uint64)
    low = np.uint64((1 << CHUNK_BITS) - 1)
    for lane in range(slices.shape[1]):
        first = start + lane * 64
        rows = max(0, min(64, stop - first))
        for pair in range(0, n_chunks, 2):
            square[:] = 0
            for c in range(pair, min(pair + 2, n_chunks)):
                w, shift = chunk_starts[c] >> 6, np.uint64(32 * (c - pair))
                for r in range(rows):
                    following = words[first + r, w + 1] if w + 1 < n_words else np.uint64(0)
                    square[r] |= (straddling(words[first + r, w], following, chunk_starts[c]) & low) << shift
            if rows:
                transpose(square)
            for c in range(pair, min(pair + 2, n_chunks)):
                for k in range(CHUNK_BITS):
                    slices[c * CHUNK_BITS + k, lane] = square[32 * (c - pair) + k]


def _two_quads() -> NDArray[np.uint64]:
    """For 8 bits: the byte offsets of their slices, odd, two or more, odd, two or more, 16 bits each."""
    pattern = np.stack([np.arange(256) & 15, np.arange(256) >> 4], axis=1)
    odd = np.bitwise_count(pattern) & 1
    slices = np.stack([odd * 64, 128 + pattern * 64], axis=2).astype(np.uint16)
    return slices.reshape(256, 4).copy().view(np.uint64)[:, 0]


OFFSETS = _two_quads()


@compiled
def fill_offsets(
    words: NDArray[np.uint64], start: int, stop: int, chunk_starts: NDArray[np.int64], offsets: NDArray[np.uint64]
) -> None:
    """For the rows start to stop, per two quads the byte offsets of their slices."""
    for row in range(start, stop):
        for c in range(chunk_starts.shape[0]):
            w = chunk_starts[c] >> 6
            following = words[row, w + 1] if w + 1 < words.shape[1] else np.uint64(0)
            bits = straddling(words[row, w], following, chunk_starts[c])
            for two in range(4):
                offsets[row - start, c, two] = OFFSETS[(bits >> np.uint64(8 * two)) & np.uint64(255)]


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
    chunk_bytes, offset_bytes = QUADS * SLICES * 64, QUADS * 4
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
        head, row, chunk, look, far, some, keep, onward, done = (b.append_basic_block(f"scan_{n}") for n in names)
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
        for quad in range(QUADS):
            for level in range(2):
                offset = b.zext(load(pointers, i16, quad * 4 + level * 2, 2), i64)
                adder.push(level, load(b.add(table, offset), vector, quad * SLICES * 64, 8 * n_lanes))
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
def found_before(words: NDArray[np.uint64], row: int, others: NDArray[np.uint64], other: int, probe: Probe) -> bool:
    """Whether an earlier band has reported this pair."""
    for q in range(probe.earlier_radii.shape[0]):
        distance = 0
        for w in range(words.shape[1]):
            distance += count_ones((words[row, w] ^ others[other, w]) & probe.earlier_masks[q, w])
        if distance <= probe.earlier_radii[q]:
            return True
    return False


@compiled
def all_crowded(rows: NDArray[np.int64], counts: NDArray[np.int64], most: int, start: int, stop: int) -> bool:
    """Whether none of the rows start to stop of a table has matches that are still wanted."""
    for place in range(start, stop):  # noqa: SIM110 - numba compiles no `all`
        if counts[rows[place]] <= most:
            return False
    return True


@compiled
def find_crowded(work: Work, start: int, stop: int, crowded: NDArray[np.uint64]) -> None:
    """Which of the reference rows start to stop are crowded, as ones in eight words."""
    crowded[:] = 0
    for row in range(start, stop):
        if work.crowd.references[work.references.rows[row]] > work.crowd.most:
            crowded[(row - start) >> 6] |= np.uint64(1) << np.uint64((row - start) & 63)


@compiled
def scan_buckets(work: Work, shape: Shape, found: Matches, place: NDArray[np.int64], count: int) -> int:
    """Fill `found` from `count` on and return the new count.

    `place` (bucket, first row of the query batch, mask, strip of reference rows, query row) says where to go on when
    the room has run out; its first entry reaches the number of buckets when all is done.
    """
    job, probe, lookups = work.job, work.probe, work.lookups
    words, query_rows, query_starts = work.queries.words, work.queries.rows, work.queries.starts
    references, reference_rows = work.references.words, work.references.rows
    block_starts, block_stops, block_firsts = work.blocks.starts, work.blocks.stops, work.blocks.firsts
    masks, chunk_starts = probe.masks, probe.chunk_starts
    found_i, found_j, found_distance = found.i, found.j, found.distance
    query_counts, reference_counts, most = work.crowd.queries, work.crowd.references, work.crowd.most
    n_words = words.shape[1]
    lanes = len(shape.lanes)
    strip_rows, parts = 64 * lanes, 8 // lanes
    offsets = np.empty((QUERY_ROWS, job.chunks, 4), np.uint64)
    offsets_row_bytes = job.chunks * 32
    block_bytes = lookups.strides[0]
    survivors = np.zeros(8, np.uint64)
    crowded = np.zeros(8, np.uint64)
    lookups_at, offsets_at, survivors_at = lookups.ctypes.data, offsets.ctypes.data, survivors.ctypes.data
    bucket, start, turn, strip, row = place
    while bucket < query_starts.shape[0] - 1:
        start = max(start, query_starts[bucket])
        while start < query_starts[bucket + 1]:
            stop = min(start + QUERY_ROWS, query_starts[bucket + 1])
            filled = False
            idle = all_crowded(query_rows, query_counts, most, start, stop)
            while turn < masks.shape[0]:
                other_bucket = bucket ^ masks[turn]
                first = max(block_firsts[other_bucket], job.first_block) * parts
                last = min(block_firsts[other_bucket + 1], job.last_block) * parts
                if job.itself and other_bucket < bucket:
                    last = first
                if strip < 0:
                    strip, row = first, start
                while strip < last:
                    base = block_starts[strip // parts] + strip % parts * strip_rows
                    end = block_stops[strip // parts]
                    behind = job.itself and base + strip_rows <= start + 1 and bucket == other_bucket
                    last_row = min(end, base + strip_rows)
                    if (
                        base >= end
                        or behind
                        or (idle and all_crowded(reference_rows, reference_counts, most, base, last_row))
                    ):
                        row = stop
                    elif not filled:
                        fill_offsets(words, start, stop, chunk_starts, offsets)
                        filled = True
                    part = strip - job.first_block * parts
                    known = False
                    table = lookups_at + part // parts * block_bytes + part % parts * lanes * 8
                    while row < stop:
                        pointers = offsets_at + (row - start) * offsets_row_bytes
                        row += next_survivors(table, pointers, stop - row, job, survivors_at, shape)
                        if row >= stop:
                            break
                        if found_i.shape[0] - count < strip_rows:
                            place[0], place[1], place[2], place[3], place[4] = bucket, start, turn, strip, row
                            return count
                        asked = in_crowd = False  # only a match is worth a look at its count, far off in memory
                        for lane in range(lanes):
                            left = survivors[lane]
                            if in_crowd:
                                left &= ~crowded[lane]
                            while left != np.uint64(0):
                                other = base + 64 * lane + lowest_one(left)
                                left &= left - np.uint64(1)
                                if other >= end or (job.itself and bucket == other_bucket and other <= row):
                                    continue
                                distance = 0
                                for w in range(n_words):
                                    distance += count_ones(words[row, w] ^ references[other, w])
                                if distance > job.radius_bits:
                                    continue
                                if not asked:
                                    asked = True
                                    in_crowd = query_counts[query_rows[row]] > most
                                    if in_crowd:
                                        if not known:
                                            find_crowded(work, base, last_row, crowded)
                                            known = True
                                        left &= ~crowded[lane]
                                        if crowded[lane] >> np.uint64(other - base - 64 * lane) & np.uint64(1):
                                            continue
                                i, j = query_rows[row], reference_rows[other]
                                query_counts[i] += 1
                                reference_counts[j] += 1
                                if not work.crowd.report or found_before(words, row, references, other, probe):
                                    continue
                                if job.itself and j < i:
                                    i, j = j, i
                                found_i[count] = i
                                found_j[count] = j
                                found_distance[count] = distance
                                count += 1
                        row += 1
                    strip += 1
                    row = start
                strip = -1
                turn += 1
            turn = 0
            start = stop
        bucket += 1
    place[0] = bucket
    return count
