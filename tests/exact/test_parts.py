"""Parts of the exact levels on their own: elimination, policy iteration from anywhere, and enclosures fed lies."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache

import cvxpy as cp
import numpy as np
import pytest
from helpers import encloses, solve_fractions
from test_verify_boundaries import DRIFT, Still
from test_verify_totals import RESTING

import occlp as oc
from benchmarks.lie_questions import CIRCLE, MACHINE, PIT, WALK

flint = pytest.importorskip("flint")

from occlp.exact import basis, disproofs, elimination  # noqa: E402
from occlp.exact.basis import prove_basis  # noqa: E402
from occlp.exact.chain import solve_dense  # noqa: E402
from occlp.exact.form import exact_form  # noqa: E402
from occlp.exact.gains import optimal_gains  # noqa: E402
from occlp.exact.intervals import enclose_infeasible  # noqa: E402
from occlp.exact.never_rising import best_gains, policy_gains  # noqa: E402
from occlp.exact.total_intervals import enclose_infeasible_total, enclose_total  # noqa: E402
from occlp.rationals import to_fraction  # noqa: E402

TOTAL = oc.Problem(WALK, criterion="total", goal=3)
FREE = oc.Problem(WALK, criterion="total")
SHORT = oc.Problem(MACHINE, constraints=[oc.expected("wear") <= -1])
SHORT_TOTAL = oc.Problem(WALK, criterion="total", goal=3, constraints=[oc.expected_total("toll") <= -1])


@cache
def answer(problem):
    return oc.solve(problem, check=False)


@pytest.mark.parametrize("most_fill", [0, 6, 256])
@pytest.mark.parametrize("seed", range(3))
def test_elimination_against_gauss(seed, most_fill, monkeypatch):
    """Columns and rows, for states eliminated one by one, all at once, and some of each."""
    monkeypatch.setattr(elimination, "MOST_FILL", most_fill)
    rng, n = np.random.default_rng(seed), 9
    rates = [[Fraction(int(x), 7) if i != j and rng.random() < 0.35 else Fraction(0) for j, x in
              enumerate(rng.integers(1, 9, n))] for i in range(n)]  # fmt: skip
    leave = [Fraction(int(x), 5) for x in rng.integers(1, 4, n)]
    matrix = [[leave[i] + sum(rates[i]) if i == j else -rates[i][j] for j in range(n)] for i in range(n)]
    rhs = [Fraction(int(x), 3) for x in rng.integers(-5, 6, n)]
    flows = [{j: rational(rate) for j, rate in enumerate(row) if rate} for row in rates]
    found = elimination.SparseElimination(flows, [rational(x) for x in leave], solve_dense)
    given = [rational(x) for x in rhs]
    assert [to_fraction(x) for x in found.columns(given)] == solve_fractions(matrix, rhs)
    assert [to_fraction(x) for x in found.rows(given)] == solve_fractions([*map(list, zip(*matrix, strict=True))], rhs)


def rational(number):
    return flint.fmpq(number.numerator, number.denominator)


def test_gains_in_fractions_do_not_depend_on_where_they_begin():
    form = exact_form(oc.Problem(DRIFT, criterion="average"))
    found = [
        optimal_gains(form, form.rewards, [2 * s + a for s, a in enumerate(choice)]) for choice in np.ndindex(2, 2, 2)
    ]
    assert {tuple(map(to_fraction, one.gains)) for one in found} == {(3, 2, 3)}
    assert {one.changes for one in found} > {0}


def test_gains_in_doubles_that_rise_are_replaced():
    """A digit too low, the best gains rise to those of the places to stay; a digit too high, the policy's fall."""
    mdp = oc.MDP.from_pairs([0, 0, 1, 2], [0, 1, 0, 0], [["0", "1/3", "2/3"], ["0", "0", "1"], [0, 1, 0], [0, 0, 1]],
                            ["0", "0", "1", "0"], initial=0)  # fmt: skip
    problem = oc.Problem(mdp, criterion="average")
    form, result = exact_form(problem), answer(problem)
    certificate, third = result.certificate, Fraction(1, 3)
    low = replace(certificate, gain_values=np.array([1 / 3, 1.0, 0.0]))  # the double next to a third is below it
    assert [to_fraction(x) for x in best_gains(form, low)] == [third, 1, 0]
    high = np.array([np.nextafter(1 / 3, 1), 1.0, 0.0])
    told = replace(certificate, policy_gain_values=high)
    assert [to_fraction(x) for x in policy_gains(form, told, result.policy)] == [third, 1, 0]
    kept = policy_gains(form, replace(certificate, policy_gain_values=low.gain_values), result.policy)
    assert [float(x) for x in kept] == low.gain_values.tolist()


