"""The master program of the decomposition, to the last digit."""

from __future__ import annotations

import numpy as np
import pytest

import occlp as oc


@pytest.mark.parametrize("budget", [1e-6, 1e-9, 1e-10, 1e-12, 1e-14])
@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("others", [0, 1])
def test_budgets_that_only_a_tiny_weight_meets(budget, unit, others):
    """One state, safe (0) or risky (1, which costs 1): the optimum is the budget itself."""
    wear = np.array([[0.0, unit, 0.5 * unit]])
    mdp = oc.MDP.from_arrays(np.ones((1, 3, 1)), [[0.0, 1.0, 0.3]], discount=0.9, costs={"wear": wear})
    limits = {"wear": oc.expected("wear") <= budget * unit, "slack": [oc.expected("wear") >= -unit][:others]}
    result = oc.solve(oc.Problem(mdp, constraints=limits), oc.Decomposition())
    assert result.status is oc.Status.CERTIFIED
    assert result.objective == pytest.approx(budget, abs=1e-15)
    assert result.policy.pair_probabilities[1] == pytest.approx(budget, abs=1e-15)
    assert result.multipliers["wear"] == pytest.approx(1 / unit)


def test_a_tiny_weight_on_the_way_to_a_state_for_good():
    """From state 0 one may leave for ever, earning and wearing 1 a step from then on: d(1) = budget."""
    mdp = oc.MDP.from_arrays(
        [[[1, 0], [0, 1]], [[0, 1], [0, 1]]], [[0.0, 0.0], [1.0, 1.0]], discount=0.99, initial=0,
        costs={"wear": [[0, 0], [1, 1]]},
    )  # fmt: skip
    result = oc.solve(oc.Problem(mdp, constraints=[oc.expected("wear") <= 1e-10]), oc.Decomposition())
    assert result.status is oc.Status.CERTIFIED
    assert result.occupancy[1].sum() == pytest.approx(1e-10, rel=1e-4)
