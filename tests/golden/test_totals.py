"""Published and exact answers on totals, goals and reachability, small models; they are written in total.json.

Answers are exact fractions. "inf" stands for a total that nothing bounds, or a goal that no policy is certain to
reach; "lottery" for an optimum that no stationary policy attains, which must be declined and not answered.
"""

from __future__ import annotations

import pytest
from tables import check, written

import occlp as oc

CASES = list(written())
SOLVERS = {"default": None, "PolicyIteration": oc.PolicyIteration(), "program": oc.OccupancyProgram("HIGHS")}


@pytest.mark.parametrize(
    ("case", "solver"),
    [
        pytest.param(case, solver, id=f"{case}-{name}")
        for name, solver in SOLVERS.items()
        for case in CASES
        if not (case.limited and isinstance(solver, oc.PolicyIteration))
    ],
)
def test_published(case, solver):
    check(case, solver)


@pytest.mark.bad_input(40, 43)
def test_infinite_answers_say_which_kind():
    by_name = {str(case): case for case in CASES}
    with pytest.raises(oc.Infeasible, match="no policy reaches the goal"):
        oc.solve(by_name["S03 goal1 min"].build())
    with pytest.raises(oc.Unbounded, match="every policy"):
        oc.solve(by_name["N03 min"].build())
    with pytest.raises(oc.Unbounded, match="earns for ever"):
        oc.solve(by_name["R22 steps"].build())


def test_the_policy_of_an_optimum_goes_on():
    """Storm issue 940: the value 1/2 is right, and a policy that circles in state 1 is worth nothing."""
    (case,) = [case for case in CASES if case.id == "N02"]
    result = oc.solve(case.build())
    assert result.policy.actions[1] == "go"
    assert result.policy.actions[2] == "win"
