"""Sampled trajectories: alias tables of a chain with its policy, and a simulation of many trajectories at once.

One record of 16 bytes serves one step. A state has as many records as it has outcomes, and an outcome is an
action together with the next state, drawn jointly from π(a | s) P(s' | s, a); so a step costs one random number
and one access to memory. Several trajectories advance in turns, so that the processor waits for many records at
once. Letters, besides those of the package::

    heads       first record, number of records, first pair of each state     [S, 4], padded; flat in simulate
    records     threshold; first outcome and, 32 bits higher, the other one   [2 × outcomes]
    outcome     next state << bits | rank of the action in its state
    key, twist  the seed, 128 bits

Random numbers are a function of (seed, trajectory, step): SplitMix64 (Steele, Lea and Flood 2014) read at the
counter trajectory · 2^32 + step, so that trajectories never share a number and any thread may run any of them.
Tables: Walker (1977), built as in Vose (1991).
"""

from __future__ import annotations

import math

import numpy as np

from occlp._typing import AnyArray, BoolArray, FloatArray, IntArray
from occlp.kernels._jit import kernel

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
SECOND_FACTOR = np.uint64(0x94D049BB133111EB)
LOW = np.uint64(0xFFFFFFFF)
ALWAYS = np.uint64(0xFFFFFFFFFFFFFFFF)
HALF = np.uint64(32)
TWO = np.uint64(2)
BEGIN, SIZE, PAIR = np.uint64(0), np.uint64(1), np.uint64(2)  # columns of heads
ORIGIN, FINAL, LENGTH = 0, 1, 2  # rows of ends
#: Rows of lanes; COUNTER and PLACE are those of tick 0, UNTIL is 0 for a free lane, COLUMN is that of the log.
ID, STATE, COUNTER, BEGUN, UNTIL, PLACE, COLUMN = 0, 1, 2, 3, 4, 5, 6
SLOT, WITHIN, OUTCOME = 0, 1, 0  # rows of places; the outcome takes the place of the record that it is read from
#: Trajectories that advance in turns: enough to keep all that a core can have under way in memory busy.
LANES = 32
#: Numbers of a trajectory that are copied at once.
CHUNK = 8


@kernel
def mix(z: np.uint64, twist: np.uint64) -> np.uint64:
    """Hash a counter to 64 random bits; with twist 0 the output function of SplitMix64."""
    z ^= twist
    z = (z ^ (z >> np.uint64(30))) * FIRST_FACTOR
    z = (z ^ (z >> np.uint64(27))) * SECOND_FACTOR
    return z ^ (z >> np.uint64(31))


@kernel
def counter(key: np.uint64, trajectory: int) -> np.uint64:
    """Where the numbers of a trajectory begin: one for its initial state, one for its length, one a step."""
    return key + ((np.uint64(trajectory) << HALF) + np.uint64(1)) * GOLDEN


