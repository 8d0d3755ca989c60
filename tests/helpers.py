"""What several tests share: small models in exact arithmetic, and models that are hard on purpose.

`Exact` holds what a model says, in fractions: the doubles of a model of doubles, the strings of a model
of strings. Nothing of the library but the model's own arrays is used here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

import occlp as oc


@dataclass(frozen=True)
class Exact:
    """A model in fractions; rows sum to one, because the probability of staying takes up what is missing."""

    states: list[int]  # [pairs]
    spans: list[range]  # [S], the pairs of each state
    rows: list[dict[int, Fraction]]  # [pairs]
    rewards: list[Fraction]  # [pairs]
    initial: list[Fraction]  # [S]
    discount: Fraction

    @classmethod
    def of(cls, mdp: oc.MDP) -> Exact:
        """Read the numbers of a model, exact ones where it has them."""
        matrix, exact = mdp.transitions, mdp.exact
        weights = [Fraction(p) for p in (matrix.data.tolist() if exact is None else exact.transitions)]
        rewards = [Fraction(r) for r in (mdp.pair_rewards.tolist() if exact is None else exact.rewards)]
        initial = [Fraction(p) for p in (mdp.initial.tolist() if exact is None else exact.initial)]
        discount = Fraction(1 if mdp.discount is None else mdp.discount)
        discount = discount if exact is None or exact.discount is None else exact.discount
        states = mdp.pairs.states.tolist()
        rows = []
        for k, s in enumerate(states):
            entries = range(matrix.indptr[k], matrix.indptr[k + 1])
            row = {int(matrix.indices[e]): weights[e] for e in entries if matrix.indices[e] != s}
            row[s] = 1 - sum(row.values(), start=Fraction(0))
            rows.append(row)
        start = mdp.pair_start.tolist()
        spans = [range(first, last) for first, last in itertools.pairwise(start)]
        mass = sum(initial)
        return cls(states, spans, rows, rewards, [p / mass for p in initial], discount)

    @property
    def n_states(self) -> int:
        return len(self.spans)

    def values(self, probabilities: Sequence[Fraction], rewards: Sequence[Fraction] | None = None) -> list[Fraction]:
        """V^π, [S], for π(a | s) of each pair (divided by their sums)."""
        rewards = self.rewards if rewards is None else rewards
        system, right = [], []
        for s, span in enumerate(self.spans):
            total = sum(probabilities[k] for k in span)
            line = [Fraction(int(j == s)) for j in range(self.n_states)]
            for k in span:
                weight = probabilities[k] / total
                for j, p in self.rows[k].items():
                    line[j] -= self.discount * weight * p
            system.append(line)
            right.append(sum(probabilities[k] / total * rewards[k] for k in span))
        return solve_fractions(system, right)

    def occupancy(self, probabilities: Sequence[Fraction]) -> list[Fraction]:
        """d^π(s, a), [pairs]."""
        n = self.n_states
        chain = [[Fraction(0)] * n for _ in range(n)]
        shares = [Fraction(0)] * len(self.states)
        for s, span in enumerate(self.spans):
            total = sum(probabilities[k] for k in span)
            for k in span:
                shares[k] = probabilities[k] / total
                for j, p in self.rows[k].items():
                    chain[s][j] += shares[k] * p
        system = [[Fraction(int(i == j)) - self.discount * chain[i][j] for i in range(n)] for j in range(n)]
        mass = solve_fractions(system, [(1 - self.discount) * p for p in self.initial])
        return [mass[self.states[k]] * shares[k] for k in range(len(self.states))]

    def action_values(self, values: Sequence[Fraction]) -> list[Fraction]:
        """r + γPV, [pairs]."""
        return [
            reward + self.discount * sum(p * values[j] for j, p in row.items())
            for reward, row in zip(self.rewards, self.rows, strict=True)
        ]

    def objective(self, values: Sequence[Fraction]) -> Fraction:
        """(1 − γ) μ0·V, the normalised objective."""
        return (1 - self.discount) * sum(p * v for p, v in zip(self.initial, values, strict=True))

    def choices(self) -> Iterator[list[Fraction]]:
        """Every deterministic policy, as one probability a pair."""
        for chosen in itertools.product(*self.spans):
            yield [Fraction(int(k == chosen[s])) for k, s in enumerate(self.states)]

    def brute_force(self, sense: str = "maximize") -> Fraction:
        """The optimum over all deterministic policies, by looking at each."""
        best = max if sense == "maximize" else min
        return best(self.objective(self.values(choice)) for choice in self.choices())

    def optimal_values(self, sense: str = "maximize") -> list[Fraction]:
        """V*, [S], by policy iteration in fractions; the optimality equation holds exactly."""
        sign = 1 if sense == "maximize" else -1
        chosen = [span[0] for span in self.spans]
        while True:
            values = self.values([Fraction(int(k == chosen[s])) for k, s in enumerate(self.states)])
            scores = [sign * q for q in self.action_values(values)]
            better = [max(span, key=lambda k: (scores[k], k == chosen[self.states[k]])) for span in self.spans]
            if better == chosen:
                return values
            chosen = better

    def optimum(self, sense: str = "maximize") -> Fraction:
        """The best normalised objective."""
        return self.objective(self.optimal_values(sense))


def divergence(first: Sequence[Fraction], second: Sequence[Fraction]) -> Fraction:
    """KL(first ‖ second) of two exact distributions to 60 digits, infinite (as 10^400) where it is not defined."""
    total = Decimal(0)
    with localcontext() as context:
        context.prec = 60
        for p, q in zip(first, second, strict=True):
            if p > 0 and q == 0:
                return Fraction(10**400)
            if p > 0:
                ratio = Decimal(p.numerator) * q.denominator / (Decimal(p.denominator) * q.numerator)
                total += Decimal(p.numerator) / p.denominator * ratio.ln()
        return Fraction(total)


def exact_objective(problem: oc.Problem, policy: oc.Policy, exact: Exact | None = None) -> Fraction:
    """The objective of a policy, plain or with a KL term, to 60 digits."""
    exact = Exact.of(problem.mdp) if exact is None else exact
    mass = exact.occupancy(fractions(policy.pair_probabilities))
    plain = sum((d * r for d, r in zip(mass, exact.rewards, strict=True)), start=Fraction(0))
    if problem.regularizer is None:
        return plain
    prior = exact.occupancy(fractions(problem.regularizer.reference.pair_probabilities))
    penalty = Fraction(problem.regularizer.strength) * divergence(mass, prior)
    return plain - penalty if problem.sense == "maximize" else plain + penalty


def solve_fractions(system: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """Solve a linear system by Gauss-Jordan elimination; nothing is rounded."""
    n = len(right)
    lines = [[*line, value] for line, value in zip(system, right, strict=True)]
    for column in range(n):
        pivot = next(i for i in range(column, n) if lines[i][column] != 0)
        lines[column], lines[pivot] = lines[pivot], lines[column]
        inverse = 1 / lines[column][column]
        lines[column] = [x * inverse for x in lines[column]]
        for i in range(n):
            factor = lines[i][column]
            if i != column and factor != 0:
                lines[i] = [x - factor * y if y else x for x, y in zip(lines[i], lines[column], strict=True)]
    return [line[n] for line in lines]


def fractions(array: object) -> list[Fraction]:
    """The doubles of an array, as the fractions that they are."""
    return [Fraction(x) for x in np.asarray(array, dtype=np.float64).ravel().tolist()]


def doubles(values: Sequence[Fraction]) -> np.ndarray:
    """Fractions, rounded."""
    return np.array([float(value) for value in values])


def dense_transitions(mdp: oc.MDP) -> np.ndarray:
    """P, [pairs, S], with the diagonal as what the other entries leave."""
    matrix = mdp.transitions.toarray()
    here = (np.arange(mdp.n_pairs), mdp.pairs.states)
    matrix[here] = 0.0
    matrix[here] = 1.0 - matrix.sum(axis=1)
    return matrix


def dense_chain(mdp: oc.MDP, probabilities: np.ndarray) -> np.ndarray:
    """P^π, [S, S], for one probability a pair."""
    kernel = np.zeros((mdp.n_states, mdp.n_pairs))
    kernel[mdp.pairs.states, np.arange(mdp.n_pairs)] = probabilities
    return kernel @ dense_transitions(mdp)


def dense_evaluation(mdp: oc.MDP, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V [S], Q [pairs] and d [pairs] of a policy, by dense linear algebra."""
    gamma, states = mdp.discount, mdp.pairs.states
    system = np.eye(mdp.n_states) - gamma * dense_chain(mdp, probabilities)
    earned = np.bincount(states, weights=probabilities * mdp.pair_rewards, minlength=mdp.n_states)
    values = np.linalg.solve(system, earned)
    mass = np.linalg.solve(system.T, (1 - gamma) * mdp.initial)
    return values, mdp.pair_rewards + gamma * dense_transitions(mdp) @ values, mass[states] * probabilities