class TestBases:
    """Limits on wear and on repairs: the optimum is a vertex where both may bind."""

    problem = oc.Problem(MACHINE, constraints=[oc.expected("wear") <= 0.25, oc.visits(actions="repair") <= 5])

    def test_the_optimum_is_proved_whatever_seems_to_be_near(self):
        """Prices that say nothing and pairs that all look free: wrong bases are refused, and the right one is found."""
        found = oc.solve(self.problem, certify="exact")
        assert found.certificate.exact
        blind = replace(
            answer(self.problem).certificate,
            reduced_costs=np.zeros(MACHINE.n_pairs), multipliers=dict.fromkeys(self.problem.limits, 0.0),
        )  # fmt: skip
        proof = prove_basis(exact_form(self.problem), blind, answer(self.problem)).proof
        assert proof.optimum == found.certificate.optimum

    def test_bases_of_another_policy_are_no_proof(self):
        for policy in (oc.Policy.uniform(MACHINE), oc.Policy.deterministic(MACHINE, ["repair"] * 3)):
            with pytest.raises(oc.Unsupported, match="none of the bases near the answer"):
                prove_basis(
                    exact_form(self.problem), answer(self.problem).certificate, oc.evaluate(self.problem, policy)
                )

    @pytest.mark.parametrize("limit", ["MOST_REPAIRS", "MOST_BASES"])
    def test_a_search_that_is_given_up_says_so(self, limit, monkeypatch):
        monkeypatch.setattr(basis, limit, 0)
        result = oc.solve(self.problem, certify="exact")
        assert result.certificate.level == "interval"
        assert "none of the bases near the answer is optimal" in result.message

    def test_totals_that_never_come_to_an_end(self):
        """Resting is an end, the losing circle is none; there are no fractions where some states have no value."""
        problem = oc.Problem(RESTING, criterion="total", constraints=[oc.expected_total("toll") <= 1])
        result = oc.solve(problem, certify="exact")
        assert result.certificate.level == "float"
        assert "from some states no policy comes to an end" in result.message


class TestTotalsInFractions:
    def test_ties_that_doubles_see(self):
        """Two ways to the goal: the second pays more by 10^-30."""
        rewards = [["1/3", Fraction(1, 3) + Fraction(1, 10**30)], ["0", "0"]]
        mdp = oc.MDP.from_arrays([[[0, 1]] * 2, [[0, 1]] * 2], rewards, initial=0)
        result = oc.solve(oc.Problem(mdp, criterion="total", goal=1), certify="exact")
        assert result.certificate.optimum == Fraction(1, 3) + Fraction(1, 10**30)
        assert result.policy.choice[0] == 1
        assert "1 improvements in fractions changed the policy" in result.message

    def test_a_circle_that_doubles_take_for_free(self):
        """There and back pays 10^-30, which is without end; where doubles see none, no fraction is claimed."""
        little = Fraction(-1, 3) + Fraction(1, 10**30)
        mdp = oc.MDP.from_pairs([0, 0, 1, 2], [0, 1, 0, 0], [[0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]],
                                ["1/3", "0", little, "0"], initial=0)  # fmt: skip
        result = oc.solve(oc.Problem(mdp, criterion="total", goal=2), certify="exact", check=False)
        assert not result.certificate.exact
        assert result.certificate.optimum is None

    def test_a_place_to_wait_on_the_way(self):
        """There and back for nothing, and then on for a third: the two states are one node of the reduced form."""
        mdp = oc.MDP.from_pairs([0, 1, 1, 2], [0, 0, 1, 0], [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]],
                                ["0", "0", "1/3", "0"], initial=0)  # fmt: skip
        problem = oc.Problem(mdp, criterion="total")
        result = oc.solve(problem, certify="exact")
        assert result.certificate.optimum == Fraction(1, 3)
        assert oc.verify(problem, result)

    def test_losses_without_end_are_no_fraction(self):
        result = oc.solve(oc.Problem(RESTING, criterion="total"), certify="exact")
        assert result.certificate.level == "float"
        assert "worth minus infinity, which is no fraction" in result.message


