"""CVaR and variance of the reward of a period, against every deterministic policy and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from polytope import random_model, vertices

import occlp as oc


def worst_share(values, occupancy, level):
    """The mean of the lowest values that make up a share of the mass, by sorting."""
    order = np.argsort(values)
    mass = np.minimum(np.cumsum(occupancy[order]), level)
    return float(values[order] @ np.diff(mass, prepend=0.0)) / level


def coarse(seed, **options):
    """A model whose rewards have few distinct levels."""
    mdp = random_model(seed, **options)
    return mdp.replace(rewards=np.round(2 * mdp.pair_rewards) / 2)


class TestCVaR:
    @pytest.mark.parametrize("level", [0.05, 0.3, 0.8, 1.0])
    @pytest.mark.parametrize("seed", range(4))
    def test_against_all_policies(self, seed, level):
        for mdp in (coarse(seed), random_model(seed)):
            truth = max(worst_share(mdp.pair_rewards, d, level) for d in vertices(mdp))
            answer = oc.cvar_per_step(mdp, level)
            assert answer.status is oc.Status.CERTIFIED
            assert answer.value == pytest.approx(truth, abs=1e-8)
            assert answer.lower <= truth + 1e-12
            assert answer.upper >= truth - 1e-12
            assert answer.value == pytest.approx(
                worst_share(mdp.pair_rewards, answer.evaluation.pair_occupancy, level), abs=1e-10
            )

    @pytest.mark.parametrize("level", [0.1, 0.5])
    def test_of_costs_it_is_the_upper_tail(self, level):
        mdp = coarse(2)
        truth = min(-worst_share(-mdp.pair_rewards, d, level) for d in vertices(mdp))
        answer = oc.cvar_per_step(oc.Problem(mdp, sense="minimize"), level)
        assert answer.value == pytest.approx(truth, abs=1e-8)
        assert answer.lower <= answer.value <= answer.upper

    def test_of_another_quantity(self):
        mdp = coarse(3)
        wear = mdp.pair_costs["wear"]
        truth = min(-worst_share(-wear, d, 0.2) for d in vertices(mdp))
        for what in ("wear", oc.expected("wear"), wear.reshape(5, 3)):
            answer = oc.cvar_per_step(oc.Problem(mdp, sense="minimize"), 0.2, of=what)
            assert answer.value == pytest.approx(truth, abs=1e-8)

    def test_one_is_the_mean(self):
        mdp = random_model(1)
        assert oc.cvar_per_step(mdp, 1).value == pytest.approx(oc.solve(mdp).objective, abs=1e-9)

    def test_bounds_spare_most_levels(self):
        mdp = random_model(0, n_states=40, n_actions=3)
        answer = oc.cvar_per_step(mdp, 0.3)
        assert answer.status is oc.Status.CERTIFIED
        assert len(answer.steps) < mdp.n_pairs / 2
        assert [step["upper"] for step in answer.steps] == sorted((s["upper"] for s in answer.steps), reverse=True)

    def test_with_a_constraint(self):
        mdp = coarse(1)
        plain = oc.cvar_per_step(mdp, 0.3)
        bound = 0.9 * plain.evaluation.expected["wear"]
        answer = oc.cvar_per_step(oc.Problem(mdp, constraints=[oc.expected("wear") <= bound]), 0.3)
        assert answer.evaluation.expected["wear"] <= bound + 1e-9
        assert answer.value <= plain.value + 1e-12
        assert answer.status is oc.Status.CERTIFIED
        random = np.random.default_rng(0).dirichlet(np.ones(len(vertices(mdp))) / 30, size=2000) @ vertices(mdp)
        feasible = random[random @ mdp.pair_costs["wear"] <= bound]
        assert max(worst_share(mdp.pair_rewards, d, 0.3) for d in feasible) <= answer.upper

    def test_on_average(self):
        mdp = coarse(1, discount=None)
        truth = max(worst_share(mdp.pair_rewards, d, 0.3) for d in vertices(mdp))
        assert oc.cvar_per_step(oc.Problem(mdp, criterion="average"), 0.3).value == pytest.approx(truth, abs=1e-8)

    def test_constant_rewards(self):
        mdp = random_model(0).replace(rewards=np.full(15, 3.0))
        assert oc.cvar_per_step(mdp, 0.1).value == pytest.approx(3.0)

    @pytest.mark.parametrize("level", [0, -0.1, 1.1, float("nan"), True, "0.1"])
    def test_levels(self, level):
        with pytest.raises(oc.InvalidProblem, match="share of periods"):
            oc.cvar_per_step(random_model(0), level)


class TestMeanVariance:
    @pytest.mark.parametrize("aversion", [0.0, 0.1, 1.0, 10.0])
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("sense", ["maximize", "minimize"])
    def test_against_all_policies(self, sense, seed, aversion):
        mdp = random_model(seed)
        points, r = vertices(mdp), mdp.pair_rewards
        mean, variance = points @ r, points @ r**2 - (points @ r) ** 2
        truth = (mean - aversion * variance).max() if sense == "maximize" else (mean + aversion * variance).min()
        answer = oc.mean_variance(oc.Problem(mdp, sense=sense), aversion)
        assert answer.status is oc.Status.CERTIFIED
        assert answer.value == pytest.approx(float(truth), abs=1e-8 * (1 + aversion))
        assert answer.lower <= truth + 1e-12
        assert answer.upper >= truth - 1e-12

    def test_an_offset_moves_only_the_mean(self):
        mdp = random_model(1)
        plain, moved = oc.mean_variance(mdp, 0.7), oc.mean_variance(mdp.replace(rewards=mdp.pair_rewards + 1000.0), 0.7)
        assert moved.value == pytest.approx(plain.value + 1000.0, abs=1e-8)

    def test_constant_rewards(self):
        mdp = random_model(0).replace(rewards=np.full(15, 3.0))
        answer = oc.mean_variance(mdp, 2.0)
        assert answer.value == pytest.approx(3.0)
        assert answer.status is oc.Status.CERTIFIED

    @pytest.mark.parametrize("aversion", [-1, float("inf"), float("nan"), True])
    def test_aversions(self, aversion):
        with pytest.raises(oc.InvalidProblem, match="not negative"):
            oc.mean_variance(random_model(0), aversion)
