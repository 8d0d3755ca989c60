"""Every term by itself: value, slope, curvature, bound and cvxpy expression, each against its definition.

The definitions are written down once more here, plainly and with `math.fsum`. A term is a concave function f of
distributions d over the pairs, in the units of the standard form; `bound(q)` is sup q·d + f(d) over all of them.
"""

from __future__ import annotations

import math
import types

import cvxpy
import numpy as np
import pytest
import scipy.optimize
from helpers import random_policy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

import occlp as oc
from occlp.errors import InvalidProblem
from occlp.terms import Binding, utilities

STRENGTHS = [10.0**k for k in range(-9, 10)]


def small_model() -> oc.MDP:
    """Three states with two, one and three actions."""
    rows = [[0.2, 0.5, 0.3], [0.6, 0.4, 0], [0.1, 0.1, 0.8], [1, 0, 0], [0.3, 0.3, 0.4], [0, 0.5, 0.5]]
    return oc.MDP.from_pairs(
        [0, 0, 1, 2, 2, 2], [0, 1, 0, 0, 1, 2], rows, [1.0, -2.0, 0.5, 3.0, 0.0, 1.0],
        discount=0.9, initial=[0.5, 0.3, 0.2], costs={"a": [1, 2, 0.5, 0.1, 3, 0], "b": [0, 1, 2, 4, 0.2, 1]},
    )  # fmt: skip


MDP = small_model()
FULL = oc.Policy.from_pairs(MDP, [0.3, 0.7, 1.0, 0.2, 0.5, 0.3])
PARTIAL = oc.Policy.from_pairs(MDP, [1.0, 0.0, 1.0, 0.25, 0.0, 0.75])  # two pairs have no mass in the prior
TARGET = np.array([[0.1, 0.0, 0.0], [0.2, 0.0, 0.0], [0.3, 0.15, 0.25]])
WEIGHTS = np.random.default_rng(7).normal(size=(3, MDP.n_pairs))


def smooth_function(d):
    return cvxpy.sum(cvxpy.log(0.1 + d)) - cvxpy.sum_squares(WEIGHTS @ d)


def angular_function(d):
    return -cvxpy.norm1(WEIGHTS @ d) + cvxpy.min(d)


def settings_of(strength: float = 1.0) -> dict[str, oc.terms.Regularizer | oc.terms.ConcaveUtility]:
    """Every kind of term; strengths of those that have one."""
    return {
        "KL": oc.KL(strength, FULL),
        "KL, zeros": oc.KL(strength, PARTIAL),
        "ConditionalKL": oc.ConditionalKL(strength, FULL),
        "ConditionalKL, zeros": oc.ConditionalKL(strength, PARTIAL),
        "PolicyEntropy": oc.PolicyEntropy(strength),
        "StateEntropy": oc.StateEntropy(strength),
        "OccupancyEntropy": oc.OccupancyEntropy(strength),
        "TotalVariation": oc.TotalVariation(FULL),
        "TotalVariation, table": oc.TotalVariation(TARGET),
        "LogSum": oc.LogSum(["a", oc.expected("b") + 2 * oc.expected("a")], weights=[1.0, 2.5]),
        "WorstCase": oc.WorstCase(["a", "b", oc.expected("b") / 2 - oc.expected("a")]),
        "Utility": oc.Utility(smooth_function),
        "Utility, angular": oc.Utility(angular_function, smooth=False),
    }


NAMES = tuple(settings_of())
WITH_STRENGTH = NAMES[:7]
SMOOTH = ("KL", "KL, zeros", "ConditionalKL", "PolicyEntropy", "StateEntropy", "OccupancyEntropy", "LogSum", "Utility")


def occupancy_of(policy: oc.Policy) -> np.ndarray:
    return oc.evaluate(MDP, policy).pair_occupancy


def bound_to_model(setting: object, scale: float = 1.0):
    return setting.bind(Binding(MDP, scale, occupancy_of))


def term_of(name: str, strength: float = 1.0):
    return bound_to_model(settings_of(strength)[name])


