"""Parts of a two-level solver for A = diag(leave) + D − M of a slow chain, in a given order of the states.

Letters: M the moves between different states, D their row sums; ``diagonal`` the diagonal of A. Rows are in CSR form,
without the entries that stay.
"""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray, IntArray
from occlp.kernels._jit import kernel


@kernel
def label_basins(
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    label: IntArray,
    depth: IntArray,
    following: IntArray,
    core: IntArray,
) -> tuple[int, int]:
    """Number the cycles that are reached by always making the likeliest move; returns how many, and how many states.

    Sets `label` [n] to the number of each state's cycle, `depth` [n] to the moves that lead there, the first entries of
    `core` [n] to the states on cycles; a state that never moves is one. `following` [n] is room to work in.
    """
    n = len(label)
    for s in range(n):
        most = 0.0
        following[s] = s
        for e in range(indptr[s], indptr[s + 1]):
            if indices[e] != s and data[e] > most:
                most = data[e]
                following[s] = indices[e]
        depth[s] = -1
    count = 0
    length = 0
    for first in range(n):
        s = first
        steps = 0
        while depth[s] == -1:
            depth[s] = -2
            steps += 1
            s = following[s]
        if depth[s] == -2:  # back on the path itself: a new cycle
            while depth[s] == -2:
                depth[s] = 0
                label[s] = count
                core[length] = s
                length += 1
                steps -= 1
                s = following[s]
            count += 1
        found = label[s]
        steps += depth[s]
        s = first
        while depth[s] == -2:
            depth[s] = steps
            label[s] = found
            steps -= 1
            s = following[s]
    return count, length


@kernel
def order_by_depth(depth: IntArray, order: IntArray, position: IntArray) -> None:
    """Sort the states by depth, those of one depth as they were: `order` [n] and its inverse."""
    n = len(depth)
    counts = np.zeros(n + 1, dtype=np.int32)
    for s in range(n):
        counts[depth[s] + 1] += 1
    for d in range(n):
        counts[d + 1] += counts[d]
    for s in range(n):
        position[s] = counts[depth[s]]
        counts[depth[s]] += 1
        order[position[s]] = s


@kernel
def gather_moves(
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    position: IntArray,
    discount: float,
    moves_indptr: IntArray,
    moves_indices: IntArray,
    moves: FloatArray,
    leaving: FloatArray,
) -> int:
    """Write γP without its diagonal, states at their positions, and its row sums; returns the number of entries."""
    n = len(position)
    for i in range(n + 1):
        moves_indptr[i] = 0
    for s in range(n):  # rows are read as they lie in memory: first their lengths, then themselves
        for e in range(indptr[s], indptr[s + 1]):
            if indices[e] != s and data[e] > 0.0:
                moves_indptr[position[s] + 1] += 1
    for i in range(n):
        moves_indptr[i + 1] += moves_indptr[i]
    for s in range(n):
        found = moves_indptr[position[s]]
        total = 0.0
        for e in range(indptr[s], indptr[s + 1]):
            if indices[e] != s and data[e] > 0.0:
                weight = discount * data[e]
                moves_indices[found] = position[indices[e]]
                moves[found] = weight
                total += weight
                found += 1
        leaving[position[s]] = total
    return int(moves_indptr[n])


@kernel
def relax(
    sweeps: int,
    backwards: bool,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    diagonal: FloatArray,
    rhs: FloatArray,
    x: FloatArray,
) -> None:
    """Gauss–Seidel sweeps for diag(diagonal) x − M x = b, in place, all in one direction."""
    n = len(x)
    for _ in range(sweeps):
        for place in range(n):
            i = n - 1 - place if backwards else place
            total = rhs[i]
            for e in range(indptr[i], indptr[i + 1]):
                total += data[e] * x[indices[e]]
            x[i] = total / diagonal[i]


@kernel
def defect(
    i: int,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    rate: FloatArray,
    rhs: FloatArray,
    x: FloatArray,
) -> float:
    """b − rate · x + Σ m (x' − x) of state i, from differences: what all of x have in common cancels nothing."""
    here = x[i]
    total = 0.0
    for e in range(indptr[i], indptr[i + 1]):
        total += data[e] * (x[indices[e]] - here)
    found: float = rhs[i] - rate[i] * here + total
    return found


@kernel
def defects(
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    rate: FloatArray,
    rhs: FloatArray,
    x: FloatArray,
    out: FloatArray,
) -> None:
    """The defect of every state, into out."""
    for i in range(len(x)):
        out[i] = defect(i, indptr, indices, data, rate, rhs, x)


@kernel
def cross_basins(
    core: IntArray,
    weights: FloatArray,
    label: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    tails: IntArray,
    heads: IntArray,
    flows: FloatArray,
) -> int:
    """Collect the weighted moves from the states `core` into other basins; returns their number."""
    found = 0
    for place in range(len(core)):
        i = core[place]
        for e in range(indptr[i], indptr[i + 1]):
            if label[indices[e]] != label[i]:
                tails[found] = label[i]
                heads[found] = label[indices[e]]
                flows[found] = weights[place] * data[e]
                found += 1
    return found


@kernel
def weigh_defects(
    core: IntArray,
    weights: FloatArray,
    label: IntArray,
    indptr: IntArray,
    indices: IntArray,
    data: FloatArray,
    rate: FloatArray,
    rhs: FloatArray,
    x: FloatArray,
    out: FloatArray,
) -> None:
    """Add the weighted defects b − Ax of the states `core` to those of their basins, `out`."""
    for place in range(len(core)):
        i = core[place]
        out[label[i]] += weights[place] * defect(i, indptr, indices, data, rate, rhs, x)
