"""Runs that are stopped and go on: the same as runs that are not stopped, bit for bit, and never worse than before."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import occlp as oc
from occlp.solvers.resuming import carried, fingerprint

MACHINE = oc.instances.get("machine-repair")
LIMITED = oc.Problem(MACHINE, constraints={"wear": oc.expected("wear") <= 0.25})
ACTING = oc.Policy.uniform(MACHINE)
DATA = oc.Dataset.from_rollouts(oc.rollouts(MACHINE, ACTING, n_trajectories=50, horizon=40, rng=0), ACTING)
E, U = oc.estimators, oc.updates


def gradient(estimator, update, steps=1000):
    return oc.PolicyGradient(estimator=estimator, update=update, steps=steps)


PLAIN = {
    "line search": gradient(E.Exact(), U.GradientStep()),
    "decaying": gradient(E.Exact(), U.GradientStep(0.05, decay=0.7)),
    "Adam": gradient(E.Exact(), U.GradientStep(0.1, adaptive=True)),
    "growing mirror steps": gradient(E.Exact(), U.MirrorStep(0.01, growth=1.3)),
    "mirror search": gradient(E.Exact(), U.MirrorStep()),
    "natural": gradient(E.Exact(), U.NaturalStep(0.01)),
    "running baseline": gradient(E.MonteCarlo(4, 20, baseline="average"), U.GradientStep(0.1, adaptive=True)),
    "critic": gradient(E.TemporalDifference(trajectories=4, horizon=20), U.TrustRegion(0.01)),
    "PPO": gradient(E.GAE(trajectories=4, horizon=20), U.ClippedRatio()),
    "data": gradient(E.OffPolicy(DATA), U.TrustRegion(0.05)),
    "a preset": oc.ActorCritic(trajectories=4, horizon=20),
    "saddle point": oc.SaddlePoint(),
    "entropic saddle point": oc.SaddlePoint(geometry="entropic"),
    "sampled saddle point": oc.SampledSaddlePoint(batch=4),
}
PRICED = {
    "prices": oc.PrimalDualGradient(),
    "sampled prices": oc.PrimalDualGradient(0.2, 0.2, estimator=E.GAE(trajectories=4, horizon=20)),
    "saddle point": oc.SaddlePoint(),
    "entropic saddle point": oc.SaddlePoint(geometry="entropic"),
    "sampled saddle point": oc.SampledSaddlePoint(batch=4),
}
OF_AVERAGES = {
    "GPOMDP": gradient(E.MonteCarlo(4, 20, baseline="average"), U.GradientStep(0.1, adaptive=True)),
    "cycles": gradient(E.MonteCarlo(4, "cycle"), U.TrustRegion(0.01)),
    "average critic": gradient(E.GAE(trajectories=4, horizon=20), U.ClippedRatio()),
}
AVERAGE = oc.Problem(MACHINE.replace(discount=None), criterion="average")
CASES = [
    pytest.param(problem, solver, id=f"{words}{name}")
    for words, problem, solvers in (
        ("", oc.Problem(MACHINE), PLAIN), ("limited, ", LIMITED, PRICED), ("average, ", AVERAGE, OF_AVERAGES)
    )
    for name, solver in solvers.items()
]  # fmt: skip


def solved(problem, solver, iterations, **settings):
    return oc.solve(problem, solver, tol=0, limit=oc.Limit(iterations=iterations), check=False, **settings)


def position(result):
    """The arrays of a checkpoint, and the numbers, in order."""
    found = []

    def walk(thing):
        if isinstance(thing, np.ndarray | float | int):
            found.append(np.asarray(thing, dtype=np.float64))
        elif isinstance(thing, tuple):
            for part in thing:
                walk(part)
        elif hasattr(thing, "__dict__"):
            walk(tuple(vars(thing).values()))

    walk(result.checkpoint.state.content)
    return found


@pytest.mark.parametrize(("problem", "solver"), CASES)
def test_a_run_in_two_parts_is_the_run(problem, solver):
    """81 iterations: a saddle point restarts at 64."""
    whole = solved(problem, solver, 81, rng=5)
    first = pickle.loads(pickle.dumps(solved(problem, solver, 12, rng=5)))
    second = solved(problem, solver, 81 - 12, start=first)
    assert first.iterations + second.iterations == whole.iterations
    assert len(position(whole)) == len(position(second)) > 0
    for one, other in zip(position(whole), position(second), strict=True):
        np.testing.assert_array_equal(one, other)
    assert first.samples + second.samples == whole.samples
    assert second.checkpoint.random == whole.checkpoint.random


def test_ctrl_c_leaves_a_run_that_can_go_on():
    """Interrupted in the middle of a step, whose random numbers are then drawn again."""
    pressed = []

    class Interrupted(E.MonteCarlo):
        def sample(self, problem, policy, rng):
            found = super().sample(problem, policy, rng)
            pressed.append(1)
            if len(pressed) == 12:
                raise KeyboardInterrupt
            return found

    solver = gradient(Interrupted(4, 20, baseline="average"), U.GradientStep(0.1, adaptive=True))
    first = solved(oc.Problem(MACHINE), solver, 20, rng=3)
    assert (first.status, first.iterations) == (oc.Status.LIMIT, 11)
    second = solved(oc.Problem(MACHINE), solver, 9, start=first)
    whole = solved(oc.Problem(MACHINE), solver, 20, rng=3)
    for one, other in zip(position(whole), position(second), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("limit", [{"samples": 1000}, {"seconds": 0.0}, {"iterations": 3}])
def test_every_limit_leaves_the_best_and_a_way_on(limit):
    solver = PLAIN["running baseline"]
    result = oc.solve(MACHINE, solver, rng=0, limit=oc.Limit(**limit))
    assert result.status is oc.Status.LIMIT
    assert result.objective == max(result.history["objective"])
    assert result.checkpoint is not None
    assert carried(solver, oc.Problem(MACHINE), result) is not None


def test_answers_never_get_worse_and_bounds_are_remembered():
    """A step far too long loses what was found; a bound proved once is proved."""
    best = oc.solve(MACHINE)
    wild = gradient(E.Exact(), U.GradientStep(1e6), steps=1)
    poor = next(iter(wild.iterate(oc.Problem(MACHINE), tol=0, rng=None, start=ACTING)))
    assert oc.evaluate(MACHINE, poor.policy).objective < best.objective - 1
    again = oc.solve(MACHINE, wild, start=best)
    assert again.objective >= best.objective - 1e-12
    assert again.status is oc.Status.CERTIFIED
    coarse, fine = oc.SaddlePoint(steps=5), oc.solve(LIMITED)
    assert oc.solve(LIMITED, coarse).gap > 0.01
    assert oc.solve(LIMITED, coarse, start=fine).gap <= fine.gap + 1e-12


def test_other_questions_and_settings_begin_at_the_policy():
    solver, result = PLAIN["Adam"], solved(oc.Problem(MACHINE), PLAIN["Adam"], 5)
    same, other = oc.Problem(MACHINE), oc.Problem(MACHINE.replace(discount=0.9))
    assert carried(solver, same, result) is not None
    assert carried(gradient(E.Exact(), U.GradientStep(0.1, adaptive=True), steps=7), same, result) is not None
    assert carried(solver, other, result) is None
    assert carried(gradient(E.Exact(), U.GradientStep(0.2, adaptive=True)), same, result) is None
    assert carried(solver, same, result.policy) is None
    assert carried(solver, same, oc.solve(MACHINE)) is None
    (*_, last) = gradient(E.Exact(), U.GradientStep(0.2)).iterate(other, tol=0, rng=None, start=result)
    first = next(gradient(E.Exact(), U.GradientStep(0.2)).iterate(other, tol=0, rng=None, start=result))
    np.testing.assert_allclose(first.policy.pair_probabilities, result.policy.pair_probabilities, rtol=1e-12)
    assert last is not first


def test_settings_count_by_what_they_hold():
    linear = oc.parametrizations.LogLinear
    one, two = np.arange(6.0).reshape(6, 1), np.arange(6.0).reshape(6, 1)
    assert fingerprint(linear(one)) == fingerprint(linear(two))
    two[3] = 7
    assert fingerprint(linear(one)) != fingerprint(linear(two))
    assert fingerprint(linear(one)) != fingerprint(oc.parametrizations.Softmax())
    networks = [oc.parametrizations.Network(lambda t: t, lambda t, w: w, np.zeros(2)) for _ in range(2)]
    assert fingerprint(networks[0]) == fingerprint(networks[0]) != fingerprint(networks[1])


def test_explicit_random_numbers_are_new_ones():
    solver, problem = PLAIN["running baseline"], oc.Problem(MACHINE)
    first = solved(problem, solver, 5, rng=0)
    on, same, other = (solved(problem, solver, 5, start=first, rng=rng) for rng in (None, None, 1))
    assert np.array_equal(position(on)[0], position(same)[0])
    assert not np.array_equal(position(on)[0], position(other)[0])


def test_networks_go_on_although_they_cannot_begin_at_a_policy():
    network = oc.parametrizations.Network(_logits, _vjp, np.zeros(6))
    solver = oc.PolicyGradient(network, update=U.GradientStep(0.1, adaptive=True))
    first, whole = (solved(oc.Problem(MACHINE), solver, n) for n in (4, 9))
    second = solved(oc.Problem(MACHINE), solver, 5, start=first)
    assert np.array_equal(position(second)[0], position(whole)[0])


def _logits(theta):
    return theta.reshape(3, 2)


def _vjp(theta, weights):
    return weights.ravel()