def definition(name: str, d: np.ndarray, strength: float = 1.0) -> float:
    """f(d), from its definition."""
    states = MDP.pairs.states
    mass = [math.fsum(d[states == s]) for s in range(MDP.n_states)]
    if name.startswith("KL"):
        prior = occupancy_of(PARTIAL if "zeros" in name else FULL)
        return -strength * math.fsum(p * math.log(p / q) for p, q in zip(d, prior, strict=True) if p > 0)
    if name.startswith(("Conditional", "PolicyEntropy")):
        base = (PARTIAL if "zeros" in name else FULL).pair_probabilities if name.startswith("C") else np.ones(len(d))
        parts = (p * math.log(p / mass[s] / b) for p, s, b in zip(d, states, base, strict=True) if p > 0)
        return -strength * math.fsum(parts)
    if name == "StateEntropy":
        return -strength * math.fsum(m * math.log(m) for m in mass if m > 0)
    if name == "OccupancyEntropy":
        return -strength * math.fsum(p * math.log(p) for p in d if p > 0)
    if name.startswith("TotalVariation"):
        target = TARGET[states, MDP.pairs.actions] if "table" in name else occupancy_of(FULL)
        return -0.5 * math.fsum(abs(d - target))
    a, b = (MDP.pair_costs[cost] @ d for cost in "ab")
    if name == "LogSum":
        return math.log(a) + 2.5 * math.log(b + 2 * a)
    if name == "WorstCase":
        return min(a, b, b / 2 - a)
    if name == "Utility":
        return math.fsum(np.log(0.1 + d)) - math.fsum((WEIGHTS @ d) ** 2)
    return -math.fsum(abs(WEIGHTS @ d)) + min(d)


@st.composite
def points(draw, *, positive: bool = False, support: np.ndarray | None = None) -> np.ndarray:
    """Distributions over the pairs, with zeros unless `positive`; zero off the support."""
    low = 1 if positive else 0
    weights = np.array(draw(st.lists(st.integers(low, 60), min_size=MDP.n_pairs, max_size=MDP.n_pairs)), dtype=float)
    weights = weights if support is None else np.where(support, weights, 0.0)
    weights[int(np.argmax(support)) if support is not None else 0] += 1.0
    return weights / weights.sum()


scores = st.lists(st.floats(-5, 5), min_size=MDP.n_pairs, max_size=MDP.n_pairs).map(np.array)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=25)
def test_values_are_those_of_the_definition(name, data):
    term = term_of(name)
    d = data.draw(points(support=term.support))
    assert term.value(d) == pytest.approx(definition(name, d), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=25)
def test_gradients_are_supergradients(name, data):
    """f(e) <= f(d) + ∇f(d)·(e − d): concavity and the gradient in one, smooth or not."""
    term = term_of(name)
    d, e = data.draw(points(positive=True, support=term.support)), data.draw(points(support=term.support))
    slope = term.gradient(d)
    assert (slope[~term.support] == -np.inf).all()
    move = (e - d)[term.support] @ slope[term.support]
    assert term.value(e) <= term.value(d) + move + 1e-12 * (1 + abs(move))


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), share=st.floats(0, 1))
@settings(max_examples=25)
def test_terms_are_concave(name, data, share):
    term = term_of(name)
    d, e = data.draw(points(support=term.support)), data.draw(points(support=term.support))
    chord = share * term.value(d) + (1 - share) * term.value(e)
    assert term.value(share * d + (1 - share) * e) >= chord - 1e-12 * (1 + abs(chord))


@pytest.mark.parametrize("name", SMOOTH)
@given(data=st.data())
@settings(max_examples=15)
def test_gradients_and_hessians_are_those_of_finite_differences(name, data):
    term = term_of(name)
    assert term.smooth
    d, e = (data.draw(points(positive=True, support=term.support)) for _ in range(2))
    d = 0.5 * (d + term.support / term.support.sum())  # away from the boundary
    kept, step = term.support, 1e-5
    ahead, behind = d + step * (e - d), d - step * (e - d)
    slope = (term.value(ahead) - term.value(behind)) / (2 * step)
    assert slope == pytest.approx((e - d)[kept] @ term.gradient(d)[kept], rel=1e-6, abs=1e-6)
    bend = (term.gradient(ahead)[kept] - term.gradient(behind)[kept]) / (2 * step)
    hessian = term.hessian(d).toarray()[np.ix_(kept, kept)]
    loose = 1e-3 if name == "Utility" else 1e-5  # a user's second derivative is made of differences itself
    np.testing.assert_allclose(hessian @ (e - d)[kept], bend, rtol=loose, atol=loose)
    assert np.linalg.eigvalsh(hessian).max() <= 1e-6 * np.abs(hessian).max()


