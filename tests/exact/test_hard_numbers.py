"""Numbers that break solvers: tiny probabilities, long horizons, huge and near values, at every level of certificates.

Haddad and Monmege (2018): a walk that begins anew with probability 1/2 at each of N steps ends on the right with
probability 7/10, after 2^(N + 2) − 3 steps or so; LU and HiGHS find 0 for N = 100. The others are by hand.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from helpers import encloses, exact_objective, two_classes

import occlp as oc
from benchmarks.lie_questions import QUESTIONS
from occlp.errors import AuditFailed

pytest.importorskip("flint")
LEVELS = ["float", "interval", "exact"]


def haddad_monmege(steps: int) -> oc.MDP:
    half = Fraction(1, 2)

    def step(state, action):
        if state in ("left", "right"):
            return [(1, state, 0)]
        if state == "begin":
            return [(Fraction(7, 10), ("right", 1), 1), (Fraction(3, 10), ("left", 1), 1)]
        side, n = state
        return [(half, "begin", 1), (half, side if n == steps else (side, n + 1), 1)]

    return oc.MDP.from_function(step, "begin", lambda state: ["go"])


@pytest.mark.parametrize("steps", [100, 300])
def test_haddad_and_monmege(steps):
    """From the k-th step on, the expected number of steps solves v = 1 + (v_begin + v_next) / 2."""
    mdp = haddad_monmege(steps)
    reached = oc.Problem(mdp, criterion="total", goal=["right"], objective="reach")
    exact = oc.solve(reached, certify="exact")
    assert exact.certificate.optimum == Fraction(7, 10)
    assert oc.verify(reached, exact)
    # b = 1 + v_1 and v_k = 1 + (b + v_{k+1}) / 2 with v_{N+1} = 0: v_1 = (2 + b) (1 − 2^−N), so b = 3 · 2^N − 2.
    walked = oc.Problem(mdp, "minimize", "total", goal=["left", "right"])
    exact = oc.solve(walked, certify="exact")
    assert exact.certificate.optimum == 3 * 2**steps - 2
    assert oc.verify(walked, exact)
    for problem in (reached, walked):  # doubles prove nothing here, and do not claim to
        plain = oc.solve(problem, check=False)
        assert plain.status is oc.Status.BOUNDED
        assert "double precision proves no bound" in plain.message
        assert not np.isfinite(plain.gap)
        assert oc.verify(problem, plain)
        truth = 0.7 if problem is reached else float(3 * 2**steps - 2)
        assert plain.objective == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("power", [3, 9, 12])
def test_long_horizons(power, level):
    """Two classes with averages 1 and −1 that cancel, and Howard's toymaker from a fraction."""
    discount = str(1 - Fraction(1, 10**power))
    two = oc.Problem(oc.MDP.from_arrays(np.eye(2)[:, None], [[1.0], [-1.0]], discount=discount))
    result = oc.solve(two, certify=level)
    assert encloses(result.certificate, Fraction(0))
    assert result.gap <= 1e-13
    assert oc.verify(two, result)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("factor", [Fraction(10**12), Fraction(1, 10**12)])
def test_scales(factor, level):
    """The toymaker's average is 2, in any unit."""
    mdp = oc.instances.get("howard-toymaker").replace(discount=None)
    rewards = np.array([[Fraction(int(r)) * factor for r in row] for row in mdp.pairs.table(mdp.pair_rewards, 0.0)])
    problem = oc.Problem(mdp.replace(rewards=rewards), criterion="average")
    result = oc.solve(problem, certify=level)
    assert encloses(result.certificate, 2 * factor)
    assert result.gap <= 1e-13 * factor
    assert oc.verify(problem, result)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("chance", [1e-12, 1e-100, 1e-300])
