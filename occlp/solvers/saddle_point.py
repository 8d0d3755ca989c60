"""The saddle point of the linear program by first-order steps.

Primal and dual together are min over V and y ≥ 0, max over d in the simplex of

    L(V, y, d) = (1 − γ) μ0·V + d·(r − Gᵀy + γPV − V).

Methods here take mirror steps: d moves by exponentiated gradients and never leaves the simplex, V and y by plain ones.
Averages of the iterates converge. The policy π of an average d̄ earns what its own values find in it,
L(V^π, 0, d̄) = J(π), so that a bound on the saddle point's gap is one on the policy's (Cheng, Combes, Boots and
Gordon 2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import check_count, check_positive, check_word
from occlp.certificate import to_multipliers, to_prices
from occlp.evaluation import assess, formulate
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.result import Result
from occlp.solvers.base import (
    LINEAR_ONLY,
    Iterate,
    Start,
    describe,
    start_policy,
)
from occlp.solvers.hybrid_gradient import EquilibratedProgram
from occlp.solvers.resuming import Saved, carried, fingerprint
from occlp.standard import flow_matrix
from occlp.work import count_transitions

#: Iterations before the first restart, and how much longer each further stretch is.
FIRST_STRETCH, GROWTH = 64, 1.2
#: A start keeps this share of the uniform distribution: mass that is zero would stay zero.
SPREAD_OUT = 0.01
#: Logarithms of masses are floored there when a run restarts from an average.
LEAST_MASS = 1e-300


class FirstOrder:
    """What first-order methods on the saddle point have in common."""

    def __repr__(self) -> str:
        """Name and settings that differ from their defaults."""
        return describe(self)

    @property
    def promises_tol(self) -> bool:
        """False: a run ends after its steps."""
        return False

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        if problem.regularizer is not None or problem.utility is not None:
            return "its saddle point is that of a linear program; KLDual and OccupancyProgram answer the others"
        if problem.criterion == "total":
            return "it moves occupancies that sum to one; PolicyIteration and OccupancyProgram answer totals"
        return LINEAR_ONLY if problem.concave_limits else None


@dataclass(frozen=True, repr=False)
class SaddlePoint(FirstOrder):
    """Primal–dual hybrid gradients on the linear program, with averages and restarts.

    A step costs two products with the transition matrix.

    Parameters
    ----------
    geometry : {"euclidean", "entropic"}
        How the occupancy moves: by projected steps in a scaled program, with adaptive lengths (PDLP), which is the
        faster one, or by exponentiated gradients on the simplex, for which the rate below is proved.
    step_ratio : float
        ω: steps of the values are ω times longer and those of the occupancy ω times shorter. Entropic ones have size
        ω/L and 1/(ωL), L² the largest squared length of a row of (γP − E, −Gᵀ); Euclidean ones begin at the ratio of
        the sizes of rewards and initial distribution times this.
    restarts : bool
        Whether the run begins anew at its averages: as soon as the error has fallen far enough, or for entropic steps
        after 64 of them, then 77 (1.2 times as many), and so on, with ω set by how far values and occupancy have
        moved: mostly linear convergence. False is the plain method.
    steps : int
        The run ends after this many steps.

    Notes
    -----
    Without restarts, after N entropic steps from (x0, d0), for every x = (V, y) with y ≥ 0 and every d in the simplex

        L(x̄, d) − L(x, d̄) ≤ (L ‖x − x0‖²/(2ω) + ω L KL(d ‖ d0) − ⟨K(x − x0), d − d0⟩) / N

    (Chambolle and Pock 2016, theorem 1 in Bregman form, with K = (γP − E, −Gᵀ); steps ω/L and 1/(ωL) are allowed
    because L bounds K from the Euclidean norm into the maximum norm). Restarts and ω follow Applegate, Díaz, Hinder,
    Lu, Lubin, O'Donoghue and Schudy (2021); those of entropic steps come at times fixed beforehand, for which no rate
    is proved.

    Examples
    --------
    >>> import occlp as oc
    >>> problem = oc.Problem(oc.instances.get("machine-repair"), constraints=[oc.expected("wear") <= 0.25])
    >>> result = oc.solve(problem, oc.SaddlePoint(), tol=1e-6)
    >>> result.status.name, round(result.objective, 3), round(result.multipliers["wear"], 2)
    ('CERTIFIED', 7.391, 1.06)
    """

    step_ratio: float = 1.0
    restarts: bool = True
    steps: int = 20_000
    geometry: Literal["euclidean", "entropic"] = "euclidean"

    def __post_init__(self) -> None:
        check_word(self.geometry, "geometry", ("euclidean", "entropic"))
        check_positive("step_ratio", self.step_ratio)
        check_count("steps", self.steps, least=0)

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield the averages after each step, or the start where there are no steps."""
        if self.geometry == "euclidean" and self.steps > 0:
            yield from self._euclidean(problem, start)
            return
        program = Program(problem)
        resumed, settings = carried(self, problem, start), fingerprint(self)
        if resumed is not None:
            point, average, ratio, stretch = resumed
        else:
            point = program.first(start)
            average, ratio, stretch = Average.begin(point), self.step_ratio, float(FIRST_STRETCH)
        for _ in range(self.steps):
            point = program.step(point, ratio)
            average = average.join(point)
            shown = average.point
            if self.restarts and average.count >= stretch:
                point, ratio = shown, average.ratio(ratio)
                average, stretch = Average.begin(point), GROWTH * stretch
            yield program.show(shown, Saved(settings, (point, average, ratio, stretch)))
        if self.steps == 0:
            yield program.show(point)

    def _euclidean(self, problem: Problem, start: Start) -> Iterator[Iterate]:
        program = Program(problem)
        scaled = EquilibratedProgram(program.form)
        now, settings = carried(self, problem, start), fingerprint(self)
        if now is None:
            first = program.first(start)
            now = scaled.begin(first.occupancy, first.values, first.prices, self.step_ratio)
        for _ in range(self.steps):
            now = scaled.advance(now)
            if self.restarts:
                now = scaled.restarted(now)
            yield program.show_parts(*scaled.unscaled(now.average), state=Saved(settings, now))