@pytest.mark.parametrize("name", ["StateEntropy", "LogSum"])
def test_curvature_of_low_rank_is_the_hessian(name):
    term = term_of(name)
    d = np.array([0.1, 0.2, 0.15, 0.25, 0.1, 0.2])
    rows, weights = term.low_rank(d)
    assert rows.shape == (len(weights), MDP.n_pairs)
    np.testing.assert_allclose(-(rows.T @ np.diag(weights) @ rows), term.hessian(d).toarray(), rtol=1e-14)


def test_terms_without_curvature_say_so():
    for name in ("TotalVariation", "WorstCase", "Utility, angular"):
        term = term_of(name)
        assert not term.smooth
        assert term.low_rank(np.full(MDP.n_pairs, 1 / MDP.n_pairs)) is None
    with pytest.raises(NotImplementedError):
        term_of("WorstCase").hessian(np.full(MDP.n_pairs, 1 / MDP.n_pairs))


# Bounds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data(), q=scores)
@settings(max_examples=25)
def test_bounds_hold_for_every_distribution(name, data, q):
    """For any d, and with the parameter of the bound made at any other e."""
    term = term_of(name)
    d, e = data.draw(points(support=term.support)), data.draw(points(positive=True, support=term.support))
    assert q @ d + term.value(d) <= term.bound(q, term.best_dual(q, e)) + 1e-12


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_bounds_are_attained(name, seed):
    """The greatest q·d + f(d), found by cvxpy from the term's own expression, is the bound."""
    q, term = np.random.default_rng(seed).normal(size=MDP.n_pairs), term_of(name)
    kept = np.flatnonzero(term.support)
    d = cvxpy.Variable(len(kept), nonneg=True)
    program = cvxpy.Problem(cvxpy.Maximize(q[kept] @ d + term.expression(d, kept)), [cvxpy.sum(d) == 1])
    program.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    best = np.zeros(MDP.n_pairs)
    best[kept] = np.maximum(d.value, 0) / np.maximum(d.value, 0).sum()
    bound = term.bound(q, term.best_dual(q, best))
    # The linearisation of a user's function is as near as the point where it is made.
    assert bound == pytest.approx(program.value, abs=1e-4 if name == "Utility" else 2e-6)
    assert q @ best + term.value(best) <= bound + 1e-12


def _kl(term, q):
    return term.maximizer(q)


def _conditional(term, q):
    state = int(np.argmax(term.soft_maximum(q)))
    return np.where(MDP.pairs.states == state, term.policy(q), 0.0)


def _state_entropy(term, q):
    first = MDP.pair_start[:-1]
    tops = np.maximum.reduceat(q, first)
    mass = np.exp((tops - logsumexp(tops / term.strength) * term.strength) / term.strength)
    best = [first[s] + int(np.argmax(q[MDP.pairs.states == s])) for s in range(MDP.n_states)]
    d = np.zeros(MDP.n_pairs)
    d[best] = mass
    return d / d.sum()


MAXIMIZERS = {
    "KL": _kl, "KL, zeros": _kl, "OccupancyEntropy": _kl, "ConditionalKL": _conditional, "PolicyEntropy": _conditional,
    "ConditionalKL, zeros": _conditional, "StateEntropy": _state_entropy,
}  # fmt: skip


