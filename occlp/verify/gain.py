"""The audit of averages that depend on the start: gains per state, and where a policy stays in the long run.

G ≥ PG on all pairs, and g ≤ Pg under the policy, are checked without any tolerance: in doubles where their rounding
cannot change the sign, in fractions elsewhere.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import splu

from occlp.errors import AuditFailed
from occlp.verify.terms import Real

if TYPE_CHECKING:
    from occlp.certificate import Certificate
    from occlp.policy import Policy
    from occlp.problem import Problem
    from occlp.result import Result

UNIT = float(np.finfo(np.float64).eps)


def gains_of(problem: Problem, policy: Policy, certificate: Certificate) -> tuple[Any, Any]:
    """Return G and g of a certificate, to be maximised, each [S]; zeros where one number serves for all states.

    Raises `AuditFailed` unless G ≥ PG on all pairs, and g ≤ Pg under the policy.
    """
    sign = 1 if problem.sense == "maximize" else -1
    found = []
    for name, gain in (
        ("gain_values", certificate.gain_values),
        ("policy_gain_values", certificate.policy_gain_values),
    ):
        if gain.shape == (0,):
            found.append(np.zeros(problem.mdp.n_states))
        elif problem.criterion != "average":
            raise AuditFailed(f"{name} belong to the average criterion.")
        elif gain.shape != (problem.mdp.n_states,) or not np.isfinite(gain).all():
            raise AuditFailed(f"{name} are not one finite number a state.")
        else:
            found.append(sign * gain)
    every = np.arange(problem.mdp.n_pairs)
    _check_sign(problem, -found[0], np.ones(problem.mdp.n_pairs), every, "gain_values rise along")
    states = problem.mdp.pairs.states
    _check_sign(problem, found[1], policy.pair_probabilities, states, "policy_gain_values fall under the policy in")
    return found[0].astype(Real), found[1].astype(Real)


def mean_gain(problem: Problem, gain: Any) -> Any:
    """μ0·g, for a μ0 that sums to one."""
    initial = problem.mdp.initial.astype(Real)
    return gain[0] + initial @ (gain - gain[0]) / initial.sum()


def _check_sign(problem: Problem, gain: Any, weights: Any, groups: Any, words: str) -> None:
    """Raise unless Σ w Σ p (g' − g) ≥ 0 over the pairs of each group."""
    matrix, states = problem.mdp.transitions, problem.mdp.pairs.states
    rows = np.repeat(np.arange(problem.mdp.n_pairs), np.diff(matrix.indptr))
    terms = weights[rows] * matrix.data * (gain[matrix.indices] - gain[states[rows]])
    count = int(groups.max()) + 1
    sums, sizes = (np.bincount(groups[rows], weights=part, minlength=count) for part in (terms, np.abs(terms)))
    lengths = np.bincount(groups[rows], minlength=count)
    for group in np.flatnonzero(sums < (lengths + 4) * UNIT * sizes):
        pairs = np.flatnonzero(groups == group)
        if sum((_exact(problem, gain, weights, int(pair)) for pair in pairs), start=Fraction(0)) < 0:
            raise AuditFailed(f"{words} {problem.mdp.pairs.describe(int(pairs[0]))}.")


def _exact(problem: Problem, gain: Any, weights: Any, pair: int) -> Fraction:
    matrix = problem.mdp.transitions
    entries = slice(matrix.indptr[pair], matrix.indptr[pair + 1])
    here = Fraction(float(gain[problem.mdp.pairs.states[pair]]))
    steps = zip(matrix.data[entries].tolist(), gain[matrix.indices[entries]].tolist(), strict=True)
    return Fraction(float(weights[pair])) * sum((Fraction(p) * (Fraction(g) - here) for p, g in steps), Fraction(0))


def closed_classes(chain: Any) -> Any:
    """Number of the closed class of each state of a chain, [S]; −1 for transient states."""
    count, labels = csgraph.connected_components(chain, directed=True, connection="strong")
    entries = sparse.coo_array(chain)
    out = (labels[entries.row] != labels[entries.col]) & (entries.data > 0)
    closed = np.ones(count, dtype=np.bool_)
    closed[labels[entries.row[out]]] = False
    return np.where(closed[labels], (np.cumsum(closed) - 1)[labels], -1)


def long_run(chain: Any, initial: Any) -> Any:
    """Long-run frequencies of the states of a chain, [S]: one state of each closed class is the gate to it.

    Solves with I − P on the other states, in doubles with one refinement each.
    """
    classes = closed_classes(chain)
    inside = classes >= 0
    gates = np.unique(classes, return_index=True)[1][-(int(classes.max()) + 1) :]
    others = np.setdiff1d(np.arange(len(classes)), gates)
    rows = sparse.csr_array(chain)
    mass, absorbed = np.ones(len(classes), dtype=Real), initial[gates].astype(Real)
    if len(others):
        inner, entering = rows[others][:, others], sparse.csr_array(rows[others][:, gates])
        off = sparse.csr_array(inner, copy=True)
        off.setdiag(0.0)
        away = np.asarray(off.sum(axis=1)).ravel() + np.asarray(entering.sum(axis=1)).ravel()
        system = sparse.csc_array(sparse.diags_array(away) - off)
        factors: Any = splu(system)

        def visits(source: Any) -> Any:
            found = factors.solve(source, "T")
            return np.maximum(found + factors.solve(source - system.T @ found, "T"), 0.0)

        mass[others] = visits(np.asarray(rows[gates].sum(axis=0)).ravel()[others])
        absorbed = absorbed + visits(initial[others]) @ entering
    mass = np.where(inside, mass, 0)
    sums = np.zeros(len(gates), dtype=Real)
    np.add.at(sums, classes[inside], mass[inside])
    weights = absorbed / absorbed.sum() / sums
    return np.where(inside, mass * weights[classes], 0)


def check_gain(problem: Problem, result: Result, chain: Any) -> None:
    """The gain of each state: equal within a class, the long-run average of the reward elsewhere."""
    gain = np.asarray(result.gain)
    size = float(np.abs(problem.mdp.pair_rewards).max()) + 1e-300
    if gain.shape != (problem.mdp.n_states,) or not np.abs(chain @ gain - gain).max() <= 1e-9 * size:
        raise AuditFailed("the gains are not those of the policy: they change along its chain.")
    classes = closed_classes(chain)
    first = np.unique(classes, return_index=True)[1][-(int(classes.max()) + 1) :]
    if (gain != gain[first][classes])[classes >= 0].any():
        raise AuditFailed("the gains differ within a class of states that the policy never leaves.")
    mean = float(mean_gain(problem, gain.astype(Real)))
    if not abs(mean - result.expected["reward"]) <= 1e-9 * size:
        raise AuditFailed(f"the gains give {mean} from the initial distribution, not {result.expected['reward']}.")
