"""Certificates: bounds that hold for any values, what is written down of them, and what counts as certified."""

from __future__ import annotations

import dataclasses
import gc
import json
import pickle
import weakref
from fractions import Fraction

import numpy as np
import pytest
from helpers import Exact, doubles, encloses, exact_objective, fractions, random_policy, sparse_rewards, two_classes
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from strategies import mdps, policy_tables, sketches

import occlp as oc
from occlp.bounds.upper import best_bound, bound_above
from occlp.certificate import certify
from occlp.evaluation import assess, formulate

SENSES = st.sampled_from(["maximize", "minimize"])
REST = st.sampled_from(["1", "1/2", "1/10", "1e-3", "1e-9", "1e-12"])
#: Any values prove a bound: of no size, of the size of the rewards, and absurd ones.
SIZES = st.sampled_from([0.0, 1.0, 1e3, 1e9])


def certificate_from(problem, policy, values):
    """The certificate of a policy with the bound that some values prove, whatever they are."""
    form = formulate(problem)
    return certify(problem, form, assess(form, policy.pair_probabilities), bound_above(form, values), kept=True)


def shifted(sketch, exact, rest, offset):
    """A model of the sketch with another discount, and an offset added to its rewards."""
    if exact:
        mdp = sketch.mdp(exact=True).replace(discount=str(1 - Fraction(rest)))
        return mdp.replace(rewards=[str(reward + offset) for reward in mdp.exact.rewards])
    mdp = sketch.mdp().replace(discount=1.0 - float(Fraction(rest)))
    return mdp.replace(rewards=mdp.pair_rewards + offset)


@given(st.data(), sketches(max_states=4), st.booleans(), REST, SENSES, SIZES, st.sampled_from([0, 5, 10**9 + 7]))
@settings(max_examples=150)
def test_bounds_hold_for_any_values(data, sketch, exact_numbers, rest, sense, size, offset):
    """Nothing is rounded in the comparison: lower ≤ J(π) ≤ optimum ≤ upper in fractions (swapped when minimising)."""
    mdp = shifted(sketch, exact_numbers, rest, offset)
    problem, exact = oc.Problem(mdp, sense=sense), Exact.of(mdp)
    policy = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
    seed = data.draw(st.integers(0, 10**6))
    values = size * np.random.default_rng(seed).normal(size=mdp.n_states)
    low = data.draw(st.sampled_from([None, np.spacing(values) / 3]))
    certificate = certificate_from(problem, policy, (values, low))
    attained, optimum = exact_objective(problem, policy, exact), exact.optimum(sense)
    assert encloses(certificate, optimum)
    assert encloses(certificate, attained)
    # Exact numbers are rounded to doubles when they are read: the gap is that of the rounded ones.
    read = Fraction(4 * np.spacing(float(abs(offset)))) if exact_numbers else 0
    assert abs(optimum - attained) <= Fraction(certificate.gap) + read


@given(mdps(max_states=4, max_actions=2), SENSES)
@settings(max_examples=40)
def test_bounds_against_every_deterministic_policy(mdp, sense):
    problem, exact = oc.Problem(mdp, sense=sense), Exact.of(mdp)
    optimum = exact.brute_force(sense)
    assert optimum == exact.optimum(sense)  # the two oracles agree exactly
    for size in (0.0, 1.0, 1e6):
        values = size * np.random.default_rng(1).normal(size=mdp.n_states)
        assert encloses(certificate_from(problem, oc.Policy.uniform(mdp), (values, None)), optimum)
    result = oc.solve(problem)
    assert encloses(result.certificate, optimum)
    assert result.certificate.gap <= 1e-12 * (1 + np.abs(mdp.pair_rewards).max())


def test_a_bound_that_is_too_small_is_noticed():
    mdp = oc.instances.get("howard-toymaker")
    certificate, optimum = oc.solve(mdp).certificate, Exact.of(mdp).optimum()
    assert encloses(certificate, optimum)
    assert not encloses(dataclasses.replace(certificate, upper=certificate.upper - 1e-12), optimum)
    assert not encloses(dataclasses.replace(certificate, lower=certificate.lower + 1e-12), optimum)


