"""Searches on the graph of a model: along pairs, against them, and for what cannot be avoided.

Legend: ``indptr, indices`` are the successors of each pair (entries of positive probability);
``entering_start, entering`` the pairs that may lead into each state; ``start, pairs`` the pairs of each
state; ``owner`` the state of each pair; ``keep`` the pairs that count, bool [pairs]. Every search takes
time proportional to the edges it meets and uses no recursion.
"""

from __future__ import annotations

import numpy as np

from occlp._typing import BoolArray, IntArray
from occlp.kernels._jit import kernel


@kernel
def forward(
    start: IntArray, pairs: IntArray, indptr: IntArray, indices: IntArray, keep: BoolArray, level: IntArray
) -> None:
    """Fill in the least number of steps from the states of level 0; −1 marks the others, before and after."""
    n = len(level)
    queue = np.empty(n, dtype=np.int32)
    first = last = 0
    for s in range(n):
        if level[s] == 0:
            queue[last] = s
            last += 1
    while first < last:
        s = queue[first]
        first += 1
        for position in range(start[s], start[s + 1]):
            k = pairs[position]
            if not keep[k]:
                continue
            for e in range(indptr[k], indptr[k + 1]):
                t = indices[e]
                if level[t] < 0:
                    level[t] = level[s] + 1
                    queue[last] = t
                    last += 1


@kernel
def backward(
    owner: IntArray, entering_start: IntArray, entering: IntArray, keep: BoolArray, level: IntArray, choice: IntArray
) -> None:
    """Fill in the least number of steps to the states of level 0, and a pair that takes the first of them.

    `choice` stays as it is in the states of level 0 and in those that no kept pair leads on.
    """
    n = len(level)
    queue = np.empty(n, dtype=np.int32)
    first = last = 0
    for s in range(n):
        if level[s] == 0:
            queue[last] = s
            last += 1
    while first < last:
        t = queue[first]
        first += 1
        for position in range(entering_start[t], entering_start[t + 1]):
            k = entering[position]
            s = owner[k]
            if keep[k] and level[s] < 0:
                level[s] = level[t] + 1
                choice[s] = k
                queue[last] = s
                last += 1


@kernel
def attract(
    owner: IntArray,
    entering_start: IntArray,
    entering: IntArray,
    alive: BoolArray,
    left: IntArray,
    caught: BoolArray,
) -> None:
    """Spread `caught`: a pair that may lead to a caught state dies, a state whose pairs all died is caught.

    `left` [S] counts the pairs alive in each state; a state is caught when the count falls to 0. All three
    arrays are changed.
    """
    n = len(left)
    queue = np.empty(n, dtype=np.int32)
    first = last = 0
    for s in range(n):
        if caught[s]:
            queue[last] = s
            last += 1
    while first < last:
        t = queue[first]
        first += 1
        for position in range(entering_start[t], entering_start[t + 1]):
            k = entering[position]
            if not alive[k]:
                continue
            alive[k] = False
            s = owner[k]
            left[s] -= 1
            if left[s] == 0 and not caught[s]:
                caught[s] = True
                queue[last] = s
                last += 1
