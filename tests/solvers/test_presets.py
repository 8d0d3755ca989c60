"""Named methods: what they are made of, and that each answers the example of the README honestly."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

import occlp as oc
from occlp.errors import InvalidProblem

MDP = oc.instances.get("machine-repair")
E, U = oc.estimators, oc.updates
PARTS = {
    oc.NaturalPolicyGradient(): (E.Exact(), U.NaturalStep()),
    oc.MirrorDescent(): (E.Exact(), U.MirrorStep()),
    oc.Reinforce(): (E.MonteCarlo(), U.GradientStep(0.1, adaptive=True)),
    oc.Reinforce(returns="total", adaptive=False): (E.MonteCarlo(returns="total"), U.GradientStep(0.1)),
    oc.ActorCritic(): (E.TemporalDifference(), U.GradientStep(0.1, adaptive=True)),
    oc.ActorCritic(horizon="geometric"): (
        E.TemporalDifference(horizon="geometric", bootstrap=False), U.GradientStep(0.1, adaptive=True)
    ),
    oc.A2C(): (E.GAE(lam=1.0), U.GradientStep(0.1, adaptive=True)),
    oc.TRPO(): (E.MonteCarlo(baseline="average"), U.TrustRegion()),
    oc.PPO(): (E.GAE(), U.ClippedRatio()),
}  # fmt: skip


@pytest.mark.parametrize("preset", PARTS, ids=str)
def test_presets_are_choices_of_the_three_parts(preset):
    estimator, update = PARTS[preset]
    method = preset.expand()
    assert (method.parametrization, method.estimator, method.update) == (
        oc.parametrizations.Softmax(),
        estimator,
        update,
    )
    assert preset.is_sampled == estimator.is_sampled
    assert not preset.promises_tol
    assert preset.unsupported(oc.Problem(MDP)) is None
    assert pickle.loads(pickle.dumps(preset)) == preset
    assert eval(f"oc.{preset!r}", {"oc": oc, **vars(oc.parametrizations), **vars(E)}) == preset
    runs = [
        [
            step.policy
            for step in itertools.islice(solver.iterate(oc.Problem(MDP), tol=0, rng=np.random.default_rng(0)), 4)
        ]
        for solver in (preset, method)
    ]
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first.pair_probabilities, second.pair_probabilities)


def test_the_comparison_that_everybody_begins_with():
    table = oc.compare(
        MDP, [oc.OccupancyProgram(), oc.PolicyIteration(), oc.NaturalPolicyGradient(), oc.Reinforce(steps=150)], seeds=2
    )
    rows = table.to_records()
    assert [row["status"] for row in rows[:3]] == ["CERTIFIED"] * 3
    assert len(rows) == 5
    best = table["PolicyIteration()"].objective
    for row in rows[3:]:
        assert row["status"] in ("BOUNDED", "CERTIFIED")
        assert row["samples"] > 0
        assert row["gap"] >= best - row["objective"] - 1e-12
        assert row["gap"] < 1.0


@pytest.mark.parametrize(
    "solver", [oc.Reinforce(baseline="average"), oc.ActorCritic(), oc.A2C(), oc.TRPO(), oc.PPO()], ids=str
)
@pytest.mark.parametrize("name", ["riverswim", "russell-norvig-grid"])
def test_sampled_methods_improve(solver, name):
    """At least half of the way from the uniform policy to the optimum, wherever the reward is not hidden."""
    mdp = oc.instances.get(name)
    mdp = mdp if name != "riverswim" else mdp.replace(initial=np.full(mdp.n_states, 1 / mdp.n_states))
    if mdp.discount is None or mdp.discount == 1.0:
        mdp = mdp.replace(discount=0.95)
    best = oc.solve(mdp)
    uniform = oc.evaluate(mdp, oc.Policy.uniform(mdp)).objective
    found = oc.solve(mdp, solver, rng=0, limit=oc.Limit(iterations=120))
    assert found.objective > 0.5 * (best.objective + uniform)
    assert found.gap >= best.objective - found.objective - 1e-9


def test_exact_variants():
    """TRPO and PPO with exact estimates; natural gradients and mirror descent with sampled ones."""
    best = oc.solve(MDP).objective
    trust = oc.solve(MDP, oc.TRPO(radius=0.1, estimator=E.Exact()))
    assert (np.diff(trust.history["objective"]) > 0).all()
    assert best - trust.objective < 1e-3
    assert best - oc.solve(MDP, oc.PPO(estimator=E.Exact())).objective < 0.02
    for solver in (
        oc.NaturalPolicyGradient(step_size=0.02, estimator=E.MonteCarlo(baseline="average"), steps=100),
        oc.MirrorDescent(step_size=0.02, estimator=E.MonteCarlo(baseline="average"), steps=100),
    ):
        assert best - oc.solve(MDP, solver, rng=0).objective < 0.02


def test_settings_reach_the_parts():
    with pytest.raises(InvalidProblem, match="radius=-1"):
        oc.TRPO(radius=-1)
    with pytest.raises(InvalidProblem, match="clip=2"):
        oc.PPO(clip=2)
    with pytest.raises(InvalidProblem, match="baseline='exact'"):
        oc.Reinforce(baseline="exact")
    with pytest.raises(InvalidProblem, match="critic_step=2"):
        oc.ActorCritic(critic_step=2)
    with pytest.raises(InvalidProblem, match="nothing follows"):
        oc.A2C(horizon="geometric")
