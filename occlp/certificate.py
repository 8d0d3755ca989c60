"""Certificates: how far a returned policy is from the best possible, from model and policy alone.

For any values V (docs/conventions.md, section 6), with ρ = r + γPV − V:

* no policy earns more than ``(1 − γ) μ0·V + bound(ρ)``, where bound is the maximum over the pairs
  for a linear objective and the log-sum-exp of `regularizers.KLTerm.bound` with a KL term;
* a policy π earns at least ``(1 − γ) μ0·V + min over states of Σ_a π ρ``.

No solver is believed: its values are only one candidate for V.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from occlp._typing import FloatArray, frozen
from occlp.bounds.upper import UpperBound
from occlp.evaluation import Assessment
from occlp.plain import plain_array, plain_number, plain_table, read_json
from occlp.problem import Problem
from occlp.proof import ExactProof
from occlp.standard import StandardForm
from occlp.terms import Majorant, Utility

#: Arithmetic that a certificate may be made in.
LEVELS = ("float", "interval", "exact")
#: What a lower bound lacks counts as rounding up to this share of the spread.
MOST_ROUNDING = 1e-7
#: Fields of a certificate that are numbers, and those that are lists of numbers.
_NUMBERS = ("lower", "upper", "gap", "rounding", "size", "spread", "shift", "violation")
_ARRAYS = (
    "values", "values_low", "policy_values", "policy_values_low", "reduced_costs", "dual", "gain_values",
    "policy_gain_values",
)  # fmt: skip


class _Fingerprint:
    """A text. Where the problem is given in its place, it is computed when it is first asked for: it reads the model.

    Until then the problem is held on to; what is saved and sent is the text.
    """

    def __get__(self, certificate: Certificate | None, kind: type | None = None) -> str:
        if certificate is None:
            raise AttributeError("a certificate has no fingerprint but its own")
        known: str | Problem = vars(certificate)["fingerprint"]
        if isinstance(known, Problem):
            known = vars(certificate)["fingerprint"] = known.fingerprint
        return known

    def __set__(self, certificate: Certificate, given: str | Problem) -> None:
        vars(certificate)["fingerprint"] = given


@dataclass(frozen=True, eq=False, kw_only=True)
class Certificate:
    """Proof of how good a policy is: plain data that `occlp.verify` checks without any solver.

    All numbers are in the user's units and sense, normalised scale.

    Attributes
    ----------
    lower, upper : float
        They enclose the optimum; the returned policy attains ``lower`` when maximising, ``upper``
        when minimising. Rounding is accounted for.
    gap : float
        ``upper − lower``, computed before the offset of the rewards is added back.
    violation : float
        By how much the policy breaks a constraint; 0 without constraints.
    rounding : float
        The part of the gap that the arithmetic itself may have caused.
    size : float
        What the tolerance is relative to: min(spread, max(|lower|, |upper|)); the spread with a utility, the larger
        end of a total. A regularizer that takes the objective further from `shift` than the spread counts by that
        distance.
    spread : float
        The range of the rewards (the strength of a regularizer where they are constant), to which
        tolerances refer.
    shift : float
        An offset common to all rewards; `values` belong to the rewards less this offset.
    values, values_low : FloatArray [S]
        V = values + values_low, proving the bound on every policy (relative values: V + c is as good).
    policy_values, policy_values_low : FloatArray [S]
        The same for the returned policy, proving what it attains.
    gain_values, policy_gain_values : FloatArray [S]
        Averages that depend on the start: G ≥ PG on all pairs, g ≤ Pg under the policy (less the offset); else empty.
    multipliers : mapping of str to float
        Prices of the constraints: improvement of the objective per unit by which a bound is relaxed.
    sensitivity : mapping of str to float
        Signed derivative of the objective with respect to each bound.
    dual : FloatArray
        Parameter of the bound of a utility (its affine majorant), empty where there is none.
    majorants : mapping of str to Majorant
        For each constraint on a concave utility that has a price, an affine function slope·d + offset that is
        nowhere below the utility: the linear limit that the bound needs of it.
    infeasible_by : float or None
        Where set, the certificate proves that no policy keeps the constraints: weighted with the
        multipliers, their violation is at least this much under every policy.
    unending : bool
        Total criterion: whether the claim is that the total has no bound, since the policy earns for ever in a
        class that it reaches.
    reduced_costs : FloatArray [pairs]
        By how much each pair falls short of the best; 0 on optimal pairs, NaN for objectives with a term.
    fingerprint : str
        SHA-256 of the problem's numbers.
    level : {"float", "interval", "exact"}
        Arithmetic of the bounds: doubles with their rounding bounded, intervals, or fractions.
    proof : ExactProof or None
        The optimum as a fraction and what proves it, where ``level`` is "exact".
    assumptions : tuple of str
        What the proof takes for granted.
    """

    lower: float
    upper: float
    gap: float
    rounding: float
    size: float
    spread: float
    shift: float
    values: FloatArray  # [S]
    values_low: FloatArray  # [S]
    policy_values: FloatArray  # [S]
    policy_values_low: FloatArray  # [S]
    reduced_costs: FloatArray  # [pairs]
    fingerprint: _Fingerprint = _Fingerprint()
    violation: float = 0.0
    multipliers: Mapping[str, float] = field(default_factory=dict)
    sensitivity: Mapping[str, float] = field(default_factory=dict)
    infeasible_by: float | None = None
    unending: bool = False
    dual: FloatArray = field(default_factory=lambda: np.zeros(0))
    level: Literal["float", "interval", "exact"] = "float"
    proof: ExactProof | None = None
    majorants: Mapping[str, Majorant] = field(default_factory=dict)
    gain_values: FloatArray = field(default_factory=lambda: np.zeros(0))
    policy_gain_values: FloatArray = field(default_factory=lambda: np.zeros(0))
    assumptions: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """What is saved and sent: plain data, without the model."""
        return vars(self) | {"fingerprint": self.fingerprint}

    def __str__(self) -> str:
        """What is proved, in a few lines."""
        if self.infeasible_by is not None:
            what = f"no policy keeps the constraints: weighted, they are broken by {self.infeasible_by:.6g} at least"
        elif self.unending:
            what = "the total has no bound: the policy earns for ever in a class that it reaches"
        elif self.optimum is not None:
            what = f"the optimum is {self.optimum}"
        else:
            what = f"the optimum lies between {self.lower:.12g} and {self.upper:.12g}; gap {self.gap:.3g}"
            what += f", of which rounding may be {self.rounding:.1g}"
        lines = [f"Certificate ({self.level}): {what}"]
        if self.violation > 0:
            lines.append(f"the policy breaks a constraint by {self.violation:.3g}")
        prices = [f"{name} {price:.6g}" for name, price in self.multipliers.items()]
        lines += [f"prices: {', '.join(prices)}"] if prices else []
        lines += [f"assuming: {', '.join(self.assumptions)}"] if self.assumptions else []
        return "\n  ".join([*lines, f"problem {self.fingerprint[:12]}"])

    @property
    def exact(self) -> bool:
        """Whether the optimum is known as a fraction; ``lower`` and ``upper`` are then the doubles next to it."""
        return self.level == "exact"

    @property
    def optimum(self) -> Fraction | None:
        """The optimum as a fraction, where it is known."""
        return None if self.proof is None else self.proof.optimum

    def allowed_gap(self, tol: float, atol: float = 0.0) -> float:
        """Largest gap that counts as certified: tol · size + atol.

        Not below the rounding of the bounds, as long as that is within tol · spread.
        """
        return allowed_gap(self.size, self.spread, self.rounding, tol, atol)

    def to_json(self) -> str:
        """Write the certificate as one JSON object; numbers keep every digit."""
        state = self.__getstate__()
        plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in state.items()}
        plain |= {"multipliers": dict(self.multipliers), "sensitivity": dict(self.sensitivity)}
        plain |= {"proof": None if self.proof is None else self.proof.to_plain()}
        plain["majorants"] = {name: majorant.to_plain() for name, majorant in self.majorants.items()}
        plain |= {"format": "occlp-certificate", "version": 1}
        return json.dumps(plain)

    @classmethod
    def from_json(cls, text: str) -> Certificate:
        """Read a certificate written by `to_json`; raises ValueError for anything else."""
        plain: dict[str, Any] = read_json(text)
        if not isinstance(plain, dict) or plain.pop("format", None) != "occlp-certificate":
            raise ValueError("this is not an occlp certificate.")
        version = plain.pop("version", None)
        if version != 1:
            raise ValueError(f"certificate version {version!r} is unknown; this occlp reads version 1.")
        try:
            plain |= {name: plain_number(plain[name], name) for name in _NUMBERS}
            plain |= {name: plain_table(plain[name], name) for name in ("multipliers", "sensitivity")}
            plain |= {name: frozen(plain_array(plain[name], name)) for name in _ARRAYS}
            short, proof = plain["infeasible_by"], plain["proof"]
            plain["infeasible_by"] = None if short is None else plain_number(short, "infeasible_by")
            plain["proof"] = None if proof is None else ExactProof.from_plain(proof)
            plain["majorants"] = {name: Majorant.from_plain(m) for name, m in plain["majorants"].items()}
            plain["assumptions"] = tuple(map(str, plain["assumptions"]))
            words = plain["level"] in LEVELS and isinstance(plain["fingerprint"], str)
            if not words or not isinstance(plain["unending"], bool):
                raise TypeError(f"level is one of {', '.join(LEVELS)}, fingerprint a text, unending true or false")
            return cls(**plain)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"the certificate is incomplete or altered: {error}.") from None


def tolerance_size(form: StandardForm, ends: tuple[float, float], *, total: bool = False) -> float:
    """Return what a tolerance is relative to, in the user's units (docs/conventions.md, section 7)."""
    if total:
        return max((abs(end) for end in ends if math.isfinite(end)), default=0.0)
    spread = form.scale * form.spread
    if form.term is not None and form.reward_range == 0:
        return spread  # the natural optimum of a distance is zero
    # Without a term no objective is further from the offset than the spread; a strong term may lead far away.
    finite = [end for end in ends if math.isfinite(end)]
    away = min((abs(form.scale * form.from_user(end)) for end in finite), default=0.0)
    return min(max(spread, away), max(abs(end) for end in ends))


