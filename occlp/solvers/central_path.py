"""A primal-dual interior-point method for lifted occupancy programs.

Minimise φ(x) over x ≥ 0 with A x − ψ(x) = b, columns with a target capped. The optimality conditions are
∇φ(x) + (A − ψ')ᵀ y − z + c = 0, the rows, and x z = μ, (caps − x) c = μ with μ → 0; y holds the values and the
prices. Each step is one factorisation of the flow rows' normal matrix, in which entropies are blocks of a diagonal,
and one Schur complement for the few other rows. Sources: Mehrotra (1992); Andersen and Ye (1998) for entropies;
Wright (1997) for normal equations; Gondzio (1996) for steps that stay central.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from occlp._typing import FloatArray
from occlp.parallel import inner_product
from occlp.solvers.block_curvature import BlockCurvature
from occlp.solvers.lifted_program import Curve, LiftedProgram
from occlp.solvers.normal_equations import NormalEquations, Solve, bordered

#: Steps before the method gives up.
MOST_STEPS = 200
#: Share of the way to the boundary that a step may go.
SHORT_OF_BOUNDARY = 0.99
#: Steps in which what is missing does not become less, after which it will not.
PATIENCE = 8
#: What may be missing from optimality, objectives having size one.
ENOUGH = 1e-15
#: Share of that to which complementarity is taken at most: beyond it, curvatures have no digits.
LEAST_CENTRE = 0.1
#: Masses that the start has at least, as a share of even ones.
LEAST_START = 1e-6
#: Corrections of a step that keep its end central: how many, from steps of which length on none, how far ahead they
#: look, and by how much they have to lengthen the step.
CENTRINGS, LONG, REACH, LEAST_GAIN = 3, 0.95, 0.2, 0.04
#: Products of a pair of variables that count as central, in those at the centre.
NEAREST, FARTHEST = 0.1, 10.0
#: Variables that stay positive.
PRIMAL, DUAL = ("x", "room"), ("z", "c")
#: Times that a point that is shown is corrected for them.
SETTLINGS = 2
#: Times that a step is corrected for the digits of its rows, what they may lack in all, and as a share of what the
#: point lacks.
CORRECTIONS, EXACT, EXACT_ENOUGH = 8, 1e-15, 1e-3


@dataclass(frozen=True, eq=False)
class Point:
    """Primal and dual variables, and what they lack."""

    x: FloatArray  # [columns + others]
    y: FloatArray  # [flow rows + rows]
    z: FloatArray  # [columns + others]
    room: FloatArray  # [capped columns], below the caps
    c: FloatArray  # [capped columns]

    def moved(self, lengths: tuple[float, float], step: Point) -> Point:
        """The point after a step of these lengths, primal and dual."""
        primal = {name: getattr(self, name) + lengths[0] * getattr(step, name) for name in PRIMAL}
        dual = {name: getattr(self, name) + lengths[1] * getattr(step, name) for name in ("y", *DUAL)}
        return Point(**primal, **dual)

    def longest(self, step: Point, *, alike: bool) -> tuple[float, float]:
        """How far a step may go before something reaches zero, primal and dual; at most 1."""
        lengths = []
        for names in (PRIMAL, DUAL):
            falling = 1.0
            for name in names:
                falling = max(falling, float((-getattr(step, name) / getattr(self, name)).max(initial=0.0)))
            lengths.append(1.0 / falling)
        return (min(lengths), min(lengths)) if alike else (lengths[0], lengths[1])

    @property
    def gap(self) -> float:
        """What complementarity lacks."""
        return float(inner_product(self.x, self.z) + inner_product(self.room, self.c))

    @property
    def is_finite(self) -> bool:
        """Whether all of it are numbers."""
        return all(bool(np.isfinite(part).all()) for part in vars(self).values())


@dataclass(frozen=True, eq=False)
class _Linearised:
    """The program at a point."""

    rows: FloatArray  # [rows, columns + others], with the slopes of the curved ones
    slope: FloatArray  # [columns + others], of what is minimised
    missing: FloatArray  # [flow rows + rows]
    bend: FloatArray  # [pairs], second derivative of the Lagrangian
    within: FloatArray  # [states]
    others: FloatArray  # [others]


class CentralPath:
    """The way to the optimum of a program."""

    def __init__(self, program: LiftedProgram, equations: NormalEquations, start: FloatArray) -> None:
        self.program, self.equations = program, equations
        self.n, self.n_flow, self.n_pairs = program.n_columns, equations.n, len(program.pairs)
        self.is_curved = bool(program.curve or program.row_curves or program.logs.any() or program.row_logs.any())
        self.point = self._start(start)

    def steps(self) -> Iterator[float]:
        """Step until nothing is missing or it does not become less; yields what is, and leaves the best point."""
        best, kept, idle = np.inf, self.point, 0
        with np.errstate(all="ignore"):  # steps that are no numbers are not taken
            for _ in range(MOST_STEPS):
                here = self._linearise(self.point)
                residual = here.slope + self._transposed(here, self.point.y) - self.point.z
                residual[self.n_pairs : self.n] += self.point.c
                lacking = self._lacking(residual, here.missing)
                idle = 0 if lacking < 0.9 * best else idle + 1
                if lacking < best:
                    best, kept = lacking, self.point
                if best <= ENOUGH or idle > PATIENCE:
                    break
                yield best
                try:
                    step = self._step(here, residual, max(EXACT, EXACT_ENOUGH * lacking))
                except (RuntimeError, np.linalg.LinAlgError):  # the equations are singular, or no numbers
                    break
                if not step.is_finite:
                    break
                first, second = self.point.longest(step, alike=self.is_curved)
                self.point = self.point.moved((SHORT_OF_BOUNDARY * first, SHORT_OF_BOUNDARY * second), step)
        self.point = kept
        yield best

    def settled(self) -> Point:
        """The point with its masses changed in proportion to themselves, so that the rows have their last digits.

        Steps follow the curvature, which near a vertex is too uneven for that.
        """
        point = self.point
        for _ in range(SETTLINGS):
            here, x = self._linearise(point), point.x
            blocks = BlockCurvature(
                x[: self.n], self.program.pair_of, np.zeros(self.n_pairs),
                firsts=self.equations.firsts, within=np.zeros(len(self.equations.firsts)),
            )  # fmt: skip
            try:
                dual = self._solver(here, blocks, 1.0 / x)(here.missing)
            except (RuntimeError, np.linalg.LinAlgError):
                break
            change = -x * self._transposed(here, dual)
            room = point.room - change[self.n_pairs : self.n]
            if not (np.abs(change) <= 0.5 * x).all() or not (room > 0).all():
                break
            point = replace(point, x=x + change, room=room)
        return point

    def _lacking(self, residual: FloatArray, missing: FloatArray) -> float:
        """What falls short of the optimum: pairs count by their mass, prices make rows dear."""
        dear = 1.0 + float(np.abs(self.point.y[self.n_flow :]).max())
        short = self.point.gap + float(inner_product(self.point.x, np.abs(residual)))
        return short / dear + float(np.abs(missing).max())

    def _start(self, occupancy: FloatArray) -> Point:
        """Near an occupancy [pairs], in the interior."""
        program, split = self.program, self.program.pair_of[self.n_pairs :]
        mass = np.maximum(occupancy, LEAST_START / self.n_pairs)
        mass /= mass.sum()
        capped = 0.5 * np.minimum(mass[split], program.caps)
        mass[split] -= capped
        columns = np.concatenate([mass, capped])
        spare = program.right - program.matrix[:, : self.n] @ columns
        others = np.full(len(program.logs), 0.1)
        for k, column in enumerate(program.matrix[:, self.n :].T):
            row = int(np.argmax(np.abs(column)))
            others[k] = max(float(column[row] * spare[row]), 0.1)
        x = np.concatenate([columns, others])
        margin = 1.0
        y = np.zeros(self.n_flow + len(program.right))
        room = program.caps - capped
        point = Point(x, y, np.full(len(x), margin), room, np.full(len(room), margin))
        here = self._linearise(point)
        y[self.n_flow] = max(0.0, margin - float(here.slope[: self.n].min()))
        z = np.maximum(here.slope + self._transposed(here, y), margin)
        z[self.n :] = float(inner_product(x[: self.n], z[: self.n])) / self.n / others  # as central as the columns
        return Point(x, y, z, room, np.full(len(room), margin))

    def _masses(self, x: FloatArray) -> FloatArray:
        """Mass of each kept pair, [pairs]."""
        mass: FloatArray = x[: self.n_pairs].copy()
        mass[self.program.pair_of[self.n_pairs :]] += x[self.n_pairs : self.n]
        return mass

    def _linearise(self, point: Point) -> _Linearised:
        program, states = self.program, len(self.equations.firsts)
        others, y = point.x[self.n :], point.y[self.n_flow :]
        mass = self._masses(point.x)
        whole = np.zeros(program.form.n_pairs)
        whole[program.pairs] = mass
        slope, bend, within = program.costs.copy(), np.zeros(self.n_pairs), np.zeros(states)
        slope[self.n :] -= program.logs / others
        rows, missing = program.matrix.copy(), program.matrix @ point.x - program.right
        rows[:, self.n :] -= program.row_logs / others
        missing -= program.row_logs @ np.log(others)
        weights = np.maximum(y, 0.0)
        curves = [] if program.curve is None else [(-1, program.curve)]
        for row, curve in [*curves, *program.row_curves.items()]:
            gradient = curve.factor * curve.term.gradient(whole)[program.pairs][program.pair_of]
            if row < 0:
                slope[: self.n] -= gradient
                weight = 1.0
            else:
                rows[row, : self.n] -= gradient
                missing[row] -= curve.factor * curve.term.value(whole)
                weight = weights[row]
            self._bend(curve, weight, whole, bend, within)
        curvature = (program.logs + weights @ program.row_logs) / others**2
        flowing = self.equations.flow @ mass - self.equations.source
        return _Linearised(rows, slope, np.append(flowing, missing), bend, within, curvature)

    def _bend(self, curve: Curve, weight: float, whole: FloatArray, bend: FloatArray, within: FloatArray) -> None:
        """Add the second derivative of a curve to blocks."""
        diagonal, common = curve.term.blocks(whole)
        bend += weight * curve.factor * diagonal[self.program.pairs]
        if len(common):
            kept = self.program.form.states[self.program.pairs[self.equations.firsts]]
            within += weight * curve.factor * common[kept]

    def _transposed(self, here: _Linearised, y: FloatArray) -> FloatArray:
        found: FloatArray = y[self.n_flow :] @ here.rows
        found[: self.n] += (self.equations.transposed @ y[: self.n_flow])[self.program.pair_of]
        return found

    def _times(self, here: _Linearised, x: FloatArray) -> FloatArray:
        return np.append(self.equations.flow @ self._masses(x), here.rows @ x)

    def _step(self, here: _Linearised, residual: FloatArray, exact: float) -> Point:
        """A step with one factorisation, whose rows lack no more than what is exact enough."""
        point, capped = self.point, slice(self.n_pairs, self.n)
        pull = point.z / point.x
        pull[capped] += point.c / point.room
        pull[self.n :] += here.others
        blocks = BlockCurvature(
            1.0 / pull[: self.n], self.program.pair_of, here.bend, firsts=self.equations.firsts, within=here.within
        )
        solve = self._solver(here, blocks, pull)

        def give(force: FloatArray) -> FloatArray:
            return np.append(blocks.solve(force[: self.n]), force[self.n :] / pull[self.n :])

        def direction(target: FloatArray, target_caps: FloatArray) -> Point:
            force = target / point.x - residual
            force[capped] -= target_caps / point.room
            dual, primal, last = np.zeros(len(here.missing)), give(force), np.inf
            for _ in range(CORRECTIONS):
                lack = self._times(here, primal) + here.missing
                size = float(np.abs(lack).sum())
                if not exact < size < 0.5 * last:
                    break
                last = size
                dual = dual + solve(lack)
                primal = give(force - self._transposed(here, dual))
            change = primal[capped]
            return Point(
                primal,
                dual,
                (target - point.z * primal) / point.x,
                -change,
                (target_caps + point.c * change) / point.room,
            )

        return self._central(direction)

    def _central(self, direction: Callable[[FloatArray, FloatArray], Point]) -> Point:
        """The step whose end is central, from the directions for given products."""
        point = self.point
        gaps, cap_gaps = point.x * point.z, point.room * point.c
        affine = direction(-gaps, -cap_gaps)
        left = point.moved(point.longest(affine, alike=self.is_curved), affine).gap / point.gap
        centre = max(left**3 * point.gap, LEAST_CENTRE * ENOUGH) / (len(gaps) + len(cap_gaps))
        targets = centre - gaps - affine.x * affine.z, centre - cap_gaps - affine.room * affine.c
        step = direction(*targets)
        lengths = point.longest(step, alike=self.is_curved)
        for _ in range(CENTRINGS):
            if min(lengths) >= LONG:
                break
            ahead = point.moved((min(1.0, lengths[0] + REACH), min(1.0, lengths[1] + REACH)), step)
            targets = (
                targets[0] + _recentred(ahead.x * ahead.z, centre),
                targets[1] + _recentred(ahead.room * ahead.c, centre),
            )
            better = direction(*targets)
            longer = point.longest(better, alike=self.is_curved)
            if not sum(longer) >= sum(lengths) + LEAST_GAIN:
                break
            step, lengths = better, longer
        return step

    def _solver(self, here: _Linearised, blocks: BlockCurvature, pull: FloatArray) -> Solve:
        """Solver of the normal equations."""
        equations, rows = self.equations, here.rows[:, : self.n]
        given = np.array([blocks.solve(row) for row in rows])
        masses = np.array([blocks.by_pair(row) for row in given])
        corner = given @ rows.T + (here.rows[:, self.n :] / pull[self.n :]) @ here.rows[:, self.n :].T
        factored = (
            equations.joint(blocks.weights, blocks.means) if equations.joined else equations.single(blocks.weights)
        )
        return bordered(factored, np.asarray(equations.flow @ masses.T), corner)


def _recentred(products: FloatArray, centre: float) -> FloatArray:
    """What takes products that are far from the centre nearer to it."""
    return np.maximum(np.clip(products, NEAREST * centre, FARTHEST * centre) - products, -FARTHEST * centre)