def random_policy(mdp: oc.MDP, rng: np.random.Generator) -> oc.Policy:
    """A policy with positive probabilities."""
    weights = rng.exponential(size=mdp.n_pairs) + 1e-3
    sums = np.add.reduceat(weights, mdp.pair_start[:-1])
    return oc.Policy.from_pairs(mdp, weights / sums[mdp.pairs.states])


@dataclass(frozen=True)
class Sampled:
    """A sampled method: random policies, one a step. At the top of a module, so that it can be sent anywhere."""

    steps: int = 3
    promises_tol: bool = False
    is_sampled: bool = True

    def unsupported(self, problem: oc.Problem) -> str | None:
        return None

    def iterate(self, problem, *, tol, rng, start=None):
        for n in range(self.steps):
            yield oc.Iterate(random_policy(problem.mdp, rng), samples=100 * (n + 1))


def encloses(certificate: oc.Certificate, truth: Fraction) -> bool:
    """Whether lower ≤ truth ≤ upper, with nothing rounded."""
    above = math.isinf(certificate.upper) or truth <= Fraction(certificate.upper)
    return Fraction(certificate.lower) <= truth and above


@st.composite
def positive_policies(draw, mdp: oc.MDP) -> oc.Policy:
    """Policies of positive probabilities."""
    weights = draw(st.lists(st.integers(1, 12), min_size=mdp.n_pairs, max_size=mdp.n_pairs))
    sums = np.add.reduceat(np.array(weights, dtype=float), mdp.pair_start[:-1])
    return oc.Policy.from_pairs(mdp, np.array(weights) / sums[mdp.pairs.states])


