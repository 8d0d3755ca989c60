"""A horizon of T steps as a model of its own: states (t, s), and one end that every path runs into."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray, frozen
from occlp.errors import InvalidModel, InvalidProblem
from occlp.model import arrays
from occlp.model.assembly import Parts
from occlp.model.checks import check_values
from occlp.model.exact import ExactNumbers, expectation, shown, to_floats, to_fractions
from occlp.model.pairs import Pairs
from occlp.model.stages import StageLabels

if TYPE_CHECKING:
    from occlp.model.mdp import MDP

#: Rows and transitions have to fit a 32-bit index.
LARGEST = 2**31 - 2
#: Fractions γ^t c are kept up to this many bits in all; beyond it the unrolled model has doubles only, and says so.
EXACT_BITS = 2**31


def read_horizon(horizon: Any) -> int:
    """Read a number of steps; raise `InvalidProblem` unless it is a positive integer."""
    try:
        steps = operator.index(horizon)
    except TypeError:
        steps = 0
    if isinstance(horizon, bool | np.bool_) or steps < 1:
        raise InvalidProblem(f"horizon={shown(horizon)} is not a number of steps. Give an integer of at least 1.")
    return steps


def read_terminal(terminal: Any, mdp: MDP) -> dict[str, AnyArray]:
    """Read salvage values, [S] each, by name ("reward" or a cost); an array alone is the reward's.

    Arrays hold fractions where they were given as strings or fractions.
    """
    if terminal is None:
        return {}
    named = dict(terminal) if isinstance(terminal, Mapping) else {"reward": terminal}
    read = {}
    for name, given in named.items():
        if name != "reward" and name not in mdp.pair_costs:
            known = ", ".join(map(repr, ["reward", *mdp.pair_costs]))
            raise InvalidModel(f"terminal names {shown(name)}; this model has {known}.")
        values, _ = arrays.read_array(given, f"terminal {name!r}")
        if values.shape != (mdp.n_states,):
            raise InvalidModel(f"terminal {name!r} has shape {list(values.shape)}; give [S] = [{mdp.n_states}].")
        bad = ~np.isfinite(to_floats(values) if values.dtype == object else values)
        if bad.any():
            state = int(np.flatnonzero(bad)[0])
            name_of = mdp.pairs.state_name(state)
            raise InvalidModel(f"terminal {name!r} of state {name_of!r} is {values[state]}; it must be finite.")
        read[name] = values
    return read


@dataclass(frozen=True, eq=False)
class WholeRows:
    """Transition rows that sum to one: the probability of staying has taken up what was missing."""

    matrix: Any  # csr_array [pairs, S]
    exact: AnyArray | None  # object [nnz]
    mended: bool

    @classmethod
    def of(cls, mdp: MDP) -> WholeRows:
        """Rows of a model; those that miss 1 by no more than rounding stay as they are."""
        matrix = mdp.transitions
        exact = None if mdp.exact is None else np.array(mdp.exact.transitions, dtype=object)
        counts = np.diff(matrix.indptr)
        if exact is None:
            missing = 1.0 - np.asarray(matrix.sum(axis=1)).ravel()
            wrong = np.abs(missing) > counts * np.finfo(np.float64).eps
        else:
            missing = 1 - np.add.reduceat(exact, matrix.indptr[:-1])
            wrong = missing != 0
        if not wrong.any():
            return cls(matrix, exact, False)
        rows = np.concatenate([np.repeat(np.arange(mdp.n_pairs), counts), np.flatnonzero(wrong)])
        columns = np.concatenate([matrix.indices, mdp.pairs.states[wrong]])
        entries = np.concatenate([matrix.data if exact is None else exact, missing[wrong]])
        order = np.lexsort((columns, rows))
        rows, columns = rows[order], columns[order]
        first = np.flatnonzero(np.concatenate([[True], (np.diff(rows) != 0) | (np.diff(columns) != 0)]))
        entries = np.add.reduceat(entries[order], first)
        kept = entries > 0
        rows, columns, entries = rows[first][kept], columns[first][kept], entries[kept]
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=mdp.n_pairs))])
        floats = entries if exact is None else to_floats(entries)
        mended = sparse.csr_array((floats, columns, indptr), shape=matrix.shape)
        return cls(mended, None if exact is None else entries, True)


@dataclass(frozen=True, eq=False)
class _Stage:
    """What one set of states contributes to a step: positions in the arrays of the model."""

    states: AnyArray  # [n], sorted
    pairs: AnyArray  # [k]
    entries: AnyArray  # [m], of the transitions
    columns: AnyArray  # [m], positions among the states of the next step


def unroll(mdp: MDP, horizon: Any, terminal: Any) -> Parts:
    """Write the model out over its steps; see `MDP.unrolled`."""
    steps = read_horizon(horizon)
    salvage = read_terminal(terminal, mdp)
    rows = WholeRows.of(mdp)
    stages = _stages(mdp.pairs, mdp.initial, rows.matrix, steps)
    sizes = np.array([len(stage.states) for stage in stages])
    counts = np.array([len(stage.pairs) for stage in stages])
    widths = np.array([len(stage.entries) for stage in stages[:-1]], dtype=np.int64)
    _check_size(int(counts.sum()) + int(widths.sum()), steps)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    end, n_last = int(offsets[-1]), int(counts[-1]) + 1  # the end is its own successor
    used = np.concatenate([stage.pairs for stage in stages])
    entries = _joined([stage.entries for stage in stages[:-1]])
    columns = _joined([stage.columns for stage in stages[:-1]]) + np.repeat(offsets[1:-1], widths)
    lengths = np.concatenate([np.diff(rows.matrix.indptr)[used[: len(used) - n_last + 1]], np.ones(n_last, np.int64)])
    numbers = _Numbers(mdp, salvage, rows, used, np.repeat(np.arange(steps), counts), steps)
    first, outside = stages[0].states, end + 1 - len(stages[0].states)
    exact, values = None, {name: numbers.floats(name) for name in ("reward", *mdp.pair_costs)}
    wanted = mdp.exact is not None or any(given.dtype == object for given in salvage.values())
    if wanted and numbers.bits <= EXACT_BITS:
        exact = _fractions(numbers, entries, n_last, first, outside)
        values = {
            name: to_floats(np.array(column)) for name, column in [("reward", exact.rewards), *exact.costs.items()]
        }
    pairs = _index(mdp.pairs, stages, used, sizes)
    for name, column in values.items():
        check_values(column, pairs, "the reward" if name == "reward" else f"cost {name!r}")
    return Parts(
        pairs, np.concatenate([rows.matrix.data[entries], np.ones(n_last)]),
        np.concatenate([columns, np.full(n_last, end)]), np.concatenate([[0], np.cumsum(lengths)]),
        values["reward"], {name: values[name] for name in mdp.pair_costs}, None,
        np.concatenate([mdp.initial[first], np.zeros(outside)]),
        _notes(mdp, rows.mended, end, steps, dropped=wanted and exact is None), exact,
    )  # fmt: skip


def _fractions(numbers: _Numbers, entries: AnyArray, n_last: int, first: AnyArray, outside: int) -> ExactNumbers:
    """The numbers of the unrolled model as fractions."""
    mdp, rows = numbers.mdp, numbers.rows
    weights = to_fractions(rows.matrix.data, "") if rows.exact is None else rows.exact
    start = to_fractions(mdp.initial, "") if mdp.exact is None else mdp.exact.initial
    return ExactNumbers(
        transitions=(*weights[entries], *[Fraction(1)] * n_last),
        rewards=tuple(numbers.fractions("reward")),
        initial=(*(start[s] for s in first), *[Fraction(0)] * outside),
        discount=None,
        costs={name: tuple(numbers.fractions(name)) for name in mdp.pair_costs},
    )


def _stages(pairs: Pairs, initial: AnyArray, matrix: Any, steps: int) -> list[_Stage]:
    """One stage a step, of the states that can be reached; sets that come back share one stage.

    The set of a step follows from the one before, so that once a set comes back the sequence is periodic.
    """
    place = np.zeros(pairs.n_states, dtype=np.int64)
    states = np.flatnonzero(initial > 0)
    stages: list[_Stage] = []
    met: dict[bytes, int] = {}
    while len(stages) < steps:
        key = states.astype(np.int32).tobytes()
        if key in met:
            period = stages[met[key] :]
            repeats, rest = divmod(steps - len(stages), len(period))
            _check_size(repeats * sum(len(stage.pairs) + len(stage.entries) for stage in period), steps)
            return stages + period * repeats + period[:rest]
        met[key] = len(stages)
        here = _ranges(pairs.start, states)
        entries = _ranges(matrix.indptr, here)
        marks = np.zeros(pairs.n_states, dtype=np.bool_)
        marks[matrix.indices[entries]] = True
        following = np.flatnonzero(marks)
        place[following] = np.arange(len(following))
        stages.append(_Stage(states, here, entries, place[matrix.indices[entries]]))
        states = following
    return stages


def _check_size(size: int, steps: int) -> None:
    if size >= LARGEST:
        raise InvalidProblem(
            f"{steps} steps of this model do not fit a 32-bit index. oc.backward_induction(mdp, horizon) needs no "
            "unrolled model."
        )


def _ranges(start: AnyArray, chosen: AnyArray) -> AnyArray:
    """Concatenate start[i] .. start[i + 1] − 1 over the chosen i."""
    first = start[chosen].astype(np.int64)
    counts = start[chosen + 1] - first
    shifts: AnyArray = np.repeat(first - np.cumsum(counts) + counts, counts)
    return shifts + np.arange(counts.sum())


def _joined(parts: list[AnyArray]) -> AnyArray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Numbers:
    """Rewards and costs of the unrolled pairs: γ^t c, and in the last step γ^T times the salvage expected."""

    mdp: MDP
    salvage: Mapping[str, AnyArray]
    rows: WholeRows
    used: AnyArray  # [pairs of the unrolled model without its end], pairs of the model
    times: AnyArray  # the same shape
    steps: int

    def floats(self, name: str) -> AnyArray:
        """Doubles, the end's included."""
        mdp = self.mdp
        own = mdp.pair_rewards if name == "reward" else mdp.pair_costs[name]
        powers = np.power(1.0 if mdp.discount is None else mdp.discount, np.arange(self.steps + 1))
        out: AnyArray = np.append(powers[self.times] * own[self.used], 0.0)
        if name in self.salvage:
            given = self.salvage[name]
            salvage = to_floats(given) if given.dtype == object else given
            last = np.flatnonzero(self.times == self.steps - 1)
            with np.errstate(over="ignore"):  # an infinity is reported with its pair
                out[last] += powers[-1] * (self.rows.matrix[self.used[last]] @ salvage)
        return out

    @property
    def discount(self) -> Fraction:
        """γ as a fraction."""
        exact = self.mdp.exact
        if exact is not None and exact.discount is not None:
            return exact.discount
        return Fraction(1 if self.mdp.discount is None else self.mdp.discount)

    @property
    def bits(self) -> int:
        """About how many bits the fractions would take."""
        one_power = self.discount.numerator.bit_length() + self.discount.denominator.bit_length() - 2
        return one_power * int(self.times.sum(dtype=np.int64)) * (1 + len(self.mdp.pair_costs))

    def fractions(self, name: str) -> AnyArray:
        """The same as fractions."""
        mdp, exact = self.mdp, self.mdp.exact
        floats = mdp.pair_rewards if name == "reward" else mdp.pair_costs[name]
        if exact is None:
            own = to_fractions(floats, name)
        else:
            own = np.array(exact.rewards if name == "reward" else exact.costs[name], dtype=object)
        powers = np.empty(self.steps + 1, dtype=object)
        powers[0] = Fraction(1)
        for t in range(self.steps):
            powers[t + 1] = powers[t] * self.discount
        out: AnyArray = np.empty(len(self.used) + 1, dtype=object)
        out[:-1], out[-1] = powers[self.times] * own[self.used], Fraction(0)
        if name in self.salvage:
            matrix, given = self.rows.matrix, to_fractions(self.salvage[name], name)
            weights = to_fractions(matrix.data, "") if self.rows.exact is None else self.rows.exact
            for row in np.flatnonzero(self.times == self.steps - 1):
                span = slice(matrix.indptr[self.used[row]], matrix.indptr[self.used[row] + 1])
                out[row] += powers[-1] * expectation(weights[span], given[matrix.indices[span]])
        return out


def _index(base: Pairs, stages: list[_Stage], used: AnyArray, sizes: AnyArray) -> Pairs:
    """The pairs (t, s, a) and the end, which takes the first action."""
    states = np.append(np.concatenate([stage.states for stage in stages]), -1).astype(np.int32)
    times = np.append(np.repeat(np.arange(len(stages)), sizes), len(stages)).astype(np.int32)
    lengths = np.append(np.diff(base.start)[states[:-1]], 1)
    return Pairs(
        start=frozen(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)),
        actions=frozen(np.append(base.actions[used], 0).astype(np.int32)),
        n_actions=base.n_actions,
        state_labels=StageLabels(base, len(stages), frozen(times), frozen(states)),
        action_labels=base.action_labels,
    )


def _notes(mdp: MDP, mended: bool, n_kept: int, steps: int, *, dropped: bool) -> tuple[str, ...]:
    notes = [note for note in mdp.notes if not (mended and "do not sum to exactly 1" in note)]
    if n_kept < steps * mdp.n_states:
        notes.append(f"{n_kept} of {steps * mdp.n_states} states (t, s) can be reached; the others are left out")
    if dropped:
        notes.append(f"the powers of the discount over {steps} steps are too long as fractions; these are doubles")
    return tuple(notes)
