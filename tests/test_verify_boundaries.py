"""Where each check of the audit begins to refuse: a claim just inside its tolerance passes, one just beyond does not.

The tolerances stand in `occlp.verify`; loosening any of them a thousand times fails a test here, and so does taking a
check out.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from types import MappingProxyType

import numpy as np
import pytest

import occlp as oc
from benchmarks.lie_questions import DRIFT, FREE, MACHINE, WALK
from occlp.errors import AuditFailed
from occlp.verify import check_certificate

SIZE = float(np.abs(MACHINE.pair_rewards).max())
SPREAD = float(np.ptp(MACHINE.pair_rewards))
WEAR = oc.expected("wear") <= 0.25
TOLL = oc.expected_total("toll") >= 1
UNIFORM = oc.Policy.uniform(MACHINE)
QUESTIONS = {
    "plain": oc.Problem(MACHINE),
    "costs": oc.Problem(MACHINE, "minimize"),
    "limit": oc.Problem(MACHINE, constraints=[WEAR]),
    "KL": oc.Problem(MACHINE, regularizer=oc.KL(1.0, UNIFORM)),
    "strong entropy": oc.Problem(MACHINE, regularizer=oc.PolicyEntropy(1e3)),
    "average": oc.Problem(FREE, criterion="average"),
    "averages by state": oc.Problem(DRIFT, criterion="average"),
    "concave limit": oc.Problem(MACHINE, constraints=[oc.StateEntropy() >= 1.05]),
    "infeasible": oc.Problem(MACHINE, constraints=[oc.expected("wear") <= -1]),
    "total": oc.Problem(WALK, criterion="total", goal=3),
    "total with a limit": oc.Problem(WALK, criterion="total", goal=3, constraints=[TOLL]),
    "reaching": oc.Problem(WALK, criterion="total", goal=1, objective="reach"),
    "infeasible total": oc.Problem(
        WALK, criterion="total", goal=3, constraints=[oc.expected_total("toll") <= -1]
    ),
}  # fmt: skip


@cache
def answer(kind):
    return oc.solve(QUESTIONS[kind], check=False)


@cache
def loose(kind="plain"):
    """An answer far from optimal: its gap is wide, so that only the figures beside it can give a lie away."""
    return oc.solve(QUESTIONS[kind], oc.NaturalPolicyGradient(steps=0), check=False)


def claiming(result, **claims):
    return dataclasses.replace(result, certificate=dataclasses.replace(result.certificate, **claims))


@dataclasses.dataclass(frozen=True)
class Still:
    """A solver that has one policy."""

    policy: oc.Policy
    promises_tol = False

    def unsupported(self, problem):
        return None

    def iterate(self, problem, *, tol, rng, start=None):
        yield oc.Iterate(self.policy)


def judge(kind, told, words=None):
    """A told result passes, or is refused in these words."""
    if words is None:
        assert oc.verify(QUESTIONS[kind], told)
    else:
        with pytest.raises(AuditFailed, match=words):
            oc.verify(QUESTIONS[kind], told)


def moved(array, amount, place=0):
    array = np.array(array)
    array[place] += amount
    return array


# What a certificate claims ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "costs", "limit", "average"])
def test_a_rounding_that_would_excuse_a_gap(kind):
    """A millionth of the range of the rewards at most, and never negative: status and tolerance refer to it."""
    for rounding, words in ((0.0, None), (0.99e-6 * SPREAD, None), (1.01e-6 * SPREAD, "excuse"), (-1e-300, "excuse")):
        judge(kind, claiming(answer(kind), rounding=rounding), words)


def test_a_rounding_beside_a_strong_term():
    """What a strong penalty adds to the size of the objective counts: the end nearer to the offset of the rewards."""
    result = answer("strong entropy")
    certificate = result.certificate
    ends = [abs(end - certificate.shift) for end in (certificate.lower, certificate.upper)]
    largest = max(SPREAD, min(ends))
    assert largest > 1.05 * SPREAD
    judge("strong entropy", claiming(result, rounding=0.99e-6 * largest))
    judge("strong entropy", claiming(result, rounding=1.01e-6 * largest), "excuse")


@pytest.mark.parametrize("kind", ["plain", "limit", "average"])
def test_the_spread_of_the_rewards(kind):
    for off, words in ((0.9e-12, None), (-0.9e-12, None), (1.2e-12, "spread"), (-1.2e-12, "spread")):
        judge(kind, claiming(answer(kind), spread=SPREAD * (1 + off)), words)


@pytest.mark.parametrize("name", ["shift", "spread", "size", "rounding", "violation"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(name, value):
    judge("plain", claiming(answer("plain"), **{name: value}), "not finite")


@pytest.mark.parametrize("kind", ["plain", "costs", "limit", "KL", "average", "averages by state"])
def test_ends_and_gap(kind):
    """1e-11 of the size of the rewards is seen at either end, and in the gap of a policy that is not optimal."""
    far, result = 1e-11 * SIZE, answer(kind)
    low, high = result.certificate.lower, result.certificate.upper
    judge(kind, claiming(result, lower=low - 1, upper=high + 1, gap=result.gap + 2))  # modest, and true
    judge(kind, claiming(result, lower=low + far, upper=high + 1), "attain" if kind != "costs" else "not excluded")
    judge(kind, claiming(result, lower=low - 1, upper=high - far), "not excluded" if kind != "costs" else "attain")
    judge(kind, claiming(result, lower=high + 1 + far, upper=high + 1), "attain|exceeds|not excluded")
    judge(kind, claiming(result, gap=-1e-300), "gap")


@pytest.mark.parametrize("kind", ["plain", "costs", "KL", "average"])
def test_the_gap_of_a_policy_that_is_not_optimal(kind):
    wide = loose(kind)
    assert wide.gap > 0.01
    judge(kind, claiming(wide, gap=wide.gap + 1))
    judge(kind, claiming(wide, gap=np.inf))
    judge(kind, claiming(wide, gap=wide.gap - 1e-10 * SIZE), "gap")
    judge(kind, claiming(wide, gap=0.0), "gap")


@pytest.mark.parametrize("pair", range(MACHINE.n_pairs))
def test_reduced_costs(pair):
    result = answer("plain")
    for off, words in ((1e-15, None), (1e-11 * SIZE, "reduced costs"), (-1e-11 * SIZE, "reduced costs")):
        judge("plain", claiming(result, reduced_costs=moved(result.certificate.reduced_costs, off, pair)), words)


def test_values_that_are_a_constant_apart_are_as_good():
    """Up to a constant beside which nothing can be decided: 1e-7 of the rewards is what rounding may take."""
    result = answer("average")
    judge("average", claiming(result, values=result.certificate.values + 1e3))
    judge("average", claiming(result, policy_values=result.certificate.policy_values - 1e3))
    judge("average", claiming(result, shift=1e12), "too large to decide")


def test_violations():
    result = answer("limit")
    for violation, words in ((1e-14, None), (1e-9, "no constraint is broken by"), (np.nan, "not finite")):
        judge("limit", claiming(result, violation=violation), words)
    judge("plain", claiming(answer("plain"), violation=1e-300), "no constraints to violate")
    spent = dataclasses.replace(oc.solve(MACHINE), certificate=answer("limit").certificate)
    excess = spent.expected["wear"] - 0.25
    assert excess > 0.01
    for claim in (excess - 1e-9, excess / 2, 0.0):
        judge("limit", claiming(spent, violation=claim), "is broken by")


@pytest.mark.parametrize(("relation", "sign"), [("<=", 1), (">=", -1), ("==", 0)])
def test_prices_have_the_sign_of_their_constraint(relation, sign):
    limit = {"<=": oc.expected("wear") <= 0.2, ">=": oc.expected("wear") >= 0.4, "==": oc.expected("wear") == 0.2}
    problem = oc.Problem(MACHINE, constraints=[limit[relation]])
    result = oc.solve(problem)
    assert oc.verify(problem, result)
    price = result.multipliers["wear"]
    slope = result.certificate.sensitivity["wear"]
    assert slope == (price if sign == 0 else sign * price)
    lies = [
        {"sensitivity": {"wear": np.nextafter(slope, np.inf)}},
        {"sensitivity": {}},
        {"sensitivity": {"wear": slope, "more": 0}},
    ]
    lies += [] if sign == 0 else [{"multipliers": {"wear": -1e-300}}]
    for lie in lies:
        with pytest.raises(AuditFailed, match=r"sensitivit|must not be negative"):
            oc.verify(problem, claiming(result, **lie))


def test_how_much_is_missing_to_keep_constraints():
    result = answer("infeasible")
    short = result.certificate.infeasible_by
    for claim, words in (
        (short, None), (short / 2, None), (short + 1e-10, "priced violation"), (0.0, "do not prove"), (-1.0, "do not"),
    ):  # fmt: skip
        judge("infeasible", claiming(result, infeasible_by=claim), words)
    judge("infeasible", claiming(result, multipliers={"wear": 0.0}), "do not prove")


def test_how_much_is_missing_of_a_total():
    result = answer("infeasible total")
    short = result.certificate.infeasible_by
    for claim, words in (
        (short, None), (short / 2, None), (short * (1 + 1e-8), "priced violation"), (0.0, "priced"), (-1.0, "priced"),
    ):  # fmt: skip
        judge("infeasible total", claiming(result, infeasible_by=claim), words)


@pytest.mark.parametrize("place", ["slope", "offset"])
def test_majorants_touch_the_utility_from_above(place):
    result = answer("concave limit")
    name, majorant = next(iter(result.certificate.majorants.items()))
    low = {"slope": majorant.slope - 1e-10, "offset": majorant.offset - 1e-10}[place]
    told = {name: dataclasses.replace(majorant, **{place: low})}
    judge("concave limit", claiming(result, majorants=told), "needs an offset")
    judge("concave limit", claiming(result, majorants={}), "no majorant")
    judge("concave limit", claiming(result, majorants={name: majorant, "other": majorant}), "majorants are not those")
    broken = dataclasses.replace(majorant, slope=majorant.slope[:-1])
    judge("concave limit", claiming(result, majorants={name: broken}), "one finite slope")


# Figures beside it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "average"])
def test_occupancies(kind):
    result = answer(kind)
    d = result.pair_occupancy
    for off, words in ((0.9e-9, None), (1.1e-9, "sums to"), (-1.1e-9, "sums to")):
        judge(kind, dataclasses.replace(result, pair_occupancy=d * (1 + off)), words)
    unused = int(np.flatnonzero(d == 0)[0])
    judge(kind, dataclasses.replace(result, pair_occupancy=moved(d, -1e-300, unused)), "none negative")
    other = unused ^ 1  # the action that the policy takes in that state
    for step, words in ((1e-10, None), (1e-9, "not that of the policy")):
        bent = moved(moved(d, step, unused), -step, other)
        judge(kind, dataclasses.replace(result, pair_occupancy=bent), words)
    first, second = np.flatnonzero(d)[:2]
    for step, words in ((1e-10, None), (1e-6, "flow equations")):
        bent = moved(moved(d, step, first), -step, second)
        judge(kind, dataclasses.replace(result, pair_occupancy=bent), words)


@pytest.mark.parametrize("name", ["reward", "wear"])
def test_expectations(name):
    result = loose()
    size = float(np.abs(MACHINE.pair_rewards if name == "reward" else MACHINE.pair_costs[name]).max())
    for off, words in ((0.8e-9, None), (1.2e-9, "expected"), (-1.2e-9, "expected")):
        told = {**result.expected, name: result.expected[name] + off * size}
        judge("plain", dataclasses.replace(result, expected=MappingProxyType(told)), words)
    for told in ({"reward": result.expected["reward"]}, {**result.expected, "more": 0.0}):
        judge("plain", dataclasses.replace(result, expected=told), "expected names")


@pytest.mark.parametrize("kind", ["plain", "costs"])
def test_objectives(kind):
    """Between the bounds to 1e-9 of the rewards; where these leave room, what the occupancy earns, to 1e-8."""
    tight, wide = answer(kind), loose(kind)
    for off, words in ((0.9e-9, None), (-0.9e-9, None), (1.2e-9, "lies outside"), (-1.2e-9, "lies outside")):
        judge(kind, dataclasses.replace(tight, objective=tight.objective + off * SIZE), words)
    inward = 1 if kind == "plain" else -1
    for off, words in ((0.9e-8, None), (1.2e-8, "the objective is")):
        judge(kind, dataclasses.replace(wide, objective=wide.objective + inward * off * SIZE), words)


@pytest.mark.parametrize("name", ["pair_action_values", "pair_advantages", "state_values"])
def test_values_of_the_reward(name):
    result = loose()
    size = SIZE + float(np.abs(result.state_values).max())
    share = 0.2 if name == "state_values" else 0.9  # the values of states are in their own equation
    judge("plain", dataclasses.replace(result, **{name: moved(getattr(result, name), share * 1e-8 * size)}))
    judge("plain", dataclasses.replace(result, **{name: moved(getattr(result, name), 40e-8 * size)}), "are not those")
    judge("plain", dataclasses.replace(result, **{name: getattr(result, name)[:-1]}), "are not those")


def test_gains_of_states():
    result = answer("averages by state")
    size, gains = float(np.abs(DRIFT.pair_rewards).max()), np.array(result.gain)
    for off, words in ((0.9e-9, None), (2.2e-9, "change along"), (-2.2e-9, "change along")):  # state 0 is transient
        judge("averages by state", dataclasses.replace(result, state_gains=moved(gains, off * size)), words)
    judge("averages by state", dataclasses.replace(result, state_gains=gains + 3e-9 * size), "gains give")
    judge("averages by state", dataclasses.replace(result, state_gains=gains[:-1]), "change along")
    one = answer("average")
    for off, words in ((0.0, None), (1e-14, "differ within")):
        judge("average", dataclasses.replace(one, state_gains=moved(one.gain, off)), words)


def test_gain_values_bound_without_any_tolerance():
    """The least rise of G along a pair would bound nothing: whoever takes it at each step arrives."""
    result = answer("averages by state")
    gain = result.certificate.gain_values
    for name, words in (("gain_values", "gain_values rise"), ("policy_gain_values", "policy_gain_values fall")):
        off = -1 if name == "gain_values" else 1  # state 0 leads to state 2
        told = {name: moved(gain, off * float(np.spacing(gain[0])))}
        judge("averages by state", claiming(result, **told), words)
        for bad in (gain[:-1], moved(gain, np.nan)):
            judge("averages by state", claiming(result, **{name: bad}), "one finite number a state")
        judge("plain", claiming(answer("plain"), **{name: np.zeros(3)}), "belong to the average criterion")


def test_visits_and_totals():
    result = answer("total")
    visits = result.pair_occupancy
    scale = 1.0 + float(visits.max())
    place = int(np.argmax(visits))
    judge("total", dataclasses.replace(result, pair_occupancy=moved(visits, 0.3e-9 * scale, place)))
    judge("total", dataclasses.replace(result, pair_occupancy=moved(visits, 5e-9 * scale, place)), "visits")
    for name in ("reward", "toll"):
        told = {**result.expected_total, name: result.expected_total[name] + 1e-6}
        judge("total", dataclasses.replace(result, totals=told), f"expected_total.'{name}'|not the expected total")
    far = np.nextafter(result.objective, np.inf)
    judge("total", dataclasses.replace(result, objective=far), "not the expected total")
    judge("total", dataclasses.replace(result, objective=result.objective + 1e-6), "lies outside|not the expected")


def test_ends_of_totals():
    for kind in ("total", "total with a limit", "reaching"):
        result = answer(kind)
        low, high = result.certificate.lower, result.certificate.upper
        judge(kind, claiming(result, lower=low - 1, upper=high + 1, gap=result.gap + 2))
        judge(kind, claiming(result, lower=low + 1e-10, upper=high + 1, gap=2.0), "attain")
        judge(kind, claiming(result, lower=low - 1, upper=high - 1e-10, gap=2.0), "not excluded")
        judge(kind, claiming(result, lower=low - 1, upper=high + 1, gap=1.0), "gap")
        judge(kind, claiming(result, gap=-1e-300), "gap")


def test_violations_of_totals():
    result = answer("total with a limit")
    for violation, words in ((result.certificate.violation + 1e-12, None), (1e-6, "are broken by")):
        judge("total with a limit", claiming(result, violation=violation), words)


def test_the_probability_of_the_goal():
    result = answer("reaching")
    low, high = result.certificate.lower, result.certificate.upper
    wide = claiming(result, lower=low - 1, upper=high + 1, gap=result.gap + 2)
    for off, words in ((0.9e-8, None), (1.2e-8, "reached with probability"), (-1.2e-8, "reached with probability")):
        judge("reaching", dataclasses.replace(wide, objective=wide.objective + off), words)


@pytest.mark.parametrize(("off", "passes"), [(0.9e-9, True), (-0.9e-9, True), (1.2e-9, False), (-1.2e-9, False)])
def test_probabilities_of_a_policy(off, passes):
    """Sums are 1 to 1e-9; what misses it is charged to the bound, so a modest claim passes."""
    result = loose()
    modest = claiming(result, lower=result.certificate.lower - 1, gap=result.gap + 1)
    told = oc.Policy(MACHINE.pairs, moved(result.policy.pair_probabilities, off))
    judge("plain", dataclasses.replace(modest, policy=told), None if passes else "sum to")


# What mutations of the audit have got past the tests above ----------------------------------------------------


@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_how_much_is_missing_of_a_total_in_either_sense(sense):
    problem = oc.Problem(WALK, sense, "total", goal=3, constraints=[oc.expected_total("toll") <= -1])
    result = oc.solve(problem, check=False)
    assert result.status is oc.Status.INFEASIBLE
    assert oc.verify(problem, result)
    short = result.certificate.infeasible_by
    with pytest.raises(AuditFailed, match="priced violation"):
        oc.verify(problem, claiming(result, infeasible_by=short * (1 + 1e-8)))


def test_visits_that_are_no_numbers():
    result = answer("total")
    visits, unused = result.pair_occupancy, int(np.argmin(result.pair_occupancy))
    assert visits[unused] == 0
    for told in (visits[:-1], moved(visits, np.nan), moved(visits, -1e-300, unused)):
        judge("total", dataclasses.replace(result, pair_occupancy=told), "one number a pair")


def test_visits_are_shared_out_as_the_policy_says():
    """Both actions of state 1 lead to the same places, so the flow equations cannot tell them apart."""
    result = answer("total")
    (first, last), visits = np.flatnonzero(WALK.pairs.states == 1), result.pair_occupancy
    scale = 1.0 + float(visits.max())
    assert visits[first] + visits[last] > 0.1
    step = 1 if visits[last] > visits[first] else -1
    told = moved(moved(visits, step * 5e-9 * scale, first), -step * 5e-9 * scale, last)
    judge("total", dataclasses.replace(result, pair_occupancy=told), "not those of the policy")


def test_utilities_in_constraints():
    result = answer("concave limit")
    ((name, value),) = result.utilities.items()
    for off, words in ((0.9e-9 * value, None), (3e-9 * value, "the utility of"), (np.nan, "the utility of")):
        judge("concave limit", dataclasses.replace(result, utilities={name: value + off}), words)
    for told in ({}, {name: value, "more": 1.0}):
        judge("concave limit", dataclasses.replace(result, utilities=told), "utilities are not those")


def test_the_size_that_a_tolerance_refers_to():
    """The range of the rewards or of the ends, or the strength of a term where the rewards are constant (section 7)."""
    low, high = answer("plain").certificate.lower, answer("plain").certificate.upper
    assert answer("plain").certificate.size == min(SPREAD, max(abs(low), abs(high)))
    constant = MACHINE.replace(rewards=np.full(MACHINE.n_pairs, 3.0))
    far = oc.KL(0.5, oc.Policy.from_table(MACHINE, [[0.9, 0.1]] * 3))
    soft = oc.solve(oc.Problem(constant, regularizer=far)).certificate
    assert soft.size == soft.spread == 0.5
    one = oc.solve(
        oc.Problem(MACHINE.replace(rewards=MACHINE.pair_rewards / SPREAD), regularizer=oc.PolicyEntropy(100))
    )
    away = min(abs(one.certificate.lower - one.certificate.shift), abs(one.certificate.upper - one.certificate.shift))
    assert one.certificate.size == pytest.approx(away)
    assert away > 10


def test_prices_of_totals_are_charged_with_their_bounds():
    """A bound that is neither 1 nor −1: y·b is a product."""
    problem = oc.Problem(WALK, criterion="total", goal=3, constraints=[oc.expected_total("toll") >= 1.25])
    result = oc.solve(problem)
    assert result.multipliers["toll"] > 0.01
    assert oc.verify(problem, result)


def test_a_circle_that_earns_is_not_worth_minus_infinity():
    """+1 and −2 in turn lose for ever, +1 and −3/4 earn for ever: the proof of the one is none of the other."""
    losing, earning = (
        oc.Problem(oc.MDP.from_arrays([[[0, 1]], [[1, 0]]], [[1], [last]], initial=0), criterion="total")
        for last in (-2, -0.75)
    )
    result = oc.solve(losing, check=False)
    assert (result.certificate.values == -np.inf).all()
    check_certificate(losing, result.policy, result.certificate)
    told = dataclasses.replace(result.certificate, fingerprint=earning.fingerprint)
    with pytest.raises(AuditFailed, match="may earn for ever"):
        check_certificate(earning, result.policy, told)


def test_a_lottery_over_places_to_stay_is_worth_their_mean():
    """G = PG to the last digit, where the terms cancel: in doubles that is no proof, in fractions it is."""
    mdp = oc.MDP.from_arrays([[[0, 0.5, 0.5]], [[0, 1, 0]], [[0, 0, 1]]], [0, 1, 3], initial=0)
    problem = oc.Problem(mdp, criterion="average")
    result = oc.solve(problem)
    assert result.gain.tolist() == [2, 1, 3]
    assert oc.verify(problem, result)


def test_actions_that_a_reference_never_takes():
    narrow = oc.Policy.deterministic(MACHINE, ["run", "repair", "repair"])
    problem = oc.Problem(MACHINE, regularizer=oc.ConditionalKL(1.0, narrow))
    result = oc.solve(problem)
    assert oc.verify(problem, result)
    with pytest.raises(AuditFailed, match="that the reference never does"):
        check_certificate(problem, UNIFORM, result.certificate)


def test_majorants_of_a_utility_of_the_user():
    import cvxpy as cp

    problem = oc.Problem(MACHINE, utility=oc.Utility(lambda d: -cp.sum_squares(d)))
    result = oc.solve(problem, check=False)
    assert oc.verify(problem, result)
    certificate = result.certificate
    for dual in (
        -certificate.dual,
        moved(certificate.dual, 1e-3, -1),
        certificate.dual[:-1],
        certificate.dual * np.nan,
    ):
        with pytest.raises(AuditFailed):
            oc.verify(problem, claiming(result, dual=dual))


def test_values_of_a_policy_beyond_what_it_earns():
    """W may be too low, and then proves less; not too high, though the lower end be told to match."""
    result = answer("total")
    certificate = result.certificate
    for off, words in ((-1.0, None), (1e-9, "under the policy"), (1.0, "under the policy")):
        inner = np.where(QUESTIONS["total"].goal_states, 0.0, off)
        told = {"policy_values": certificate.policy_values + inner, "lower": certificate.lower + off}
        judge("total", claiming(result, **told, gap=10.0, upper=certificate.upper + 2), words)


def test_costs_that_are_earned_for_ever():
    """Minimising: the circle has to pay −1; one that pays +1, or a policy that leaves it, proves nothing."""
    rows = [[[1, 0], [0, 1]], [[0, 1]] * 2]
    paying, costing = (
        oc.Problem(oc.MDP.from_arrays(rows, [[reward, 0], [0, 0]], initial=0), "minimize", "total")
        for reward in (-1, 1)
    )
    result = oc.solve(paying, check=False)
    assert result.status is oc.Status.UNBOUNDED
    assert oc.verify(paying, result)
    told = dataclasses.replace(result.certificate, fingerprint=costing.fingerprint)
    with pytest.raises(AuditFailed, match="nothing is unbounded"):
        check_certificate(costing, result.policy, told)
    with pytest.raises(AuditFailed, match="nothing is unbounded"):
        check_certificate(paying, oc.Policy.deterministic(paying.mdp, [1, 0]), result.certificate)


@pytest.mark.parametrize(
    "setting",
    [oc.WorstCase(["reward", "wear"]), oc.LogSum(["reward", "wear"]), oc.StateEntropy(), oc.TotalVariation(UNIFORM)],
    ids=lambda setting: type(setting).__name__,
)
def test_bounds_of_utilities(setting):
    problem = oc.Problem(MACHINE, utility=setting)
    result = oc.solve(problem, check=False)
    certificate = result.certificate
    assert oc.verify(problem, result)
    assert result.gap < 1e-4
    lies = [{"upper": certificate.upper - 1e-2}, {"lower": certificate.lower + 1e-2, "upper": certificate.upper + 1e-2}]
    if len(certificate.dual):
        lies += [{"dual": -certificate.dual}, {"dual": certificate.dual[:-1]}, {"dual": certificate.dual * np.nan}]
    for lie in lies:
        with pytest.raises(AuditFailed):
            oc.verify(problem, claiming(result, **lie))


@pytest.mark.parametrize("regularizer", [oc.OccupancyEntropy(0.5), oc.PolicyEntropy(0.5)], ids=["pairs", "actions"])
def test_entropies_of_policies_that_do_not_randomise(regularizer):
    """0 log 0 is 0: where a pair is never taken, nothing is lost and nothing is NaN."""
    problem = oc.Problem(MACHINE, regularizer=regularizer)
    chosen = oc.solve(MACHINE).policy
    result = oc.solve(problem, Still(chosen), check=False)
    assert (result.pair_occupancy == 0).any()
    assert oc.verify(problem, result)
    judged = claiming(result, lower=result.certificate.lower + 1e-6, gap=np.inf)
    with pytest.raises(AuditFailed, match="attain"):
        oc.verify(problem, judged)


def test_infinite_values_are_an_overflow_or_a_lie():
    """One infinity among the values must not switch the check of the others off."""
    result = loose()
    for bad in (np.inf, -np.inf, np.nan):
        told = moved(result.state_values, bad)
        judge("plain", dataclasses.replace(result, state_values=told), "not finite")
    mdp = oc.MDP.from_arrays([[[1]]], [[1e305]], discount=1 - 1e-9)
    large = oc.solve(mdp)
    assert np.isinf(large.state_values).all()
    assert oc.verify(mdp, large)


def test_without_a_future_only_the_start_is_visited():
    problem = oc.Problem(MACHINE.replace(discount=0.0, initial="new"))
    result = oc.solve(problem)
    assert oc.verify(problem, result)
    assert result.visited.sum() == 1
    for visited in (np.ones(3, dtype=bool), np.zeros(3, dtype=bool)):
        with pytest.raises(AuditFailed, match="visited states"):
            oc.verify(problem, dataclasses.replace(result, visited=visited))


# What tolerances refer to -------------------------------------------------------------------------------------

SIZED = {
    **QUESTIONS,
    "distance": oc.Problem(MACHINE, utility=oc.TotalVariation(oc.Policy.from_table(MACHINE, [[0.9, 0.1]] * 3))),
    "state entropy": oc.Problem(MACHINE, utility=oc.StateEntropy(0.5)),
    "log sum": oc.Problem(MACHINE, utility=oc.LogSum(["reward", "wear"], weights=[0.5, 0.25])),
    "even log sum": oc.Problem(MACHINE, utility=oc.LogSum(["reward", "wear"])),
    "worst case": oc.Problem(MACHINE, utility=oc.WorstCase(["reward", "wear"])),
    "constant rewards": oc.Problem(
        MACHINE.replace(rewards=np.full(MACHINE.n_pairs, 3.0)), regularizer=oc.KL(0.5, UNIFORM)
    ),
}
#: The size of a term, by its definition, where there are no rewards.
SPREADS = {
    "distance": 1.0, "state entropy": 0.5 * np.log(3), "log sum": 0.75, "even log sum": 2.0, "constant rewards": 0.5,
    "worst case": max(MACHINE.pair_rewards.max(), MACHINE.pair_costs["wear"].max())
    - min(MACHINE.pair_rewards.min(), MACHINE.pair_costs["wear"].min()),
}  # fmt: skip


@pytest.mark.parametrize("kind", SIZED)
def test_a_larger_size_would_excuse_a_larger_gap(kind):
    """min(range, larger end), a term's own size where it stands alone, the larger end of a total (section 7)."""
    problem = SIZED[kind]
    result = oc.solve(problem, check=False) if kind in SPREADS else answer(kind)
    certificate = result.certificate
    assert oc.verify(problem, result)
    if kind in SPREADS:
        assert certificate.size == certificate.spread == pytest.approx(SPREADS[kind])
    for size in (certificate.size * (1 + 1e-10), certificate.size / 2, 0.0):
        assert oc.verify(problem, claiming(result, size=size))
    for size in (certificate.size * (1 + 1e-8), -1e-300, np.nan, np.inf):
        with pytest.raises(AuditFailed, match=r"tolerances are relative|not finite"):
            oc.verify(problem, claiming(result, size=size))
    for spread in (certificate.spread * (1 + 1e-11), certificate.spread * (1 - 1e-11), np.nan):
        with pytest.raises(AuditFailed, match=r"spread of the question|not finite|excuse"):
            oc.verify(problem, claiming(result, spread=spread))


