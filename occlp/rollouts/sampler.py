"""Sampling from plain arrays: the tables of a chain, and one run of it."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from occlp._typing import AnyArray, BoolArray, FloatArray, IntArray, frozen
from occlp.arguments import read_generator
from occlp.errors import InvalidProblem, Unsupported
from occlp.kernels import sampling
from occlp.parallel import run_rows

#: What `numpy.random.default_rng` takes.
Seed: TypeAlias = int | np.random.Generator | np.random.SeedSequence | None

#: Trajectories are handed to threads in this many blocks.
BLOCKS = 8
#: Trajectories whose length is not known are first written to a log of about this many numbers, which caches hold.
LOG = 1 << 21
#: So many must fit there at least, to keep all lanes of all blocks busy.
LEAST_AT_ONCE = 4 * BLOCKS * sampling.LANES
#: An episode that has not ended by then is cut, unless ``longest=`` says otherwise.
LONGEST_EPISODE = 100_000


@dataclass(frozen=True, eq=False)
class Paths:
    """Trajectories as arrays; what the fields mean is said at `occlp.rollouts.samples.Rollouts`."""

    flat_pairs: IntArray  # [n]
    lengths: IntArray  # [N]
    terminated: BoolArray  # [N]
    initial_states: IntArray  # [N]
    final_states: IntArray  # [N]

    @cached_property
    def pair_index(self) -> IntArray:
        """Position of the pair of step t, −1 after the end, [N, T]."""
        return as_rows(self.flat_pairs, self.lengths)


def as_rows(flat: IntArray, lengths: IntArray) -> IntArray:
    """Lay trajectories that follow one another out as rows [N, T], with −1 after the end."""
    width = int(lengths.max(initial=1))
    if len(flat) == len(lengths) * width:
        return frozen(flat.reshape(len(lengths), width))
    rows, offsets = np.empty((len(lengths), width), dtype=np.int32), np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    run_rows(sampling.spread, len(lengths), rows.size, flat, offsets, rows)
    return frozen(rows)


@dataclass(frozen=True, eq=False)
class Sampler:
    """A model as plain arrays, from which trajectories of any policy are sampled.

    Attributes
    ----------
    start : IntArray [S + 1]
        First pair of each state.
    transitions : csr_array [pairs, S]
    initial : FloatArray [S]
    ended : BoolArray [S]
        States that end a trajectory.
    """

    start: IntArray  # [S + 1]
    transitions: Any  # csr_array [pairs, S]
    initial: FloatArray  # [S]
    ended: BoolArray  # [S]

    def tables(self, policies: Sequence[FloatArray], weights: Sequence[float] = (1.0,)) -> Tables:
        """Write the alias tables of the model under a policy [pairs], or under a lottery over several.

        A lottery is sampled as one copy of the model a policy; the initial state decides which.
        """
        matrix, n_states = self.transitions, len(self.start) - 1
        bits = int(np.diff(self.start).max() - 1).bit_length()
        if (n_states * len(policies) - 1).bit_length() > min(32 - bits, 31):
            raise Unsupported(
                f"sampling packs a state and an action into 32 bits; {n_states} states, {1 << bits} actions and "
                f"{len(policies)} policies are too many for it."
            )
        sizes = np.zeros((len(policies), n_states), dtype=np.int64)
        for size, policy in zip(sizes, policies, strict=True):
            run_rows(sampling.count_outcomes, n_states, matrix.nnz, self.start, matrix.indptr, policy, self.ended, size)
        begin = np.concatenate([[0], np.cumsum(sizes)])
        if begin[-1] > np.iinfo(np.int32).max:
            raise Unsupported(f"sampling tables hold at most 2^31 outcomes; these have {begin[-1]}.")
        heads = np.zeros((len(policies), n_states, 4), dtype=np.uint32)
        heads[..., sampling.BEGIN], heads[..., sampling.SIZE] = begin[:-1].reshape(sizes.shape), sizes
        heads[..., sampling.PAIR] = self.start[:-1]
        records = np.empty(2 * begin[-1], dtype=np.uint64)
        rows = (self.start, matrix.indptr, matrix.indices, matrix.data)
        for c, policy in enumerate(policies):
            where = (heads[c], c * n_states, bits, records)
            run_rows(sampling.fill_tables, n_states, matrix.nnz, *rows, policy, *where)
        chances = np.outer(weights, self.initial).ravel()
        positive = np.flatnonzero(chances > 0)
        starts = np.empty(2 * len(positive), dtype=np.uint64)
        outcomes, queue = positive.astype(np.uint64), np.empty(len(positive), dtype=np.int64)
        sampling.fill_table(chances[positive], outcomes, queue, len(positive), 0, starts)
        return Tables(starts, heads.reshape(-1, 4), records, bits)

    def run(
        self,
        tables: Tables,
        *,
        n_trajectories: int,
        horizon: int | str,
        discount: float | None,
        longest: int | None,
        rng: Seed,
    ) -> Run:
        """Check a request and draw its seed and the lengths; nothing is simulated yet."""
        n = _positive(n_trajectories, "n_trajectories")
        cut = None if longest is None else _positive(longest, "longest")
        keys = read_generator(rng).integers(0, 2**64, size=2, dtype=np.uint64)
        if isinstance(horizon, str) and horizon == "episode":
            if not self.ended.any():
                raise InvalidProblem(
                    'horizon="episode" needs a terminal state, and this model has none that every action keeps for '
                    "nothing. Name them with terminal=, or give a number of steps."
                )
            limits = np.full(n, cut or LONGEST_EPISODE, dtype=np.int32)
        elif isinstance(horizon, str) and horizon == "geometric":
            limits = _geometric(n, discount, cut, keys)
        elif isinstance(horizon, str):
            raise InvalidProblem(f'horizon is a number of steps, "geometric" or "episode", not {horizon!r}.')
        else:
            steps = _positive(horizon, "horizon")
            limits = np.full(n, min(steps, cut or steps), dtype=np.int32)
        ends, offsets = np.empty((3, n), dtype=np.int32), np.zeros(n + 1, dtype=np.int64)
        return Run(tables, limits, keys, ends, offsets, len(self.start) - 1)

    def paths(
        self,
        probabilities: FloatArray,
        *,
        n_trajectories: int,
        horizon: int | str,
        discount: float | None = None,
        longest: int | None = None,
        rng: Seed = None,
    ) -> Paths:
        """Sample and store trajectories of a policy [pairs]; see `rollouts` for the rest."""
        run = self.run(
            self.tables([probabilities]), n_trajectories=n_trajectories, horizon=horizon, discount=discount,
            longest=longest, rng=rng,
        )  # fmt: skip
        return run.paths()


@dataclass(frozen=True, eq=False)
class Tables:
    """What is sampled from; see `occlp.kernels.sampling` for the letters."""

    starts: AnyArray  # [2 × initial states], records
    heads: AnyArray  # [policies × S, 4]
    records: AnyArray  # [2 × outcomes]
    bits: int


@dataclass(frozen=True, eq=False)
class Run:
    """One sample: its tables, its seed, and what every trajectory begins and ends with."""

    tables: Tables
    limits: IntArray  # [N]
    keys: AnyArray  # [2]
    ends: IntArray  # [3, N]
    offsets: AnyArray  # [N + 1], where stored trajectories begin
    n_states: int

    def simulate(
        self,
        paths: IntArray | None = None,
        counts: AnyArray | None = None,
        values: FloatArray | None = None,
        discount: float = 1.0,
        totals: FloatArray | None = None,
        fronts: AnyArray | None = None,
    ) -> None:
        """Run all trajectories; outputs that are not given are left out. A second run is the same run."""
        tables, blocks = self.tables, min(BLOCKS, len(self.limits))
        values = np.empty((0, 0)) if values is None else values
        run_rows(
            sampling.simulate, blocks, int(self.limits.sum(dtype=np.int64)), blocks, *self.keys, tables.starts,
            tables.heads.ravel(), tables.records, tables.bits, self.limits, self.ends, self.offsets, fronts, paths,
            counts, values, discount, totals,
        )  # fmt: skip

    def paths(self) -> Paths:
        """Run all trajectories and store them, one after the other."""
        longest, ends = int(self.limits.max()), (self.tables.heads[:, sampling.SIZE] == 0).any()
        if ends and longest * LEAST_AT_ONCE <= LOG:
            paths = self._paths_by_waves(LOG // longest)
        else:
            if ends:  # how long they get is known when they have run
                self.simulate()
            lengths = self.ends[sampling.LENGTH] if ends else self.limits
            np.cumsum(lengths, out=self.offsets[1:])
            paths = np.empty(int(self.offsets[-1]), dtype=np.int32)
            self.simulate(paths)
        return Paths(frozen(paths), self.lengths, self.terminated, self.initial_states, self.final_states)

    def _paths_by_waves(self, size: int) -> IntArray:
        """Store trajectories of unknown length, `size` at a time, first in a log in the order in which they run."""
        n, stored, longest = len(self.limits), 0, int(self.limits.max())
        rows = (size // sampling.LANES + BLOCKS) * longest + sampling.CHUNK
        log, paths = np.empty(rows * sampling.LANES, np.int32), np.empty(0, np.int32)
        for first in range(0, n, size):
            wave = self._wave(first, min(first + size, n))
            count = len(wave.limits)
            wave.simulate(log, fronts=np.arange(BLOCKS) * (-(-count // BLOCKS) + sampling.LANES) * longest)
            offsets = np.empty_like(wave.offsets)
            offsets[0] = 0
            np.cumsum(wave.ends[sampling.LENGTH], out=offsets[1:])
            total = stored + int(offsets[-1])
            if total > len(paths):  # as much as is to be expected; pages that are never written to cost nothing
                kept, paths = paths, np.empty(max(total, int(1.05 * total * n / (first + count))), np.int32)
                paths[:stored] = kept[:stored]
            work = count * longest
            run_rows(sampling.gather, count, work, log, wave.offsets, offsets, stored, paths)
            stored = total
        return paths[:stored]

    def _wave(self, first: int, last: int) -> Run:
        """The trajectories first..last−1 alone; they are the same."""
        key, twist = self.keys
        with np.errstate(over="ignore"):
            key = key + (np.uint64(first) << sampling.HALF) * sampling.GOLDEN
        return replace(
            self, limits=self.limits[first:last], keys=np.array([key, twist]), ends=self.ends[:, first:last],
            offsets=np.empty(last - first + 1, dtype=np.int64),
        )  # fmt: skip

    @property
    def lengths(self) -> IntArray:
        """Number of actions taken, [N]."""
        return frozen(self.ends[sampling.LENGTH])

    @cached_property
    def terminated(self) -> BoolArray:
        """Whether a terminal state was entered, [N]."""
        ended = self.tables.heads[:, sampling.SIZE] == 0
        return frozen(ended[self.ends[sampling.FINAL]] if ended.any() else np.zeros(len(self.limits), dtype=np.bool_))

    @property
    def initial_states(self) -> IntArray:
        """State before the first action, [N]."""
        return frozen(self._states(self.ends[sampling.ORIGIN]))

    @property
    def final_states(self) -> IntArray:
        """State after the last action, [N]."""
        return frozen(self._states(self.ends[sampling.FINAL]))

    @property
    def components(self) -> IntArray:
        """Which policy of a lottery is followed, [N]."""
        if len(self.tables.heads) == self.n_states:  # one policy, no lottery
            return frozen(np.zeros(len(self.limits), dtype=np.int32))
        return frozen(self.ends[sampling.ORIGIN] // np.int32(self.n_states))

    def _states(self, found: IntArray) -> IntArray:
        return found if len(self.tables.heads) == self.n_states else found % np.int32(self.n_states)


def _geometric(n: int, discount: float | None, cut: int | None, keys: AnyArray) -> IntArray:
    """Lengths with P(length > t) = γ^t, [N]."""
    if discount is None or discount >= 1:
        raise InvalidProblem(
            f"a geometric horizon restarts with probability 1 − γ, and γ is {discount}. "
            "Use mdp.replace(discount=...), or give a number of steps."
        )
    limits = np.ones(n, dtype=np.int32)
    if discount > 0:
        most = cut or np.iinfo(np.int32).max
        run_rows(sampling.geometric_lengths, n, n, *keys, math.log(discount), most, limits)
    return limits


def _positive(number: Any, name: str) -> int:
    try:
        count = operator.index(number)
    except TypeError:
        raise InvalidProblem(f"{name} is a whole number, not {number!r}.") from None
    if not 0 < count < np.iinfo(np.int32).max:
        raise InvalidProblem(f"{name} is between 1 and 2^31 − 2, not {count}.")
    return count