@pytest.mark.parametrize("name", MAXIMIZERS)
@pytest.mark.parametrize("strength", STRENGTHS)
def test_entropic_bounds_are_attained_to_rounding_at_every_strength(name, strength):
    """Warnings are errors, so nothing overflows on the way."""
    q = np.array([0.3, -1.0, 0.25, 1.0, 0.999, -0.5])
    term = term_of(name, strength)
    d = MAXIMIZERS[name](term, q)
    assert d.sum() == pytest.approx(1, abs=1e-14)
    attained, bound = q @ d + term.value(d), term.bound(q)
    assert math.isfinite(bound)
    size = 1.0 + (strength if name in ("OccupancyEntropy", "PolicyEntropy", "StateEntropy") else 0.0)
    assert abs(bound - attained) <= 1e-14 * size
    assert term.value(d) == pytest.approx(definition(name, d, strength), rel=1e-9, abs=1e-13 * strength)
    assert np.isfinite(term.gradient(np.where(term.support, 1.0, 0.0) / term.support.sum())[term.support]).all()


@pytest.mark.parametrize("name", WITH_STRENGTH)
def test_curvatures_are_finite_where_there_is_no_mass(name):
    """Warnings are errors, so nothing overflows on the way."""
    hessian = term_of(name, 1e9).hessian(np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0]))
    assert np.isfinite(hessian.toarray()).all()


def test_strong_penalties_keep_their_digits():
    """τ log Σ d0 exp(q/τ) is d0·q + Var(q)/2τ for large τ; at τ = 1e9 the plain formula has lost both."""
    q, prior = np.array([0.3, -1.0, 0.25, 1.0, 0.999, -0.5]), occupancy_of(FULL)
    term = term_of("KL", 1e9)
    mean = prior @ q
    assert term.bound(q) - mean == pytest.approx(prior @ (q - mean) ** 2 / 2e9, rel=1e-5)
    near = prior * (1 + 1e-9 * (q - mean))  # the optimum: its divergence is 1e-18 times the variance
    assert term.value(near / near.sum()) == pytest.approx(-(prior @ (q - mean) ** 2) / 2e9, rel=1e-5)


def test_weak_penalties_are_the_maximum_over_the_support():
    q = np.array([0.3, 7.0, 0.25, 1.0, 9.0, -0.5])
    for name, best in (("KL", 9.0), ("KL, zeros", 1.0), ("ConditionalKL", 9.0), ("ConditionalKL, zeros", 1.0)):
        assert term_of(name, 1e-9).bound(q) == pytest.approx(best, abs=1e-7)


def test_parameters_that_prove_nothing_give_an_infinite_bound():
    q = np.zeros(MDP.n_pairs)
    for name, duals in {
        "LogSum": (None, np.array([1.0, 0.0]), np.array([-1.0, 1.0])),
        "WorstCase": (None, np.zeros(3), np.array([-1.0, 1.0, 1.0])),
        "Utility": (None, np.full(MDP.n_pairs + 1, np.nan)),
    }.items():
        for dual in duals:
            assert term_of(name).bound(q, dual) == math.inf


@given(q=scores, z=st.lists(st.floats(1e-3, 10), min_size=3, max_size=3).map(np.array), d=points())
@settings(max_examples=50)
def test_bounds_hold_for_any_parameter(q, z, d):
    for name, dual in (("LogSum", z[:2]), ("WorstCase", z)):
        term = term_of(name)
        value = term.value(d)
        assert value == -math.inf or q @ d + value <= term.bound(q, dual) + 1e-12


def test_cutting_planes_find_the_bound_where_the_linearisation_is_loose():
    """At a kink one gradient is a poor majorant; the best mixture of several is exact."""
    q = np.zeros(MDP.n_pairs)
    loose, tight = (bound_to_model(oc.Utility(angular_function, smooth=smooth)) for smooth in (True, False))
    d = cvxpy.Variable(MDP.n_pairs, nonneg=True)
    program = cvxpy.Problem(cvxpy.Maximize(angular_function(d)), [cvxpy.sum(d) == 1])
    best = program.solve(solver="CLARABEL")
    near = np.maximum(d.value, 0) / np.maximum(d.value, 0).sum()
    assert loose.bound(q, loose.best_dual(q, near)) > best + 0.1
    assert tight.bound(q, tight.best_dual(q, near)) == pytest.approx(best, abs=1e-7)