def test_sizes_where_ends_are_infinite():
    """Without a bound on either side the spread is left, for totals nothing; without limits kept too."""
    wide = claiming(answer("plain"), lower=-np.inf, upper=np.inf, gap=np.inf)
    for size, words in ((SPREAD, None), (SPREAD * (1 + 1e-8), "tolerances are relative")):
        judge("plain", claiming(wide, size=size), words)
    open_total = claiming(answer("total"), lower=-np.inf, upper=np.inf, gap=np.inf)
    for size, words in ((0.0, None), (1e-300, "tolerances are relative")):
        judge("total", claiming(open_total, size=size), words)
    one = claiming(answer("total"), lower=-np.inf, gap=np.inf)
    for size, words in ((4.25, None), (4.2501, "tolerances are relative")):
        judge("total", claiming(one, size=size), words)


def test_the_size_of_a_strong_term_is_the_distance_of_the_nearer_end():
    result = answer("strong entropy")
    certificate = result.certificate
    away = min(abs(certificate.lower - certificate.shift), abs(certificate.upper - certificate.shift))
    assert certificate.size == pytest.approx(away)
    wide = claiming(result, upper=certificate.upper + 100, gap=result.gap + 101)
    for size, words in ((away, None), (away + 1e-3, "tolerances are relative")):
        judge("strong entropy", claiming(wide, size=size), words)


