"""Backward induction: optimal values and decision rules of a finite horizon, with bounds on their rounding.

V_T = terminal, V_t(s) = max_a r(s, a) + γ Σ P(s' | s, a) V_{t+1}(s') (Bellman 1957; Puterman 1994, section 4.5).
A value computed with local errors of at most ε a step is off by at most Σ γ^t ε, and so is what the greedy
rules earn: one number bounds both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from occlp._typing import AnyArray, FloatArray, frozen
from occlp.arguments import check_word
from occlp.errors import InvalidProblem
from occlp.horizon.timed_policy import TimedPolicy
from occlp.kernels import horizon as kernels
from occlp.model import MDP
from occlp.model.exact import to_floats, to_fractions
from occlp.model.unrolling import read_horizon, read_terminal

EPS = kernels.EPS
#: Transitions looked at in one call of the kernel, so that Ctrl-C is heard within a second or so.
CALL_SIZE = 200_000_000


@dataclass(frozen=True, eq=False, kw_only=True)
class HorizonResult:
    """The answer of `backward_induction`, in the user's units and sense.

    Attributes
    ----------
    objective : float
        Expected discounted reward of the horizon from the initial distribution: Σ μ0(s) V_0(s).
    lower, upper : float
        They enclose the optimum, and what the returned decision rules earn; rounding is accounted for.
    values : FloatArray [kept + 1, S]
        V_t for the first steps kept, in the money of step t; with all steps kept the last row is the terminal.
    policy : TimedPolicy
        Optimal decision rules of the first steps kept, [kept, S].
    horizon : int
        Number of steps T.
    error : float
        What bounds the error of each of `state_values`.
    sense : {"maximize", "minimize"}
    exact_values : array of Fraction [kept + 1, S], or None
        The values as fractions, where they were asked for.
    exact_objective : Fraction or None
    """

    objective: float
    lower: float
    upper: float
    values: FloatArray  # [kept + 1, S]
    policy: TimedPolicy
    horizon: int
    error: float
    sense: Literal["maximize", "minimize"] = "maximize"
    exact_values: AnyArray | None = None
    exact_objective: Fraction | None = None

    @property
    def gap(self) -> float:
        """``upper − lower``."""
        return self.upper - self.lower

    @property
    def state_values(self) -> FloatArray:
        """V_0, [S]: the optimum from every state, whatever the initial distribution."""
        first: FloatArray = self.values[0]
        return first

    def __repr__(self) -> str:
        return f"<HorizonResult T={self.horizon} objective={self.objective:.6g} gap={self.gap:.2g}>"


def backward_induction(
    mdp: MDP,
    horizon: int,
    *,
    terminal: Any = None,
    sense: Literal["maximize", "minimize"] = "maximize",
    keep: int | None = None,
    certify: Literal["float", "exact"] = "float",
) -> HorizonResult:
    """Solve a finite horizon without constraints.

    One pass over the transitions a step. With ``keep=0`` the memory needed is a few numbers a state, and
    10^6 steps of a hundred states take some seconds. For constraints see `MDP.unrolled`.

    Parameters
    ----------
    mdp : MDP
        A discount that is left out means 1.
    horizon : int
        Number of decisions T, at least 1.
    terminal : array [S], optional
        Salvage values V_T; default 0.
    sense : {"maximize", "minimize"}
        Whether rewards are earned or paid.
    keep : int, optional
        Of how many of the first steps values and decision rules are kept, 12 bytes a state and step; default
        all. ``keep=1`` is what rolling plans need.
    certify : {"float", "exact"}
        "exact" computes in fractions: those of ``mdp.exact``, or the dyadic rationals that doubles are.

    Returns
    -------
    HorizonResult

    Raises
    ------
    InvalidProblem
        For a horizon that is not a positive integer, or values beyond the range of doubles.
    InvalidModel
        For salvage values of the wrong shape, or not finite.

    References
    ----------
    Puterman (1994), Markov Decision Processes, section 4.5.

    Examples
    --------
    >>> import occlp as oc
    >>> answer = oc.backward_induction(oc.instances.get("howard-toymaker", discount=1), 4, certify="exact")
    >>> answer.exact_values[0]
    array([Fraction(6111, 500), Fraction(2223, 1000)], dtype=object)
    """
    steps = read_horizon(horizon)
    check_word(sense, "sense", ("maximize", "minimize"))
    check_word(certify, "certify", ("float", "exact"))
    kept = steps if keep is None else _read_keep(keep, steps)
    salvage = read_terminal(terminal, mdp)
    if salvage.keys() - {"reward"}:
        raise InvalidProblem("backward induction knows no costs: give terminal=, [S], for the reward only.")
    found = salvage.get("reward", np.zeros(mdp.n_states))
    solve = _solve_floats if certify == "float" else _solve_fractions
    return solve(mdp, steps, found, kept, sense)


def _read_keep(keep: Any, steps: int) -> int:
    if isinstance(keep, bool) or not isinstance(keep, int | np.integer) or keep < 0:
        raise InvalidProblem(f"keep={keep!r} is not a number of steps. Give an integer of at least 0, or None for all.")
    return min(int(keep), steps)


def _solve_floats(mdp: MDP, steps: int, terminal: AnyArray, kept: int, sense: Any) -> HorizonResult:
    last = to_floats(terminal) if terminal.dtype == object else terminal
    size = max(float(np.abs(mdp.pair_rewards).max()), float(np.abs(last).max()))
    unit = math.ldexp(1.0, min(math.frexp(size)[1], 1023)) if size > 0 else 1.0  # a power of two: nothing is rounded
    factor = unit if sense == "maximize" else -unit
    last = last / factor
    matrix, discount = mdp.transitions, 1.0 if mdp.discount is None else mdp.discount
    h, offset = last - last[0], np.array([last[0], 0.0, EPS * np.abs(last - last[0]).max()])
    values, choices = np.empty((kept + 1, mdp.n_states)), np.empty((kept, mdp.n_states), dtype=np.int32)
    values[-1] = last
    rewards = mdp.pair_rewards / factor
    rows = (mdp.pairs.start, matrix.indptr, matrix.indices, matrix.data, rewards, discount, _growth(mdp))
    per_call = max(1, CALL_SIZE // max(matrix.nnz, 1))
    nothing = np.empty((0, mdp.n_states)), np.empty((0, mdp.n_states), dtype=np.int32)
    scratch, left = np.empty(mdp.n_states), steps
    while left:  # the steps left − 1, left − 2, ... come next
        count = min(per_call, left - kept if left > kept else left)
        span = slice(left - count, left)
        kernels.induce(count, *rows, h, scratch, offset, *(nothing if left > kept else (values[span], choices[span])))
        left -= count
        if left == kept < steps:
            values[kept] = h + offset[0]
    objective, slack = _start_value(mdp.initial, h, offset)
    with np.errstate(over="ignore"):
        values = factor * values + 0.0
    low, middle, top = sorted(factor * value + 0.0 for value in (objective - slack, objective, objective + slack))
    if not np.isfinite(values).all() or not math.isfinite(low) or not math.isfinite(top):
        raise InvalidProblem(f"values of {steps} steps overflow double precision. Rescale the rewards.")
    error = unit * (float(offset[2]) + 4 * EPS * float(np.abs(h).max() + abs(offset[0])))
    return HorizonResult(
        objective=middle, lower=low, upper=top, values=frozen(values),
        policy=TimedPolicy(mdp.pairs, frozen(choices)), horizon=steps, error=error, sense=sense,
    )  # fmt: skip


def _start_value(initial: FloatArray, h: FloatArray, offset: FloatArray) -> tuple[float, float]:
    """Σ μ0 (h + o), and a bound on its error."""
    weights, (high, low, error) = initial.tolist(), offset.tolist()
    mass = math.fsum(weights)
    rest = math.fsum([*weights, -mass])  # what the sum itself has rounded
    terms = [*(initial * h).tolist(), mass * high, rest * high, mass * low]
    value = math.fsum(terms) if math.isfinite(high) else math.nan
    slack = mass * error + EPS * math.fsum(map(abs, terms[:-3])) + 8 * EPS * EPS * abs(high) + EPS * abs(value)
    return value, (slack if mass == 1.0 else slack + EPS * abs(high)) * (1 + 8 * EPS)


def _growth(mdp: MDP) -> float:
    """By how much a step may multiply an error: γ, and a little more where rows exceed one."""
    matrix, states = mdp.transitions, mdp.pairs.states
    counts = np.diff(matrix.indptr)
    rows = np.repeat(np.arange(mdp.n_pairs), counts)
    away = matrix.indices != states[rows]
    leaving = np.bincount(rows[away], weights=matrix.data[away], minlength=mdp.n_pairs)
    excess = np.maximum(leaving - 1.0 + counts * EPS, 0.0).max(initial=0.0)
    return float((1.0 if mdp.discount is None else mdp.discount) * (1.0 + 2.0 * excess) * (1.0 + 2.0 * EPS))


def _solve_fractions(mdp: MDP, steps: int, terminal: AnyArray, kept: int, sense: Any) -> HorizonResult:
    best = max if sense == "maximize" else min
    exact, matrix = mdp.exact, mdp.transitions
    weights = np.array(to_fractions(matrix.data, "") if exact is None else exact.transitions, dtype=object)
    rewards = to_fractions(mdp.pair_rewards, "") if exact is None else exact.rewards
    initial = to_fractions(mdp.initial, "") if exact is None else exact.initial
    discount = Fraction(1 if mdp.discount is None else mdp.discount)
    if exact is not None and exact.discount is not None:
        discount = exact.discount
    indptr, start, states = matrix.indptr.tolist(), mdp.pairs.start.tolist(), mdp.pairs.states
    own = np.repeat(states, np.diff(matrix.indptr))
    values = to_fractions(terminal, "terminal")
    table = np.empty((kept + 1, mdp.n_states), dtype=object)
    choices = np.empty((kept, mdp.n_states), dtype=np.int32)
    for time in range(steps - 1, -1, -1):
        if time < kept:
            table[time + 1] = values
        moves = weights * (values[matrix.indices] - values[own])  # staying takes up what a row misses
        scores = [
            reward + discount * sum(moves[indptr[k] : indptr[k + 1]], start=values[states[k]])
            for k, reward in enumerate(rewards)
        ]
        chosen = [best(range(start[s], start[s + 1]), key=scores.__getitem__) for s in range(mdp.n_states)]
        values = np.array([scores[k] for k in chosen], dtype=object)
        if time < kept:
            choices[time] = chosen
    table[0] = values
    objective = sum((p * v for p, v in zip(initial, values, strict=True)), start=Fraction(0))
    floats = to_floats(table)
    if not np.isfinite(floats).all():
        raise InvalidProblem(f"values of {steps} steps overflow double precision. Rescale the rewards.")
    middle = float(objective)
    return HorizonResult(
        objective=middle,
        lower=middle if Fraction(middle) <= objective else math.nextafter(middle, -math.inf),
        upper=middle if Fraction(middle) >= objective else math.nextafter(middle, math.inf),
        values=frozen(floats), policy=TimedPolicy(mdp.pairs, frozen(choices)), horizon=steps,
        error=float(np.abs(floats).max()) * EPS, sense=sense, exact_values=table, exact_objective=objective,
    )  # fmt: skip
