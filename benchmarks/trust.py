"""What others answer where rounding decides, and the truth: ``python -m benchmarks.trust --write docs/trust.md``.

Each question has an optimum known in fractions. The programs are written down as any user would write them,
and handed to each peer at its default settings; nothing is scaled.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cvxpy as cp
import numpy as np
from scipy import sparse
from scipy.optimize import linprog

import occlp as oc

START, END = "<!-- table of benchmarks.trust -->\n", "<!-- end of the table -->"


@dataclass(frozen=True)
class Case:
    """A question and its optimum, with where that comes from."""

    name: str
    problem: oc.Problem
    truth: Fraction


def cases() -> Iterator[Case]:
    """Two classes, a rare escape, small rewards, and a divergence with a zero in the prior."""
    stay = [[[1, 0]], [[0, 1]]]
    apart = oc.MDP.from_arrays(stay, [[0], [1]], discount="0.999999999", initial=0)
    yield Case("two absorbing states, 1 − γ = 1e-9", oc.Problem(apart), Fraction(0))
    rare = [[["0.9999999999", "0.0000000001"]], [["0", "1"]]]
    escape = oc.MDP.from_arrays(rare, [[0], [1]], discount="0.99999999", initial=0)
    gamma, p = Fraction(99999999, 10**8), Fraction(1, 10**10)
    yield Case("escape by 1e-10, 1 − γ = 1e-8", oc.Problem(escape), gamma * p / (1 - gamma + gamma * p))
    rng = np.random.default_rng(0)
    transitions, rewards = rng.dirichlet(np.ones(20), 60).reshape(20, 3, 20), rng.random((20, 3)) * 1e-9
    small = oc.Problem(oc.MDP.from_arrays(transitions, rewards, discount=0.95))
    optimum = oc.solve(small, certify="exact").certificate.optimum
    assert optimum is not None
    yield Case("random, 20 states, rewards of size 1e-9", small, optimum)


def matrices(problem: oc.Problem) -> tuple[Any, Any, Any]:
    """F = E − γP [pairs, S], rewards [pairs] and (1 − γ) μ0 [S] as doubles."""
    mdp = problem.mdp
    own = sparse.csr_array((np.ones(mdp.n_pairs), (np.arange(mdp.n_pairs), mdp.pairs.states)))
    return own - problem.discount * mdp.transitions, mdp.pair_rewards, problem.rest * mdp.initial


def scipy_values(problem: oc.Problem) -> tuple[str, float]:
    """The program over values, by scipy's linprog (HiGHS)."""
    flow, rewards, initial = matrices(problem)
    answer = linprog(initial, A_ub=-flow, b_ub=-rewards, bounds=(None, None))
    return answer.message.split(".")[0], np.nan if answer.x is None else float(answer.fun)


def occupancies(backend: str) -> Callable[[oc.Problem], tuple[str, float]]:
    """The program over occupancies, by a backend of cvxpy."""

    def run(problem: oc.Problem) -> tuple[str, float]:
        flow, rewards, initial = matrices(problem)
        d = cp.Variable(len(rewards), nonneg=True)
        program = cp.Problem(cp.Maximize(rewards @ d), [flow.T @ d == initial])
        try:
            program.solve(solver=backend)
        except cp.error.SolverError as error:
            return str(error).split(".")[0], np.nan
        return str(program.status), np.nan if program.value is None else float(program.value)

    return run


def quantecon_values(problem: oc.Problem) -> tuple[str, float]:
    """Value iteration of QuantEcon's DiscreteDP, at its default tolerance."""
    from quantecon.markov import DiscreteDP

    mdp = problem.mdp
    arrays = (mdp.pair_rewards, sparse.csr_matrix(mdp.transitions), problem.discount, mdp.pairs.states)
    found = DiscreteDP(*arrays, mdp.pairs.actions).solve(method="vi", max_iter=10_000)
    words = "converged" if found.num_iter < found.max_iter else "iterations used up"
    return words, problem.rest * float(mdp.initial @ found.v)


PEERS: dict[str, Callable[[oc.Problem], tuple[str, float]]] = {
    "scipy linprog, values": scipy_values,
    "cvxpy HIGHS, occupancies": occupancies("HIGHS"),
    "cvxpy CLARABEL, occupancies": occupancies("CLARABEL"),
    "cvxpy SCS, occupancies": occupancies("SCS"),
    "QuantEcon, value iteration": quantecon_values,
}


def divergence() -> list[str]:
    """max r·x − KL(x ‖ prior) with a zero in the prior: log Σ prior exp(r) over its support."""
    prior, rewards = np.array([0.5, 0.5, 0.0]), np.array([1.0, 2.0, 100.0])
    truth = float(np.log(0.5 * np.exp(1) + 0.5 * np.exp(2)))
    mdp = oc.MDP.from_arrays([[[1.0]] * 3], [rewards], discount=0.0)
    leash = oc.KL(strength=1.0, reference=oc.Policy.from_table(mdp, prior[None]))
    certificate = oc.solve(oc.Problem(mdp, regularizer=leash), certify="interval").certificate
    rows = []
    for backend in ("CLARABEL", "SCS"):
        x = cp.Variable(3, nonneg=True)
        program = cp.Problem(cp.Maximize(rewards @ x - cp.sum(cp.rel_entr(x, prior))), [cp.sum(x) == 1])
        try:
            program.solve(solver=backend)
            said, value = str(program.status), np.nan if program.value is None else float(program.value)
        except cp.error.SolverError as error:
            said, value = str(error).split(".")[0], np.nan
        rows.append(row("KL to a prior with a zero", f"cvxpy {backend}", said, value, truth, certificate))
    return rows


def row(case: str, peer: str, said: str, value: float, truth: float, certificate: oc.Certificate) -> str:
    """One line of the table."""
    ours = f"[{certificate.lower:.12g}, {certificate.upper:.12g}], gap {certificate.gap:.1e}"
    return f"| {case} | {peer} | {said}: {value:.6g} | {truth:.6g} | {ours} |"


def table() -> str:
    """The whole table, in Markdown."""
    lines = ["| question | peer | what it answers | truth | occlp |", "|---|---|---|---|---|"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peers warn, or do not; the table shows what they return
        for case in cases():
            certificate = oc.solve(case.problem, certify="interval", tol=1e-7).certificate
            assert Fraction(certificate.lower) <= case.truth <= Fraction(certificate.upper)
            for peer, run in PEERS.items():
                said, value = run(case.problem)
                lines.append(row(case.name, peer, said, value, float(case.truth), certificate))
        lines += divergence()
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table, or put it into a page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trust", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="replace the table in this page")
    given = parser.parse_args()
    made = table()
    if given.write is None:
        print(made)
        return
    page = given.write.read_text(encoding="utf-8")
    before, rest = page.split(START)
    given.write.write_text(before + START + made + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
