"""The saddle point of the linear program from samples: stochastic mirror descent with a generative model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from occlp._typing import AnyArray, FloatArray
from occlp.arguments import check_count, check_positive
from occlp.problem import Problem
from occlp.solvers.base import Iterate, Start
from occlp.solvers.resuming import Saved, carried, fingerprint
from occlp.solvers.saddle_point import Average, FirstOrder, Point, Program, normalized
from occlp.standard import StandardForm


@dataclass(frozen=True, repr=False)
class SampledSaddlePoint(FirstOrder):
    """Stochastic mirror descent on the saddle point, from single transitions of a generative model.

    A step draws `batch` pairs from the occupancy reached and as many uniformly, with one transition of each.

    Parameters
    ----------
    batch : int
        Transitions of each of the two kinds for one step.
    steps : int
        T, which the step sizes are chosen for; the run ends after it.
    step_scale : float
        Multiple of the step sizes that make the bound below smallest; c multiplies the bound by (c + 1/c)/2, and
        often makes runs better.
    value_bound : float, optional
        M, as a multiple of the range of the rewards: values stay in the box [−M, M]. Default: 1/(2(1 − γ)), which no
        policy exceeds up to a constant; twice that with constraints. Under the average criterion it must be given,
        half the range of the relative values at least.

    Notes
    -----
    With rewards of range R, n pairs, S states and m = `batch`, without constraints,

        E[best bound − objective] ≤ 2M√(2S/T) + 4 (R + 2M) √((n/m + 1) log n / T)

    for the averages, c = 1 and T ≥ n² log n: the regret of both players against gradients of squared length at most 2
    and of squared local norm at most (n/m + 1)(R + 2M)² on average, each counted twice for the noise (Nemirovski,
    Juditsky, Lan and Shapiro 2009, section 3). Estimators and box are those of Wang (2017) and of Jin and Sidford
    (2020).

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair", discount=0.5)
    >>> result = oc.solve(mdp, oc.SampledSaddlePoint(steps=2000), rng=0)
    >>> result.samples, bool(result.gap < 0.2)
    (128000, True)
    """

    batch: int = 32
    steps: int = 5000
    step_scale: float = 3.0
    value_bound: float | None = None

    def __post_init__(self) -> None:
        check_count("batch", self.batch)
        check_count("steps", self.steps)
        check_positive("step_scale", self.step_scale)
        if self.value_bound is not None:
            check_positive("value_bound", self.value_bound)

    @property
    def is_sampled(self) -> bool:
        """True: a comparison repeats runs with several seeds."""
        return True

    def unsupported(self, problem: Problem) -> str | None:
        """Return why the problem cannot be answered, or None."""
        if problem.criterion == "average" and self.value_bound is None:
            return "under the average criterion nothing bounds the relative values beforehand; give value_bound="
        return super().unsupported(problem)

    def iterate(
        self, problem: Problem, *, tol: float, rng: np.random.Generator, start: Start = None
    ) -> Iterator[Iterate]:
        """Yield the start and then the averages after each step."""
        program = Program(problem)
        form = program.form
        limits = len(form.limits.names)
        multiple = self.value_bound or (2.0 if limits else 1.0) / (2.0 * form.rest)
        box = multiple * (form.reward_range or 1.0)
        game = _Game(form, self.batch)
        value_step, mass_step = self.step_sizes(form, box)
        resumed, settings = carried(self, problem, start), fingerprint(self)
        if resumed is not None:
            point, average = resumed
        else:
            point = program.first(start)
            average = Average.begin(point)
            yield program.show(point)
        for taken in range(1, self.steps + 1):
            average = average.join(point)
            slopes, excess, gains = game.draw(point, rng)
            point = Point(
                np.clip(point.values - value_step * slopes, -box, box),
                form.limits.feasible_prices(point.prices + value_step * excess),
                normalized(point.logarithms + mass_step * gains),
            )
            state = Saved(settings, (point, average))
            yield program.show(average.point, state, samples=2 * self.batch * taken)

    def step_sizes(self, form: StandardForm, box: float) -> tuple[float, float]:
        """Of values and prices, and of the log-occupancy; no single step of the latter exceeds 1."""
        n, limits = form.n_pairs, len(form.limits.names)
        value_step = box * np.sqrt(form.n_states / ((2.0 + limits) * self.steps))
        largest = form.reward_range + 2.0 * box
        mass_step = np.sqrt(np.log(n) / ((n / self.batch + 1.0) * self.steps)) / largest
        return self.step_scale * value_step, min(self.step_scale * mass_step, self.batch / (n * largest))


class _Game:
    """Unbiased estimates of both gradients of the saddle function from single transitions."""

    def __init__(self, form: StandardForm, batch: int) -> None:
        self.form, self.batch = form, batch
        self.ends = np.cumsum(form.transitions.data)
        self.begins = np.concatenate([[0.0], self.ends])[form.transitions.indptr]
        self.starts = np.cumsum(form.initial)

    def draw(self, point: Point, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray]:
        """∂L/∂V [S], −∂L/∂y [k] and ∂L/∂d [pairs], each right on average."""
        form, m = self.form, self.batch
        taken = _pick(np.cumsum(point.occupancy), rng.random(m))
        reached, initial = self._follow(taken, rng), _pick(self.starts, rng.random(m))
        slopes = form.rest * self._count(initial) + form.discount * self._count(reached)
        slopes = slopes - self._count(form.states[taken])
        excess = np.asarray(form.limits.rows[:, taken].sum(axis=1) / m)
        looked = rng.integers(0, form.n_pairs, m)
        after, values = self._follow(looked, rng), point.values
        earned = form.rewards[looked] - point.prices @ form.limits.rows[:, looked]
        earned = earned + form.discount * values[after] - values[form.states[looked]]
        gains = np.bincount(looked, earned, minlength=form.n_pairs) * (form.n_pairs / m)
        return slopes, excess, np.asarray(gains, dtype=np.float64)

    def _follow(self, taken: AnyArray, rng: np.random.Generator) -> AnyArray:
        """One next state for each pair."""
        matrix = self.form.transitions
        low, high = self.begins[taken], self.begins[taken + 1]
        entries = np.searchsorted(self.ends, low + rng.random(len(taken)) * (high - low), side="right")
        return np.asarray(matrix.indices[np.clip(entries, matrix.indptr[taken], matrix.indptr[taken + 1] - 1)])

    def _count(self, states: AnyArray) -> FloatArray:
        return np.bincount(states, minlength=self.form.n_states) / self.batch


def _pick(ends: FloatArray, chances: FloatArray) -> AnyArray:
    """Positions with probabilities whose sums are `ends`."""
    return np.asarray(np.minimum(np.searchsorted(ends, chances * ends[-1], side="right"), len(ends) - 1))
