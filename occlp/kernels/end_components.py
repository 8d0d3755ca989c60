"""Maximal end components by splitting a partition of the states until no pair leaves its part.

A part that is strongly connected and has lost no pair is final. One that has lost pairs is searched from both
ends of the lost edges, forward and backward in lock-step, so that a part that falls off is found in time
proportional to it and not to what remains (Chatterjee and Henzinger, SODA 2011; Wijs, Katoen and Bošnački,
CAV 2014); where that takes too long, all of it is split into strongly connected components (Tarjan 1972).

Legend: letters as in `search`; ``order`` lists the states part by part, part ``c`` from ``first[c]`` to
``last[c]``, and ``position`` is its inverse; ``lost`` holds what a state has lost (bits OUT, IN) and whether
it is on the list of its part (LISTED), which starts at ``head[c]`` and goes on with ``after``; ``size`` holds
the number of parts, the number of parts to do, and the edges that a state has on average. The lists ``pairs``
and ``entering`` are shortened to ``length`` and ``entering_length`` as dead pairs are met.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from occlp._typing import AnyArray, BoolArray, IntArray
from occlp.kernels._jit import kernel

OUT, IN, LISTED = 1, 2, 4
#: Searches in lock-step; each has a bit of 64.
SEARCHES = 64
#: Index of a state whose component is complete.
DONE = np.iinfo(np.int32).max


class Partition(NamedTuple):
    """Everything that is known while the states are being split (see the legend of this file)."""

    owner: IntArray
    indptr: IntArray
    indices: IntArray
    start: IntArray
    pairs: IntArray
    length: IntArray
    entering_start: IntArray
    entering: IntArray
    entering_length: IntArray
    alive: BoolArray
    part: IntArray
    order: IntArray
    position: IntArray
    first: IntArray
    last: IntArray
    head: IntArray
    after: IntArray
    lost: AnyArray
    to_do: IntArray
    queued: BoolArray
    whole: BoolArray
    size: AnyArray


def partition(
    owner: IntArray,
    rows: tuple[IntArray, IntArray],
    by_state: tuple[IntArray, IntArray],
    entering: tuple[IntArray, IntArray],
    alive: BoolArray,
) -> Partition:
    """Put all states in one part, to be split; `alive` will be changed."""
    n = len(by_state[0]) - 1
    edges = 1 + len(rows[1]) // max(1, n)
    states = np.arange(n, dtype=np.int32)
    whole = np.zeros(n, dtype=np.bool_)
    whole[:1] = True
    return Partition(
        owner, *rows, by_state[0], by_state[1].copy(), np.diff(by_state[0]),
        entering[0], entering[1].copy(), np.diff(entering[0]), alive,
        np.zeros(n, dtype=np.int32), states, states.copy(),
        np.zeros(n, dtype=np.int32), np.full(n, n, dtype=np.int32),
        np.full(n, -1, dtype=np.int32), np.full(n, -1, dtype=np.int32), np.zeros(n, dtype=np.uint8),
        np.zeros(n, dtype=np.int32), whole.copy(), whole, np.array([1, 1, edges], dtype=np.int64),
    )  # fmt: skip


@kernel
def note(p: Partition, s: int, bit: int) -> None:
    """Remember that a state has lost an edge inside its part."""
    c = p.part[s]
    if p.last[c] - p.first[c] == 1:
        return
    if not p.lost[s] & LISTED:
        p.after[s] = p.head[c]
        p.head[c] = s
    p.lost[s] |= bit | LISTED
    if not p.queued[c]:
        p.queued[c] = True
        p.to_do[p.size[1]] = c
        p.size[1] += 1


@kernel
def kill(p: Partition, k: int, c: int) -> None:
    """Take a pair away, and note what part c loses: edges with an end in it (c < 0: within any part)."""
    p.alive[k] = False
    s = p.owner[k]
    for e in range(p.indptr[k], p.indptr[k + 1]):
        t = p.indices[e]
        within = c < 0 and p.part[t] == p.part[s]
        if within or p.part[s] == c:
            note(p, s, OUT)
        if within or p.part[t] == c:
            note(p, t, IN)


@kernel
def cut(p: Partition, s: int, c: int) -> None:
    """Take away the pairs of a state that may leave its part, and those that may enter it from another."""
    for position in range(p.start[s], p.start[s] + p.length[s]):
        k = p.pairs[position]
        if p.alive[k]:
            for e in range(p.indptr[k], p.indptr[k + 1]):
                if p.part[p.indices[e]] != p.part[s]:
                    kill(p, k, c)
                    break
    for position in range(p.entering_start[s], p.entering_start[s] + p.entering_length[s]):
        k = p.entering[position]
        if p.alive[k] and p.part[p.owner[k]] != p.part[s]:
            kill(p, k, c)


@kernel
def shorten(start: IntArray, length: IntArray, listed: IntArray, alive: BoolArray, s: int, offset: int) -> int:
    """First pair alive at or after an offset in the list of a state, −1 if none; dead ones met on the way go."""
    while offset < length[s]:
        k = listed[start[s] + offset]
        if alive[k]:
            return int(k)
        length[s] -= 1
        listed[start[s] + offset] = listed[start[s] + length[s]]
        listed[start[s] + length[s]] = k
    return -1


@kernel
def leaving(p: Partition, s: int, offset: int) -> int:
    """Pair alive at an offset in the list of pairs of a state, −1 at the end."""
    return int(shorten(p.start, p.length, p.pairs, p.alive, s, offset))


@kernel
def arriving(p: Partition, s: int, offset: int) -> int:
    """Pair alive at an offset in the list of pairs that may enter a state, −1 at the end."""
    return int(shorten(p.entering_start, p.entering_length, p.entering, p.alive, s, offset))


@kernel
def split_off(p: Partition, c: int, members: IntArray) -> int:
    """Make a new part of some states of part c, cut what joins the two, and return its number."""
    new = p.size[0]
    p.size[0] += 1
    p.last[new] = p.last[c]
    for s in members:
        p.last[c] -= 1
        i, j = p.position[s], p.last[c]
        other = p.order[j]
        p.order[i], p.position[other] = other, i
        p.order[j], p.position[s] = s, j
        p.part[s] = new
        p.lost[s] = 0
    p.first[new] = p.last[c]
    for s in members:
        cut(p, s, c)
    return int(new)


@kernel
def trim(p: Partition, c: int) -> AnyArray:
    """Empty the list of a part: split off the states that nothing leaves or enters; return the others, with bits."""
    waiting = np.empty((16, 2), dtype=np.int32)
    n = 0
    alone = np.empty(1, dtype=np.int32)
    while p.head[c] >= 0:
        s = p.head[c]
        p.head[c] = p.after[s]
        p.lost[s] &= OUT | IN
        if p.last[c] - p.first[c] > 1 and (leaving(p, s, 0) < 0 or arriving(p, s, 0) < 0):
            alone[0] = s
            split_off(p, c, alone)
            continue
        if n == len(waiting):
            longer = np.empty((2 * n, 2), dtype=np.int32)
            for i in range(n):
                longer[i, 0], longer[i, 1] = waiting[i, 0], waiting[i, 1]
            waiting = longer
        waiting[n, 0] = s
        n += 1
    kept = 0
    for i in range(n):
        s = waiting[i, 0]
        if p.part[s] == c and p.lost[s]:
            waiting[kept, 0], waiting[kept, 1] = s, p.lost[s]
            p.lost[s] = 0
            kept += 1
    return waiting[:kept]


@kernel
def close(s: int, index: IntArray, trail: IntArray, n_trail: int, output: IntArray, n_output: int) -> int:
    """Move the component whose root is s from the end of the trail to the output; return the new length of that."""
    while True:
        n_trail -= 1
        t = trail[n_trail]
        index[t] = DONE
        output[n_output] = t
        n_output += 1
        if t == s:
            return n_output


@kernel
def components(p: Partition, c: int, index: IntArray, low: IntArray) -> AnyArray:
    """Sort the states of a part by strongly connected component; returns where each begins in `order`.

    `index` is 0 for the states of the part, before and after. Tarjan's algorithm with a stack of its own.
    """
    begin, end = p.first[c], p.last[c]
    n = end - begin
    trail, path = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int32)
    offset, edge = np.zeros(n, dtype=np.int32), np.full(n, -1, dtype=np.int32)  # how far each state of the path is
    output = np.empty(n, dtype=np.int32)
    borders = [begin]
    n_trail = n_path = n_output = count = 0
    for root in range(begin, end):
        if index[p.order[root]] != 0:
            continue
        count += 1
        path[0], n_path = p.order[root], 1
        index[path[0]] = low[path[0]] = count
        trail[n_trail], n_trail = path[0], n_trail + 1
        offset[0], edge[0] = 0, -1
        while n_path:
            top = n_path - 1
            s = path[top]
            k = leaving(p, s, offset[top])
            if k >= 0:
                if edge[top] < 0:
                    edge[top] = p.indptr[k]
                if edge[top] == p.indptr[k + 1]:
                    offset[top], edge[top] = offset[top] + 1, -1
                    continue
                t = p.indices[edge[top]]
                edge[top] += 1
                if index[t] == 0:
                    count += 1
                    index[t] = low[t] = count
                    trail[n_trail], n_trail = t, n_trail + 1
                    path[n_path], offset[n_path], edge[n_path] = t, 0, -1
                    n_path += 1
                elif index[t] < low[s]:
                    low[s] = index[t]
                continue
            n_path -= 1
            if n_path and low[s] < low[path[n_path - 1]]:
                low[path[n_path - 1]] = low[s]
            if low[s] == index[s]:
                before = n_output
                n_output = close(s, index, trail, n_trail, output, n_output)
                n_trail -= n_output - before
                borders.append(begin + n_output)
    for i in range(end - begin):  # assignments of slices take seconds to compile
        index[output[i]] = 0
        p.order[begin + i] = output[i]
    return np.array(borders)


@kernel
def split_whole(p: Partition, c: int, index: IntArray, low: IntArray) -> None:
    """Split a part, with nothing on its list, into its strongly connected components, and cut what joins them."""
    borders = components(p, c, index, low)
    for i in range(len(borders) - 1):
        new = c
        if i > 0:
            new = p.size[0]
            p.size[0] += 1
        p.first[new], p.last[new] = borders[i], borders[i + 1]
        for j in range(borders[i], borders[i + 1]):
            p.part[p.order[j]] = new
            p.position[p.order[j]] = j
    if len(borders) > 2:
        for j in range(borders[0], borders[-1]):
            cut(p, p.order[j], -1)


@kernel
def lockstep(p: Partition, c: int, waiting: AnyArray, marks: AnyArray, pool: AnyArray) -> AnyArray:
    """Search from the states that have lost edges, an edge at a time each, until one search is through.

    Returns the states that it has found, which no other state of the part can be reached from (or can reach);
    none if that takes longer than to look at the whole part, or needs more than 64 searches.
    """
    none = np.empty(0, dtype=np.int32)
    seeds, ahead = np.empty(SEARCHES, dtype=np.int32), np.empty(SEARCHES, dtype=np.bool_)
    m = 0
    for i in range(len(waiting)):
        for bit in (OUT, IN):
            if waiting[i, 1] & bit:
                if m == SEARCHES:
                    return none
                seeds[m], ahead[m] = waiting[i, 0], bit == OUT
                m += 1
    current, last, found = np.arange(m), np.arange(m), np.ones(m, dtype=np.int64)
    offset, edge = np.zeros(m, dtype=np.int64), np.full(m, -1, dtype=np.int64)
    for i in range(m):
        pool[i, 0], pool[i, 1] = seeds[i], -1
        marks[seeds[i]] |= np.uint64(1) << np.uint64(i)
    size = p.last[c] - p.first[c]
    used, steps, winner = m, 0, -1
    while winner < 0 and steps < size * p.size[2] and used + m <= len(pool):
        steps += m
        for i in range(m):
            s = pool[current[i], 0]
            k = leaving(p, s, offset[i]) if ahead[i] else arriving(p, s, offset[i])
            if k < 0:
                current[i], offset[i] = pool[current[i], 1], 0
                if current[i] < 0:
                    winner = i
                    break
                continue
            if ahead[i]:
                edge[i] = max(edge[i], p.indptr[k])
                t = p.indices[edge[i]]
                edge[i] += 1
                if edge[i] == p.indptr[k + 1]:
                    offset[i], edge[i] = offset[i] + 1, -1
            else:
                t = p.owner[k]
                offset[i] += 1
            if not (marks[t] >> np.uint64(i)) & np.uint64(1):
                marks[t] |= np.uint64(1) << np.uint64(i)
                pool[used, 0], pool[used, 1] = t, -1
                pool[last[i], 1] = used
                last[i], found[i], used = used, found[i] + 1, used + 1
    for j in range(used):
        marks[pool[j, 0]] = 0
    if winner < 0 or found[winner] == size:
        return none
    members = np.empty(found[winner], dtype=np.int32)
    j = winner
    for i in range(len(members)):
        members[i] = pool[j, 0]
        j = pool[j, 1]
    return members


@kernel
def refine(p: Partition) -> None:
    """Split parts until none has lost an edge without being looked at again."""
    n = len(p.part)
    index, low = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int32)
    marks, pool = np.zeros(n, dtype=np.uint64), np.empty((8 * n + 8 * SEARCHES, 2), dtype=np.int32)
    while p.size[1] > 0:
        p.size[1] -= 1
        c = p.to_do[p.size[1]]
        p.queued[c] = False
        members = np.empty(0, dtype=np.int32)
        if not p.whole[c]:
            waiting = trim(p, c)
            if len(waiting) == 0:
                continue
            members = lockstep(p, c, waiting, marks, pool)
        if len(members) == 0:
            p.whole[c] = False
            split_whole(p, c, index, low)
            continue
        new = split_off(p, c, members)
        for i in range(len(waiting)):
            if p.part[waiting[i, 0]] == c:
                note(p, waiting[i, 0], waiting[i, 1])
        if len(members) > 1:
            p.whole[new] = p.queued[new] = True
            p.to_do[p.size[1]] = new
            p.size[1] += 1