@pytest.mark.parametrize("smooth", [True, False])
def test_there_is_no_majorant_of_a_function_without_a_domain(smooth):
    term = bound_to_model(oc.Utility(lambda d: cvxpy.log(d[0] - 2), smooth=smooth))
    dual = term.best_dual(np.zeros(MDP.n_pairs), np.full(MDP.n_pairs, 1 / MDP.n_pairs))
    assert np.isnan(dual).all()
    assert term.bound(np.zeros(MDP.n_pairs), dual) == math.inf


def no_program(*_, **__):
    return types.SimpleNamespace(x=None)


@pytest.mark.parametrize("name", ["WorstCase", "Utility, angular"])
@given(q=scores, d=points(), e=points())
@settings(max_examples=15)
def test_bounds_hold_where_the_search_for_a_better_one_ends_early(name, q, d, e):
    """A linear program that fails, or one round of many: the bound is worse, and a bound."""
    term = term_of(name)
    for module, what, instead in ((scipy.optimize, "linprog", no_program), (utilities, "MOST_ROUNDS", 1)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, what, instead)
            bound = term.bound(q, term.best_dual(q, d))
        assert all(q @ x + term.value(x) <= bound + 1e-12 for x in (d, e))


def test_limits_on_sums_of_logarithms_follow_the_numbers_they_were_written_with():
    setting = settings_of()["LogSum"]
    written = setting.in_numbers(MDP)
    other = MDP.replace(costs={name: np.zeros(MDP.n_pairs) for name in MDP.pair_costs})
    d = occupancy_of(FULL)
    assert written.bind(Binding(other, 1.0, occupancy_of)).value(d) == pytest.approx(definition("LogSum", d))


# Expressions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=10)
def test_expressions_have_the_values(name, data):
    term = term_of(name)
    kept = np.flatnonzero(term.support)
    d = data.draw(points(positive=True, support=term.support))
    variable = cvxpy.Variable(len(kept), nonneg=True)
    expression = term.expression(variable, kept)
    assert expression.is_scalar()
    assert expression.is_concave()
    variable.value = d[kept]
    assert float(np.asarray(expression.value).item()) == pytest.approx(term.value(d), rel=1e-10, abs=1e-12)


def test_an_expression_may_need_that_occupancies_are_not_negative():
    """The square of a sum is convex where the sum is known not to be negative; that d >= 0 is said to cvxpy."""
    term = bound_to_model(oc.Utility(lambda d: -cvxpy.square(cvxpy.sum(d) + cvxpy.square(d[0]))))
    assert term.expression(cvxpy.Variable(MDP.n_pairs) / 3.0, np.arange(MDP.n_pairs)).is_concave()


# Fixed policies, supports and sizes --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ConditionalKL", "ConditionalKL, zeros", "PolicyEntropy"])
@pytest.mark.parametrize("seed", range(3))
def test_terms_of_the_policy_are_linear_at_a_fixed_policy(name, seed):
    policy = PARTIAL if "zeros" in name else random_policy(MDP, np.random.default_rng(seed))
    d, term = occupancy_of(policy), term_of(name)
    assert d @ term.pair_bonus(policy.pair_probabilities) == pytest.approx(term.value(d), abs=1e-14)


def test_the_other_terms_have_no_bonus_of_a_pair():
    for name in NAMES:
        bonus = term_of(name).pair_bonus(FULL.pair_probabilities)
        assert (bonus is None) == (not name.startswith(("ConditionalKL", "PolicyEntropy")) or "zeros" in name)


@pytest.mark.parametrize("name", ["KL, zeros", "ConditionalKL, zeros"])
def test_pairs_without_prior_are_excluded_exactly(name):
    term = term_of(name)
    assert term.support.tolist() == [True, False, True, True, False, True]
    outside = occupancy_of(FULL)
    assert term.value(outside) == -math.inf
    tempting = np.array([0.1, 1e300, 0.2, 0.3, 1e300, 0.0])
    assert term.bound(tempting) == term.bound(np.where(term.support, tempting, 0.0))
    with_nothing = term.maximizer(tempting) if name.startswith("KL") else term.policy(tempting)
    assert (with_nothing[~term.support] == 0).all()
    assert with_nothing.sum() == pytest.approx(1 if name.startswith("KL") else MDP.n_states)