def altered(problem, **claims):
    return replace(answer(problem).certificate, **claims)


def moved(problem, name, state, amount):
    values = np.array(getattr(answer(problem).certificate, name), dtype=float)
    values[state] += amount
    return altered(problem, **{name: values})


class TestEnclosuresOfTotals:
    @pytest.mark.parametrize(
        ("problem", "name", "state", "amount", "words"),
        [
            (TOTAL, "values", 1, -0.1, "the values bound nothing"),
            (TOTAL, "policy_values", 1, 0.1, "the policy's values prove nothing"),
            (TOTAL, "policy_values", 1, -np.inf, "the policy's values prove nothing"),
            (TOTAL, "values", 1, -np.inf, "known in doubles only"),
            (FREE, "values", 3, -0.1, "stay for ever where the values are negative"),
        ],
    )
    def test_values_that_prove_nothing(self, problem, name, state, amount, words):
        with pytest.raises(oc.Unsupported, match=words):
            enclose_total(problem, moved(problem, name, state, amount), answer(problem))

    def test_values_without_a_bound(self):
        found = enclose_total(TOTAL, moved(TOTAL, "values", 1, np.inf), answer(TOTAL))
        assert found.upper == np.inf
        assert found.lower == pytest.approx(answer(TOTAL).objective)
        unclaimed = enclose_total(TOTAL, altered(TOTAL, lower=-np.inf), answer(TOTAL))
        assert (unclaimed.lower, np.isfinite(unclaimed.upper)) == (-np.inf, True)

    def test_a_policy_that_does_not_end(self):
        problem = oc.Problem(PIT, criterion="total", goal=3)
        falling = replace(answer(problem), policy=oc.Policy.deterministic(PIT, [1, 0, 0, 0]))
        assert enclose_total(problem, answer(problem).certificate, answer(problem)).level == "interval"
        with pytest.raises(oc.Unsupported, match="does not end almost surely"):
            enclose_total(problem, answer(problem).certificate, falling)

    def test_losses_that_doubles_alone_know(self):
        """From the losing circle no policy ends well; that this is so rests on a program in doubles."""
        problem = oc.Problem(RESTING, criterion="total", constraints=[oc.expected_total("toll") <= 1])
        result = oc.solve(problem, certify="interval")
        assert result.certificate.level == "float"
        assert "The level 'interval' was not reached: that no policy ends well" in result.message
        assert oc.verify(problem, result)