def allowed_gap(size: float, spread: float, rounding: float, tol: float, atol: float) -> float:
    """Return the gap that counts as certified (docs/conventions.md, section 7)."""
    return max(tol * size, min(rounding, tol * spread) if spread > 0 else rounding) + atol


def slack_of(objective: float, lower: float) -> float:
    """How far a rigorous lower bound is below the objective; 0 where that is −inf."""
    return objective - lower if np.isfinite(lower) else 0.0


def rounding_of(form: StandardForm, lower_slack: float, upper: UpperBound) -> float:
    """The part of a gap that rounding may have caused, in the user's units.

    Values that are right to the last digit leave residuals of the size of their rounding at either end. A lower end
    that is much farther away was not found: no rounding excuses that.
    """
    if form.term is None and form.spread > 0:
        lower_slack = min(lower_slack, MOST_ROUNDING * form.spread)
    return form.scale * 4.0 * (upper.rounding + lower_slack)


def to_multipliers(form: StandardForm, prices: FloatArray) -> dict[str, float]:
    """Prices in the user's units: improvement of the objective per unit by which a bound is relaxed."""
    if not form.names:
        return {}
    values = prices * form.scale / form.units + 0.0
    return dict(zip(form.names, map(float, values), strict=True))


def to_sensitivity(form: StandardForm, multipliers: Mapping[str, float]) -> dict[str, float]:
    """Signed derivatives d(objective) / d(bound): raising the bound of ≤ relaxes it, raising that of ≥ tightens it."""
    return {
        name: float(form.sign * sign * multipliers[name]) + 0.0
        for name, sign in zip(form.names, form.signs, strict=True)
    }