def two_classes(rest: float | str = 1e-9, **changes: object) -> oc.MDP:
    """A start that must choose between two closed classes, of gain 1/2 and 1/3; one of unit gain is out of reach.

    States 1 and 2 alternate and pay 1 in state 1; state 3 pays 1/3 for ever. `rest` is 1 − γ, exact as a string.
    """
    discount = str(1 - Fraction(rest)) if isinstance(rest, str) else 1.0 - rest
    return oc.MDP.from_pairs(
        [0, 0, 1, 2, 3, 4],
        [0, 1, 0, 0, 0, 0],
        [[0, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 1, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]],
        ["0", "0", "1", "0", "1/3", "1"],
        **{"discount": discount, "initial": 0, **changes},
    )


def sparse_rewards(rest: float = 1e-9, n: int = 12) -> oc.MDP:
    """A corridor that pays 1 once, at its far end; the other action gives up at any place. The optimum is 1 − γ."""
    rows = np.zeros((n + 1, 2, n + 1))
    rows[np.arange(n), 0, np.arange(1, n + 1)] = 1.0
    rows[:, 1, n] = rows[n, 0, n] = 1.0
    rewards = np.zeros((n + 1, 2))
    rewards[n - 1, 0] = 1.0
    return oc.MDP.from_arrays(rows, rewards, discount=1.0 - rest, initial=0)


def permuted(mdp: oc.MDP, states: Sequence[int], actions: Sequence[int]) -> oc.MDP:
    """The same model with state s called states[s] and action a called actions[a]."""
    states, actions = np.asarray(states), np.asarray(actions)
    matrix, initial = np.zeros((mdp.n_pairs, mdp.n_states)), np.zeros(mdp.n_states)
    matrix[:, states] = mdp.transitions.toarray()
    initial[states] = mdp.initial
    return oc.MDP.from_pairs(
        states[mdp.pairs.states], actions[mdp.pairs.actions], matrix, mdp.pair_rewards,
        discount=mdp.discount, initial=initial, costs=dict(mdp.pair_costs), actions=list(range(mdp.n_actions)),
    )  # fmt: skip
