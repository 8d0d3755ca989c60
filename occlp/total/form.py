"""The form of a total-reward question: the standard form, with a goal that is never left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from scipy import sparse

from occlp._typing import BoolArray, FloatArray, IntArray, frozen
from occlp.graph import TransitionGraph, transition_graph
from occlp.problem import Problem
from occlp.standard import StandardForm, standardize

_FORMS: WeakKeyDictionary[Problem, TotalForm] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class TotalForm:
    """Plain arrays of a total-reward question, to be maximised.

    Attributes
    ----------
    base : StandardForm
        γ = 1; every pair of a goal state is a loop without reward.
    goal : BoolArray [S]
    boundary : float
        Value of the goal: 0, or ±1 where the question is whether it is reached.
    proper : bool
        Whether policies must reach the goal almost surely. Without that, a policy may stay for ever where
        nothing is earned.
    """

    base: StandardForm
    goal: BoolArray  # [S]
    boundary: float
    proper: bool

    @cached_property
    def graph(self) -> TransitionGraph:
        """Which states each pair may lead to."""
        return transition_graph(self.base.states, self.base.transitions)

    @cached_property
    def free(self) -> BoolArray:
        """Pairs outside the goal that earn nothing and that no constraint weighs, [pairs]."""
        idle = (self.base.rewards == 0) & ~self.goal[self.base.states]
        return np.asarray(idle & ~self.base.limits.rows.any(axis=0))


def formulate_total(problem: Problem) -> TotalForm:
    """Return the form of a total-reward question; kept while the problem lives."""
    form = _FORMS.get(problem)
    if form is None:
        form = _FORMS[problem] = _formulate(problem)
    return form


def _formulate(problem: Problem) -> TotalForm:
    form, goal = standardize(problem), problem.goal_states
    boundary = 0.0
    rewards = form.rewards
    if problem.objective == "reach":
        rewards = np.zeros(form.n_pairs)
        boundary = form.sign
        form = replace(form, scale=1.0, shift=0.0, reward_range=1.0)
    ended = goal[form.states]
    rows = form.limits.rows.copy()
    rows[:, ended] = 0.0  # the process has ended: nothing is counted any more
    base = replace(
        form,
        transitions=_closed(form.transitions, form.states, ended) if ended.any() else form.transitions,
        rewards=frozen(np.where(ended, 0.0, rewards)),
        limits=replace(form.limits, rows=frozen(rows)),
    )
    return TotalForm(base, goal, boundary, proper=bool(goal.any()) and problem.objective == "reward")


def without_rewards(total: TotalForm) -> TotalForm:
    """The same question where nothing is earned, to ask what constraints alone allow."""
    return replace(total, base=replace(total.base, rewards=np.zeros(total.base.n_pairs)), boundary=0.0)


def _closed(transitions: Any, states: IntArray, ended: BoolArray) -> Any:
    """Transitions [pairs, S] with the rows of some pairs replaced by loops."""
    counts = np.where(ended, 1, np.diff(transitions.indptr))
    rows = np.repeat(np.arange(len(states)), np.diff(transitions.indptr))
    kept = ~ended[rows]
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    indices, data = np.empty(indptr[-1], dtype=np.int32), np.empty(indptr[-1])
    place = np.repeat(~ended, counts)
    indices[place], data[place] = transitions.indices[kept], transitions.data[kept]
    indices[~place], data[~place] = states[ended], 1.0
    return sparse.csr_array((data, indices, indptr), shape=transitions.shape)


def standard_values(form: StandardForm, values: FloatArray) -> FloatArray:
    """Values in the user's units and sense as values of the form, [S]."""
    return np.asarray(values, dtype=np.float64) * (form.sign / form.scale)
