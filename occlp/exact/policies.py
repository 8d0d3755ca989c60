"""Policy iteration in rationals: every comparison of actions is exact, so it ends at an optimal policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from weakref import WeakKeyDictionary

from occlp.exact.chain import ExactChain, Worth, residuals
from occlp.exact.form import ExactForm, Number

_LAST: WeakKeyDictionary[ExactForm, ExactEvaluation] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class ExactEvaluation:
    """A deterministic policy and what follows from it.

    Attributes
    ----------
    choice : list of int [S]
        The pair taken in each state.
    worth : Worth
    residuals : list of fmpq [pairs]
        r + γPV − V; none is positive if and only if the policy is optimal from every state.
    """

    choice: list[int]
    worth: Worth
    residuals: list[Number]


def evaluate_exactly(form: ExactForm, choice: list[int]) -> ExactEvaluation:
    """Evaluate a deterministic policy; the last evaluation of a form is kept."""
    last = _LAST.get(form)
    if last is None or last.choice != choice:
        worth = ExactChain.of_choice(form, choice).worth([form.rewards[pair] for pair in choice])
        last = _LAST[form] = ExactEvaluation(choice, worth, residuals(form, form.rewards, worth))
    return last


def exact_policy_iterations(form: ExactForm, choice: list[int]) -> Iterator[ExactEvaluation]:
    """Yield evaluations until no action improves (Howard 1960); the last one is optimal.

    Each policy is better than the one before, so none comes back and the method ends. Discounted questions;
    averages are in `occlp.exact.gains`.
    """
    while True:
        found = evaluate_exactly(form, choice)
        yield found
        better = list(choice)
        for state, (first, last) in enumerate(pairwise(form.start)):
            best = max(range(first, last), key=found.residuals.__getitem__)
            if found.residuals[best] > 0:
                better[state] = best
        if better == choice:
            return
        choice = better