@kernel
def locate(x: np.uint64, begin: np.uint64, size: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return the record, of those begin .. begin + size − 1, that 64 random bits fall into, and how far into it."""
    n = np.uint64(size)
    below = (x & LOW) * n  # x · n to 96 bits
    above = (x >> HALF) * n + (below >> HALF)
    return TWO * (np.uint64(begin) + (above >> HALF)), (above << HALF) | (below & LOW)


@kernel
def choose(slot: np.uint64, within: np.uint64, records: AnyArray) -> np.uint64:
    """Return the outcome of a place in a record."""
    word = records[slot + np.uint64(1)]
    return word >> HALF if within >= records[slot] else word & LOW  # type: ignore[no-any-return]


@kernel
def count_outcomes(
    first: int,
    last: int,
    start: IntArray,
    indptr: IntArray,
    probabilities: FloatArray,
    ended: BoolArray,
    out: AnyArray,
) -> None:
    """out[s] = number of outcomes of the pairs that are taken; none where the trajectory has ended."""
    for s in range(first, last):
        out[s] = 0
        if ended[s]:
            continue
        for k in range(start[s], start[s + 1]):
            if probabilities[k] > 0:
                out[s] += indptr[k + 1] - indptr[k]


@kernel
def fill_table(
    weights: FloatArray, outcomes: AnyArray, queue: AnyArray, size: int, begin: int, records: AnyArray
) -> None:
    """Write the records of one state; `weights` (positive, any sum) is used up, `queue` is scratch of the same size."""
    total = 0.0
    for i in range(size):
        total += weights[i]
    scale = size / total
    n_small, first_large = 0, size  # the small ones stand at the front of the queue, the large ones at its back
    for i in range(size):
        weights[i] *= scale
        if weights[i] < 1.0:
            queue[n_small] = i
            n_small += 1
        else:
            first_large -= 1
            queue[first_large] = i
        records[2 * (begin + i)] = ALWAYS
        records[2 * (begin + i) + 1] = outcomes[i] | (outcomes[i] << HALF)
    while n_small > 0 and first_large < size:
        n_small -= 1
        i, j = queue[n_small], queue[first_large]
        records[2 * (begin + i)] = np.uint64(weights[i] * 18446744073709551616.0)
        records[2 * (begin + i) + 1] = outcomes[i] | (outcomes[j] << HALF)
        weights[j] = (weights[j] + weights[i]) - 1.0
        if weights[j] < 1.0:
            first_large += 1
            queue[n_small] = j
            n_small += 1


@kernel
def fill_tables(
    first: int,
    last: int,
    start: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    probabilities: FloatArray,
    heads: AnyArray,
    offset: int,
    bits: int,
    records: AnyArray,
) -> None:
    """Write the records of states first..last−1; `offset` is added to every state (copies of a model).

    Probabilities `data` are positive; rows need not sum to one.
    """
    most = 1
    for s in range(first, last):
        most = max(most, int(heads[s, SIZE]))
    weights = np.empty(most)
    outcomes = np.empty(most, dtype=np.uint64)
    queue = np.empty(most, dtype=np.int64)
    for s in range(first, last):
        size = 0
        if heads[s, SIZE] == 0:
            continue
        for k in range(start[s], start[s + 1]):
            if probabilities[k] > 0:
                row = 0.0
                for e in range(indptr[k], indptr[k + 1]):
                    row += data[e]
                share = probabilities[k] / row
                for e in range(indptr[k], indptr[k + 1]):
                    weights[size] = share * data[e]
                    target = np.uint64(offset + indices[e]) << np.uint64(bits)
                    outcomes[size] = target | np.uint64(k - start[s])
                    size += 1
        fill_table(weights, outcomes, queue, size, int(heads[s, BEGIN]), records)


@kernel
def geometric_lengths(
    first: int, last: int, key: np.uint64, twist: np.uint64, log_discount: float, longest: int, out: AnyArray
) -> None:
    """out[i] = length of trajectory i, P(length > t) = γ^t, cut at `longest`."""
    for i in range(first, last):
        x = mix(counter(key, i) + GOLDEN, twist)
        u = (float(x >> np.uint64(11)) + 0.5) * 2.0**-53
        out[i] = 1 + int(min(math.log(u) / log_discount, float(longest - 1)))


@kernel
def enter(
    lane: int,
    i: int,
    stop: int,
    tick: np.uint64,
    key: np.uint64,
    twist: np.uint64,
    starts: AnyArray,
    heads: AnyArray,
    limits: AnyArray,
    ends: AnyArray,
    offsets: AnyArray,
    stride: np.uint64,
    lanes: AnyArray,
) -> int:
    """Let a lane take the next trajectory, from i, that has a step to take, or none; return the one after it."""
    lanes[UNTIL, lane] = 0
    while i < stop and lanes[UNTIL, lane] == 0:
        first = counter(key, i)
        s = starts[1] & LOW  # where there is one start, nothing is drawn
        if len(starts) > 2:
            slot, within = locate(mix(first, twist), np.uint64(0), np.uint64(len(starts) // 2))
            s = choose(slot, within, starts)
        ends[ORIGIN, i] = ends[FINAL, i] = s
        ends[LENGTH, i] = 0
        if heads[(s << TWO) + SIZE] > 0:
            lanes[ID, lane], lanes[STATE, lane] = i, s
            lanes[COUNTER, lane] = first + (TWO - tick) * GOLDEN
            lanes[BEGUN, lane], lanes[UNTIL, lane] = tick, tick + np.uint64(limits[i])
            if stride > 1:
                offsets[i] = lanes[COLUMN, lane] + tick * stride
            lanes[PLACE, lane] = np.uint64(offsets[i]) - tick * stride
        i += 1
    return i


@kernel
def close_ranks(active: int, lanes: AnyArray, sums: FloatArray, weights: FloatArray) -> int:
    """Move the lanes that have a trajectory to the front; return how many there are."""
    kept = 0
    for lane in range(active):
        if lanes[UNTIL, lane] > 0:
            lanes[:, kept], sums[kept], weights[kept] = lanes[:, lane], sums[lane], weights[lane]
            kept += 1
    return kept


@kernel
def draw(
    active: int,
    advanced: np.uint64,
    twist: np.uint64,
    heads: AnyArray,
    records: AnyArray,
    lanes: AnyArray,
    places: AnyArray,
) -> None:
    """places[OUTCOME, lane] = what a lane does next; short loops, so that many reads are under way at once."""
    for lane in range(active):
        s = lanes[STATE, lane]
        x = mix(lanes[COUNTER, lane] + advanced, twist)
        places[SLOT, lane], places[WITHIN, lane] = locate(x, heads[(s << TWO) + BEGIN], heads[(s << TWO) + SIZE])
    for lane in range(active):
        places[OUTCOME, lane] = choose(places[SLOT, lane], places[WITHIN, lane], records)


@kernel
def simulate(
    first: int,
    last: int,
    n_blocks: int,
    key: np.uint64,
    twist: np.uint64,
    starts: AnyArray,
    heads: AnyArray,
    records: AnyArray,
    bits: int,
    limits: AnyArray,
    ends: AnyArray,
    offsets: AnyArray,
    fronts: AnyArray | None,
    paths: IntArray | None,
    counts: AnyArray | None,
    values: FloatArray,
    discount: float,
    totals: FloatArray | None,
) -> None:
    """Run the trajectories of blocks first..last−1, each until its limit or a state without records.

    ends [3, N] takes the initial state, the last state and the length. What is not None is filled as well:
    paths with pairs, those of trajectory i from offsets[i] on, counts [blocks, pairs] with visits, and totals [N, m]
    with the sums of γ^t values[pair]. With fronts [blocks] paths is a log, that of block b from fronts[b] on: ticks are
    rows, lanes are columns, and offsets are set to the first number of each trajectory.
    """
    i, stop = len(limits) * first // n_blocks, len(limits) * last // n_blocks
    shift, mask = np.uint64(bits), (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    lanes, stride = np.zeros((7, LANES), dtype=np.uint64), np.uint64(1)
    if fronts is not None:
        stride = np.uint64(LANES)
        lanes[COLUMN] = fronts[first] + np.arange(LANES)
    places = np.zeros((2, LANES), dtype=np.uint64)
    sums, weights, tick = np.zeros((LANES, values.shape[1])), np.ones(LANES), np.uint64(0)
    for lane in range(LANES):
        i = enter(lane, i, stop, tick, key, twist, starts, heads, limits, ends, offsets, stride, lanes)
    active = close_ranks(LANES, lanes, sums, weights)
    while active > 0:
        left = 0
        draw(active, tick * GOLDEN, twist, heads, records, lanes, places)
        now = tick
        tick += np.uint64(1)
        for lane in range(active):
            s = lanes[STATE, lane]
            outcome = places[OUTCOME, lane]
            pair = heads[(s << TWO) + PAIR] + (outcome & mask)
            lanes[STATE, lane] = s = outcome >> shift
            if paths is not None:
                paths[lanes[PLACE, lane] + now * stride] = pair
            if counts is not None:
                counts[first, pair] += 1
            if totals is not None:
                for c in range(values.shape[1]):
                    sums[lane, c] += weights[lane] * values[pair, c]
                weights[lane] *= discount
            if tick >= lanes[UNTIL, lane] or heads[(s << TWO) + SIZE] == 0:
                done = lanes[ID, lane]
                ends[FINAL, done], ends[LENGTH, done] = s, tick - lanes[BEGUN, lane]
                if totals is not None:
                    totals[done] = sums[lane]
                    sums[lane], weights[lane] = 0.0, 1.0
                i = enter(lane, i, stop, tick, key, twist, starts, heads, limits, ends, offsets, stride, lanes)
                left += lanes[UNTIL, lane] == 0
        if left > 0:
            active = close_ranks(active, lanes, sums, weights)


@kernel
def gather(
    first: int, last: int, log: IntArray, places: AnyArray, offsets: AnyArray, begin: int, flat: IntArray
) -> None:
    """flat[begin + offsets[i] : begin + offsets[i + 1]] = trajectory i out of the log of `simulate`.

    They are copied `CHUNK` numbers at a time, and what is copied beyond the end of one is overwritten by the next.
    """
    room = np.uint64(begin + offsets[last])
    for i in range(first, last):
        place, k, end = np.uint64(places[i]), np.uint64(begin + offsets[i]), np.uint64(begin + offsets[i + 1])
        if end + np.uint64(CHUNK) <= room:
            while k < end:
                for j in range(CHUNK):
                    flat[k + np.uint64(j)] = log[place + np.uint64(j * LANES)]
                k += np.uint64(CHUNK)
                place += np.uint64(CHUNK * LANES)
        else:
            while k < end:
                flat[k] = log[place]
                k += np.uint64(1)
                place += np.uint64(LANES)


@kernel
def spread(first: int, last: int, flat: IntArray, offsets: AnyArray, rows: IntArray) -> None:
    """rows[i] = flat[offsets[i] : offsets[i + 1]], and −1 from there on."""
    for i in range(first, last):
        length = offsets[i + 1] - offsets[i]
        rows[i, :length] = flat[offsets[i] : offsets[i + 1]]
        rows[i, length:] = -1
