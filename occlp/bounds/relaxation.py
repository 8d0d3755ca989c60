"""Constraints on concave utilities as linear rows: whoever keeps f(d) ≥ b keeps slope·d + offset ≥ b.

An affine majorant slope·d + offset ≥ f(d) makes a linear row of a concave constraint, so that a bound on the
relaxed question bounds the question itself, for whatever slopes. The best are supergradients at the
optimum: claimed by a solver, taken at an occupancy near it, or what the values and the other prices leave.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from occlp._typing import FloatArray
from occlp.residuals import pair_residuals
from occlp.standard import StandardForm
from occlp.terms import Majorant

#: Values V = high + low; the second array may be None.
Values = tuple[FloatArray, FloatArray | None]
#: Slopes of concave constraints by name, [pairs] each.
Slopes = Mapping[str, FloatArray]
#: A supergradient at the boundary of a domain is infinite; this many sizes of f are as good (e^-700 is nothing).
STEEPEST = 700.0


def relaxations(
    form: StandardForm, values: Values, prices: FloatArray, occupancy: FloatArray, slopes: Slopes | None
) -> Iterator[tuple[StandardForm, dict[str, Majorant]]]:
    """Yield relaxed forms, with a linear row for each concave constraint, and the majorants they are made of.

    Constraints without a price have rows of zeros and no majorant.
    """
    linear = len(form.limits.names)
    priced = [k for k in range(len(form.concave)) if prices[linear + k] > 0]
    chosen = {form.concave[k].name: steepness(form, k, occupancy) for k in priced}
    chosen |= {name: slope for name, slope in (slopes or {}).items() if name in chosen and _sound(form, slope)}
    if not all(np.isfinite(slope).all() for slope in chosen.values()):
        return
    majorants = {
        form.concave[k].name: form.concave[k].term.majorant(chosen[form.concave[k].name], occupancy)
        for k in priced
        if form.term is not None or len(priced) > 1
    }
    if len(majorants) == len(priced):
        yield relaxed(form, majorants), majorants
    for k in priced if form.term is None else []:  # one slope may be what the others leave: then all pairs bind
        name, term = form.concave[k].name, form.concave[k].term
        others = {other: majorant for other, majorant in majorants.items() if other != name}
        high, low = values
        scores, _ = pair_residuals(form, high, low, form.rewards - prices @ relaxed(form, others).limits.rows)
        refined = others | {name: term.majorant((scores.max() - scores) / prices[linear + k], occupancy)}
        yield relaxed(form, refined), refined


def steepness(form: StandardForm, position: int, occupancy: FloatArray) -> FloatArray:
    """A finite supergradient of a concave constraint's function at (or near) an occupancy, [pairs]."""
    term = form.concave[position].term
    steepest = STEEPEST * term.spread
    return np.clip(term.gradient(occupancy), -steepest, steepest)


def relaxed(form: StandardForm, majorants: Mapping[str, Majorant]) -> StandardForm:
    """The form with the row b − offset − slope ≤ 0 in the place of each concave constraint, zeros where no majorant."""
    rows = np.zeros((len(form.concave), form.n_pairs))
    for row, limit in zip(rows, form.concave, strict=True):
        majorant = majorants.get(limit.name)
        if majorant is not None and np.isfinite(majorant.offset):
            row[:] = (limit.bound - majorant.offset) - majorant.slope
    names = tuple(limit.name for limit in form.concave)
    limits = form.limits.extended(names, rows, np.array([limit.term.spread for limit in form.concave]))
    return replace(form, limits=limits, concave=())


def _sound(form: StandardForm, slope: FloatArray) -> bool:
    return np.shape(slope) == (form.n_pairs,) and bool(np.isfinite(slope).all())