def to_prices(form: StandardForm, multipliers: Mapping[str, float]) -> FloatArray:
    """Multipliers back to prices, [k]; missing ones are zero, numbers that are not finite too."""
    values = np.array([float(multipliers.get(name, 0.0)) for name in form.names])
    return np.where(np.isfinite(values), values, 0.0) * form.units / form.scale


def gained_by(form: StandardForm, prices: FloatArray, occupancy: FloatArray) -> float:
    """What breaking constraints has gained an occupancy, at these prices."""
    if not len(prices):
        return 0.0
    excess = form.excess(occupancy)
    return float(np.abs(prices[prices != 0]) @ excess[prices != 0])


def certify(problem: Problem, form: StandardForm, found: Assessment, upper: UpperBound, *, kept: bool) -> Certificate:
    """Put the bounds of a policy and of all policies together, in the user's units.

    A policy that breaks a constraint (`kept` is false) proves nothing about the optimum: its end is infinite.
    """
    factor = form.sign * form.scale
    high, low = upper.values
    zero = np.zeros_like(high)
    # What a violation within the tolerance has gained is taken off again, at the prices known.
    lower = found.lower - gained_by(form, upper.prices, found.pair_occupancy) if kept else -np.inf
    ends = form.to_user(lower), form.to_user(upper.value)
    # Adding the offset back rounds, as reading it did: both ends are moved outwards.
    largest = max([abs(form.shift), *(abs(end) for end in ends if np.isfinite(end))])
    outward = 0.0 if form.shift == 0 else 2.0 * float(np.spacing(largest))
    gap = form.scale * (upper.value - lower)
    short = upper.scores.max() - upper.scores
    short *= form.scale
    return Certificate(
        lower=float(min(ends) - outward),
        upper=float(max(ends) + outward),
        gap=float(max(gap, 0.0)),
        rounding=float(rounding_of(form, slack_of(found.objective, found.lower), upper)),
        size=float(tolerance_size(form, ends)),
        spread=form.scale * form.spread,
        shift=form.sign * form.shift,
        values=frozen(factor * high),
        values_low=frozen(factor * (zero if low is None else low)),
        policy_values=frozen(factor * found.bracket.high),
        policy_values_low=frozen(factor * found.bracket.low),
        reduced_costs=frozen(short if form.term is None else np.full_like(short, np.nan)),
        fingerprint=problem,
        violation=form.violation(found.pair_occupancy),
        multipliers=to_multipliers(form, upper.prices),
        sensitivity=to_sensitivity(form, to_multipliers(form, upper.prices)),
        dual=frozen(np.zeros(0) if upper.dual is None else upper.dual),
        majorants=upper.majorants,
        gain_values=frozen(np.zeros(0) if upper.gain is None else factor * upper.gain),
        policy_gain_values=frozen(np.zeros(0) if found.bracket.gain is None else factor * found.bracket.gain),
        assumptions=_assumptions(problem),
    )


