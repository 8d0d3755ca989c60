"""Compiled kernels and the Python that they are made of give the same answers.

A kernel that reads beyond an array, or counts on wrapped indices or types that Python does not have, differs here or
is an IndexError. The same file, run with NUMBA_DISABLE_JIT=1, measures which branches of the kernels are taken
(benchmarks/coverage.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

RUNS = """
import json
import warnings

import numpy as np

import occlp as oc
from occlp.chains import resolvent

warnings.simplefilter("error")
# Numbers of the generator wrap around, which Python's own scalars announce.
warnings.filterwarnings("ignore", message="overflow encountered in scalar")

machine = oc.instances.get("machine-repair")
garnet = oc.instances.get("garnet", n_states=12, n_actions=3, branching=3, n_costs=1, seed=1, discount=0.9)
grid = oc.instances.get("bumpy-gridworld", n=5, discount=0.99)
walk = oc.MDP.from_arrays(
    [[[0.5, 0.5, 0, 0], [0, 0, 1, 0]], [[0, 0.25, 0.5, 0.25]] * 2, [[0.5, 0, 0, 0.5], [0, 0.5, 0, 0.5]],
     [[0, 0, 0, 1]] * 2],
    [[-1, -3], [-2, -2.5], [-1, 0.5], [0, 0]], initial=0,
)
ring = oc.MDP.from_arrays(
    [[[0.5, 0.5, 0], [0, 0, 1]], [[0, 1, 0]] * 2, [[0, 0, 1]] * 2], [[0, 0], [2, 1], [3, 1]], initial=[0.5, 0.25, 0.25]
)
found = {}

uniform = oc.Policy.uniform(garnet)
for horizon in (7, "geometric"):
    paths = oc.rollouts(garnet, uniform, n_trajectories=9, horizon=horizon, rng=2)
    found[f"paths {horizon}"] = [paths.flat_pairs.tolist(), paths.lengths.tolist(), paths.next_states.tolist()]
episodes = oc.rollouts(walk, oc.Policy.uniform(walk), n_trajectories=9, horizon="episode", terminal=[3], rng=2)
found["episodes"] = [episodes.flat_pairs.tolist(), episodes.lengths.tolist()]
many = {"n_trajectories": 300, "horizon": 20, "rng": 4}  # more than are under way at once
logged = oc.rollouts(walk, oc.Policy.uniform(walk), terminal=[3], **many)
found["many episodes"] = [logged.flat_pairs.tolist(), logged.lengths.tolist()]
summed = oc.rollout_totals(walk, oc.Policy.uniform(walk), terminal=[3], **many)
found["sums alone"] = [summed.totals["reward"].tolist(), summed.counts.tolist()]
lottery = oc.mixture(garnet, uniform)
found["lottery"] = oc.rollouts(garnet, lottery, n_trajectories=6, horizon=4, rng=3).flat_pairs.tolist()

def solved(name, question, solver=None, **arguments):
    result = oc.solve(question, solver, rng=1, check=False, **arguments)
    found[name] = [result.objective, result.policy.pair_probabilities.tolist(), result.samples]

for name in ("Reinforce", "ActorCritic", "A2C"):
    solved(name, machine, getattr(oc, name)(steps=2, horizon=5))
solved("PPO", machine, oc.PPO(steps=2, estimator=oc.estimators.GAE(horizon=5)))
solved("TRPO", machine, oc.TRPO(steps=2, estimator=oc.estimators.MonteCarlo(horizon=5)))
solved("differences", machine, oc.PolicyGradient(
    steps=2, estimator=oc.estimators.TemporalDifference(horizon=5), update=oc.updates.GradientStep(step_size=0.1)
))
solved("direct", machine, oc.PolicyGradient(steps=2, parametrization=oc.parametrizations.Direct()))
whole = oc.estimators.MonteCarlo(returns="total", horizon=5)
solved("whole returns", machine, oc.PolicyGradient(
    steps=2, estimator=whole, update=oc.updates.GradientStep(step_size=0.1)
))
solved("sampled saddle point", machine, oc.SampledSaddlePoint(steps=3))
solved("natural", garnet, oc.NaturalPolicyGradient(steps=3))
solved("limit", oc.Problem(garnet, constraints=[oc.expected("cost0") <= 0.4]), oc.Decomposition())
solved("KL", oc.Problem(garnet, regularizer=oc.KL(0.1, uniform)), oc.KLDual())
solved("entropy", oc.Problem(garnet, regularizer=oc.PolicyEntropy(0.1)), oc.SoftPolicyIteration())
solved("average", oc.Problem(garnet.replace(discount=None), criterion="average"))
solved("averages", oc.Problem(ring, criterion="average"))
solved("total", oc.Problem(walk, criterion="total", goal=3))
solved("reaching", oc.Problem(walk, criterion="total", goal=1, objective="reach"))
for name, work in (("small", resolvent.ELIMINATION_WORK), ("as if large", -1)):
    resolvent.ELIMINATION_WORK = work
    for model, mdp in (("garnet", garnet), ("grid", grid)):
        for solver in (oc.PolicyIteration(), oc.ModifiedPolicyIteration(), oc.ValueIteration()):
            solved(f"{model} {solver} {name}", mdp, solver)
found["horizon"] = oc.backward_induction(garnet, 4).lower
ladder = oc.instances.get("bumpy-gridworld", n=25, discount=0.9)
found["a band"] = oc.evaluate(ladder, oc.Policy.uniform(ladder)).objective
found["structure"] = [str(oc.structure(mdp)) for mdp in (machine, walk, ring, grid)]
"""


@pytest.fixture(scope="module")
def here():
    """What comes out in this process."""
    from occlp.chains import resolvent

    space, work = {}, resolvent.ELIMINATION_WORK
    try:
        exec(compile(RUNS, "runs", "exec"), space)
    finally:
        resolvent.ELIMINATION_WORK = work
    return json.loads(json.dumps(space["found"]))


def assert_same(one, other, name):
    """Numbers to 1e-8, since exponentials of libraries differ in the last digit; everything else as it is."""
    if isinstance(one, list):
        assert len(one) == len(other), name
        for a, b in zip(one, other, strict=True):
            assert_same(a, b, name)
    elif isinstance(one, float):
        assert np.isclose(one, other, rtol=1e-8, atol=1e-8), name
    else:
        assert one == other, name


def test_with_and_without_the_compiler(here):
    other = "0" if os.environ.get("NUMBA_DISABLE_JIT") == "1" else "1"
    done = subprocess.run(
        [sys.executable, "-c", RUNS + "\nprint(json.dumps(found))"], env=os.environ | {"NUMBA_DISABLE_JIT": other},
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    assert set(here) == set(there)
    assert len(here) > 30
    for name in here:
        assert_same(here[name], there[name], name)
