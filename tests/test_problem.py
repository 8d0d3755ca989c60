"""Questions: what cannot be asked is refused when it is asked, with what to ask instead."""

from __future__ import annotations

import numpy as np
import pytest

import occlp as oc
from occlp.problem import as_problem, refuse_total

WALK = oc.MDP.from_arrays([[[0.5, 0.5], [0, 1]], [[0, 1]] * 2], [[1, 2], [0, 0]], initial=0, costs={"toll": [1, 0]})
TOLL = oc.expected("toll") <= 1


@pytest.mark.parametrize(
    ("asked", "kind", "words"),
    [
        ({}, oc.InvalidProblem, "has no discount"),
        ({"criterion": "average", "goal": 1}, oc.InvalidProblem, "belong to criterion='total'"),
        ({"criterion": "average", "objective": "reach"}, oc.InvalidProblem, "belong to criterion='total'"),
        ({"criterion": "total", "objective": "reach"}, oc.InvalidProblem, "needs goal="),
        ({"criterion": "total", "goal": []}, oc.InvalidProblem, "names no state"),
        ({"criterion": "total", "constraints": [TOLL]}, oc.InvalidProblem, "expectation per step"),
        ({"criterion": "total", "regularizer": oc.PolicyEntropy(1.0)}, oc.Unsupported, "sums to one"),
        ({"criterion": "total", "utility": oc.StateEntropy()}, oc.Unsupported, "sums to one"),
        ({"criterion": "total", "constraints": [oc.StateEntropy() >= 0.1]}, oc.Unsupported, "is concave"),
        ({"criterion": "average", "sense": "best"}, oc.InvalidProblem, "sense='best' is unknown"),
    ],
)
def test_what_cannot_be_asked(asked, kind, words):
    with pytest.raises(kind, match=words):
        oc.Problem(WALK, **asked)


def test_discounts_belong_to_one_criterion():
    with pytest.raises(oc.InvalidProblem, match="does not discount"):
        oc.Problem(WALK.replace(discount=0.5), criterion="average")
    with pytest.raises(oc.InvalidProblem, match="makes discounted values infinite"):
        oc.Problem(WALK.replace(discount=1))


def test_a_problem_is_asked_of_a_model():
    with pytest.raises(oc.InvalidProblem, match="asked of an MDP, not of str"):
        oc.Problem("forest")
    problem = oc.Problem(WALK, criterion="total", goal=1)
    assert as_problem(problem) is problem
    with pytest.raises(oc.Unsupported, match="only in this version, not totals"):
        refuse_total(problem, "this is of")


def test_limits_in_numbers_do_not_follow_the_model():
    """A limit on the reward holds still where the reward is replaced."""
    problem = oc.Problem(WALK, criterion="total", goal=1, constraints={"r": oc.expected_total("reward") <= 3})
    written = problem.in_numbers(problem.limits["r"])
    other = oc.Problem(WALK.replace(rewards=np.zeros(4)), criterion="total", goal=1, constraints={"r": written})
    assert other.coefficients(written).tolist() == [1, 2, 0, 0]
    assert (written.relation, written.bound, str(written)) == ("<=", 3.0, str(problem.limits["r"]))


def test_a_share_of_a_total_is_a_limit_of_zero():
    """toll ≤ half of the reward holds in the sum if it holds per step, and so can be asked of a total."""
    problem = oc.Problem(WALK, criterion="total", goal=1, constraints=[oc.ratio("toll", "reward") <= 0.5])
    (limit,) = problem.limits.values()
    assert problem.coefficients(limit).tolist() == [0.5, 0, 0, 0]
