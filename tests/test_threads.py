"""The same question gives the same bits on any number of threads, ours and those of BLAS, and in any process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: Models of more than 10,000 states: below, BLAS uses one thread whatever it is told.
SCRIPT = """
import hashlib
import occlp as oc

fast = oc.instances.get("garnet", n_states=15_000, n_actions=3, branching=3, n_costs=1, seed=1, discount=0.95)
slow = oc.instances.get("bumpy-gridworld", n=110, discount=0.999)
limit = oc.expected("cost0") <= 0.3
questions = {
    "plain": (fast, None),
    "slow": (slow, None),
    "limit": (oc.Problem(fast, constraints=[limit]), None),
    "kl": (oc.Problem(fast, regularizer=oc.KL(0.1, oc.Policy.uniform(fast))), None),
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
    assert len(said[0]) == 5
    assert said[0] == said[1] == said[2]
