"""What `oc.rollouts` is compared with: the loop that anybody would write and compile, and bare reads of memory."""
# ruff: noqa: NPY002  (the random numbers that compiled code is usually written with)

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numba
import numpy as np

import occlp as oc


@numba.njit(nogil=True, cache=True)
def _simulate(first, last, seed, starts, actions, start, indptr, indices, chances, ended, paths):
    """Trajectories by inversion: a random number for the action, another for the next state."""
    np.random.seed(seed)
    for i in range(first, last):
        s = np.searchsorted(starts, np.random.random(), side="right")
        for t in range(paths.shape[1]):
            if ended[s]:
                paths[i, t:] = -1
                break
            u = np.random.random()
            k = start[s]
            while u >= actions[k] and k < start[s + 1] - 1:
                k += 1
            u = np.random.random()
            e = indptr[k]
            while u >= chances[e] and e < indptr[k + 1] - 1:
                e += 1
            paths[i, t] = k
            s = indices[e]


def straightforward(mdp: oc.MDP, policy: oc.Policy, ended: Any, threads: int) -> Any:
    """Prepare the compiled loop: cumulative sums; return what samples ``(n, horizon, seed)`` into an array [N, T]."""
    matrix = mdp.transitions
    actions = _cumulative(policy.pair_probabilities, mdp.pair_start)
    chances = _cumulative(matrix.data, matrix.indptr)
    starts = np.cumsum(mdp.initial)

    def sample(n: int, horizon: int, seed: int) -> Any:
        paths = np.empty((n, horizon), dtype=np.int32)
        tables = (starts, actions, mdp.pair_start, matrix.indptr, matrix.indices, chances, ended, paths)
        edges = np.linspace(0, n, threads + 1).astype(int)
        with ThreadPoolExecutor(threads) as pool:
            jobs = [
                pool.submit(_simulate, first, last, seed + c, *tables)
                for c, (first, last) in enumerate(pairwise(edges))
            ]
            for job in jobs:
                job.result()
        return paths

    return sample


def _cumulative(values: Any, start: Any) -> Any:
    sums = np.cumsum(values)
    before = np.concatenate([[0.0], sums])[start[:-1]]
    return sums - np.repeat(before, np.diff(start))


@numba.njit(nogil=True, cache=True)
def _chase(places, steps, following):
    """Follow as many chains of reads as there are places, in turns."""
    for _ in range(steps):
        for lane in range(len(places)):
            places[lane] = following[places[lane]]


def chase(n_bytes: int, threads: int, lanes: int) -> Any:
    """Prepare chains of dependent reads at random places of a table; return what makes ``(reads,)`` of them."""
    n = max(n_bytes // 8, lanes * threads)
    order = np.random.default_rng(0).permutation(n)
    following = np.empty(n, dtype=np.int64)
    following[order] = np.roll(order, -1)  # one cycle through everything

    def read(reads: int) -> None:
        with ThreadPoolExecutor(threads) as pool:
            begun = [order[c * lanes : (c + 1) * lanes].copy() for c in range(threads)]
            for job in [pool.submit(_chase, places, reads // (lanes * threads), following) for places in begun]:
                job.result()

    return read


def step_gymnasium(name: str, n_steps: int, seed: int) -> tuple[int, float, float]:
    """Step an environment with random actions; return the steps taken, the mean reward of a step and its error."""
    import gymnasium

    env = gymnasium.make(name)
    actions = np.random.default_rng(seed).integers(env.action_space.n, size=2 * n_steps).tolist()
    env.reset(seed=seed)
    rewards, lengths, steps = [0.0], [0], 0
    while steps < n_steps or lengths[-1]:
        _, reward, terminated, truncated, _ = env.step(actions[steps])
        rewards[-1] += float(reward)
        lengths[-1] += 1
        steps += 1
        if terminated or truncated:
            env.reset()
            rewards.append(0.0)
            lengths.append(0)
    env.close()
    mean = sum(rewards) / steps
    residuals = np.array(rewards[:-1]) - mean * np.array(lengths[:-1])
    return steps, mean, float(np.sqrt((residuals**2).sum()) / steps)