@pytest.mark.parametrize("criterion", ["discounted", "average"])
@pytest.mark.parametrize("kind", [oc.KL, oc.ConditionalKL])
def test_divergences_are_infinite_where_absolute_continuity_fails(kind, criterion):
    mdp = MDP if criterion == "discounted" else MDP.replace(discount=None)
    for sense, worst in (("maximize", -math.inf), ("minimize", math.inf)):
        problem = oc.Problem(mdp, sense=sense, criterion=criterion, regularizer=kind(0.7, PARTIAL))
        assert oc.evaluate(problem, FULL).objective == worst
        assert math.isfinite(oc.evaluate(problem, FULL).expected["reward"])
        found = oc.evaluate(problem, PARTIAL)
        assert found.objective == pytest.approx(found.expected["reward"])


def test_deviations_where_nobody_comes_are_free():
    """An excluded action in a state that is not visited makes neither divergence infinite."""
    mdp = oc.instances.get("machine-repair")
    reference = oc.Policy.deterministic(mdp, {"new": "repair", "worn": "run", "broken": "repair"})
    other = oc.Policy.deterministic(mdp, {"new": "repair", "worn": "repair", "broken": "run"})
    for kind in (oc.KL, oc.ConditionalKL):
        assert oc.evaluate(oc.Problem(mdp, regularizer=kind(1.0, reference)), other).objective == pytest.approx(-8.0)


def test_spreads_are_the_sizes_of_the_terms():
    """They are what tolerances refer to where there is no reward; they scale with the strength and the units."""
    for name in WITH_STRENGTH:
        assert term_of(name, 3.0).spread == pytest.approx(3.0 * term_of(name, 1.0).spread)
        assert bound_to_model(settings_of(3.0)[name], scale=8.0).spread == pytest.approx(3 / 8 * term_of(name).spread)
    assert term_of("StateEntropy").spread == pytest.approx(math.log(3))
    assert term_of("TotalVariation").spread == 1.0
    assert term_of("LogSum").spread == 3.5
    assert term_of("WorstCase").spread == pytest.approx(4.0 + 2.9)
    linear = bound_to_model(oc.Utility(lambda d: 100.0 * (MDP.pair_rewards @ d)))
    assert linear.spread == pytest.approx(500.0)
    assert bound_to_model(oc.Utility(lambda d: cvxpy.sum(d) * 0.0 + 1.0)).spread == 1.0


@pytest.mark.parametrize("kind", [oc.LogSum, oc.WorstCase])
def test_arrays_are_expectations(kind):
    named, given = kind(["a", "b"]), kind([MDP.costs["a"], MDP.costs["b"]])
    occupancy = oc.evaluate(MDP, oc.Policy.uniform(MDP)).pair_occupancy
    values = [bound_to_model(one).value(occupancy) for one in (named, given)]
    assert values[0] == values[1]


@pytest.mark.parametrize("scale", [0.5, 8.0])
@pytest.mark.parametrize("name", WITH_STRENGTH)
def test_strengths_are_in_the_units_of_the_reward(name, scale):
    d = occupancy_of(PARTIAL)
    assert bound_to_model(settings_of()[name], scale).value(d) == pytest.approx(term_of(name).value(d) / scale)


def test_a_user_function_outside_its_domain_is_minus_infinity():
    term = bound_to_model(oc.Utility(lambda d: cvxpy.log(d[0]) + cvxpy.sum(cvxpy.sqrt(d))))
    nothing = np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    assert term.value(nothing) == -math.inf
    assert np.isnan(term.gradient(nothing)).all()
    dual = term.best_dual(np.zeros(MDP.n_pairs), nothing)  # touched at a point inside instead
    inside = np.full(MDP.n_pairs, 1 / MDP.n_pairs)
    assert np.isfinite(dual).all()
    assert term.value(inside) <= dual[:-1] @ inside + dual[-1] + 1e-12