# Prices of totals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["total with a limit", "infeasible total"])
@pytest.mark.parametrize("price", [-1e-300, -1.0, np.nan, np.inf])
def test_prices_of_totals_are_finite_and_not_negative(kind, price):
    judge(kind, claiming(answer(kind), multipliers={"toll": price}), "must not be negative")
    for told in ({}, {**answer(kind).multipliers, "more": 0.0}):
        judge(kind, claiming(answer(kind), multipliers=told), "multipliers are not those")


def test_prices_of_equalities_of_totals_may_be_negative():
    """Whoever has to pay a quarter more than he would gains where the bound falls."""
    free = oc.solve(QUESTIONS["total"]).expected_total["toll"]
    problem = oc.Problem(WALK, criterion="total", goal=3, constraints=[oc.expected_total("toll") == free + 0.25])
    result = oc.solve(problem, check=False)
    assert result.status is oc.Status.CERTIFIED
    assert oc.verify(problem, result)
    price = result.multipliers["toll"]
    assert price < -0.1
    for told in (-price, price * 1.01, price / 1.01):  # y·b and y·C belong together, and to the optimum
        changed = claiming(result, multipliers={"toll": told}, sensitivity={"toll": told})
        with pytest.raises(AuditFailed, match=r"not excluded|bounds nothing"):
            oc.verify(problem, changed)


@pytest.mark.parametrize("kind", ["total", "total with a limit", "reaching"])
def test_values_of_totals_that_bound_nothing(kind):
    """V below r + PV on one pair, and values at the goal that are not those of the end."""
    problem, result = QUESTIONS[kind], answer(kind)
    values, goal = result.certificate.values, problem.goal_states
    for state in np.flatnonzero(~goal & result.visited):
        judge(kind, claiming(result, values=moved(values, -1e-9, state)), "bounds nothing|not excluded")
    ended = int(np.flatnonzero(goal)[0])
    for off in (1.0, -1.0, 1e-300 if kind != "reaching" else 1e-15):
        judge(kind, claiming(result, values=moved(values, off, ended)), "at the goal")