class TestDisproofs:
    @pytest.mark.parametrize("problem", [SHORT, SHORT_TOTAL], ids=["discounted", "total"])
    def test_prices_that_prove_nothing(self, problem):
        (name,) = problem.limits
        lie = altered(problem, multipliers={name: 0.0})
        enclose = enclose_infeasible if problem is SHORT else enclose_infeasible_total
        assert enclose(problem, answer(problem).certificate).infeasible_by > 0
        for check in (
            lambda: enclose(problem, lie),
            lambda: disproofs.disprove_exactly(problem, lie, answer(problem).policy),
        ):
            with pytest.raises(oc.Unsupported, match="do not prove that the constraints cannot be kept"):
                check()

    def test_a_policy_that_does_not_earn_for_ever(self):
        problem = oc.Problem(CIRCLE, criterion="total")
        leaving = oc.Policy.deterministic(CIRCLE, [1, 0])
        with pytest.raises(oc.Unsupported, match="does not earn for ever"):
            disproofs.disprove_exactly(problem, answer(problem).certificate, leaving)

    def test_the_circle_that_earns_is_found_among_others(self):
        """The first place to stay that the policy comes to pays nothing, the second does."""
        mdp = oc.MDP.from_arrays([[[0, 0.5, 0.5]], [[0, 1, 0]], [[0, 0, 1]]], [0, 0, 1], initial=0)
        result = oc.solve(oc.Problem(mdp, criterion="total"), certify="exact", check=False)
        assert result.certificate.exact
        assert dict(result.certificate.proof.occupancy) == {2: 1}
        assert oc.verify(oc.Problem(mdp, criterion="total"), result)


class TestEnclosedTerms:
    def test_a_policy_off_the_support_of_the_reference(self):
        """Its divergence is infinite, and so is the lower end of the interval."""
        narrow = oc.Policy.deterministic(MACHINE, ["run", "repair", "repair"])  # which never comes to the last state
        for term in (oc.KL(1.0, narrow), oc.ConditionalKL(1.0, narrow)):
            result = oc.solve(
                oc.Problem(MACHINE, regularizer=term), Still(oc.Policy.uniform(MACHINE)), certify="interval"
            )
            assert result.certificate.lower == -np.inf

    def test_a_distribution_given_as_a_table(self):
        target = np.full((3, 2), 1 / 6)
        problem = oc.Problem(MACHINE, utility=oc.TotalVariation(target))
        plain, result = answer(problem), oc.solve(problem, certify="interval")
        assert result.certificate.level == "interval"
        assert result.objective == pytest.approx(plain.objective, abs=1e-7)
        shape = MACHINE.pairs.table(result.pair_occupancy, 0.0)
        assert result.certificate.lower <= -np.abs(shape - target).sum() / 2 + 1e-12

    def test_constraints_on_functions_of_the_user(self):
        """What is stored of them is enclosed; a limit without a price needs nothing."""
        square = oc.Utility(lambda d: -cp.sum_squares(d))
        for bound in (-0.25, -1.5):
            problem = oc.Problem(MACHINE, constraints={"spread": square >= bound})
            result = oc.solve(problem, certify="interval")
            assert result.certificate.level == "interval", result.message
            assert result.certificate.lower <= result.objective <= result.certificate.upper
            assert oc.verify(problem, result)

    def test_a_mass_that_balls_cannot_tell_from_nothing(self):
        """A dense chain that is in one state once in 10^100 steps: its part of the entropy lies between ends near 0."""
        n, p = 40, Fraction(1, 10**100)
        rows = [[(1 - p) / (n - 1)] * (n - 1) + [p]] * n
        mdp = oc.MDP.from_arrays([[row] for row in rows], [0] * n)
        problem = oc.Problem(mdp, criterion="average", utility=oc.StateEntropy())
        result = oc.solve(problem, certify="interval")
        assert result.certificate.level == "interval"
        assert encloses(result.certificate, Fraction(np.log(n - 1)))

    def test_a_policy_that_breaks_a_limit_proves_nothing(self):
        problem = oc.Problem(MACHINE, constraints=[oc.expected("wear") <= 0.25])
        wearing = Still(oc.Policy.deterministic(MACHINE, ["run"] * 3))
        result = oc.solve(problem, wearing, certify="interval")
        assert result.certificate.lower == -np.inf
        assert result.certificate.upper >= answer(problem).objective - 1e-9