@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_the_bound_of_a_policy_whose_rewards_cancel(sense):
    """One state, three actions, and a mean reward of nearly zero: all that is left is rounding."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rewards, weights = rng.normal(size=3), rng.dirichlet(np.ones(3))
        rewards[2] = -(weights[0] * rewards[0] + weights[1] * rewards[1]) / weights[2]
        mdp = oc.MDP.from_arrays(np.ones((1, 3, 1)), rewards[None], discount=0.9)
        problem, policy = oc.Problem(mdp, sense=sense), oc.Policy.from_table(mdp, weights[None])
        certificate = certificate_from(problem, policy, (np.zeros(1), None))
        assert encloses(certificate, exact_objective(problem, policy))


def test_the_offset_of_the_rewards_is_added_back_outwards():
    mdp = oc.MDP.from_arrays(
        [[["1/12", "11/12"]], [["1", "0"]]], [["392672/196347"], ["908945/445999"]], discount="1/3", initial=0
    )
    assert encloses(oc.solve(mdp).certificate, Exact.of(mdp).optimum())


@given(mdps(max_states=4), SENSES)
@settings(max_examples=40)
def test_reduced_costs_are_minus_the_optimal_advantages(mdp, sense):
    exact, sign = Exact.of(mdp), 1 if sense == "maximize" else -1
    certificate = oc.solve(oc.Problem(mdp, sense=sense)).certificate
    values = exact.optimal_values(sense)
    advantages = [q - values[s] for q, s in zip(exact.action_values(values), exact.states, strict=True)]
    scale = 1e2 * (1 + np.abs(mdp.pair_rewards).max())
    expected = -sign * doubles(advantages)
    np.testing.assert_allclose(certificate.reduced_costs, expected, rtol=0, atol=1e-13 * scale)
    assert (certificate.reduced_costs >= 0).all()


@given(st.data(), mdps(max_states=5), SENSES)
@settings(max_examples=40)
def test_where_the_loss_sits(data, mdp, sense):
    """gap = Σ d^π · reduced cost, pair by pair, for the values that prove the optimum."""
    problem = oc.Problem(mdp, sense=sense)
    policy = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
    best = oc.solve(problem)
    form = formulate(problem)
    factor = form.sign * form.scale
    values = best.certificate.values / factor, best.certificate.values_low / factor
    certificate = certificate_from(problem, policy, values)
    evaluation = oc.evaluate(problem, policy)
    scale = 1e2 * (1 + np.abs(mdp.pair_rewards).max())
    lost = evaluation.pair_occupancy @ certificate.reduced_costs
    assert abs(lost - certificate.gap) <= 1e-13 * scale
    assert abs(lost - abs(best.objective - evaluation.objective)) <= 1e-13 * scale


def test_the_gap_survives_an_offset():
    """Two policies a hundred-billionth apart, with rewards near 1e9: the gap is not a difference of large numbers."""
    rewards = 1e9 + np.array([[0.0, 2.0**-22]])  # both are doubles
    mdp = oc.MDP.from_arrays(np.ones((1, 2, 1)), rewards, discount=0.9)
    certificate = certificate_from(oc.Problem(mdp), oc.Policy.deterministic(mdp, [0]), (np.zeros(1), None))
    assert certificate.gap == pytest.approx(2.0**-22, rel=1e-12)
    assert certificate.shift == 1e9
    assert certificate.spread == 2.0**-22
    assert encloses(certificate, Fraction(10**9) + Fraction(2.0**-22))


@pytest.mark.parametrize("rest", ["1e-9", "1e-12"])
@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_several_classes_near_a_discount_of_one(rest, sense):
    """One double cannot hold values of 1e9 with the digits that matter: the certificate keeps two."""
    mdp = two_classes(rest)
    result = oc.solve(oc.Problem(mdp, sense=sense))
    certificate = result.certificate
    assert result.status is oc.Status.CERTIFIED
    assert encloses(certificate, Exact.of(mdp).optimum(sense))
    assert certificate.gap <= 1e-13


def test_values_in_two_doubles():
    """Two blocks of different gain at 1 − γ = 1e-9: values near 1e9 that differ by less than their spacing."""
    rng = np.random.default_rng(0)
    rows = np.zeros((6, 2, 6))
    rows[:3, :, :3], rows[3:, :, 3:] = rng.dirichlet(np.ones(3), size=(2, 3, 2))
    mdp = oc.MDP.from_arrays(rows, rng.random((6, 2)) + np.repeat([[0.0], [0.5]], 3, axis=0), discount=1 - 1e-9)
    certificate, exact = oc.solve(mdp).certificate, Exact.of(mdp)
    assert certificate.values_low.any()
    assert encloses(certificate, exact.optimum())
    assert certificate.gap <= 1e-13
    rounded = dataclasses.replace(certificate, values_low=np.zeros(6))
    form = formulate(oc.Problem(mdp))
    loose = bound_above(form, (rounded.values / form.scale, None))
    assert loose.value * form.scale + form.shift > certificate.upper + 1e-10  # one double would not have proved it


@given(
    st.data(),
    mdps(max_states=4),
    SENSES,
    st.sampled_from([1e-3, 0.1, 1.0, 10.0, 1e3]),
    st.sampled_from([0.0, 1.0, 50.0]),
)
@settings(max_examples=80)
def test_kl_bounds_hold_for_any_values(data, mdp, sense, strength, size):
    """No policy does better than the bound: not the best known, not its neighbours; logarithms to 60 digits."""
    reference = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
    problem = oc.Problem(mdp, sense=sense, regularizer=oc.KL(strength, reference))
    exact, best = Exact.of(mdp), oc.solve(problem, check=False)
    values = size * np.random.default_rng(data.draw(st.integers(0, 10**6))).normal(size=mdp.n_states)
    certificates = [best.certificate, certificate_from(problem, best.policy, (values, None))]
    own = best.policy.pair_probabilities
    sign = 1 if sense == "maximize" else -1
    for weight in (0.0, 1e-4, 0.1, 1.0):
        policy = oc.Policy.from_pairs(mdp, (1 - weight) * own + weight * reference.pair_probabilities)
        attained = exact_objective(problem, policy, exact)
        for certificate in certificates:
            end = certificate.upper if sign == 1 else certificate.lower
            assert end == sign * np.inf or sign * attained <= sign * Fraction(end)
            if weight == 0.0:
                rounding = Fraction(1e-15) * (abs(attained) + Fraction(strength))
                attained_end = certificate.lower if sign == 1 else certificate.upper
                assert sign * Fraction(attained_end) <= sign * attained + rounding


def test_what_a_policy_attains_with_a_kl_term_is_rounded_outwards():
    for seed in range(20):
        prior = np.random.default_rng(seed).dirichlet(np.ones(2))
        mdp = oc.MDP.from_arrays(np.ones((1, 2, 1)), [[0.0, 1.0]], discount=0.5)
        kl = oc.KL(1e-3, oc.Policy.from_table(mdp, prior[None]))
        problem = oc.Problem(mdp, sense="minimize", regularizer=kl)
        result = oc.solve(problem)
        assert encloses(result.certificate, exact_objective(problem, result.policy))


def test_the_least_kl_bound_is_the_optimum():
    """Strong duality: scipy, minimising the bound over all values, arrives at the objective of the best policy."""
    mdp = oc.instances.get("garnet", n_states=4, n_actions=3, branching=2, seed=3, discount=0.9)
    problem = oc.Problem(mdp, regularizer=oc.KL(0.2, random_policy(mdp, np.random.default_rng(0))))
    form = formulate(problem)
    least = minimize(lambda v: bound_above(form, (v, None)).value, np.zeros(4), method="BFGS")
    objective = oc.solve(problem).objective
    assert form.to_user(least.fun) == pytest.approx(objective, abs=1e-7)
    assert form.to_user(least.fun) >= objective - 1e-14
    assert form.to_user(bound_above(form, (np.zeros(4), None)).value) > objective + 1e-3  # others are not tight


def test_values_that_are_not_finite_prove_nothing():
    form = formulate(oc.Problem(oc.instances.get("howard-toymaker")))
    good = bound_above(form, (np.zeros(2), None))
    candidates = [((np.array([end, 0.0]), None), None) for end in (np.nan, np.inf)]
    found = best_bound(form, candidates, good)
    assert found.value == good.value
    assert best_bound(form, [((np.zeros(2), None), None), ((np.array([0.0, 9.0]), None), None)]).value == good.value
    with np.errstate(all="ignore"):
        assert bound_above(form, (np.array([1e308, -1e308]), None)).value == np.inf


def test_a_certificate_survives_json_to_the_last_bit():
    mdp = two_classes("1e-9")
    for problem in (oc.Problem(mdp), oc.Problem(mdp, sense="minimize", regularizer=oc.KL(0.1, oc.Policy.uniform(mdp)))):
        certificate = oc.solve(problem, check=False).certificate
        again = oc.Certificate.from_json(certificate.to_json())
        for field in dataclasses.fields(certificate):
            first, second = getattr(certificate, field.name), getattr(again, field.name)
            if isinstance(first, np.ndarray):
                assert first.dtype == second.dtype
                np.testing.assert_array_equal(first, second)
                assert not second.flags.writeable
            else:
                assert first == second
                assert not isinstance(second, list)
        assert again.to_json() == certificate.to_json()
        assert json.loads(certificate.to_json())["format"] == "occlp-certificate"


def written():
    return json.loads(oc.solve(oc.instances.get("howard-toymaker")).certificate.to_json())


@pytest.mark.parametrize(
    ("alter", "words"),
    [
        (lambda plain: plain.pop("format"), "not an occlp certificate"),
        (lambda plain: plain.update(format="occlp-certificates"), "not an occlp certificate"),
        (lambda plain: plain.update(version=2), "version 2 is unknown"),
        (lambda plain: plain.pop("version"), "version None is unknown"),
        (lambda plain: plain.pop("values"), "'values'"),
        (lambda plain: plain.pop("gap"), "gap"),
        (lambda plain: plain.pop("assumptions"), "assumptions"),
        (lambda plain: plain.update(optimal=True), "optimal"),
        (lambda plain: plain.update(values=["a", "b"]), "not a list of numbers"),
        (lambda plain: plain.update(values=[[1.0], [2.0, 3.0]]), "not a list of numbers"),
        (lambda plain: plain.update(assumptions=None), "altered"),
    ],
)
def test_altered_text_is_refused(alter, words):
    plain = written()
    alter(plain)
    with pytest.raises(ValueError, match=words):
        oc.Certificate.from_json(json.dumps(plain))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"certificate"', "{}"])
def test_text_that_is_no_certificate_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        oc.Certificate.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"lower": "0"},
        {"gap": None},
        {"upper": [1.0]},
        {"exact": "yes"},
        {"multipliers": [1]},
        {"values": [[1.0, 2.0]]},
        {"fingerprint": 3},
        {"unending": 0},
        {"level": "more"},
        {"version": 2},
        {"format": "other"},
    ],
)
def test_numbers_of_another_kind_are_refused(change):
    with pytest.raises(ValueError, match=r"."):
        oc.Certificate.from_json(json.dumps(written() | change))


@pytest.mark.parametrize(
    ("size", "rounding", "tol", "atol", "expected"),
    [
        (3.0, 0.0, 1e-2, 0.0, 3e-2),
        (1e-9, 1e-12, 1e-8, 0.0, 1e-12),  # not below the rounding
        (1e-9, 1e-3, 1e-8, 0.0, 1e-7),  # as long as that is within tol · spread
        (1e-9, 0.0, 1e-8, 0.0, 1e-17),
        (3.0, 0.0, 1e-2, 0.5, 0.53),
        (3.0, 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_the_gap_that_counts_as_certified(size, rounding, tol, atol, expected):
    certificate = oc.solve(oc.instances.get("howard-toymaker")).certificate
    made = dataclasses.replace(certificate, size=size, spread=10.0, rounding=rounding)
    assert made.allowed_gap(tol, atol) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("rewards", "spread", "size"),
    [
        ([[3.0, 0.0]], 3.0, 3.0),
        ([[-3.0, -5.0]], 2.0, 2.0),
        ([[103.0, 101.0]], 2.0, 2.0),  # the offset says nothing
        ([[1e-9, -1.0]], 1.0 + 1e-9, 1e-9),  # the optimum is small beside the range
        ([[-1e-9, 1e-10]], 1.1e-9, 1e-10),
        ([[7.0, 7.0]], 0.0, 0.0),
    ],
)
def test_what_tolerances_are_relative_to(rewards, spread, size):
    """min(range of the rewards, max(|lower|, |upper|)): here one state, where the optimum is the best reward."""
    certificate = oc.solve(oc.MDP.from_arrays(np.ones((1, 2, 1)), rewards, discount=0.5)).certificate
    assert certificate.spread == pytest.approx(spread, rel=1e-12)
    assert certificate.size == pytest.approx(size, rel=1e-6)


@pytest.mark.parametrize("rest", [1e-9, 1e-12])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_policy_that_gives_up_is_not_certified_on_sparse_rewards(rest, sign):
    """The optimum is 1 − γ: relative to the range of the rewards alone, every policy would pass."""
    mdp = sparse_rewards(rest)
    mdp = mdp.replace(rewards=sign * mdp.pair_rewards)
    problem = oc.Problem(mdp, sense="maximize" if sign == 1 else "minimize")
    best = oc.solve(problem)
    assert best.status is oc.Status.CERTIFIED
    assert best.objective == pytest.approx(sign * rest, rel=1e-6)
    assert best.expected_return == pytest.approx(sign, rel=1e-6)
    stopped = oc.solve(problem, oc.NaturalPolicyGradient(steps=0))
    assert stopped.status is oc.Status.BOUNDED
    assert stopped.gap == pytest.approx(rest, rel=1e-2)
    assert stopped.gap > stopped.certificate.allowed_gap(1e-8)
    assert stopped.gap < 1e-8 * stopped.certificate.spread  # relative to the range it would have passed


def test_a_certificate_belongs_to_its_problem():
    mdp = oc.instances.get("howard-toymaker")
    certificate = oc.solve(mdp).certificate
    assert certificate.fingerprint == oc.Problem(mdp).fingerprint
    uniform = oc.Policy.uniform(mdp)
    others = [
        oc.Problem(mdp, sense="minimize"),
        oc.Problem(mdp, regularizer=oc.KL(1.0, uniform)),
        oc.Problem(mdp, regularizer=oc.KL(2.0, uniform)),
        oc.Problem(mdp, regularizer=oc.KL(1.0, oc.Policy.from_pairs(mdp, [0.25, 0.75, 0.5, 0.5]))),
        oc.Problem(mdp.replace(discount=0.91)),
        oc.Problem(mdp.replace(initial=0 if mdp.pairs.state_labels is None else "successful")),
        oc.Problem(mdp.replace(rewards=np.nextafter(mdp.pair_rewards, np.inf))),
    ]
    prints = [certificate.fingerprint, *(problem.fingerprint for problem in others)]
    assert len(set(prints)) == len(prints)
    again = oc.Problem(oc.instances.get("howard-toymaker"))
    assert again.fingerprint == certificate.fingerprint


def test_certificates_are_frozen():
    certificate = oc.solve(oc.instances.get("howard-toymaker")).certificate
    with pytest.raises(dataclasses.FrozenInstanceError):
        certificate.gap = 0.0
    for name in ("values", "values_low", "policy_values", "policy_values_low", "reduced_costs"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(certificate, name)[0] = 0.0
    assert fractions(certificate.values)  # plain doubles


def test_the_fingerprint_is_read_when_it_is_asked_for_and_the_problem_let_go():
    problem = oc.Problem(oc.instances.get("howard-toymaker"))
    certificate = oc.solve(problem).certificate
    alive = weakref.ref(problem)
    expected = oc.Problem(oc.instances.get("howard-toymaker")).fingerprint
    assert vars(certificate)["fingerprint"] is problem
    assert pickle.loads(pickle.dumps(certificate)).fingerprint == expected
    assert certificate.fingerprint == expected
    del problem
    gc.collect()
    assert alive() is None
    assert dataclasses.replace(certificate, gap=1.0).fingerprint == expected
    with pytest.raises(dataclasses.FrozenInstanceError):
        certificate.fingerprint = "other"
    with pytest.raises(TypeError, match="fingerprint"):
        oc.Certificate(**{name: value for name, value in vars(certificate).items() if name != "fingerprint"})


def test_certificates_say_what_they_prove():
    mdp = oc.instances.get("machine-repair")
    certificate = oc.solve(mdp).certificate
    lines = str(certificate).split("\n  ")
    assert lines[0].startswith("Certificate (float): the optimum lies between ")
    assert f"{certificate.lower:.12g} and {certificate.upper:.12g}" in lines[0]
    assert lines[1:] == ["assuming: double precision, rounding bounded", f"problem {certificate.fingerprint[:12]}"]
    priced = dataclasses.replace(certificate, multipliers={"budget": 0.25}, violation=1e-9)
    assert "\n  the policy breaks a constraint by 1e-09\n  prices: budget 0.25\n" in str(priced)
    assert "broken by 0.5 at least" in str(dataclasses.replace(certificate, infeasible_by=0.5))
    assert "the total has no bound" in str(dataclasses.replace(certificate, unending=True))
