"""What is true of a small question, by dense linear algebra over all deterministic policies; nothing of occlp computes.

Whatever a policy earns, and whatever mixtures of policies earn that keep the limits, is a witness against a bound that
denies it. So a bound is called false only where a witness stands against it: the judge cannot accuse wrongly, and
`tests/test_lies.py` shows that its witnesses come within rounding of the optimum, so that it is not blind.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.optimize import linprog, minimize

import occlp as oc

#: What is beyond rounding, relative to the size of the numbers: of one policy, of linear programs, of curved terms.
SLACK = {"policy": 1e-11, "program": 1e-8, "curved": 1e-7}
SQUARINGS = 60


@dataclass(frozen=True, eq=False)
class Truth:
    """A question as dense arrays, to be maximised.

    Attributes
    ----------
    problem : Problem
    """

    problem: oc.Problem

    @cached_property
    def sign(self) -> float:
        """−1 when the user minimises."""
        return 1.0 if self.problem.sense == "maximize" else -1.0

    @cached_property
    def rows(self) -> Any:
        """P, [pairs, S]: staying takes up what a row misses of one."""
        rows, states = self.problem.mdp.transitions.toarray(), self.problem.mdp.pairs.states
        rows[np.arange(len(rows)), states] += 1.0 - rows.sum(axis=1)
        return rows

    @cached_property
    def rewards(self) -> Any:
        """What is earned beside the term, to be maximised, [pairs]."""
        nothing = self.problem.utility is not None or self.problem.objective == "reach"
        return np.zeros(self.problem.mdp.n_pairs) if nothing else self.sign * self.problem.mdp.pair_rewards

    @cached_property
    def setting(self) -> Any:
        """The regularizer or the utility."""
        return self.problem.regularizer or self.problem.utility

    @cached_property
    def size(self) -> float:
        """What rounding is relative to."""
        return 1.0 + float(np.abs(self.problem.mdp.pair_rewards).max())

    # Policies ------------------------------------------------------------------------------------------------

    def masses(self, probabilities: Any) -> Any:
        """d^π, [pairs]; visits for totals, infinite where the process stays for ever outside the goal."""
        problem, mdp = self.problem, self.problem.mdp
        states, initial = mdp.pairs.states, mdp.initial / mdp.initial.sum()
        chain = np.zeros((mdp.n_states, mdp.n_states))
        np.add.at(chain, states, probabilities[:, None] * self.rows)
        if problem.criterion == "discounted":
            mass = problem.rest * np.linalg.solve(np.eye(len(chain)) - problem.discount * chain.T, initial)
        elif problem.criterion == "average":
            mass = initial @ _long_run(chain)
        else:
            chain[problem.goal_states] = np.eye(len(chain))[problem.goal_states]
            stays = np.diag(_long_run(chain)) > 1e-12
            moving = ~stays
            mass = np.zeros(len(chain))
            mass[moving] = np.linalg.solve(np.eye(int(moving.sum())) - chain[np.ix_(moving, moving)].T, initial[moving])
            arrived = initial + mass @ chain
            mass = np.where(stays & (arrived > 0) & ~problem.goal_states, np.inf, mass)
        taken = np.where(probabilities > 0, probabilities, 1.0)
        return np.where(probabilities > 0, mass[states] * taken, 0.0)

    def worth(self, probabilities: Any) -> float:
        """What a policy attains, to be maximised: −∞ or ∞ where a total has no limit, or the goal is missed."""
        masses = self.masses(probabilities)
        if self.problem.criterion != "total":
            return float(self.rewards @ masses) + self.term(masses)
        return self._total(probabilities, masses)

    def _total(self, probabilities: Any, masses: Any) -> float:
        """The total of a policy."""
        problem, finite = self.problem, np.isfinite(masses)
        states = problem.mdp.pairs.states
        if problem.objective == "reach":
            initial = problem.mdp.initial / problem.mdp.initial.sum()
            arrived = initial + np.where(finite & ~problem.goal_states[states], masses, 0.0) @ self.rows
            return self.sign * float(arrived[problem.goal_states].sum())
        earned = float(self.rewards[finite] @ masses[finite])
        if finite.all():
            return earned
        if problem.goal is not None:
            return -np.inf
        chain = np.zeros((problem.mdp.n_states,) * 2)
        np.add.at(chain, states, probabilities[:, None] * self.rows)
        mean = _long_run(chain) @ np.bincount(states, self.rewards * probabilities, problem.mdp.n_states)
        inside = np.unique(states[~finite])
        if (np.abs(self.rewards[~finite]) == 0).all():
            return earned
        if (mean[inside] > 1e-9).any() and (mean[inside] >= -1e-9).all():
            return np.inf
        return -np.inf if (mean[inside] < -1e-9).any() and (mean[inside] <= 1e-9).all() else np.nan

    @cached_property
    def corners(self) -> tuple[Any, Any]:
        """Worth [policies] and masses [policies, pairs] of all deterministic policies."""
        starts = self.problem.mdp.pair_start.tolist()
        found = []
        for chosen in itertools.product(*(range(first, last) for first, last in itertools.pairwise(starts))):
            probabilities = np.zeros(starts[-1])
            probabilities[list(chosen)] = 1.0
            found.append(probabilities)
        return np.array([self.worth(one) for one in found]), np.array([self.masses(one) for one in found])

    # The optimum ---------------------------------------------------------------------------------------------

    @cached_property
    def optimum(self) -> float | None:
        """The most that policies or mixtures of them attain, to be maximised; None where none keeps the limits."""
        worth, masses = self.corners
        if not self.problem.constraints and self.setting is None:
            return float(np.nanmax(worth)) if np.isfinite(worth).any() or np.inf in worth else -np.inf
        points = masses[np.isfinite(masses).all(axis=1)]
        if not len(points):
            return None
        weights = self._mixed(points)
        if weights is None:
            return None
        if self.setting is None and not self.problem.concave_limits:
            return float(weights @ points @ self.rewards)
        return self._climbed(points, weights)

    def _rows_of_limits(self) -> Iterator[tuple[Any, float, str]]:
        """Linear limits as cost, bound, relation on the scale of the masses."""
        for limit in self.problem.limits.values():
            yield self.problem.coefficients(limit), limit.bound, limit.relation

    def _mixed(self, points: Any) -> Any:
        """The mixture of the points that earns most within the linear limits, [points]; None where there is none."""
        above, below, equal, target = [], [], [np.ones(len(points))], [1.0]
        for cost, bound, relation in self._rows_of_limits():
            if relation == "==":
                equal.append(points @ cost)
                target.append(bound)
            else:
                side = 1.0 if relation == "<=" else -1.0
                above.append(side * (points @ cost))
                below.append(side * bound)
        found = linprog(
            -(points @ self.rewards), A_ub=np.array(above) if above else None, b_ub=below or None,
            A_eq=np.array(equal), b_eq=target, method="highs-ds",
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )  # fmt: skip
        return found.x

    def _climbed(self, points: Any, weights: Any) -> float | None:
        """The best mixture for a curved objective or curved limits that a general method finds."""
        rules: list[dict[str, Any]] = [{"type": "eq", "fun": lambda w: w.sum() - 1.0}]
        for cost, bound, relation in self._rows_of_limits():
            side = -1.0 if relation == "<=" else 1.0
            kind = "eq" if relation == "==" else "ineq"
            rules.append({"type": kind, "fun": lambda w, c=points @ cost, b=bound, s=side: s * (w @ c - b)})
        rules += [
            {"type": "ineq", "fun": lambda w, limit=limit: self.value(limit.utility, w @ points) - limit.bound}
            for limit in self.problem.concave_limits.values()
        ]

        def lost(w: Any) -> float:
            masses = np.maximum(w, 0.0) @ points
            return -float(self.rewards @ masses) - self.term(masses)

        best = None
        middle = np.full(len(points), 1.0 / len(points))
        for start in (0.5 * weights + 0.5 * middle, middle):
            found = minimize(
                lost, start, method="SLSQP", bounds=[(0.0, 1.0)] * len(points), constraints=rules,
                options={"maxiter": 300, "ftol": 1e-14},
            )  # fmt: skip
            mixed = np.maximum(found.x, 0.0) / np.maximum(found.x, 0.0).sum()
            short = max((self._broken(rule, mixed) for rule in rules), default=0.0)
            if short <= 1e-9 and (best is None or -lost(mixed) > best):
                best = -lost(mixed)
        return best

    @staticmethod
    def _broken(rule: dict[str, Any], mixed: Any) -> float:
        value = float(rule["fun"](mixed))
        return abs(value) if rule["type"] == "eq" else -value

    # Terms ---------------------------------------------------------------------------------------------------

    def term(self, masses: Any) -> float:
        """What the regularizer or the utility adds, to be maximised."""
        return 0.0 if self.setting is None else self.value(self.setting, masses)

    def value(self, setting: Any, masses: Any) -> float:
        """f(d) from the definition of each term."""
        pairs = self.problem.mdp.pairs
        by_state = np.bincount(pairs.states, masses, pairs.n_states)
        name = type(setting).__name__
        definitions: dict[str, Callable[[], float]] = {
            "KL": lambda: -setting.strength * _divergence(masses, self.masses(setting.reference.pair_probabilities)),
            "ConditionalKL": lambda: (
                -setting.strength * _divergence(masses, by_state[pairs.states] * setting.reference.pair_probabilities)
            ),
            "PolicyEntropy": lambda: -setting.strength * _divergence(masses, by_state[pairs.states]),
            "OccupancyEntropy": lambda: -setting.strength * _divergence(masses, np.ones_like(masses)),
            "StateEntropy": lambda: -setting.strength * _divergence(by_state, np.ones_like(by_state)),
            "TotalVariation": lambda: -0.5 * np.abs(masses - self.masses(setting.target.pair_probabilities)).sum(),
            "LogSum": lambda: sum(np.log(max(self._cost(what) @ masses, 1e-300)) for what in setting.expectations),
            "WorstCase": lambda: min(self._cost(what) @ masses for what in setting.expectations),
        }
        return float(definitions[name]())

    def _cost(self, name: str) -> Any:
        return self.problem.mdp.pair_rewards if name == "reward" else self.problem.mdp.pair_costs[name]

    # The verdict ---------------------------------------------------------------------------------------------

    def denies(self, result: oc.Result) -> str | None:
        """What is false in the bounds that a result claims, beyond rounding; None where nothing is."""
        claim, optimum = result.certificate, self.optimum
        linear = self.setting is None and not self.problem.concave_limits
        kind = "curved" if not linear else "program" if self.problem.constraints else "policy"
        slack = SLACK[kind] * self.size
        if claim.unending:
            attained = self.worth(result.policy.pair_probabilities)
            return None if attained == np.inf or optimum == np.inf else "proof that there is no bound"
        if claim.infeasible_by is not None:
            return "proof that limits cannot be kept" if optimum is not None else self._overstated(claim, slack)
        low, high = sorted((self.sign * claim.lower, self.sign * claim.upper))
        if optimum is not None and optimum > high + slack * (1.0 + abs(high) if np.isfinite(high) else 1.0):
            return "bound on every policy"
        attained = self.worth(result.policy.pair_probabilities)
        if not (np.isnan(attained) and low == -np.inf) and not attained >= low - slack:
            return "bound on the policy"
        honest = claim.violation <= 1e-9 and np.isfinite(claim.gap) and optimum is not None and np.isfinite(attained)
        return "gap" if honest and optimum - attained > claim.gap + slack else None

    def _overstated(self, claim: oc.Certificate, slack: float) -> str | None:
        """Whether some policy breaks linear limits, weighted with the prices, by less than is claimed."""
        masses = self.corners[1]
        points, broken = masses[np.isfinite(masses).all(axis=1)], 0.0
        if self.problem.concave_limits or not len(points):
            return None
        for name, limit in self.problem.limits.items():
            side = -1.0 if limit.relation == ">=" else 1.0
            broken = broken + claim.multipliers[name] * side * (points @ self.problem.coefficients(limit) - limit.bound)
        return "amount of the violation" if np.min(broken) < claim.infeasible_by - slack else None


def _long_run(chain: Any) -> Any:
    """Long-run frequencies of each state from each, [S, S]: a high power of the chain that rests half of the time."""
    power = 0.5 * (np.eye(len(chain)) + chain)
    for _ in range(SQUARINGS):
        power = power @ power
        power /= power.sum(axis=1, keepdims=True)
    return power


def _divergence(masses: Any, base: Any) -> float:
    """Σ d log(d / d0)."""
    used = masses > 0
    if (base[used] <= 0).any():
        return np.inf
    return float((masses[used] * np.log(masses[used] / base[used])).sum())
