"""Questions with a regularizer or a utility, solved: every method against an optimum found by looking at all policies.

In two states with two actions each a policy is a point of the unit square, and its occupancy, in closed form, one of a
polygon. `search` looks for the best point of the polygon, with the terms written down by their definition.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import replace

import cvxpy
import numpy as np
import pytest
from helpers import permuted, random_policy

import occlp as oc
from occlp.errors import AuditFailed

COSTS = {"a": [2.0, 0.5, 0.2, 1.0], "b": [0.3, 1.5, 2.0, 0.1]}
TARGET = np.array([[0.4, 0.1], [0.2, 0.3]])
CRITERIA = ("discounted", "average")
CLARABEL, SCS = oc.OccupancyProgram("CLARABEL"), oc.OccupancyProgram("SCS")
HIGHS, SOFT, DUAL = oc.OccupancyProgram("HIGHS"), oc.SoftPolicyIteration(), oc.KLDual()


def square(criterion="discounted"):
    """Two states, two actions each; all policies have one recurrent class."""
    return oc.MDP.from_pairs(
        [0, 0, 1, 1], [0, 1, 0, 1], [[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.6, 0.4]], [1.0, 0.2, 2.0, 0.5],
        discount=0.8 if criterion == "discounted" else None, initial=[0.7, 0.3], costs=COSTS,
    )  # fmt: skip


def reference(mdp):
    return oc.Policy.from_pairs(mdp, [0.3, 0.7, 0.6, 0.4])


def curved(d):
    return -cvxpy.sum_squares(d - np.array([0.5, 0.1, 0.1, 0.3])) + 0.1 * cvxpy.sum(cvxpy.sqrt(d))


#: Each kind of term: how it is asked, what it is, and who can answer.
KINDS = {
    "KL": (lambda m, t: {"regularizer": oc.KL(t, reference(m))}, (DUAL, CLARABEL, SCS)),
    "ConditionalKL": (lambda m, t: {"regularizer": oc.ConditionalKL(t, reference(m))}, (SOFT, CLARABEL, SCS)),
    "PolicyEntropy": (lambda m, t: {"regularizer": oc.PolicyEntropy(t)}, (SOFT, CLARABEL, SCS)),
    "StateEntropy": (lambda m, t: {"regularizer": oc.StateEntropy(t)}, (CLARABEL, SCS)),
    "OccupancyEntropy": (lambda m, t: {"regularizer": oc.OccupancyEntropy(t)}, (DUAL, CLARABEL, SCS)),
    "StateEntropy alone": (lambda m, t: {"utility": oc.StateEntropy()}, (CLARABEL, SCS)),
    "OccupancyEntropy alone": (lambda m, t: {"utility": oc.OccupancyEntropy()}, (DUAL, CLARABEL, SCS)),
    "TotalVariation": (lambda m, t: {"utility": oc.TotalVariation(TARGET)}, (HIGHS, CLARABEL, SCS)),
    "LogSum": (lambda m, t: {"utility": oc.LogSum(["a", "b"], [1.0, 2.0])}, (CLARABEL, SCS)),
    "WorstCase": (lambda m, t: {"utility": oc.WorstCase(["a", "b"])}, (HIGHS, CLARABEL, SCS)),
    "Utility": (lambda m, t: {"utility": oc.Utility(curved)}, (CLARABEL, SCS)),
}
REGULARIZERS = tuple(KINDS)[:5]


def ask(kind, mdp, strength=0.5, **more):
    return oc.Problem(
        mdp, criterion="average" if mdp.discount is None else "discounted", **KINDS[kind][0](mdp, strength), **more
    )


def occupancies(mdp, first, second):
    """d [..., 4] of the policies that take action 0 with these probabilities: two states balance their flows."""
    rest = 0.0 if mdp.discount is None else 1.0 - mdp.discount
    leave = np.array([0.1, 0.7, 0.2, 0.6])  # to the other state, of each pair
    out = [first * leave[0] + (1 - first) * leave[1], second * leave[2] + (1 - second) * leave[3]]
    there, back = ((1 - rest) * out[s] + rest * mdp.initial[1 - s] for s in (0, 1))
    zero = back / (there + back)
    shares = [zero * first, zero * (1 - first), (1 - zero) * second, (1 - zero) * (1 - second)]
    return np.stack(shares, axis=-1)


def xlog(x, y=1.0):
    """x log(x / y) with 0 log 0 = 0."""
    return np.where(x > 0, x * np.log(np.where(x > 0, x, 1.0) / y), 0.0)


def value(kind, mdp, d, strength, sign):
    """The objective at d [..., 4], from the definitions, to be maximised."""
    mass = np.stack([d[..., 0] + d[..., 1], d[..., 2] + d[..., 3]], axis=-1)
    earned = sign * (d @ mdp.pair_rewards)
    policy = d / np.repeat(mass, 2, axis=-1)
    a, b = (d @ np.array(COSTS[name]) for name in "ab")
    prior = occupancies(mdp, np.float64(0.3), np.float64(0.6))
    terms = {
        "KL": lambda: earned - strength * xlog(d, prior).sum(-1),
        "ConditionalKL": lambda: (
            earned - strength * (np.repeat(mass, 2, axis=-1) * xlog(policy, np.array([0.3, 0.7, 0.6, 0.4]))).sum(-1)
        ),
        "PolicyEntropy": lambda: earned - strength * (np.repeat(mass, 2, axis=-1) * xlog(policy)).sum(-1),
        "StateEntropy": lambda: earned - strength * xlog(mass).sum(-1),
        "OccupancyEntropy": lambda: earned - strength * xlog(d).sum(-1),
        "StateEntropy alone": lambda: -xlog(mass).sum(-1),
        "OccupancyEntropy alone": lambda: -xlog(d).sum(-1),
        "TotalVariation": lambda: -0.5 * np.abs(d - TARGET.ravel()).sum(-1),
        "LogSum": lambda: np.log(a) + 2.0 * np.log(b),
        "WorstCase": lambda: np.minimum(a, b),
        "Utility": lambda: -((d - np.array([0.5, 0.1, 0.1, 0.3])) ** 2).sum(-1) + 0.1 * np.sqrt(d).sum(-1),
    }
    return terms[kind]()


@functools.cache
def search(kind, criterion, strength=0.5, sign=1.0, most_a=math.inf):
    """The best objective over all policies with E[a] at most `most_a`, from below.

    Occupancies fill a polygon, on which the objective is concave: the best of each of its chords is concave, too.
    """
    mdp, costs = square(criterion), np.array(COSTS["a"])
    corners = occupancies(mdp, np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0, 1.0]))
    middle = corners.mean(axis=0)
    across, along = np.linalg.svd(corners - middle)[2][:2]  # two directions that span the polygon

    def of_chord(x):
        """The best on the chord through x, by zooming in."""
        start = middle + x * across
        rows, room = np.vstack([-np.eye(4), costs]), np.append(start, most_a - costs @ start)
        slope = rows @ along
        low = (room[slope < 0] / slope[slope < 0]).max(initial=-2.0)
        high = (room[slope > 0] / slope[slope > 0]).min(initial=2.0)
        if low > high:
            return -math.inf
        for _ in range(10):
            y = np.linspace(low, high, 41)
            found = value(kind, mdp, np.maximum(start + y[:, None] * along, 0.0), strength, sign)
            at = int(np.argmax(found))
            low, high = y[max(at - 1, 0)], y[min(at + 1, 40)]
        return float(found.max())

    crossings = [
        p + (q - p) * (most_a - costs @ p) / (costs @ (q - p))
        for p, q in itertools.permutations(corners, 2)
        if costs @ p < most_a < costs @ q
    ]
    ends = [float((d - middle) @ across) for d in (*corners, *crossings) if costs @ d <= most_a + 1e-12]
    low, high, best = min(ends), max(ends), -math.inf
    for _ in range(20):
        x = np.linspace(low, high, 9)
        found = np.array([of_chord(one) for one in x])
        at = int(np.argmax(found))
        best = max(best, float(found[at]))
        low, high = x[max(at - 1, 0)], x[min(at + 1, 8)]
    return best


def assert_true(result, best, sign=1.0, loose=1e-9):
    """The certificate encloses the optimum, and the policy attains it within the gap."""
    ends = sorted((sign * result.certificate.lower, sign * result.certificate.upper))
    assert ends[0] <= best + loose
    assert best <= ends[1] + 1e-12
    assert best - sign * result.objective <= result.gap + 1e-12


# Optima ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("kind", KINDS)
def test_every_method_finds_the_optimum(kind, criterion):
    problem, best = ask(kind, square(criterion)), search(kind, criterion)
    for solver in (None, *KINDS[kind][1]):
        result = oc.solve(problem, solver, check=False)
        assert_true(result, best)
        if solver is not SCS and kind != "Utility":
            assert result.status is oc.Status.CERTIFIED
        assert result.gap <= 1e-6
        assert result.objective == pytest.approx(best, abs=1e-6)
        assert oc.verify(problem, result)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("kind", KINDS)
def test_every_method_finds_the_optimum_under_a_binding_constraint(kind, criterion):
    """A limit on one of the costs, halfway between its least value and that of the free optimum."""
    mdp = square(criterion)
    free = oc.solve(ask(kind, mdp), check=False)
    least = oc.solve(oc.Problem(mdp.replace(rewards=mdp.pair_costs["a"]), "minimize", free_criterion(mdp))).objective
    most = round(0.5 * (least + free.expected["a"]), 6)
    problem = ask(kind, mdp, constraints=[oc.expected("a") <= most])
    best = search(kind, criterion, most_a=most)
    for solver in (None, *KINDS[kind][1]):
        result = oc.solve(problem, solver, check=False)
        loose = 1e-6 if solver is SCS else 1e-8  # of the constraint, too
        if solver is SCS and result.status is not oc.Status.CERTIFIED:
            continue  # what a first-order backend misses is said; the bounds of what it finds are checked below
        assert_true(result, best, loose=loose)
        assert result.objective == pytest.approx(best, abs=1e-6)
        assert result.expected["a"] == pytest.approx(most, abs=1e-7)
        assert oc.verify(problem, result)
    if criterion == "average":
        return
    price, step = oc.solve(problem, check=False).multipliers["a"], 1e-4
    slope = (search(kind, criterion, most_a=most + step) - search(kind, criterion, most_a=most - step)) / (2 * step)
    assert price == pytest.approx(slope, rel=1e-2, abs=1e-4)


def free_criterion(mdp):
    return "average" if mdp.discount is None else "discounted"


@pytest.mark.parametrize("kind", REGULARIZERS)
def test_costs_that_are_minimised(kind):
    """Penalties are added to a cost, bonuses taken off it."""
    problem = ask(kind, square(), sense="minimize")
    best = search(kind, "discounted", sign=-1.0)
    for solver in KINDS[kind][1]:
        assert_true(oc.solve(problem, solver, check=False), best, sign=-1.0)
    assert oc.solve(problem).status is oc.Status.CERTIFIED


def test_exploration_of_a_model_that_can_go_anywhere():
    """Five states, action a leads to state a: the most even occupancy is uniform (Hazan and others 2019)."""
    rows = np.broadcast_to(np.eye(5), (5, 5, 5))
    mdp = oc.MDP.from_arrays(rows, np.zeros((5, 5)), initial=0)
    result = oc.solve(oc.Problem(mdp, criterion="average", utility=oc.StateEntropy()))
    assert result.objective == pytest.approx(math.log(5), rel=1e-12)
    np.testing.assert_allclose(result.occupancy.sum(axis=1), np.full(5, 0.2), atol=1e-6)
    for rest in (0.1, 0.5):  # the start keeps at least the share of the restarts
        discounted = oc.solve(oc.Problem(mdp.replace(discount=1 - rest), utility=oc.StateEntropy()))
        share = max(0.2, rest)
        entropy = -share * math.log(share) - (1 - share) * math.log((1 - share) / 4)
        assert discounted.objective == pytest.approx(entropy, rel=1e-9)


@pytest.mark.parametrize("kind", [oc.PolicyEntropy, oc.OccupancyEntropy])
def test_the_entropy_of_one_state_is_a_log_sum_exp(kind):
    mdp = oc.MDP.from_arrays(np.ones((1, 3, 1)), [[1.0, 2.0, 3.0]], discount=0.9)
    result = oc.solve(oc.Problem(mdp, regularizer=kind(0.5)))
    assert result.objective == pytest.approx(3.0714658142499496, rel=1e-13)
    policy = [0.015876239976466765, 0.11731042782619835, 0.8668133321973348]
    np.testing.assert_allclose(result.policy.pair_probabilities, policy, rtol=1e-9)


# Relations ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return oc.instances.get("garnet", n_states=6, n_actions=3, branching=3, seed=4, discount=0.9).replace(
        costs={name: np.random.default_rng(k).random((6, 3)) + 0.1 for k, name in enumerate("ab")}
    )


def terms_on(mdp, policy, strength=0.3):
    """Each kind of question on a model, with everything that it refers to given by one policy."""
    return {
        "KL": {"regularizer": oc.KL(strength, policy)},
        "ConditionalKL": {"regularizer": oc.ConditionalKL(strength, policy)},
        "PolicyEntropy": {"regularizer": oc.PolicyEntropy(strength)},
        "StateEntropy": {"regularizer": oc.StateEntropy(strength)},
        "OccupancyEntropy": {"regularizer": oc.OccupancyEntropy(strength)},
        "Exploration": {"utility": oc.StateEntropy()},
        "TotalVariation": {"utility": oc.TotalVariation(policy)},
        "LogSum": {"utility": oc.LogSum(["a", "b"])},
        "WorstCase": {"utility": oc.WorstCase(["a", "b"])},
    }


NAMES = tuple(terms_on(square(), reference(square())))


def solved(mdp, terms, **more):
    return oc.solve(oc.Problem(mdp, **terms, **more))


def policy_of(mdp):
    return random_policy(mdp, np.random.default_rng(11))


@pytest.mark.parametrize("name", NAMES)
def test_a_slack_budget_is_no_constraint(name, model):
    terms = terms_on(model, policy_of(model))[name]
    free = solved(model, terms)
    slack = solved(model, terms, constraints=[oc.expected("a") <= free.expected["a"] + 0.01])
    assert slack.objective == pytest.approx(free.objective, abs=2e-8)
    assert slack.multipliers["a"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_states_and_actions_do_not_matter(name, model):
    states, actions = [3, 0, 5, 1, 4, 2], [2, 0, 1]
    other, policy = permuted(model, states, actions), policy_of(model)
    table = np.zeros((6, 3))
    table[np.array(states)[:, None], np.array(actions)[None, :]] = policy.probabilities
    first = solved(model, terms_on(model, policy)[name])
    second = solved(other, terms_on(other, oc.Policy.from_table(other, table))[name])
    assert second.objective == pytest.approx(first.objective, abs=2e-8)
    moved = second.occupancy[np.array(states)[:, None], np.array(actions)[None, :]]
    if name in ("KL", "ConditionalKL", "PolicyEntropy", "OccupancyEntropy"):  # one optimum
        np.testing.assert_allclose(moved, first.occupancy, atol=1e-4)


@pytest.mark.parametrize("name", NAMES[:5])
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_of_the_reward_cancel(name, scale, model):
    policy = policy_of(model)
    first = solved(model, terms_on(model, policy)[name])
    scaled = model.replace(rewards=scale * model.pair_rewards + 5.0 * scale)
    second = solved(scaled, terms_on(scaled, policy, 0.3 * scale)[name])
    assert second.objective / scale == pytest.approx(first.objective + 5.0, abs=1e-7)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_of_the_costs_cancel(scale, model):
    costs = {name: scale * model.pair_costs[name] for name in "ab"}
    scaled = model.replace(costs=costs)
    for name, expected in (
        ("LogSum", lambda x: x + 2 * math.log(scale)),
        ("WorstCase", lambda x: scale * x),
    ):
        first, second = (solved(m, terms_on(m, policy_of(m))[name]) for m in (model, scaled))
        assert second.objective == pytest.approx(expected(first.objective), rel=1e-7)


def with_twins(mdp, policy, share):
    """The model with every last action doubled, and the policy with its mass split."""
    rows, old = mdp.transitions.toarray(), np.arange(mdp.n_pairs)
    last = old[mdp.pairs.actions == 2]
    order = np.concatenate([old, last])
    actions = np.concatenate([mdp.pairs.actions, np.full(len(last), 3)])
    other = oc.MDP.from_pairs(
        mdp.pairs.states[order], actions, rows[order], mdp.pair_rewards[order], discount=mdp.discount,
        initial=mdp.initial, costs={name: mdp.pair_costs[name][order] for name in "ab"},
    )  # fmt: skip
    table = np.column_stack([policy.probabilities, (1 - share) * policy.probabilities[:, 2]])
    table[:, 2] *= share
    return other, oc.Policy.from_table(other, table)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("PolicyEntropy", "OccupancyEntropy")])
def test_doubled_actions_change_nothing_where_the_reference_splits_its_mass(name, model):
    policy = policy_of(model)
    other, split = with_twins(model, policy, 0.3)
    first, second = solved(model, terms_on(model, policy)[name]), solved(other, terms_on(other, split)[name])
    assert second.objective == pytest.approx(first.objective, abs=2e-8)


@pytest.mark.parametrize("name", ["PolicyEntropy", "OccupancyEntropy"])
def test_doubled_actions_are_worth_something_to_a_counting_measure(name, model):
    policy = policy_of(model)
    other, split = with_twins(model, policy, 0.5)
    first, second = solved(model, terms_on(model, policy)[name]), solved(other, terms_on(other, split)[name])
    assert second.objective > first.objective + 1e-3


def with_split_state(mdp, policy, share):
    """The model with state 0 in two copies: whoever would enter it enters the first with this probability."""
    rows, n = mdp.transitions.toarray(), mdp.n_states
    rows = np.column_stack([rows, (1 - share) * rows[:, 0]])
    rows[:, 0] *= share
    initial = np.append(mdp.initial, (1 - share) * mdp.initial[0])
    initial[0] *= share
    twin = np.flatnonzero(mdp.pairs.states == 0)
    order = np.concatenate([np.arange(mdp.n_pairs), twin])
    states = np.concatenate([mdp.pairs.states, np.full(len(twin), n)])
    other = oc.MDP.from_pairs(
        states, mdp.pairs.actions[order], rows[order], mdp.pair_rewards[order], discount=mdp.discount,
        initial=initial, costs={name: mdp.pair_costs[name][order] for name in "ab"},
    )  # fmt: skip
    return other, oc.Policy.from_table(other, np.vstack([policy.probabilities, policy.probabilities[:1]]))


@pytest.mark.parametrize(
    "name", ["KL", "ConditionalKL", "PolicyEntropy", "TotalVariation", "LogSum", "WorstCase"]
)  # not the entropies of occupancies: a state in two copies is more even
def test_split_states_change_nothing_where_the_reference_is_split_too(name, model):
    policy = policy_of(model)
    other, split = with_split_state(model, policy, 0.4)
    first, second = solved(model, terms_on(model, policy)[name]), solved(other, terms_on(other, split)[name])
    assert second.objective == pytest.approx(first.objective, abs=2e-8)


# Limits of the strength --------------------------------------------------------------------------------------


def restricted(mdp, policy):
    """The model with the pairs alone that a policy takes."""
    kept = np.flatnonzero(policy.pair_probabilities)
    return oc.MDP.from_pairs(
        mdp.pairs.states[kept], mdp.pairs.actions[kept], mdp.transitions.toarray()[kept], mdp.pair_rewards[kept],
        discount=mdp.discount, initial=mdp.initial,
    )  # fmt: skip


@pytest.mark.parametrize("kind", [oc.KL, oc.ConditionalKL])
@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_divergences_from_nothing_to_everything(kind, sense, model):
    """At 1e-9 the linear program on the support of the reference, at 1e9 the reference itself."""
    table = np.where(policy_of(model).probabilities > 0.25, policy_of(model).probabilities, 0.0)
    policy = oc.Policy.from_table(model, table / table.sum(axis=1, keepdims=True))
    weak, strong = (oc.Problem(model, sense=sense, regularizer=kind(tau, policy)) for tau in (1e-9, 1e9))
    plain = oc.solve(oc.Problem(restricted(model, policy), sense=sense))
    found = oc.solve(weak)
    assert found.status is oc.Status.CERTIFIED
    assert found.objective == pytest.approx(plain.objective, abs=1e-7)
    assert abs(plain.objective - oc.solve(oc.Problem(model, sense=sense)).objective) > 1e-3
    kept, start = oc.solve(strong), oc.evaluate(model, policy)
    assert kept.status is oc.Status.CERTIFIED
    assert kept.objective == pytest.approx(start.objective, abs=1e-8)
    np.testing.assert_allclose(kept.pair_occupancy, start.pair_occupancy, atol=1e-8)
    assert oc.verify(weak, found)
    assert oc.verify(strong, kept)


@pytest.mark.parametrize("kind", [oc.PolicyEntropy, oc.StateEntropy, oc.OccupancyEntropy])
def test_entropies_from_nothing_to_everything(kind, model):
    """At 1e-9 the plain program, at 1e9 the most even policy or occupancy."""
    weak, strong = (oc.Problem(model, regularizer=kind(tau)) for tau in (1e-9, 1e9))
    found, most = oc.solve(weak), oc.solve(strong)
    assert found.objective == pytest.approx(oc.solve(model).objective, abs=1e-7)
    assert {found.status, most.status} == {oc.Status.CERTIFIED}
    if kind is oc.PolicyEntropy:
        assert most.objective / 1e9 == pytest.approx(math.log(3), rel=1e-8)
        np.testing.assert_allclose(most.policy.probabilities, 1 / 3, atol=1e-6)
    else:
        even = oc.solve(oc.Problem(model, utility=kind()))
        assert most.objective / 1e9 == pytest.approx(even.objective, rel=1e-7)
    assert oc.verify(weak, found)
    assert oc.verify(strong, most)


# Audit and lies ----------------------------------------------------------------------------------------------


def mutations(certificate):
    """False certificates, each with a claim that is too good, or with values that do not prove it."""
    step = 1e-3 * max(certificate.size, 1e-3)
    shift = np.linspace(-1.0, 1.0, len(certificate.values)) + np.arange(len(certificate.values)) ** 2
    yield replace(certificate, upper=certificate.lower - step)
    yield replace(certificate, upper=certificate.upper - step, lower=certificate.lower - step)
    yield replace(certificate, lower=certificate.lower + step, upper=certificate.upper + step)
    yield replace(certificate, values=certificate.values + shift)
    yield replace(certificate, policy_values=certificate.policy_values + shift)
    yield replace(certificate, multipliers={"a": certificate.multipliers["a"] + 1.0})
    if len(certificate.dual):
        yield replace(certificate, dual=certificate.dual[::-1] * np.linspace(0.2, 1.5, len(certificate.dual)))
        yield replace(certificate, dual=certificate.dual[:-1])


@pytest.mark.parametrize("name", NAMES)
def test_false_certificates_are_refused(name, model):
    terms = terms_on(model, policy_of(model))[name]
    free = solved(model, terms)
    least = oc.solve(oc.Problem(model.replace(rewards=model.pair_costs["a"]), sense="minimize")).objective
    limit = oc.expected("a") <= 0.9 * least + 0.1 * free.expected["a"]
    problem = oc.Problem(model, **terms, constraints=[limit])
    result = oc.solve(problem)
    assert result.multipliers["a"] > 0
    assert oc.verify(problem, result)
    for false in mutations(result.certificate):
        with pytest.raises(AuditFailed):
            oc.verify(problem, replace(result, certificate=false))


ORIGINAL = cvxpy.Problem.solve
LIES = {
    "random": lambda x, rng: rng.normal(size=x.shape),
    "a little off": lambda x, rng: x * (1 + 1e-4 * rng.normal(size=x.shape)),
    "zeros": lambda x, rng: np.zeros(x.shape),
    "huge": lambda x, rng: 1e30 * x,
    "NaN": lambda x, rng: np.full(x.shape, np.nan),
    "the other sign": lambda x, rng: -x,
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("duals", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_backend_that_lies_is_not_believed(kind, lie, duals, monkeypatch):
    """About the occupancy, or about the duals: bounds stay true, and CERTIFIED is said only where it is so."""
    problem, best = ask(kind, square()), search(kind, "discounted")
    monkeypatch.setattr("occlp.solving.polisher", lambda problem, solver, prices: None)

    def solve(self, *arguments, **options):
        ORIGINAL(self, *arguments, **options)
        rng = np.random.default_rng(3)
        told = [dual for row in self.constraints for dual in row.dual_variables] if duals else self.variables()
        for variable in told:
            if variable.value is not None:
                variable.save_value(LIES[lie](np.asarray(variable.value, dtype=np.float64), rng))

    monkeypatch.setattr(cvxpy.Problem, "solve", solve)
    result = oc.solve(problem, CLARABEL, check=False)
    assert_true(result, best)
    if result.status is oc.Status.CERTIFIED:
        assert result.objective == pytest.approx(best, abs=2e-8)
    else:
        assert result.message


@pytest.mark.parametrize("limits", [[], [oc.expected("wear") <= 0.2]], ids=["free", "limited"])
def test_soft_iterations_from_any_start(limits):
    """A policy of infinite penalty, and the answer itself: the same optimum."""
    mdp = oc.instances.get("machine-repair")
    prior = oc.Policy.from_table(mdp, [[0.5, 0.5], [0.5, 0.5], [0.0, 1.0]])
    problem = oc.Problem(mdp, regularizer=oc.ConditionalKL(1.0, prior), constraints=limits)
    known = oc.solve(problem, SOFT)
    for start in (oc.Policy.uniform(mdp), known):
        found = oc.solve(problem, SOFT, start=start)
        assert found.status is oc.Status.CERTIFIED
        assert found.objective == pytest.approx(known.objective, rel=1e-8)
