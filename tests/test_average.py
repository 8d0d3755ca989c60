"""The average criterion where averages depend on the start: several classes, end components, periodic chains."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers import Exact, fractions
from hypothesis import given, settings
from hypothesis import strategies as st
from long_run import best_bias, best_gains, bias, chain_of, gains, limiting, recurrent_classes
from scipy import sparse
from strategies import drifting_sketches, policy_tables

import occlp as oc

SHARED = Path(__file__).resolve().parents[2] / "shared" / "cases" / "data"
SENSES = st.sampled_from(["maximize", "minimize"])


def average(mdp, **options):
    return oc.Problem(mdp, criterion="average", **options)


def fork(initial=(1, 0, 0, 0), costs=None):
    """From 0 to a loop that earns 1, or to one that earns 3 and wears; 3 leads to either."""
    rows = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0.5, 0.5], [1, 0, 0, 0]])
    costs = {"wear": [0, 0, 0, 1, 0, 0]} if costs is None else costs
    return oc.MDP.from_pairs(
        [0, 0, 1, 2, 3, 3], [0, 1, 0, 0, 0, 1], rows, [0, 0, 1, 3, 0, 0], initial=initial, costs=costs
    )


def close(found, truth, tol=1e-11):
    size = max(1.0, *(abs(float(x)) for x in truth))
    return max(abs(float(x) - y) for x, y in zip(truth, found, strict=True)) <= tol * size


class TestEvaluation:
    @given(drifting_sketches(), st.data())
    @settings(max_examples=60, deadline=None)
    def test_any_policy_against_fractions(self, sketch, data):
        mdp = sketch.mdp()
        policy = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
        found = oc.evaluate(average(mdp), policy)
        model = Exact.of(mdp)
        rows, rewards = chain_of(model, fractions(policy.pair_probabilities))
        star = limiting(rows)
        assert close(found.gain, gains(rows, rewards))
        assert close(found.bias, bias(rows, rewards), 1e-10)
        mass = [sum(p * star[s][j] for s, p in enumerate(model.initial)) for j in range(mdp.n_states)]
        assert close(found.state_occupancy, mass)
        assert found.objective == pytest.approx(float(mdp.initial @ found.gain), abs=1e-12)
        for members in recurrent_classes(rows):
            assert len(set(found.gain[members].tolist())) == 1

    def test_two_loops_and_a_gambler_between_them(self):
        # Gambler's ruin on 0 .. 4 with a fair coin: from s, the upper loop is entered with probability s / 4.
        rows = np.zeros((5, 5))
        rows[0, 0] = rows[4, 4] = 1
        for s in (1, 2, 3):
            rows[s, s - 1] = rows[s, s + 1] = 0.5
        mdp = oc.MDP.from_pairs(range(5), [0] * 5, rows, [0, 0, 0, 0, 8], initial=[0, 0.5, 0, 0.5, 0])
        found = oc.evaluate(average(mdp), oc.Policy.uniform(mdp))
        assert found.gain.tolist() == [0, 2, 4, 6, 8]
        assert found.occupancy.ravel().tolist() == [0.5, 0, 0, 0, 0.5]
        assert found.objective == 4
        # h = −2s + (h(s − 1) + h(s + 1)) / 2 between zeros: h(s) = −2s (16 − s²) / 3, what is missed on the way.
        assert found.bias == pytest.approx([0, -10, -16, -14, 0], rel=1e-14)

    @pytest.mark.parametrize("length", [2, 3, 7])
    def test_a_cycle_has_the_mean_of_its_rewards(self, length):
        rewards = np.arange(length, dtype=float)
        mdp = oc.MDP.from_pairs(range(length), [0] * length, np.roll(np.eye(length), 1, axis=1), rewards, initial=0)
        result = oc.solve(average(mdp))
        assert result.gain == pytest.approx(rewards.mean(), rel=1e-15)
        assert result.state_occupancy == pytest.approx(1 / length, rel=1e-15)

    def test_the_bias_belongs_to_averages(self):
        with pytest.raises(oc.InvalidProblem, match="bias belongs to the average criterion"):
            _ = oc.solve(fork().replace(discount=0.9)).bias


class TestOptimum:
    @given(drifting_sketches(), SENSES)
    @settings(max_examples=60, deadline=None)
    def test_brute_force(self, sketch, sense):
        mdp = sketch.mdp()
        problem, model = average(mdp, sense=sense), Exact.of(mdp)
        top = best_gains(model, sense)
        result = oc.solve(problem)
        truth = sum(p * g for p, g in zip(model.initial, top, strict=True))
        assert result.status is oc.Status.CERTIFIED
        assert Fraction(result.certificate.lower) <= truth <= Fraction(result.certificate.upper)
        assert close(result.gain, top)  # from every state, also from those where the process does not begin
        assert oc.verify(problem, result)

    @given(drifting_sketches())
    @settings(max_examples=40, deadline=None)
    def test_the_best_bias_among_the_best_gains(self, sketch):
        mdp = sketch.mdp()
        model = Exact.of(mdp)
        result = oc.solve(average(mdp), oc.PolicyIteration(bias=True))
        assert close(result.gain, best_gains(model))
        assert close(result.bias, best_bias(model), 1e-9)

    @pytest.mark.bad_input(37)
    def test_a_tie_that_only_the_bias_breaks(self):
        # Both loops earn 0 in the long run; on the way to the first, 1 is earned once.
        rows = np.array([[0, 1.0, 0], [0, 0, 1.0], [0, 1.0, 0], [0, 0, 1.0]])
        mdp = oc.MDP.from_pairs([0, 0, 1, 2], [0, 1, 0, 0], rows, [1, 0, 0, 0], initial=0)
        result = oc.solve(average(mdp), oc.PolicyIteration(bias=True))
        assert result.policy.actions[0] == 0
        assert result.bias.tolist() == [1, 0, 0]
        with pytest.raises(oc.Unsupported, match="bias belongs to the average"):
            oc.solve(mdp.replace(discount=0.5), oc.PolicyIteration(bias=True))

    def test_a_later_policy_of_equal_gain_is_taken(self):
        # From the last state all gains are 0, to the last digit; only the bias tells the first policy from the best.
        rows = np.array([[1.0, 0, 0], [0, 0, 1.0], [1.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0]])
        mdp = oc.MDP.from_pairs([0, 0, 1, 2, 2], [0, 1, 0, 0, 1], rows, [0, 1, 0, -1, 0], initial=2)
        assert oc.solve(average(mdp), oc.PolicyIteration(bias=True)).bias.tolist() == [1, 1, 0]

    @given(drifting_sketches(), SENSES)
    @settings(max_examples=25, deadline=None)
    def test_it_is_the_limit_of_discounted_questions(self, sketch, sense):
        mdp = sketch.mdp()
        far = oc.solve(oc.Problem(mdp.replace(discount=1 - 1e-9), sense=sense))
        assert far.objective == pytest.approx(oc.solve(average(mdp, sense=sense)).objective, abs=1e-6)

    @given(drifting_sketches(), SENSES)
    @settings(max_examples=25, deadline=None)
    def test_the_linear_program_agrees(self, sketch, sense):
        problem = average(sketch.mdp(), sense=sense)
        result, other = oc.solve(problem), oc.solve(problem, oc.OccupancyProgram())
        assert other.status is oc.Status.CERTIFIED
        assert other.objective == pytest.approx(result.objective, abs=1e-9)
        assert oc.OccupancyProgram().program(problem).solve() == pytest.approx(result.objective, abs=1e-6)

    @pytest.mark.parametrize(("scale", "offset"), [(1e9, 0.0), (1e-9, 0.0), (1.0, 1e6), (-3.0, 5.0)])
    def test_units_and_offsets(self, scale, offset):
        mdp = fork(initial=np.full(4, 0.25))
        sense = "maximize" if scale > 0 else "minimize"
        other = mdp.replace(rewards=(scale * mdp.pair_rewards + offset)[mdp.pairs.table(np.arange(6), 0).astype(int)])
        problem = average(other, sense=sense)
        result = oc.solve(problem)
        assert result.gain == pytest.approx(scale * np.array([3, 1, 3, 3]) + offset, rel=1e-12)
        assert result.status is oc.Status.CERTIFIED
        assert oc.verify(problem, result)

    @pytest.mark.parametrize("escape", [1e-3, 1e-9, 1e-12, 1e-15])
    def test_an_escape_however_unlikely_decides(self, escape):
        # The better reward is earned in a state that is left for nothing once in a while.
        rows = np.array([[1 - escape, escape, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]])
        mdp = oc.MDP.from_pairs([0, 1, 2, 0], [0, 0, 0, 1], rows[[0, 1, 2, 3]], [5, 0, 1, 0], initial=0)
        problem = average(mdp)
        result = oc.solve(problem)
        assert result.gain.tolist() == [1, 0, 1]
        assert result.policy.actions[0] == 1
        assert result.gap < 1e-8
        assert oc.verify(problem, result)


class TestCertificate:
    def test_it_reads_back_and_holds_plain_gains(self):
        problem = average(fork(initial=[0.5, 0.5, 0, 0]))
        result = oc.solve(problem)
        certificate = oc.Certificate.from_json(result.certificate.to_json())
        assert certificate.gain_values.tolist() == [3, 1, 3, 3]
        assert certificate.policy_gain_values.tolist() == [3, 1, 3, 3]
        assert oc.verify(problem, replace(result, certificate=certificate))

    def test_pairs_that_lose_gain_have_reduced_costs(self):
        result = oc.solve(average(fork()))
        assert (result.certificate.reduced_costs > 0).tolist() == [True, False, False, False, False, False]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"gain_values": np.array([3, 1, 3, 3 - 1e-12])}, "gain_values rise"),
            ({"gain_values": np.array([1.0, 1, 3, 3])}, "gain_values rise"),
            ({"gain_values": np.array([3.0, 0.9, 3, 3])}, "better than the certificate's bound"),
            ({"policy_gain_values": np.array([3 + 1e-12, 1, 3, 3])}, "policy_gain_values fall"),
            ({"policy_gain_values": np.full(4, 3.0)}, "does not attain"),
            ({"gain_values": np.zeros(0)}, "better than the certificate's bound"),
            ({"policy_gain_values": np.zeros(0)}, "does not attain"),
            ({"gain_values": np.full(3, 3.0)}, "one finite number a state"),
            ({"gain_values": np.full(4, np.nan)}, "one finite number a state"),
            ({"lower": 1.9, "upper": 1.9}, "better than the certificate's bound"),
            ({"lower": 2.1, "upper": 2.1}, "does not attain"),
        ],
    )
    def test_a_mutated_one_is_refused(self, change, words):
        problem = average(fork(initial=[0.5, 0.5, 0, 0]))
        result = oc.solve(problem)
        with pytest.raises(oc.AuditFailed, match=words):
            oc.verify(problem, replace(result, certificate=replace(result.certificate, **change)))

    def test_wrong_figures_are_refused(self):
        problem = average(fork(initial=[0.5, 0.5, 0, 0]))
        result = oc.solve(problem)
        for change, words in [
            ({"state_gains": np.array([3.0, 1, 3, 2])}, "change along its chain"),
            ({"state_gains": np.array([3.0, 2, 3, 3])}, "from the initial distribution"),
            ({"pair_occupancy": np.array([0, 0, 0.25, 0.75, 0, 0])}, "off by 0.5"),
        ]:
            with pytest.raises(oc.AuditFailed, match=words):
                oc.verify(problem, replace(result, **change))


class TestConstraints:
    @pytest.mark.parametrize(
        ("bound", "cost"), [("1", "5000/3"), ("0.05", "18650/11"), ("0.02", "18860/11"), ("0", "19000/11")]
    )
    def test_a_bound_on_overhauls(self, bound, cost):
        # Hillier and Lieberman's machine with a limit on the share of periods with an overhaul; optima by exact LP.
        cases = json.loads((Path(__file__).parent / "golden" / "average.json").read_text())
        (case,) = [case for case in cases if case["name"].startswith("Hillier")]
        rows = np.zeros((len(case["rows"]), 4))
        for k, (_, _, successors, _) in enumerate(case["rows"]):
            for s, p in successors:
                rows[k, s] = float(Fraction(p))
        columns = [row[0] for row in case["rows"]], [row[1] for row in case["rows"]]
        names = ["nothing", "overhaul", "replace"]
        mdp = oc.MDP.from_pairs(*columns, rows, [float(row[3]) for row in case["rows"]], actions=names)
        limit = oc.expected(np.broadcast_to([0.0, 1.0, 0.0], (4, 3))) <= float(bound)
        problem = average(mdp, sense="minimize", constraints={"overhauls": limit})
        for solver in (None, oc.OccupancyProgram()):
            result = oc.solve(problem, solver)
            assert result.status is oc.Status.CERTIFIED
            assert result.objective == pytest.approx(float(Fraction(cost)), rel=1e-8)
            assert oc.verify(problem, result)

    def test_a_stationary_policy_that_keeps_them(self):
        problem = average(fork(), constraints=[oc.expected("wear") <= 0.25])
        result = oc.solve(problem)
        assert result.solver == "OccupancyProgram()"
        assert result.status is oc.Status.CERTIFIED
        assert result.objective == pytest.approx(1.5, abs=1e-9)
        assert result.policy[0, 1] == pytest.approx(0.25, abs=1e-8)
        assert result.multipliers["wear"] == pytest.approx(2, rel=1e-9)
        assert oc.verify(problem, result)

    def test_the_audit_starts_from_a_state_that_lasts(self):
        # One class behind two transient states, the first of which is entered as often as the class.
        mdp = oc.MDP.from_pairs(
            [0, 1, 2], [0] * 3, [[0, 0, 1], [1, 0, 0], [0, 0, 1]], [1, 2, 3], costs={"wear": [1, 1, 0]}
        )
        problem = average(mdp, constraints=[oc.expected("wear") <= 0.5])
        assert oc.verify(problem, oc.solve(problem))

    def test_where_only_a_lottery_keeps_them(self):
        # Staying at 0 earns 1, moving on for good earns 3 and wears: the best plan is drawn once, at the start.
        rows = np.array([[1.0, 0], [0, 1], [0, 1]])
        mdp = oc.MDP.from_pairs([0, 0, 1], [0, 1, 0], rows, [1, 0, 3], initial=0, costs={"wear": [0, 0, 1]})
        problem = average(mdp, constraints=[oc.expected("wear") <= 0.25])
        with pytest.raises(oc.NotCertified, match="a lottery over policies at the start") as caught:
            oc.solve(problem)
        assert "would earn 1.5" in str(caught.value)
        # What is proved of all policies, lotteries included, and the best that one policy attains here.
        result = caught.value.result
        assert result.status is oc.Status.BOUNDED
        assert result.certificate.upper == pytest.approx(1.5, abs=1e-8)
        assert result.objective == 1.0
        assert result.gap == pytest.approx(0.5, abs=1e-8)
        assert result.multipliers["wear"] == pytest.approx(2.0, abs=1e-6)
        assert oc.verify(problem, result)
        plan = oc.Mixture.of([oc.Policy.deterministic(mdp, [a, 0]) for a in (0, 1)], [0.75, 0.25])
        assert plan.evaluate(average(mdp)).objective == 1.5
        assert plan.evaluate(average(mdp)).expected["wear"] == 0.25

    @given(drifting_sketches(max_states=4), st.data())
    @settings(max_examples=10, deadline=None)
    def test_an_answer_is_the_optimum_of_the_program(self, sketch, data):
        # A policy's own cost as the limit can be kept; whether a stationary policy is best under it depends.
        mdp = sketch.mdp()
        wear = np.array(data.draw(st.lists(st.integers(0, 3), min_size=mdp.n_pairs, max_size=mdp.n_pairs)), dtype=float)
        mdp = mdp.replace(costs={"wear": mdp.pairs.table(wear, 0.0)})
        policy = oc.Policy.from_table(mdp, data.draw(policy_tables(mdp)))
        bound = oc.evaluate(average(mdp), policy).expected["wear"] + 1e-6
        problem = average(mdp, constraints=[oc.expected("wear") <= bound])
        result = oc.solve(problem, oc.OccupancyProgram(), check=False)
        if result.status is oc.Status.CERTIFIED:
            assert result.objective == pytest.approx(oc.OccupancyProgram().program(problem).solve(), abs=1e-5)
            assert oc.verify(problem, result)
        elif oc.structure(mdp).n_maximal_end_components > 1:
            assert "lottery" in result.message

    def test_bounds_that_nothing_keeps(self):
        limits = {"few": oc.expected("wear") <= 0.25, "many": oc.expected("wear") >= 0.5}
        with pytest.raises(oc.NotCertified, match="no frequencies keep the constraints"):
            oc.solve(average(fork(), constraints=limits))


class TestRefusals:
    @pytest.mark.parametrize("solver", [oc.ValueIteration(), oc.ModifiedPolicyIteration(), oc.NaturalPolicyGradient()])
    def test_methods_that_assume_one_average(self, solver):
        with pytest.raises(oc.Unsupported, match="2 end components, so averages may depend on the start"):
            oc.solve(average(fork()), solver)

    def test_regularizers(self):
        mdp = fork()
        with pytest.raises(oc.Unsupported, match="regularizers and utilities need one"):
            oc.solve(average(mdp, regularizer=oc.KL(strength=0.1, reference=oc.Policy.uniform(mdp))))

    def test_analyses_that_assume_one_average(self):
        problem = average(fork(initial=[0.5, 0.25, 0, 0.25]))
        result = oc.solve(problem)
        for ask in (
            lambda: oc.sensitivity(problem, result),
            lambda: oc.tie_break(problem, result, minimize="wear"),
            lambda: oc.mixture(problem, result),
            lambda: oc.purify(problem, result),
            lambda: oc.policy_gradient(problem, result.policy, scale="normalized"),
        ):
            with pytest.raises(oc.Unsupported, match=r"end components|one recurrent class"):
                ask()

    def test_a_comparison_says_so_in_a_row(self):
        table = oc.compare(average(fork()), {"vi": oc.ValueIteration(), "pi": oc.PolicyIteration()})
        assert [record["status"] for record in table.to_records()] == ["FAILED", "CERTIFIED"]

    def test_regularizers_keep_working_with_one_class(self):
        mdp = oc.instances.get("howard-toymaker", discount=None)
        problem = average(mdp, regularizer=oc.KL(strength=0.5, reference=oc.Policy.uniform(mdp)))
        first, second = oc.solve(problem), oc.solve(problem, oc.OccupancyProgram())
        assert first.status is second.status is oc.Status.CERTIFIED
        assert first.objective == pytest.approx(second.objective, abs=1e-7)
        assert oc.verify(problem, first)


def sites(n_sites, n_ages):
    """Machines on sites: run, repair, or (at age 0) give the site up for one of two later ones."""
    rng = np.random.default_rng(0)
    n = n_sites * n_ages
    states, site, age = np.arange(n), np.repeat(np.arange(n_sites), n_ages), np.tile(np.arange(n_ages), n_sites)
    wear, earned = rng.uniform(0.2, 0.9, n_sites), rng.uniform(0, 10, n_sites)
    homes = np.arange(n_sites - 2) * n_ages
    moves = [np.minimum(homes // n_ages + rng.integers(1, 50, len(homes)), n_sites - 1) * n_ages for _ in range(2)]
    older = np.minimum(age + 1, n_ages - 1) + site * n_ages
    third = 2 * n + np.arange(len(homes))
    rows = np.concatenate([states, states, n + states, n + states, third, third])
    columns = np.concatenate([older, states, site * n_ages, states, *moves])
    chances = np.concatenate(
        [wear[site], 1 - wear[site], np.full(n, 0.7), np.full(n, 0.3), np.full(2 * len(homes), 0.5)]
    )
    matrix = sparse.coo_array((chances, (rows, columns)), shape=(2 * n + len(homes), n)).tocsr()
    rewards = np.concatenate([earned[site] * (1 - age / n_ages), np.full(n, -1.0), np.full(len(homes), -20.0)])
    actions = np.repeat([0, 1, 2], [n, n, len(homes)])
    return oc.MDP.from_pairs(np.concatenate([states, states, homes]), actions, matrix, rewards)


@pytest.mark.parametrize(("n_sites", "n_ages"), [(60, 50), pytest.param(1000, 100, marks=pytest.mark.slow)])
def test_many_classes(n_sites, n_ages):
    problem = average(sites(n_sites, n_ages))
    result = oc.solve(problem)
    assert result.status is oc.Status.CERTIFIED
    assert result.gap < 1e-10
    assert len(np.unique(result.gain)) > 0.9 * n_sites
    assert oc.verify(problem, result)


class TestPublicModels:
    @pytest.mark.parametrize(
        ("path", "reward", "sense", "gain"),
        [
            # QComp resource-gathering: 27/241 gold a step in the long run
            (
                "qcomp/mdp_resource-gathering_B1000000_GOLD_TO_COLLECT0_GEM_TO_COLLECT0",
                "rew_gold",
                "maximize",
                "27/241",
            ),
            # Storm, LraMdpPrctlModelCheckerTest: cs_nfail3
            ("storm_tests/cs_nfail3_nm", "grants", "maximize", "333/1000"),
            ("storm_tests/cs_nfail3_nm", "grants", "minimize", "0"),
            # Storm, multiobj_simple_lra: best of each objective alone
            ("storm_tests/multiobj_simple_lra_nm", "first", "maximize", "5"),
            ("storm_tests/multiobj_simple_lra_nm", "second", "maximize", "16"),
        ],
    )
    def test_the_gain_lies_within_the_bounds(self, path, reward, sense, gain):
        file = SHARED / f"{path}.json.gz"
        if not file.exists():
            pytest.skip("the public case is not here")
        problem = average(read_case(file, reward), sense=sense)
        result = oc.solve(problem)
        assert Fraction(result.certificate.lower) <= Fraction(gain) <= Fraction(result.certificate.upper)
        assert result.gap < 1e-9
        assert oc.verify(problem, result)

    def test_two_averages_at_once(self):
        # Storm, multiobj_simple_lra: the front of two long-run averages is (5, 80/11), (0, 16).
        file = SHARED / "storm_tests" / "multiobj_simple_lra_nm.json.gz"
        if not file.exists():
            pytest.skip("the public case is not here")
        mdp, other = read_case(file, "first"), read_case(file, "second")
        mdp = mdp.replace(costs={"second": mdp.pairs.table(other.pair_rewards, 0.0)})
        front = oc.pareto(average(mdp), maximize=["reward", "second"])
        assert front.points == pytest.approx(np.array([[5, 80 / 11], [0, 16]]), abs=1e-12)
        problem = average(mdp, constraints=[oc.expected("second") >= 10])
        result = oc.solve(problem)
        assert result.objective == pytest.approx(3.4375, abs=1e-9)
        assert oc.verify(problem, result)


def read_case(file, reward):
    plain = json.loads(gzip.decompress(file.read_bytes()))
    start, n = plain["row_start"], plain["n_states"]
    states = np.repeat(np.arange(n), np.diff(start))
    earned = plain["rewards"][reward]
    rewards = [
        Fraction(earned.get("state", {}).get(str(s), 0)) + Fraction(earned.get("row", {}).get(str(k), 0))
        for k, s in enumerate(states)
    ]
    entries = [(k, s, float(Fraction(p))) for k, row in enumerate(plain["rows"]) for s, p in row]
    rows, columns, chances = zip(*entries, strict=True)
    matrix = sparse.coo_array((chances, (rows, columns)), shape=(len(states), n)).tocsr()
    actions = np.arange(len(states)) - np.array(start)[states]
    return oc.MDP.from_pairs(states, actions, matrix, [float(r) for r in rewards], initial=int(plain["initial"][0]))


def test_where_nothing_is_ever_left_every_state_keeps_its_own_average():
    mdp = oc.MDP.from_arrays(
        np.tile(np.eye(3)[:, None, :], (1, 2, 1)), [[1, 2], [5, 4], [0, -1]], initial=[0.5, 0.25, 0.25]
    )
    for solver in (None, oc.OccupancyProgram("HIGHS")):
        result = oc.solve(oc.Problem(mdp, criterion="average"), solver)
        assert result.gain.tolist() == pytest.approx([2, 5, 0])
        assert result.objective == pytest.approx(2.25)


@pytest.mark.parametrize("solver", [None, oc.OccupancyProgram("HIGHS"), oc.OccupancyProgram("CLARABEL")], ids=str)
@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_limits_that_two_classes_keep_together_are_kept_by_one_policy(sense, solver):
    """Staying in one state pays 1 and wears, in the other neither, a move costs 5: half of each is best."""
    sign = 1 if sense == "maximize" else -1
    mdp = oc.MDP.from_pairs(
        [0, 0, 1, 1], [0, 1, 0, 1], np.eye(2)[[0, 1, 1, 0]], sign * np.array([1.0, -5.0, 0.0, -5.0]),
        costs={"wear": [1, 0, 0, 0]},
    )  # fmt: skip
    question = oc.Problem(mdp, sense=sense, criterion="average", constraints=[oc.expected("wear") <= 0.5])
    result = oc.solve(question, solver)
    assert result.status is oc.Status.CERTIFIED
    assert result.objective == pytest.approx(sign * 0.5, abs=1e-8)
    assert result.gain == pytest.approx(sign * 0.5, abs=1e-8)
    assert result.expected["wear"] <= 0.5 + 1e-8
    assert result.policy.probabilities[[0, 1], [1, 1]].max() < 1e-6
    assert oc.verify(question, result)
