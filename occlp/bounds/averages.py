"""Average reward with several end components: bounds whose gain differs from state to state.

Letters: ``G`` gains, ``h`` relative values. No policy earns more than μ0·G + max (r − G + Ph − h) if G ≥ PG on all
pairs (Puterman 2005, theorem 9.1.2). That condition allows no tolerance, so G is one number on each maximal end
component and is checked exactly elsewhere. On pairs with G > PG a multiple of G added to h makes the rest slack.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from occlp._typing import AnyArray, BoolArray, FloatArray, IntArray
from occlp.bounds.relaxation import Values
from occlp.bounds.upper import UpperBound, priced
from occlp.chains.gains import LARGE, SHIFTS, certain_sign, differing, drifts, mean_gain, snapped
from occlp.errors import Unsupported
from occlp.graph import EndComponents, Quotient, TransitionGraph, collapse, maximal_end_components, transition_graph
from occlp.kernels import backup
from occlp.kernels.backup import EPS
from occlp.parallel import run_rows
from occlp.problem import Problem
from occlp.residuals import pair_residuals, two_sum
from occlp.standard import StandardForm
from occlp.total.transient import Transient
from occlp.work import count_transitions

#: Pairs that lose less gain than this share (of the range of gains, per probability of leaving) count as losing none.
TIED = 1e-9
#: Rounds of policy iteration between staying and leaving.
MOST_ROUNDS = 200
_COMPONENTS: WeakKeyDictionary[Problem, EndComponents] = WeakKeyDictionary()


def components_of(problem: Problem) -> EndComponents:
    """Maximal end components of the model of a question; kept while the question lives."""
    found = _COMPONENTS.get(problem)
    if found is None:
        graph = transition_graph(problem.mdp.pairs.states, problem.mdp.transitions)
        found = _COMPONENTS[problem] = maximal_end_components(graph)
    return found


def has_several(problem: Problem) -> bool:
    """Whether a question is about averages that may depend on the start: its model has several end components."""
    return problem.criterion == "average" and components_of(problem).count > 1


def refuse_several(problem: Problem, what: str) -> None:
    """Raise `Unsupported` where averages may depend on the start."""
    if has_several(problem):
        raise Unsupported(
            f"{what} averages that do not depend on the start; this model has {components_of(problem).count} end "
            "components. Ask a discounted question with a discount near 1."
        )


@dataclass(frozen=True, eq=False)
class Gains:
    """What bounds with gains need of a form: its graph with the end components collapsed.

    Attributes
    ----------
    form : StandardForm
    graph : TransitionGraph
    components : EndComponents
    quotient : Quotient
    transitions : csr_array [pairs of the quotient, nodes]
    leaving : FloatArray [pairs]
        Probability of leaving the end component (or the state, outside of components).
    """

    form: StandardForm
    graph: TransitionGraph
    components: EndComponents
    quotient: Quotient
    transitions: Any  # csr_array [pairs of the quotient, nodes]
    leaving: FloatArray  # [pairs]

    @classmethod
    def of(cls, form: StandardForm) -> Gains:
        """Analyse a form."""
        graph = transition_graph(form.states, form.transitions)
        components = maximal_end_components(graph)
        quotient = collapse(graph, components)
        matrix = quotient.transitions(form.transitions)
        matrix.sort_indices()
        matrix.indices = matrix.indices.astype(np.int32, copy=False)
        matrix.indptr = matrix.indptr.astype(np.int32, copy=False)
        entries = form.transitions
        rows = np.repeat(np.arange(form.n_pairs), np.diff(entries.indptr))
        away = quotient.nodes[entries.indices] != quotient.nodes[form.states[rows]]
        leaving = np.asarray(np.bincount(rows[away], entries.data[away], form.n_pairs), dtype=np.float64)
        return cls(form, graph, components, quotient, matrix, leaving)

    def bound_above(self, values: Values, gain: FloatArray, prices: FloatArray | None = None) -> UpperBound:
        """Upper bound on the objective of every policy that keeps the constraints, from any h, G and prices."""
        form = self.form
        prices = np.zeros(len(form.limits.names)) if prices is None else form.limits.feasible_prices(prices)
        rewards, charge_error = priced(form, prices)
        gain = self.raised(gain)
        here = gain[form.states]
        charge_error = charge_error + EPS * (np.abs(rewards) + np.abs(here))
        high, low = values
        candidates: list[Values] = [(high, low)]
        scores, _ = _scores(form, (high, low), rewards - here)
        multiple = self._multiple(gain, scores)
        if multiple > 0:
            candidates.append(two_sum(multiple * gain, high if low is None else high + low))
        base, slack = mean_gain(form.initial, gain)
        bounds = []
        for candidate in candidates:
            scores, error = _scores(form, candidate, rewards - here)
            error = error + charge_error
            top = int(np.argmax(scores + error))
            value = base + float(scores[top] + error[top]) + slack
            value = value if math.isfinite(value) else math.inf
            bounds.append(UpperBound(value, slack + float(error[top]), candidate, scores, prices, gain=gain))
        return preferred(bounds[0], bounds[-1])

    def raised(self, gain: FloatArray) -> FloatArray:
        """Gains not below the given ones, equal on each end component, with G ≥ PG on every pair, exactly."""
        nodes, inside = self.quotient.nodes, self.components.component >= 0
        top = np.full(self.quotient.graph.n_states, -np.inf)
        np.maximum.at(top, nodes, gain)
        ends = np.zeros(len(top), dtype=np.bool_)
        ends[nodes[inside]] = True
        size = float(np.ptp(gain))
        if self._never_rises(top[nodes]):
            return np.asarray(top[nodes])
        for shift in SHIFTS:
            trial = self._best_ends(top, ends, shift * EPS * size)
            if trial is not None and self._never_rises(trial[nodes]):
                return np.asarray(trial[nodes])
        return np.full(len(gain), float(gain.max()))

    def _never_rises(self, gain: FloatArray) -> bool:
        """Whether G ≥ PG on every pair, exactly."""
        matrix, states = self.form.transitions, self.form.states
        drift, error = drifts(matrix, states, gain)
        return certain_sign(matrix, states, -gain, (-drift, error))

    def _best_ends(self, top: FloatArray, ends: BoolArray, bonus: float) -> FloatArray | None:
        """Value of stopping (at nodes that are `ends`, for `top`) or moving on, with a bonus a move; [nodes]."""
        graph, matrix = self.quotient.graph, self.transitions
        states = graph.pair_states
        if not len(states):
            return top
        jumps = self.leaving[self.quotient.pairs]
        stop = np.where(ends, top, -np.inf)
        choice = np.where(ends, -1, _best_of(states, drifts(matrix, states, top)[0], len(top)))
        for _ in range(MOST_ROUNDS):
            moving = choice >= 0
            chosen = np.where(moving, choice, 0)
            base = float(top[ends].min())
            outside = np.where(moving, 0.0, stop - base)
            values = Transient(matrix[chosen], moving).values(np.where(moving, bonus * jumps[chosen], 0.0), outside)
            values = values + base
            drift, error = drifts(matrix, states, values)
            rising = drift - error + 0.5 * bonus * jumps
            best = _best_of(states, rising, len(top))
            better = (best >= 0) & (np.where(best >= 0, rising[best], -1.0) > 0) & (best != choice)
            back = moving & ends & (values < stop)
            if not (better | back).any():
                return np.maximum(values, stop)
            choice = np.where(better, best, np.where(back, -1, choice))
        return None

    def _multiple(self, gain: FloatArray, scores: FloatArray) -> float:
        """How many gains to add to the values, so that pairs which lose gain do not matter: a power of two."""
        drift, _ = drifts(self.form.transitions, self.form.states, gain)
        moving = differing(self.form.transitions, self.form.states, snapped(gain))
        strict = -drift > TIED * moving * float(np.ptp(gain))
        if not strict.any() or strict.all():
            return 0.0
        beyond = scores[strict] - scores[~strict].max()
        worst = 1.0 + max(float((beyond / -drift[strict]).max()), 0.0)  # what loses gain must show as inferior
        return math.ldexp(1.0, math.frexp(worst)[1]) if worst < 1e300 else 0.0


def _scores(form: StandardForm, values: Values, rewards: FloatArray) -> tuple[FloatArray, FloatArray]:
    """r + Ph − h of every pair and a bound on its rounding, in double-double arithmetic where values are large."""
    high, low = values
    if np.abs(high).max() <= LARGE:
        return pair_residuals(form, high, low, rewards)
    low = np.zeros_like(high) if low is None else low
    out, error = np.empty(form.n_pairs), np.empty(form.n_pairs)
    matrix = form.transitions
    rows = (matrix.indptr, matrix.indices, matrix.data, form.states, rewards, form.discount, form.rest)
    count_transitions(matrix.nnz)
    run_rows(backup.residuals_extended, form.n_pairs, 8 * matrix.nnz, *rows, high, low, out, error)
    return out, error


def preferred(known: UpperBound, found: UpperBound) -> UpperBound:
    """The found bound, unless the known one is less by more than rounding; gains say more than one number."""
    return known if known.value < found.value - 2.0 * found.rounding else found


def _best_of(states: IntArray, scores: FloatArray, count: int) -> AnyArray:
    """The pair with the largest score of each node, −1 for nodes without pairs."""
    out = np.full(count, -1, dtype=np.int64)
    order = np.argsort(scores, kind="stable")
    out[states[order]] = order
    return out
