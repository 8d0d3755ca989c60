"""Sampled trajectories: tables that hold the rows exactly, chains with the right law, the same bits on any threads."""

from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pytest
from helpers import random_policy
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse, stats
from strategies import mdps_with_policies

import occlp as oc
from occlp import parallel
from occlp.kernels import sampling
from occlp.rollouts import Sampler, sampler, terminal_states

WORD = 2**64


def shares(records, begin, size):
    """Probability of each outcome of some records, as exact fractions."""
    found: dict[int, Fraction] = {}
    for slot in range(begin, begin + size):
        threshold, word = int(records[2 * slot]), int(records[2 * slot + 1])
        kept = Fraction(threshold, WORD)
        for outcome, share in ((word & 0xFFFFFFFF, kept), (word >> 32, 1 - kept)):
            found[outcome] = found.get(outcome, Fraction(0)) + share / size
    return found


def table_laws(mdp, policy, copies=1, states=None):
    """π(a | s) P(s' | s, a) as the tables hold it, dense [copies * pairs, copies * S]."""
    parts = list(policy) if isinstance(policy, oc.Mixture) else [(1.0, policy)]
    sampler = Sampler(mdp.pair_start, mdp.transitions, mdp.initial, np.zeros(mdp.n_states, dtype=bool))
    tables = sampler.tables([part.pair_probabilities for _, part in parts], [weight for weight, _ in parts])
    law = np.zeros((copies, mdp.n_pairs, copies * mdp.n_states))
    for row, (begin, size, pair, _) in enumerate(tables.heads[:states].tolist()):
        for outcome, share in shares(tables.records, begin, size).items():
            rank = outcome & ((1 << tables.bits) - 1)
            law[row // mdp.n_states, pair + rank, outcome >> tables.bits] += float(share)
    return law, tables


def corridor(n=4, **changes):
    """States in a line with a slippery step to the right; the last one is terminal."""
    rows = np.zeros((n, 2, n))
    for s in range(n - 1):
        rows[s, :, s] = [0.5, 0.1]
        rows[s, :, s + 1] = [0.5, 0.9]
    rows[n - 1, :, n - 1] = 1.0
    rewards = np.full((n, 2), -1.0)
    rewards[n - 1] = 0.0
    return oc.MDP.from_arrays(rows, rewards, **{"discount": 0.9, "initial": 0, **changes})


@pytest.fixture
def workers(monkeypatch):
    """Set the number of threads, whatever the size of the task."""

    def put(count):
        monkeypatch.setattr(parallel, "n_threads", lambda: count)
        monkeypatch.setattr(parallel, "SERIAL_SIZE", 0)

    return put


class TestNumbers:
    def test_the_generator_is_splitmix64(self):
        # Reference output for the seed 1234567 of Vigna's splitmix64.c (as in Rosetta Code, "SplitMix64").
        golden = int(sampling.GOLDEN)
        found = [int(sampling.mix(np.uint64((1234567 + step * golden) % WORD), np.uint64(0))) for step in range(1, 6)]
        assert found == [
            6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
            16408922859458223821,
        ]  # fmt: skip

    def test_trajectories_never_share_a_counter(self):
        key = np.uint64(0xDEADBEEF)
        firsts = [int(sampling.counter(key, i)) for i in (0, 1, 2, 2**32 - 1)]
        inverse = pow(int(sampling.GOLDEN), -1, WORD)
        places = [(first - int(key)) * inverse % WORD for first in firsts]
        assert places == [1, 2**32 + 1, 2**33 + 1, (2**32 - 1) * 2**32 + 1]  # blocks of 2^32 numbers

    def test_numbers_of_neighbours_and_of_seeds_are_uncorrelated(self):
        golden, step = int(sampling.GOLDEN), 400
        uniform = np.empty((3, 50, step))
        for seed in range(3):
            key, twist = np.random.default_rng(seed).integers(0, 2**64, size=2, dtype=np.uint64)
            for i in range(50):
                first = int(sampling.counter(key, i))
                bits = [int(sampling.mix(np.uint64((first + t * golden) % WORD), twist)) for t in range(step)]
                uniform[seed, i] = np.array(bits) / WORD
        flat = uniform.reshape(150, step)
        correlations = np.corrcoef(flat)[np.triu_indices(150, 1)]
        assert abs(correlations).max() < 5.5 / np.sqrt(step)  # 11,175 of them, each of deviation 1/√400
        lagged = np.corrcoef(uniform[:, :, 1:].ravel(), uniform[:, :, :-1].ravel())[0, 1]
        assert abs(lagged) < 4 / np.sqrt(uniform.size)
        assert stats.kstest(uniform.ravel(), "uniform").pvalue > 1e-3


class TestTables:
    @given(mdps_with_policies())
    def test_tables_hold_the_rows_and_nothing_else(self, drawn):
        mdp, table = drawn
        policy = oc.Policy.from_table(mdp, table)
        (law,), tables = table_laws(mdp, policy)
        expected = policy.pair_probabilities[:, None] * mdp.transitions.toarray()
        assert np.abs(law - expected).max() <= 1e-15
        assert (law[expected == 0] == 0).all()
        starts = shares(tables.starts, 0, len(tables.starts) // 2)
        assert max(abs(float(share) - mdp.initial[s]) for s, share in starts.items()) <= 1e-15
        assert sorted(s for s, share in starts.items() if share > 0) == np.flatnonzero(mdp.initial > 0).tolist()

    def test_long_rows_with_tiny_entries(self):
        rng = np.random.default_rng(0)
        weights = rng.exponential(size=500) ** 8
        weights[:3] = [1e-300, 1e-30, 1e-17]
        row = weights / weights.sum()
        mdp = oc.MDP.from_arrays(np.tile(row, (500, 1, 1)), np.zeros((500, 1)), discount=0.9)
        (law,), _ = table_laws(mdp, oc.Policy.uniform(mdp), states=1)
        assert np.abs(law[0] - mdp.transitions.toarray()[0]).max() <= 2e-16
        assert law[0, 0] < 1e-19

    def test_rows_that_miss_one_are_divided_by_their_sum(self):
        row = np.array([0.25, 0.75]) * (1 + 0.9e-9)
        mdp = oc.MDP.from_arrays(np.tile(row, (2, 1, 1)), np.zeros((2, 1)), discount=0.5)
        (law,), _ = table_laws(mdp, oc.Policy.uniform(mdp))
        assert np.abs(law - [0.25, 0.75]).max() <= 1e-15

    def test_a_mixture_is_one_copy_of_the_model_a_policy(self):
        mdp = oc.instances.get("machine-repair")
        rng = np.random.default_rng(1)
        policies = [oc.Policy.from_choice(mdp, mdp.pair_start[:-1] + rng.integers(0, 2, 3)) for _ in range(2)]
        mixture = oc.Mixture.of(policies, [0.3, 0.7])
        law, tables = table_laws(mdp, mixture, copies=2)
        for c, policy in enumerate(policies):
            expected = policy.pair_probabilities[:, None] * mdp.transitions.toarray()
            assert np.abs(law[c][:, 3 * c : 3 * c + 3] - expected).max() <= 1e-15
            assert law[c].sum() == pytest.approx(3)
        starts = shares(tables.starts, 0, len(tables.starts) // 2)
        assert float(sum(share for s, share in starts.items() if s < 3)) == pytest.approx(0.3, abs=1e-15)

    def test_what_does_not_fit_into_a_record_is_refused(self):
        n, many = 2**17, 2**15 + 1
        states = np.concatenate([np.zeros(many, dtype=int), np.arange(1, n)])
        actions = np.concatenate([np.arange(many), np.zeros(n - 1, dtype=int)])
        stay = sparse.csr_array((np.ones(len(states)), (np.arange(len(states)), states)), shape=(len(states), n))
        mdp = oc.MDP.from_pairs(states, actions, stay, np.ones(len(states)), discount=0.5)
        with pytest.raises(oc.Unsupported, match="131072 states"):
            oc.rollouts(mdp, oc.Policy.uniform(mdp), n_trajectories=1, horizon=1)


class TestTrajectories:
    @given(mdps_with_policies(), st.integers(0, 2**32))
    def test_only_what_is_possible_happens(self, drawn, seed):
        mdp, table = drawn
        policy = oc.Policy.from_table(mdp, table)
        sample = oc.rollouts(mdp, policy, n_trajectories=20, horizon=7, rng=seed)
        assert sample.pair_index.shape == (20, max(sample.lengths.max(), 1))
        assert (mdp.initial[sample.initial_states] > 0).all()
        mask, dense = sample.mask, mdp.transitions.toarray()
        assert (policy.pair_probabilities[sample.pair_index[mask]] > 0).all()
        assert (dense[sample.pair_index[mask], sample.next_states[mask]] > 0).all()
        assert (sample.states[:, 0] == np.where(sample.lengths > 0, sample.initial_states, -1)).all()
        ended = terminal_states(mdp)
        assert (sample.terminated == ended[sample.final_states]).all()
        assert (sample.lengths[~sample.terminated] == 7).all()
        assert (mask.sum(axis=1) == sample.lengths).all()
        assert not ended[sample.states[mask]].any()
        assert (sample.rewards == np.where(mask, mdp.pair_rewards[sample.pair_index], 0)).all()

    @pytest.mark.parametrize("seed", range(3))
    def test_the_law_of_every_step(self, seed):
        mdp = oc.instances.get("garnet", n_states=5, n_actions=3, branching=3, seed=seed, discount=0.9)
        policy = random_policy(mdp, np.random.default_rng(seed))
        n, steps = 40_000, 4
        sample = oc.rollouts(mdp, policy, n_trajectories=n, horizon=steps, rng=seed)
        mass = mdp.initial
        for t in range(steps):
            pairs = mass[mdp.pairs.states] * policy.pair_probabilities
            found = np.bincount(sample.pair_index[:, t], minlength=mdp.n_pairs)
            assert stats.chisquare(found[pairs > 0], n * pairs[pairs > 0]).pvalue > 1e-4
            mass = pairs @ mdp.transitions.toarray()

    def test_the_law_of_paths(self):
        mdp, n, steps = corridor(3), 60_000, 3
        policy = oc.Policy.from_table(mdp, [[0.4, 0.6], [1.0, 0.0], [0.5, 0.5]])
        sample = oc.rollouts(mdp, policy, n_trajectories=n, horizon=steps, rng=5)
        law: dict[tuple[int, ...], float] = {}

        def extend(path, state, chance):
            if state == 2 or len(path) == steps:
                law[(*path, *[-1] * (steps - len(path)), state)] = law.get((*path, state), 0.0) + chance
                return
            for pair in range(mdp.pair_start[state], mdp.pair_start[state + 1]):
                for following, p in enumerate(mdp.transitions.toarray()[pair]):
                    if p * policy.pair_probabilities[pair] > 0:
                        extend((*path, pair), following, chance * p * policy.pair_probabilities[pair])

        extend((), 0, 1.0)
        drawn = [tuple(path) for path in np.column_stack([sample.pair_index, sample.final_states]).tolist()]
        assert set(drawn) == set(law)
        found = np.array([drawn.count(path) for path in law])
        assert stats.chisquare(found, n * np.array(list(law.values()))).pvalue > 1e-4

    def test_independence_along_a_trajectory_and_across(self):
        mdp = oc.MDP.from_arrays(np.full((2, 2, 2), 0.5), np.zeros((2, 2)), discount=0.9)
        sample = oc.rollouts(mdp, oc.Policy.uniform(mdp), n_trajectories=300, horizon=1000, rng=0)
        bits = sample.pair_index % 2 * 2.0 - 1
        for lag in (1, 2, 3):
            assert abs((bits[:, lag:] * bits[:, :-lag]).mean()) < 4 / np.sqrt(bits.size)
            assert abs((bits[lag:] * bits[:-lag]).mean()) < 4 / np.sqrt(bits.size)
        states = sample.states * 2.0 - 1
        assert abs((states * bits).mean()) < 4 / np.sqrt(bits.size)


class TestHorizons:
    def test_geometric_lengths_and_the_occupancy(self):
        mdp = oc.instances.get("machine-repair")
        policy = oc.Policy.uniform(mdp)
        sample = oc.rollouts(mdp, policy, n_trajectories=20_000, horizon="geometric", rng=3)
        gamma, lengths = mdp.discount, sample.lengths
        edges = np.unique(stats.geom.ppf(np.arange(1, 20) / 20, 1 - gamma)).astype(int)
        cells = np.diff(np.concatenate([[0], stats.geom.cdf(edges, 1 - gamma), [1]]))
        found = np.bincount(np.searchsorted(edges, lengths), minlength=len(cells))
        assert stats.chisquare(found, len(lengths) * cells).pvalue > 1e-4
        last = sample.pair_index[np.arange(len(lengths)), lengths - 1]  # the last pair is drawn from d
        exact = oc.evaluate(mdp, policy).pair_occupancy
        assert stats.chisquare(np.bincount(last, minlength=mdp.n_pairs), len(last) * exact).pvalue > 1e-4
        assert not sample.terminated.any()

    def test_returns_of_both_kinds_have_the_exact_mean(self):
        mdp = oc.instances.get("garnet", n_states=20, n_actions=2, branching=3, seed=2, discount=0.8)
        policy = random_policy(mdp, np.random.default_rng(0))
        exact = oc.evaluate(mdp, policy).expected_return
        for horizon in (120, "geometric"):  # what 120 steps leave out is 2e-12 of the whole
            returns = oc.rollouts(mdp, policy, n_trajectories=20_000, horizon=horizon, rng=1).returns
            assert abs(returns.mean() - exact) < 4 * returns.std() / np.sqrt(len(returns))

    def test_episodes_end_where_the_model_does(self):
        mdp = corridor(5, discount=None)
        policy = oc.Policy.uniform(mdp)
        sample = oc.rollouts(mdp, policy, n_trajectories=20_000, horizon="episode", rng=1)
        assert sample.terminated.all()
        assert (sample.final_states == 4).all()
        assert sample.pair_index.shape[1] == sample.lengths.max()
        assert (sample.returns == -sample.lengths).all()
        mean = 4 / 0.7  # each step goes on with probability (0.5 + 0.9) / 2
        assert abs(sample.lengths.mean() - mean) < 4 * sample.lengths.std() / np.sqrt(20_000)

    def test_episodes_that_do_not_end_are_cut(self):
        mdp = corridor(3)
        sample = oc.rollouts(mdp, oc.Policy.uniform(mdp), n_trajectories=500, horizon="episode", longest=2, rng=0)
        assert sample.lengths.max() == 2
        assert 0 < sample.terminated.sum() < 500

    def test_named_terminal_states(self):
        mdp = corridor(5)
        sample = oc.rollouts(mdp, oc.Policy.uniform(mdp), n_trajectories=9, horizon=500, terminal=[2], rng=0)
        assert (sample.final_states == 2).all()
        born = oc.rollouts(mdp, oc.Policy.uniform(mdp), n_trajectories=9, horizon=50, terminal=[0], rng=0)
        assert born.n_steps == 0
        assert born.terminated.all()
        assert (born.returns == 0).all()

    def test_an_absorbing_state_that_pays_or_costs_is_not_terminal(self):
        assert terminal_states(corridor(3)).tolist() == [False, False, True]
        assert not terminal_states(corridor(3, costs={"heat": np.ones((3, 2))})).any()
        assert not terminal_states(corridor(3).replace(rewards=np.ones((3, 2)))).any()

    def test_discount_zero_takes_one_step(self):
        mdp = corridor(3, discount=0.0)
        sample = oc.rollouts(mdp, oc.Policy.uniform(mdp), n_trajectories=5, horizon="geometric", rng=0)
        assert (sample.lengths == 1).all()

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"horizon": "forever"}, "geometric"),
            ({"horizon": 0}, "horizon is between"),
            ({"horizon": 2.5}, "whole number"),
            ({"n_trajectories": 0}, "n_trajectories"),
            ({"longest": -1}, "longest"),
            ({"terminal": ["moon"]}, "moon"),
        ],
    )
    def test_bad_requests(self, changes, words):
        mdp = corridor(3)
        with pytest.raises(oc.InvalidProblem, match=words):
            oc.rollouts(mdp, oc.Policy.uniform(mdp), **{"n_trajectories": 3, "horizon": 3, **changes})

    def test_bad_questions(self):
        mdp, undiscounted = corridor(4), corridor(3, discount=None)
        other = oc.instances.get("machine-repair")
        with pytest.raises(oc.InvalidProblem, match="another model"):
            oc.rollouts(mdp, oc.Policy.uniform(other), n_trajectories=1, horizon=1)
        with pytest.raises(oc.InvalidProblem, match="γ is None"):
            oc.rollouts(undiscounted, oc.Policy.uniform(undiscounted), n_trajectories=1, horizon="geometric")
        with pytest.raises(oc.InvalidProblem, match="needs a terminal state"):
            oc.rollouts(other, oc.Policy.uniform(other), n_trajectories=1, horizon="episode")
        with pytest.raises(oc.InvalidProblem, match=r"no cost 'rust'; the model has \['wear'\]"):
            oc.rollouts(other, oc.Policy.uniform(other), n_trajectories=1, horizon=1).costs("rust")