def test_user_functions_of_every_shape():
    one = oc.MDP.from_arrays([[[1.0]]], [[2.0]], discount=0.5)
    binding = Binding(one, 1.0, lambda policy: np.ones(1))
    for function, value, slope in (
        (lambda d: -cvxpy.sum_squares(d), -1.0, -2.0),
        (lambda d: 3.0 * d, 3.0, 3.0),  # of shape [1]: still one number
        (lambda d: cvxpy.Constant(4.0), 4.0, 0.0),
    ):
        term = oc.Utility(function).bind(binding)
        assert (term.value(np.ones(1)), term.gradient(np.ones(1))[0]) == (value, pytest.approx(slope))


# Settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0, -1.0, math.inf, math.nan, "1", None, True, 1j])
def test_strengths_are_positive_and_finite(strength):
    for make in (
        lambda: oc.KL(strength, FULL), lambda: oc.ConditionalKL(strength, FULL), lambda: oc.PolicyEntropy(strength),
        lambda: oc.StateEntropy(strength), lambda: oc.OccupancyEntropy(strength),
    ):  # fmt: skip
        with pytest.raises(InvalidProblem, match=r"strength of .* must be positive and finite"):
            make()


@pytest.mark.parametrize("strength", [2, np.float64(2), np.float32(2), np.int64(2)])
def test_strengths_of_any_number_type_become_plain_floats(strength):
    assert type(oc.PolicyEntropy(strength).strength) is float
    assert oc.KL(strength, FULL).strength == 2.0