def _assumptions(problem: Problem) -> tuple[str, ...]:
    return ("double precision, rounding bounded", *trusted(problem))


def trusted(problem: Problem) -> tuple[str, ...]:
    """What is taken for granted of the functions of the user."""
    assumed = []
    if isinstance(problem.utility, Utility):
        assumed.append("the utility is concave, as declared to cvxpy, and its majorant is as stored")
    for name, limit in problem.concave_limits.items():
        if isinstance(limit.utility, Utility):
            assumed.append(f"the utility of constraint {name!r} is concave, its majorant and its value are as stored")
    return tuple(assumed)


def certify_infeasible(problem: Problem, form: StandardForm, found: Assessment, upper: UpperBound) -> Certificate:
    """Write down the proof that no policy keeps the constraints.

    `upper` bounds minus the priced violation over all policies, with the rewards left out.
    """
    high, low = upper.values
    weights = upper.prices / form.units
    return Certificate(
        lower=np.nan,
        upper=np.nan,
        gap=np.inf,
        rounding=2.0 * upper.rounding,
        size=form.scale * form.spread,
        spread=form.scale * form.spread,
        shift=0.0,
        values=frozen(np.array(high)),
        values_low=frozen(np.zeros_like(high) if low is None else np.array(low)),
        policy_values=frozen(found.bracket.high),
        policy_values_low=frozen(found.bracket.low),
        reduced_costs=frozen(upper.scores.max() - upper.scores),
        fingerprint=problem,
        violation=form.violation(found.pair_occupancy),
        multipliers=dict(zip(form.names, map(float, weights), strict=True)),
        infeasible_by=-upper.value,
        majorants=upper.majorants,
        assumptions=_assumptions(problem),
    )
