"""The same question gives the same bits on any number of threads, ours and those of BLAS, and in any process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

import occlp as oc
from occlp import parallel
from occlp.chains import resolvent

#: Vectors of more than 10,000 numbers and matrices of hundreds of rows: below, BLAS takes one thread by itself.
SCRIPT = """
import hashlib
import occlp as oc

fast = oc.instances.get("garnet", n_states=15_000, n_actions=3, branching=3, n_costs=1, seed=1, discount=0.95)
slow = oc.instances.get("bumpy-gridworld", n=110, discount=0.999)
fronts = oc.instances.get("bumpy-gridworld", n=60, discount=0.999)
limit = oc.expected("cost0") <= 0.3
questions = {
    "plain": (fast, None),
    "slow": (slow, None),
    "limit": (oc.Problem(fast, constraints=[limit]), None),
    "kl": (oc.Problem(fast, regularizer=oc.KL(0.1, oc.Policy.uniform(fast))), None),
    "kl by fronts": (oc.Problem(fronts, regularizer=oc.KL(0.1, oc.Policy.uniform(fronts))), None),
    "sampled": (oc.instances.get("machine-repair"), oc.Reinforce()),
}
for name, (question, solver) in questions.items():
    found = oc.solve(question, solver, rng=3, check=False, limit=oc.Limit(iterations=5) if solver else None)
    bits = hashlib.sha256()
    for array in (found.pair_occupancy, found.state_values, found.policy.pair_probabilities):
        bits.update(array.tobytes())
    print(name, found.status.name, found.objective.hex(), bits.hexdigest())
"""


@pytest.mark.slow
def test_answers_do_not_depend_on_threads():
    said = []
    for threads in ("1", "2", "4"):
        own = dict.fromkeys(("OCCLP_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", SCRIPT],
            env=os.environ | own,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.splitlines())
    assert len(said[0]) == 6
    assert said[0] == said[1] == said[2]


GARNET = oc.instances.get("garnet", n_states=90, n_actions=3, branching=3, n_costs=1, seed=1, discount=0.95)
GRID = oc.instances.get("bumpy-gridworld", n=12, discount=0.9999)
SMALL = oc.instances.get("machine-repair")
DRIFT = oc.MDP.from_arrays(
    [[[0.5, 0.5, 0], [0, 0, 1]], [[0, 1, 0]] * 2, [[0, 0, 1]] * 2], [[0, 0], [2, 1], [3, 1]], initial=[0.5, 0.25, 0.25]
)
WALK = oc.MDP.from_arrays(
    [[[0.5, 0.5, 0], [0, 0.25, 0.75]], [[0.5, 0, 0.5], [0, 0.5, 0.5]], [[0, 0, 1]] * 2],
    [[-1, -3], [-2, -2.5], [0, 0]], initial=0,
)  # fmt: skip
LIMIT = oc.expected("cost0") <= 0.3
#: Questions and methods, and how many iterations; small, but cut into blocks of rows all the same.
RUNS = {
    "policy iteration": (GARNET, oc.PolicyIteration(), None),
    "Howard's": (GARNET, oc.PolicyIteration(warm_up=0), None),
    "modified policy iteration": (GARNET, oc.ModifiedPolicyIteration(), None),
    "value iteration": (GARNET, oc.ValueIteration(), None),
    "a slow chain": (GRID, None, None),
    "a slow chain, value iteration": (GRID, oc.ValueIteration(), 20),
    "average": (oc.Problem(GARNET.replace(discount=None), criterion="average"), None, None),
    "averages by state": (oc.Problem(DRIFT, criterion="average"), None, None),
    "total": (oc.Problem(WALK, criterion="total", goal=2), None, None),
    "limit": (oc.Problem(GARNET, constraints=[LIMIT]), oc.Decomposition(), None),
    "KL": (oc.Problem(GARNET, regularizer=oc.KL(0.1, oc.Policy.uniform(GARNET))), oc.KLDual(), None),
    "entropy": (oc.Problem(GARNET, regularizer=oc.PolicyEntropy(0.1)), oc.SoftPolicyIteration(), None),
    "saddle point": (oc.Problem(GARNET, constraints=[LIMIT]), oc.SaddlePoint(), 5),
    "sampled saddle point": (SMALL, oc.SampledSaddlePoint(), 3),
    "natural gradient": (GARNET, oc.NaturalPolicyGradient(), 5),
    **{name: (SMALL, getattr(oc, name)(), 3) for name in ("Reinforce", "ActorCritic", "A2C", "TRPO", "PPO")},
}


@pytest.fixture
def in_blocks(monkeypatch):
    """Every kernel is cut into blocks; how many workers have been asked for is noted."""
    monkeypatch.setattr(parallel, "SERIAL_SIZE", 0)
    asked, pool = set(), parallel._pool
    monkeypatch.setattr(parallel, "_pool", lambda process, workers: asked.add(workers) or pool(process, workers))
    return asked


def bits_of(*arrays):
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def on_threads(monkeypatch, make):
    """What is made with 1, 2 and 4 threads."""
    made = []
    for threads in ("1", "2", "4"):
        monkeypatch.setenv("OCCLP_THREADS", threads)
        made.append(make())
    return made


@pytest.mark.parametrize("swept", [False, True], ids=["small as it is", "swept as if it were large"])
@pytest.mark.parametrize("name", RUNS)
def test_blocks_of_rows_give_the_same_bits(name, swept, in_blocks, monkeypatch):
    if swept:
        monkeypatch.setattr(resolvent, "ELIMINATION_WORK", -1)
    question, solver, iterations = RUNS[name]
    limit = None if iterations is None else oc.Limit(iterations=iterations)

    def run():
        result = oc.solve(question, solver, rng=3, limit=limit, check=False)
        certificate = result.certificate
        ends = np.array([certificate.lower, certificate.upper, result.objective, result.iterations, result.samples])
        return result.status, bits_of(
            ends, result.pair_occupancy, result.state_values, result.policy.pair_probabilities, certificate.values,
            certificate.policy_values, result.history["gap"],
        )  # fmt: skip

    one, two, four = on_threads(monkeypatch, run)
    assert one == two == four
    assert {2, 4} <= in_blocks


def test_samples_are_the_same_on_any_number_of_threads(in_blocks, monkeypatch):
    uniform = oc.Policy.uniform(GARNET)

    def run():
        found = oc.rollouts(GARNET, uniform, n_trajectories=200, horizon="geometric", rng=5)
        return bits_of(found.flat_pairs, found.lengths, found.states, found.next_states)

    one, two, four = on_threads(monkeypatch, run)
    assert one == two == four
    assert {2, 4} <= in_blocks


@pytest.mark.parametrize(("told", "threads"), [("3", 3), ("0", None), ("many", None), ("", None)])
def test_the_number_of_threads(told, threads, monkeypatch):
    monkeypatch.setenv("OCCLP_THREADS", told)
    assert parallel.n_threads() == (threads or min(len(os.sched_getaffinity(0)), parallel.MOST_THREADS))