@dataclass(frozen=True, eq=False)
class Point:
    """Values, prices and logarithms of the occupancy; standard form."""

    values: FloatArray  # [S]
    prices: FloatArray  # [k]
    logarithms: FloatArray  # [pairs]

    @property
    def occupancy(self) -> FloatArray:
        """d, [pairs]."""
        return np.exp(self.logarithms)


@dataclass(frozen=True, eq=False)
class Average:
    """Sums of values, prices and occupancies over a stretch of iterates, and where the stretch began."""

    origin: Point
    values: FloatArray  # [S]
    prices: FloatArray  # [k]
    occupancy: FloatArray  # [pairs]
    count: int = 0

    @classmethod
    def begin(cls, origin: Point) -> Average:
        """Begin a stretch; the origin itself does not count."""
        return cls(origin, *(np.zeros_like(part) for part in vars(origin).values()))

    def join(self, point: Point) -> Average:
        """Take one more point in."""
        values, prices = self.values + point.values, self.prices + point.prices
        return Average(self.origin, values, prices, self.occupancy + point.occupancy, self.count + 1)

    @property
    def point(self) -> Point:
        """The mean."""
        mass = np.maximum(self.occupancy / self.count, LEAST_MASS)
        return Point(self.values / self.count, self.prices / self.count, np.log(mass))

    def ratio(self, before: float) -> float:
        """ω for the next stretch: the geometric mean of the last and of the one for which both moved equally far."""
        mean = self.point
        shift = mean.values - self.origin.values
        moved = np.hypot(np.linalg.norm(shift - shift.mean()), np.linalg.norm(mean.prices - self.origin.prices))
        divergence = float(mean.occupancy @ (mean.logarithms - self.origin.logarithms))
        if not (moved > 0 and divergence > 0):
            return before
        return float(np.sqrt(before * moved / np.sqrt(2.0 * divergence)))


class Program:
    """The saddle function, its exact steps, and what is shown of a point."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.form = form = formulate(problem)
        self.flow = flow_matrix(form)  # [S, pairs], E − γPᵀ
        squares = np.asarray(self.flow.power(2).sum(axis=0)) + (form.limits.rows**2).sum(axis=0)
        self.size = float(np.sqrt(squares.max())) or 1.0

    def first(self, start: Start) -> Point:
        """Return zeros and the uniform occupancy, or what is known of the start."""
        form, policy = self.form, start_policy(self.problem, start)
        values, prices = np.zeros(form.n_states), np.zeros(len(form.limits.names))
        occupancy = np.full(form.n_pairs, 1.0 / form.n_pairs)
        if policy is not None:
            found = assess(form, policy.pair_probabilities).pair_occupancy
            occupancy = (1.0 - SPREAD_OUT) * found + SPREAD_OUT * occupancy
        if isinstance(start, Result):
            values = start.certificate.values / (form.sign * form.scale)
            values = values - 0.5 * (values.max() + values.min())
            prices = form.limits.feasible_prices(to_prices(form, start.multipliers))
        return Point(values, prices, np.log(occupancy))

    def step(self, point: Point, ratio: float) -> Point:
        """One step: values and prices descend, then the occupancy ascends along where they are heading."""
        form, limits = self.form, self.form.limits
        occupancy = point.occupancy
        count_transitions(2 * self.flow.nnz)
        slopes = form.rest * form.initial - self.flow @ occupancy
        values = point.values - ratio / self.size * slopes
        prices = limits.feasible_prices(point.prices + ratio / self.size * (limits.rows @ occupancy))
        gains = form.rewards - (2.0 * values - point.values) @ self.flow
        gains = gains - (2.0 * prices - point.prices) @ limits.rows
        return Point(values, prices, normalized(point.logarithms + gains / (ratio * self.size)))

    def show(self, point: Point, state: Any = None, samples: int = 0) -> Iterate:
        """The policy, the values and the prices of a point, in the user's units."""
        return self.show_parts(point.occupancy, point.values, point.prices, state=state, samples=samples)

    def show_parts(
        self, occupancy: FloatArray, values: FloatArray, prices: FloatArray, *, state: Any = None, samples: int = 0
    ) -> Iterate:
        """The same, from the parts."""
        form = self.form
        policy = Policy.from_occupancy(self.problem.mdp.pairs, occupancy)
        multipliers = to_multipliers(form, form.limits.feasible_prices(prices))
        values = form.sign * form.scale * values
        return Iterate(policy, values, multipliers=multipliers, samples=samples, state=state)


def normalized(logarithms: FloatArray) -> FloatArray:
    """Logarithms of a distribution from those of weights."""
    shifted = logarithms - logarithms.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