def test_probabilities_that_hardly_are_any(chance, level):
    away = oc.MDP.from_arrays([[[1 - chance, chance], [1, 0]], [[0, 1], [0, 1]]], [[0, 0], [1, 1]], initial=0)
    back = oc.MDP.from_arrays([[[1 - chance, chance]], [[chance, 1 - chance]]], [[1], [0]], initial=0)
    steps = oc.MDP.from_arrays([[[1 - chance, chance]], [[0, 1]]], [[1], [0]], initial=0)
    for problem, truth in (
        (oc.Problem(away, criterion="average"), Fraction(1)),
        (oc.Problem(away, criterion="total", goal=1, objective="reach"), Fraction(1)),
        (oc.Problem(back, criterion="average"), Fraction(1, 2)),
        (oc.Problem(steps, "minimize", "total", goal=1), 1 / Fraction(chance)),
    ):
        result = oc.solve(problem, certify=level, check=False)
        low, high = result.certificate.lower, result.certificate.upper
        assert Fraction(low) <= truth
        assert high == np.inf or truth <= Fraction(high)
        assert oc.verify(problem, result)
        assert (level == "exact") <= (result.certificate.optimum == truth)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("by", ["1e-13", "1e-17", "1e-30"])
def test_near_ties(by, level):
    """The second action leads to where 1 is earned for ever, and earns a little more on the way."""
    more = str(1 + Fraction(by))
    mdp = oc.MDP.from_arrays([[[1, 0], [0, 1]]] * 2, [["1", more], ["0", "1"]], discount="0.9", initial=0)
    problem = oc.Problem(mdp)
    result = oc.solve(problem, certify=level)
    assert encloses(result.certificate, 1 + Fraction(by) / 10)
    assert oc.verify(problem, result)
    if level == "exact":
        assert result.policy.choice[0] == 1


@pytest.mark.parametrize("kind", [kind for kind in QUESTIONS if not kind.startswith(("a goal", "losing"))])
def test_no_lie_gets_a_false_proof_past_the_audit(kind):
    """Answers at the exact level: whatever is changed, what is accepted still says what is true."""
    problem = QUESTIONS[kind]
    honest = oc.solve(problem, certify="exact", check=False)
    proof = honest.certificate.proof
    if proof is None:
        return
    rng, rejected, tiny = np.random.default_rng(7), 0, Fraction(1, 10**30)
    for _ in range(40):
        part = str(rng.choice(["optimum", "values", "gains", "multipliers", "occupancy", "infeasible_by"]))
        step = tiny * int(rng.choice([-1, 1])) * 10 ** int(rng.integers(0, 31))
        given = getattr(proof, part, None)
        if isinstance(given, tuple):
            where = int(rng.integers(len(given))) if given else -1
            changed = tuple(x if i != where or x is None else x + step for i, x in enumerate(given))
            changed = changed or (step,)
        elif isinstance(given, dict):
            key = list(given)[int(rng.integers(len(given)))] if given else 0
            changed = {**given, key: given.get(key, Fraction(0)) + step}
        else:
            changed = step if given is None else given + step
        told = replace(proof, **{part: changed})
        result = replace(honest, certificate=replace(honest.certificate, proof=told))
        try:
            oc.verify(problem, result)
        except AuditFailed:
            rejected += 1
            continue
        now = result.certificate
        assert now.infeasible_by is None or honest.certificate.infeasible_by is not None
        assert now.unending == honest.certificate.unending
        assert now.proof is None or now.proof.optimum == proof.optimum
        if now.infeasible_by is None and not now.unending:
            assert encloses(now, proof.optimum)
    assert rejected >= 20


@pytest.mark.parametrize("rest", ["1e-6", "1e-9", "1e-12"])
@pytest.mark.parametrize("kind", ["joint", "conditional", "entropy"])
def test_soft_terms_on_a_choice_between_classes(rest, kind):
    """Values of 1e8 to 1e11 cancel within a state; the audit must see it, and rounding elsewhere excuse nothing."""
    mdp = two_classes(rest)
    uniform = oc.Policy.uniform(mdp)
    terms = {
        "joint": oc.KL(0.1, uniform),
        "conditional": oc.ConditionalKL(0.1, uniform),
        "entropy": oc.PolicyEntropy(0.1),
    }
    problem = oc.Problem(mdp, regularizer=terms[kind])
    result = oc.solve(problem, certify="interval")
    assert result.certificate.level == "interval"
    assert result.certificate.rounding <= 1e-12
    assert oc.verify(problem, result)
    if kind == "joint":
        worth = exact_objective(problem, result.policy)
        assert result.certificate.lower - 1e-15 <= worth <= result.certificate.upper
    moved = replace(result, certificate=replace(result.certificate, upper=result.certificate.lower - 1e-9))
    with pytest.raises(AuditFailed):
        oc.verify(problem, moved)