OTHER = oc.Policy.uniform(oc.instances.get("howard-toymaker"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: oc.KL(1.0, "uniform"), "reference of a KL term is a Policy, not str"),
        (lambda: oc.ConditionalKL(1.0, None), "reference of a ConditionalKL term is a Policy"),
        (lambda: oc.Problem(MDP, regularizer=oc.KL(1.0, OTHER)), "belongs to another model"),
        (lambda: oc.Problem(MDP, regularizer=oc.ConditionalKL(1.0, OTHER)), "belongs to another model"),
        (lambda: oc.Problem(MDP, utility=oc.TotalVariation(OTHER)), "belongs to another model"),
        (lambda: oc.Problem(MDP, utility=oc.TotalVariation(np.ones((3, 2)))), "of shape"),
        (lambda: oc.Problem(MDP, utility=oc.TotalVariation(TARGET / 2)), "sums to 0.5"),
        (lambda: oc.Problem(MDP, utility=oc.TotalVariation(TARGET[:, ::-1])), "over the pairs"),
        (lambda: oc.Problem(MDP, utility=oc.TotalVariation(TARGET - 0.1)), "target of TotalVariation"),
        (lambda: oc.TotalVariation("expert"), "takes real numbers"),
        (lambda: oc.LogSum("a"), "a list of at least one"),
        (lambda: oc.LogSum([]), "a list of at least one"),
        (lambda: oc.LogSum(3), "a list of at least one"),
        (lambda: oc.WorstCase([]), "a list of at least one"),
        (lambda: oc.WorstCase(oc.expected("a")), "a list of at least one"),
        (lambda: oc.WorstCase([1]), "not int"),
        (lambda: oc.LogSum([oc.expected_total("a")]), "on the return scale"),
        (lambda: oc.WorstCase([oc.visits(states=0)]), "on the return scale"),
        (lambda: oc.LogSum(["a"], weights=[1, 2]), "1 positive numbers"),
        (lambda: oc.LogSum(["a", "b"], weights=[1, 0]), "2 positive numbers"),
        (lambda: oc.LogSum(["a"], weights="heavy"), "takes real numbers"),
        (lambda: oc.Problem(MDP, utility=oc.LogSum(["c"])), "no cost 'c'"),
        (lambda: oc.Problem(MDP, utility=oc.WorstCase(["c"])), "no cost 'c'"),
        (lambda: oc.Problem(MDP, utility=oc.LogSum([-1.0 * oc.expected("a")])), "never positive"),
        (lambda: oc.Problem(MDP, utility=oc.Utility(3)), "takes a function"),
        (lambda: oc.Problem(MDP, utility=oc.Utility(lambda d: d)), "scalar concave"),
        (lambda: oc.Problem(MDP, utility=oc.Utility(lambda d: 1.0)), "scalar concave"),
        (lambda: oc.Problem(MDP, utility=oc.Utility(lambda d: cvxpy.sum_squares(d))), "scalar concave"),
        (lambda: oc.Problem(MDP, utility=oc.Utility(lambda d: d.nothing)), "raised AttributeError"),
        (lambda: oc.Problem(MDP, utility=oc.Utility(lambda d: d[0] + cvxpy.Variable())), "depend on d alone"),
        (lambda: oc.Problem(MDP, utility=oc.Utility(lambda d: d[0] + cvxpy.Parameter())), "depend on d alone"),
        (lambda: oc.Problem(MDP, utility=oc.PolicyEntropy(1.0)), "utility= takes"),
        (lambda: oc.Problem(MDP, regularizer=oc.WorstCase(["a"])), "regularizer= takes"),
        (lambda: oc.Problem(MDP, utility=oc.StateEntropy(), regularizer=oc.PolicyEntropy(1.0)), "give one"),
        (lambda: oc.Problem(MDP, sense="minimize", utility=oc.StateEntropy()), "maximised"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_words(make, words):
    with pytest.raises(InvalidProblem, match=words):
        make()


def test_settings_keep_what_they_were_given():
    """A list or an array that is changed later does not change the question."""
    target, names, weights = TARGET.copy(), ["a", "b"], [1.0, 2.0]
    variation, fairness, worst = oc.TotalVariation(target), oc.LogSum(names, weights), oc.WorstCase(names)
    target[:], names[:], weights[:] = 0.0, ["x", "y"], [5.0, 5.0]
    assert bound_to_model(variation).value(TARGET[MDP.pairs.states, MDP.pairs.actions]) == 0.0
    assert fairness.expectations == worst.expectations == ("a", "b")
    assert fairness.weights == (1.0, 2.0)


def test_settings_with_arrays_inside_compare_by_identity():
    one, other = oc.LogSum([oc.expected("a")]), oc.LogSum([oc.expected("a")])
    assert one == one
    assert one != other
    assert len({one, other, oc.TotalVariation(TARGET), oc.TotalVariation(TARGET)}) == 4


def test_the_fingerprint_of_a_problem_sees_the_setting():
    table = np.zeros((MDP.n_states, MDP.n_actions))
    variants = [
        {"regularizer": setting} if name in WITH_STRENGTH else {"utility": setting}
        for strength in (1.0, 2.0)
        for name, setting in settings_of(strength).items()
        if strength == 1.0 or name in WITH_STRENGTH
    ]
    variants += [{}]
    variants += [{"utility": oc.WorstCase(["a", oc.expected(table + shift)])} for shift in (0.0, 1.0)]
    variants += [{"utility": oc.LogSum(["a", "b"], weights=weights)} for weights in (None, [1.0, 3.0])]
    prints = [oc.Problem(MDP, **variant).fingerprint for variant in variants]
    assert len(set(prints)) == len(prints)
    assert oc.Problem(MDP, utility=oc.Utility(smooth_function)).fingerprint in prints


@pytest.mark.parametrize("kind", [oc.StateEntropy, oc.OccupancyEntropy])
def test_the_fingerprint_tells_a_regularizer_from_a_utility(kind):
    assert oc.Problem(MDP, regularizer=kind(1.0)).fingerprint != oc.Problem(MDP, utility=kind(1.0)).fingerprint


def test_the_fingerprint_sees_the_costs_of_a_utility():
    other = MDP.replace(costs={"a": MDP.pair_costs["a"] + 1.0, "b": MDP.pair_costs["b"]})
    for kind in (oc.LogSum, oc.WorstCase):
        prints = {oc.Problem(mdp, utility=kind(["a", "b"])).fingerprint for mdp in (MDP, other)}
        assert len(prints) == 2
