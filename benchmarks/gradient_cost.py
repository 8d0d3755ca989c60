"""What an exact gradient costs beside plain sparse evaluations of its policy: ``python -m benchmarks.gradient_cost``.

An evaluation builds P^π and solves (I − γP^π) v = r^π for v alone, by scipy: a sparse LU, and BiCGSTAB to a residual of
1e-12. A gradient finds values, occupancy and advantages, and brackets the values with their rounding.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

import occlp as oc

#: Models; sparse LU takes minutes where a model mixes fast, and is left out there.
CASES: dict[str, tuple[Callable[[], oc.MDP], bool]] = {
    "garnet-1e4": (lambda: _garnet(10_000), False),
    "garnet-1e5": (lambda: _garnet(100_000), False),
    "grid 50 × 50": (lambda: oc.instances.get("bumpy-gridworld", n=50), True),
    "grid 200 × 200": (lambda: oc.instances.get("bumpy-gridworld", n=200), True),
    "grid 200 × 200, γ = 0.999": (lambda: oc.instances.get("bumpy-gridworld", n=200, discount=0.999), True),
}


def _garnet(n_states: int) -> oc.MDP:
    return oc.instances.get("garnet", n_states=n_states, n_actions=5, branching=5, seed=1, discount=0.99)


def evaluation(mdp: oc.MDP, policy: np.ndarray, *, direct: bool) -> np.ndarray:
    """Solve for the values of a policy [pairs]."""
    share = sparse.csr_array((policy, np.arange(mdp.n_pairs), mdp.pairs.start), shape=(mdp.n_states, mdp.n_pairs))
    matrix = sparse.eye_array(mdp.n_states) - mdp.discount * (share @ mdp.transitions)
    rewards = share @ mdp.pair_rewards
    if direct:
        return linalg.spsolve(sparse.csc_array(matrix), rewards)
    return linalg.bicgstab(sparse.csr_array(matrix), rewards, rtol=1e-12)[0]


def milliseconds(work: Callable[[], object], repeat: int) -> float:
    """Median processor time."""
    found = []
    for _ in range(repeat):
        began = time.process_time()
        work()
        found.append(1e3 * (time.process_time() - began))
    return statistics.median(found)


def main(arguments: list[str] | None = None) -> int:
    """Measure every case, or those named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gradient_cost", description=__doc__)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args(arguments)
    for name in chosen.case or CASES:
        make, direct = CASES[name]
        mdp = make()
        weights = np.random.default_rng(0).random(mdp.n_pairs)
        policy = weights / np.add.reduceat(weights, mdp.pairs.start[:-1])[mdp.pairs.states]
        gradient = oc.estimators.Exact().prepare(oc.Problem(mdp), np.random.default_rng(0))
        gradient(policy)  # compiles
        times = {"gradient": milliseconds(lambda g=gradient, p=policy: g(p), chosen.repeat)}
        times["BiCGSTAB"] = milliseconds(lambda m=mdp, p=policy: evaluation(m, p, direct=False), chosen.repeat)
        if direct:
            times["sparse LU"] = milliseconds(lambda m=mdp, p=policy: evaluation(m, p, direct=True), chosen.repeat)
        shown = "  ".join(f"{word} {value:7.1f} ms" for word, value in times.items())
        ratios = "  ".join(f"{times['gradient'] / value:.2f}" for value in list(times.values())[1:])
        print(f"{name:26} {shown}  ratio {ratios}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