class TestReproducibility:
    @pytest.mark.parametrize("horizon", [150, "geometric", "episode"])
    @pytest.mark.bad_input(77)
    def test_the_same_bits_on_any_number_of_threads(self, workers, horizon):
        mdp = corridor(30, costs={"wear": np.arange(60.0).reshape(30, 2) * (np.arange(30) < 29)[:, None]})
        policy = random_policy(mdp, np.random.default_rng(0))
        request = {"n_trajectories": 1003, "horizon": horizon, "rng": 11}
        stored, summed = [], []
        for count in (1, 2, 4):
            workers(count)
            stored.append(oc.rollouts(mdp, policy, **request))
            summed.append(oc.rollout_totals(mdp, policy, **request))
        for sample, total in zip(stored, summed, strict=True):
            assert np.array_equal(sample.pair_index, stored[0].pair_index)
            assert np.array_equal(sample.final_states, stored[0].final_states)
            assert np.array_equal(total.counts, summed[0].counts)
            for name in ("reward", "wear"):
                assert np.array_equal(total.totals[name], summed[0].totals[name])

    @pytest.mark.parametrize("horizon", [100, "geometric"])
    def test_the_same_bits_in_one_pass_and_in_two(self, monkeypatch, workers, horizon):
        """Lengths that are not known: a log, wave by wave, or a first run that finds them."""
        mdp = oc.instances.get("garnet", n_states=12, n_actions=2, branching=3, seed=3, discount=0.95)
        request = {"n_trajectories": 999, "horizon": horizon, "longest": 90, "terminal": [0, 3], "rng": 5}
        found = []
        for log, least, threads in ((0, 1, 1), (1 << 21, 1, 1), (90 * 100, 1, 1), (90 * 8, 1, 3), (90 * 2000, 1, 2)):
            monkeypatch.setattr(sampler, "LOG", log)
            monkeypatch.setattr(sampler, "LEAST_AT_ONCE", least)
            workers(threads)
            found.append(oc.rollouts(mdp, oc.Policy.uniform(mdp), **request))
        assert found[0].terminated.any()
        for other in found[1:]:
            assert np.array_equal(other.flat_pairs, found[0].flat_pairs)
            assert np.array_equal(other.lengths, found[0].lengths)
            assert np.array_equal(other.final_states, found[0].final_states)
            assert np.array_equal(other.terminated, found[0].terminated)

    def test_samples_can_be_sent(self):
        mdp = corridor(5, costs={"wear": np.ones((5, 2))})
        policy = oc.Policy.uniform(mdp)
        request = {"n_trajectories": 20, "horizon": 9, "terminal": [4], "rng": 0}
        for sample in (oc.rollouts(mdp, policy, **request), oc.rollout_totals(mdp, policy, **request)):
            again = pickle.loads(pickle.dumps(sample))
            assert np.array_equal(again.returns, sample.returns)
            assert np.array_equal(again.counts, sample.counts)

    def test_totals_are_those_of_the_stored_trajectories(self):
        mdp = corridor(6, costs={"wear": np.arange(12.0).reshape(6, 2) * (np.arange(6) < 5)[:, None]})
        policy = oc.Policy.uniform(mdp)
        for horizon in (9, "geometric", "episode"):
            request = {"n_trajectories": 200, "horizon": horizon, "rng": 2}
            stored, summed = oc.rollouts(mdp, policy, **request), oc.rollout_totals(mdp, policy, **request)
            assert np.array_equal(summed.lengths, stored.lengths)
            assert np.array_equal(summed.counts, stored.counts)
            assert np.array_equal(summed.terminated, stored.terminated)
            weights = stored.step_discount ** np.arange(stored.pair_index.shape[1])
            assert summed.returns == pytest.approx(stored.returns, abs=1e-12)
            assert summed.totals["wear"] == pytest.approx(stored.costs("wear") @ weights, abs=1e-12)

    def test_a_smaller_sample_begins_a_larger_one(self):
        mdp = oc.instances.get("machine-repair")
        policy = oc.Policy.uniform(mdp)
        few = oc.rollouts(mdp, policy, n_trajectories=10, horizon=20, rng=4)
        many = oc.rollouts(mdp, policy, n_trajectories=100, horizon=40, rng=4)
        assert np.array_equal(many.pair_index[:10, :20], few.pair_index)

    def test_seeds(self):
        mdp = oc.instances.get("garnet", n_states=50, n_actions=2, branching=10, seed=0, discount=0.9)
        policy = oc.Policy.uniform(mdp)
        request = {"n_trajectories": 50, "horizon": 100}
        first, again, other = (oc.rollouts(mdp, policy, rng=seed, **request).pair_index for seed in (0, 0, 1))
        assert np.array_equal(first, again)
        assert (first == other).mean() < 0.05  # equal by chance only, one in a hundred
        stream = np.random.default_rng(0)
        batches = [oc.rollouts(mdp, policy, rng=stream, **request).pair_index for _ in range(2)]
        assert np.array_equal(batches[0], first)
        assert (batches[0] == batches[1]).mean() < 0.05
        spawned = [oc.rollouts(mdp, policy, rng=s, **request).pair_index for s in np.random.SeedSequence(0).spawn(2)]
        assert (spawned[0] == spawned[1]).mean() < 0.05

    def test_mixtures_are_drawn_at_time_zero(self):
        mdp = oc.instances.get("machine-repair")
        plan = oc.mixture(mdp, oc.solve(oc.Problem(mdp, constraints=[oc.expected("wear") <= 0.25])))
        sample = oc.rollouts(mdp, plan, n_trajectories=5000, horizon=30, rng=0)
        for c, policy in enumerate(plan.policies):
            taken = sample.pair_index[sample.components == c]
            assert (policy.pair_probabilities[taken] == 1).all()
        found = np.bincount(sample.components, minlength=len(plan))
        assert stats.chisquare(found, 5000 * plan.weights).pvalue > 1e-4
        wear = oc.rollout_totals(mdp, plan, n_trajectories=5000, horizon="geometric", rng=0).totals["wear"]
        exact = plan.evaluate(mdp).expected_total["wear"]
        assert abs(wear.mean() - exact) < 4 * wear.std() / np.sqrt(5000)
