"""Gradients and first-order methods beside the convex program, on every kind of question: method × kind.

A number is the gap that a short run must be certified with, as a share of the range of the rewards (or of the size of
the utility); words are the reason why a method leaves a kind to others. The optimum is that of `OccupancyProgram`.
"""

from __future__ import annotations

from functools import cache

import cvxpy as cp
import numpy as np
import pytest

import occlp as oc
from occlp.errors import Unsupported
from occlp.solving import run

MACHINE = oc.instances.get("machine-repair")
MODELS = {"discounted": MACHINE, "average": MACHINE.replace(discount=None), "total": MACHINE.unrolled(5)}
WEAR = {"wear": oc.expected("wear") <= 0.25}
#: Towards a goal by a safe way of two steps or a risky one; each risk counts. The trap is never left.
WAYS = oc.MDP.from_function(
    lambda s, a: {
        ("home", "safe"): [(1.0, "half", 0.0)],
        ("half", "safe"): [(0.9, "goal", 0.0), (0.1, "trap", 0.0)],
        ("home", "risky"): [(0.95, "goal", 0.0), (0.05, "trap", 0.0)],
        ("half", "risky"): [(1.0, "goal", 0.0)],
    }.get((s, a), [(1.0, s, 0.0)]),
    "home",
    lambda s: ["safe", "risky"] if s in ("home", "half") else ["stay"],
    costs={"risk": lambda s, a: float(a == "risky")},
)


def entropy(occupancy):
    """Of the pairs."""
    return cp.sum(cp.entr(occupancy))


def question(kind):
    """One of each kind; the total ones count over five steps."""
    name, criterion = kind.split(", ")
    mdp = MODELS[criterion]
    spread, mixed = {"spread": oc.StateEntropy() >= 0.9}, {"mixed": oc.Utility(entropy) >= 1.3}
    most = oc.expected_total("wear") if criterion == "total" else oc.expected("wear")
    bound = 1.2 if criterion == "total" else 0.25
    settings = {
        "plain": {},
        "a limit": {"constraints": {"wear": most <= bound}},
        "at least": {"constraints": {"wear": most >= 1.6 * bound}},
        "an equality": {"constraints": {"wear": most == bound}},
        "a limit and an equality": {
            "constraints": WEAR | {"broken": oc.visits("broken", "repair") * (1 - MACHINE.discount) == 0.07}
        },
        "costs": {"sense": "minimize", "constraints": {"wear": most <= bound}},
        "entropy kept": {"constraints": spread},
        "a function kept": {"constraints": mixed},
        "logarithm kept": {"constraints": {"fair": oc.LogSum(["wear"]) >= -1.0}},
        "likeness kept": {"constraints": {"like": oc.TotalVariation(oc.Policy.uniform(mdp)) >= -0.2}}
        if criterion != "total"
        else {},
        "two kinds kept": {"constraints": spread | {"wear": oc.expected("wear") <= 0.35}},
        "a regularizer": {"constraints": WEAR, "regularizer": oc.PolicyEntropy(strength=0.5)},
        "a utility": {"constraints": WEAR, "utility": oc.WorstCase(["wear", oc.expected("reward") / 30])},
    }[name]
    if name == "costs":
        mdp = mdp.replace(rewards=-mdp.pair_rewards)
    return oc.Problem(mdp, criterion=criterion, **settings)


REACH = {"risk": oc.expected_total("risk") <= 0.5}
KINDS = {
    **{f"{name}, {criterion}": (name, criterion) for criterion in ("discounted", "average") for name in (
        "plain", "a limit", "at least", "an equality", "costs", "entropy kept", "logarithm kept", "likeness kept",
        "two kinds kept", "a regularizer", "a utility",
    )},
    **{f"{name}, total": (name, "total") for name in ("plain", "a limit", "at least", "an equality", "costs")},
    "a limit and an equality, discounted": None,
    "a function kept, discounted": None,
    "reaching, total": None,
}  # fmt: skip


@cache
def asked(kind):
    """The question, and the convex program's answer."""
    problem = (
        oc.Problem(WAYS, criterion="total", goal=["goal"], objective="reach", constraints=REACH)
        if kind == "reaching, total"
        else question(kind)
    )
    return problem, oc.solve(problem, oc.OccupancyProgram())


def size_of(problem):
    """What gaps are shares of."""
    return (
        1.0 if problem.utility is not None or problem.objective == "reach" else float(np.ptp(problem.mdp.pair_rewards))
    )


def assert_within(problem, best, result, share, tol=1e-8):
    """Certified within the share; the gap covers the loss against the program; the limits are kept."""
    size = size_of(problem)
    assert result.gap <= share * size
    assert result.certificate.violation <= 4 * tol
    assert abs(best.objective - result.objective) <= result.gap + best.gap + tol * size
    assert oc.verify(problem, result)


def steps_for(kind, steps):
    """Gradients of functions written for cvxpy are slow."""
    return steps // 4 if "function" in kind else steps


#: Gaps of PrimalDualGradient after 200 steps, where they are not the usual ones.
USUAL, LARGER = 3e-3, {
    "a utility, discounted": 0.02, "logarithm kept, discounted": 0.06, "logarithm kept, average": 0.03,
    "likeness kept, discounted": 6e-3, "reaching, total": 6e-3, "a function kept, discounted": 6e-3,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_with_prices(kind):
    problem, best = asked(kind)
    result = oc.solve(problem, oc.PrimalDualGradient(steps=steps_for(kind, 200)))
    assert_within(problem, best, result, LARGER.get(kind, USUAL))


@pytest.mark.parametrize("kind", KINDS)
def test_first_order_steps_on_the_program(kind):
    problem, best = asked(kind)
    words = None
    if kind.endswith("total"):
        words = "sum to one"
    elif "regularizer" in kind or "utility" in kind:
        words = "linear program"
    elif "kept" in kind:
        words = "linear constraints"
    for solver in (oc.SaddlePoint(), oc.SampledSaddlePoint(steps=5, value_bound=1.0)):
        if words is not None:
            with pytest.raises(Unsupported, match=words):
                oc.solve(problem, solver)
    if words is None and "equality" not in kind:  # a single point is kept by no iterate to the last digit
        assert_within(problem, best, oc.solve(problem, oc.SaddlePoint(), tol=1e-5), 1e-5, tol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_without_prices(kind):
    problem, best = asked(kind)
    if problem.constraints:
        with pytest.raises(Unsupported, match="PrimalDualGradient"):
            oc.solve(problem, oc.NaturalPolicyGradient())
    else:
        assert_within(problem, best, oc.solve(problem, oc.NaturalPolicyGradient(steps=200)), 1e-6)


@pytest.mark.parametrize(
    "kind", ["a limit, discounted", "a function kept, discounted", "a regularizer, average", "costs, total"]
)
def test_means_of_values_and_prices_prove_the_bound(kind):
    """Nobody tells the run the optimum, and its gap closes all the same."""
    problem, best = asked(kind)
    gaps = []
    for steps in (40, 320):
        found = run(
            problem, oc.PrimalDualGradient(steps=steps_for(kind, steps)), tol=1e-8, rng=np.random.default_rng(0)
        )
        assert_within(problem, best, found, 1.0)
        gaps.append(found.gap / size_of(problem))
    assert gaps[1] <= (0.2 if kind == "costs, total" else 8e-3)
    assert gaps[1] <= 0.5 * gaps[0]
