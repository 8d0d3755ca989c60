"""10,000 lies told to the audit: ``python -m benchmarks.lies [--count 10000] [--seed 2024]``.

Each lie takes an honest answer to a small question (`lie_questions`: every kind, every level) and changes one to three
things: numbers, arrays, prices, majorants and fractions of the certificate, its level and what it claims to prove; the
policy and the figures beside it; or the model under it, with the old fingerprint or with that of the changed model,
also by moving the whole answer to another question. What the audit refuses is refused; of what it accepts `lie_truth`
says whether the bounds are true all the same. One line is printed, and the exit status is 1 if a false bound passed.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

import occlp as oc
from benchmarks.lie_questions import QUESTIONS, answers, rebuilt
from benchmarks.lie_truth import Truth
from occlp.errors import AuditFailed, OccupancyError

NUMBERS = ("lower", "upper", "gap", "violation", "shift", "rounding", "size", "spread")
ARRAYS = (
    "values", "values_low", "policy_values", "policy_values_low", "gain_values", "policy_gain_values", "dual",
    "reduced_costs",
)  # fmt: skip
FIGURES = tuple(each.name for each in dataclasses.fields(oc.Evaluation) if each.name not in ("policy", "discount"))


@dataclass(frozen=True)
class Lie:
    """A question, what is told about it, and in words what has been changed."""

    problem: oc.Problem
    told: oc.Result
    words: tuple[str, ...] = ()

    @property
    def moved(self) -> bool:
        """Whether the fingerprint is that of another question."""
        return self.told.certificate.fingerprint != self.problem.fingerprint

    def claiming(self, **claims: Any) -> Lie:
        """The lie with other claims in its certificate."""
        return replace(self, told=replace(self.told, certificate=replace(self.told.certificate, **claims)))

    def about(self, problem: oc.Problem, *, signed: bool) -> Lie:
        """The lie about another question, with its fingerprint where it is signed."""
        told = replace(self, problem=problem)
        return told.claiming(fingerprint=problem.fingerprint) if signed else told


# What is changed ---------------------------------------------------------------------------------------------


def noise(rng: np.random.Generator, least: float = -14) -> float:
    """Something of either sign and of any size from rounding to a hundred."""
    return float(rng.choice([-1, 1]) * 10.0 ** rng.uniform(least, 2))


def other_number(rng: np.random.Generator, value: float) -> float:
    """Another number in the place of one."""
    others = [value + noise(rng), value * (1 + noise(rng)), -value, 0.0, np.nan, np.inf, -np.inf]
    return float(others[rng.choice(7, p=[0.45, 0.35, 0.06, 0.06, 0.03, 0.03, 0.02])])


def other_array(rng: np.random.Generator, given: Any) -> Any:
    """Another array in the place of one: one entry, all, their order, their number."""
    array = np.array(given)
    kind = rng.integers(7)
    if array.size == 0 or kind == 0:
        return np.append(array, np.zeros(1, array.dtype))
    if array.dtype == bool:
        array[rng.integers(array.size)] ^= True
    elif kind == 1:
        array[rng.integers(array.size)] += noise(rng)
    elif kind == 2:
        array = array + noise(rng)
    elif kind == 3:
        array = array * (1 + noise(rng))
    elif kind == 4:
        array = rng.permutation(array)
    elif kind == 5:
        array = array + noise(rng) * rng.normal(size=array.shape)
    else:
        array[rng.integers(array.size)] = rng.choice([np.nan, np.inf, -np.inf])
    return array


def other(rng: np.random.Generator, value: Any) -> Any:
    """Another number, array or table in the place of one."""
    if isinstance(value, np.ndarray):
        return other_array(rng, value)
    if isinstance(value, Mapping):
        key = str(rng.choice(list(value))) if value and rng.random() < 0.95 else "more"
        if rng.random() < 0.1:
            return {name: number for name, number in value.items() if name != key}
        return {**value, key: other_number(rng, value.get(key, 0.0))}
    return abs(noise(rng)) if value is None else other_number(rng, value)


def a_number(rng: np.random.Generator, lie: Lie) -> Lie:
    """One number of the certificate."""
    name = str(rng.choice(NUMBERS))
    return lie.claiming(**{name: other_number(rng, getattr(lie.told.certificate, name))})


def an_array(rng: np.random.Generator, lie: Lie) -> Lie:
    """One array of the certificate."""
    name = str(rng.choice(ARRAYS))
    return lie.claiming(**{name: other_array(rng, getattr(lie.told.certificate, name))})


def prices(rng: np.random.Generator, lie: Lie) -> Lie:
    """The multipliers, or their signs and derivatives, together or alone."""
    claim = lie.told.certificate
    multipliers = other(rng, claim.multipliers)
    if rng.random() < 0.2:
        return lie.claiming(sensitivity=other(rng, claim.sensitivity))
    slopes = {
        name: (slope if multipliers.get(name) == claim.multipliers.get(name) else np.copysign(multipliers[name], slope))
        for name, slope in claim.sensitivity.items()
        if name in multipliers
    }
    return lie.claiming(multipliers=multipliers, sensitivity=slopes if rng.random() < 0.7 else claim.sensitivity)


def tighter_bounds(rng: np.random.Generator, lie: Lie) -> Lie:
    """Bounds that claim more, or less, with a gap and a size that fit."""
    claim, more = lie.told.certificate, noise(rng)
    ends = sorted((claim.lower + more * rng.random(), claim.upper - more * rng.random()))
    finite = [abs(end) for end in ends if np.isfinite(end)]
    size = max(finite, default=0.0) if lie.problem.criterion == "total" else min(claim.spread, max(map(abs, ends)))
    curved = lie.problem.regularizer is not None or lie.problem.utility is not None
    told = lie.claiming(lower=ends[0], upper=ends[1], gap=ends[1] - ends[0], size=claim.size if curved else size)
    middle = replace(told.told, objective=float(np.mean(ends))) if rng.random() < 0.5 else told.told
    return replace(told, told=middle)


def majorants(rng: np.random.Generator, lie: Lie) -> Lie:
    """The affine functions above concave constraints; where there are none, the dual of a utility."""
    known = dict(lie.told.certificate.majorants)
    if not known:
        return lie.claiming(dual=other_array(rng, lie.told.certificate.dual))
    name = str(rng.choice(list(known)))
    part = str(rng.choice(["slope", "offset", "dual"]))
    known[name] = replace(known[name], **{part: other(rng, getattr(known[name], part))})
    return lie.claiming(majorants=known)


def fractions(rng: np.random.Generator, lie: Lie) -> Lie:
    """One fraction of an exact proof; where there is none, the level."""
    proof, size = lie.told.certificate.proof, Fraction(noise(rng, -30))
    if proof is None:
        return lie.claiming(level=str(rng.choice(["float", "interval", "exact"])))
    part = str(rng.choice(["optimum", "values", "multipliers", "occupancy", "gains", "infeasible_by"]))
    known = getattr(proof, part)
    if isinstance(known, Mapping):
        key = list(known)[rng.integers(len(known))] if known else 0
        changed: Any = {**known, key: known.get(key, Fraction(0)) + size}
    elif isinstance(known, tuple):
        listed = [*known] or [Fraction(0)]
        place = rng.integers(len(listed))
        listed[place] = size if listed[place] is None else listed[place] + size
        changed = tuple(listed)
    else:
        changed = size if known is None else known + size
    told = replace(proof, **{part: changed})
    if part == "optimum" and rng.random() < 0.5:
        near = float(changed)
        return lie.claiming(proof=told, lower=near, upper=near)
    return lie.claiming(proof=told if rng.random() < 0.95 else None)


def another_kind_of_claim(rng: np.random.Generator, lie: Lie) -> Lie:
    """That limits cannot be kept, that there is no bound, or neither; infinite ends."""
    claim, sign = lie.told.certificate, 1 if lie.problem.sense == "maximize" else -1
    kind = rng.integers(4)
    if kind == 0:
        return lie.claiming(infeasible_by=None if claim.infeasible_by is not None else abs(noise(rng)))
    if kind == 1:
        return lie.claiming(unending=not claim.unending, lower=sign * np.inf, upper=sign * np.inf, gap=0.0)
    if kind == 2:
        return lie.claiming(unending=not claim.unending)
    end = float(rng.choice([-np.inf, np.inf]))
    return lie.claiming(lower=end, upper=end, gap=float(rng.choice([0.0, np.inf])))


def a_policy(rng: np.random.Generator, lie: Lie) -> Lie:
    """Another policy, near or far; half of the time with all figures that belong to it."""
    mdp, weight = lie.problem.mdp, 10.0 ** rng.uniform(-12, 0)
    drawn = rng.dirichlet(np.ones(mdp.n_pairs)) if rng.random() < 0.7 else rng.integers(2, size=mdp.n_pairs) + 1e-9
    far = oc.Policy.from_occupancy(mdp, drawn / drawn.sum()).pair_probabilities
    mixed = oc.Policy.from_pairs(mdp, (1 - weight) * lie.told.policy.pair_probabilities + weight * far)
    told = replace(lie, told=replace(lie.told, policy=mixed))
    return evaluated(told) if rng.random() < 0.5 else told


def evaluated(lie: Lie) -> Lie:
    """The lie with honest figures of its policy, so that the certificate alone can give it away."""
    found = oc.evaluate(lie.problem, lie.told.policy)
    return replace(lie, told=replace(lie.told, **{name: getattr(found, name) for name in FIGURES}))


def a_figure(rng: np.random.Generator, lie: Lie) -> Lie:
    """One of the figures beside the certificate."""
    name = str(rng.choice([name for name in FIGURES if isinstance(getattr(lie.told, name, None), np.ndarray | float)]))
    return replace(lie, told=replace(lie.told, **{name: other(rng, getattr(lie.told, name))}))


def a_model(rng: np.random.Generator, lie: Lie) -> Lie:
    """Another model or other limits under the answer: rewards, a row, the discount, the start, a bound."""
    problem, mdp = lie.problem, lie.problem.mdp
    kind, size = rng.integers(5), 10.0 ** rng.uniform(-15, 0)
    if kind == 0:
        rewards = np.nan_to_num(other_array(rng, mdp.pair_rewards)[: mdp.n_pairs])
        changed = replace(problem, mdp=rebuilt(mdp, rewards=rewards))
    elif kind == 1:
        rows, pair = mdp.transitions.toarray(), rng.integers(mdp.n_pairs)
        rows[pair] = (1 - size) * rows[pair] + size * rng.dirichlet(np.ones(mdp.n_states))
        changed = replace(problem, mdp=rebuilt(mdp, rows))
    elif kind == 2 and problem.criterion == "discounted":
        discount = float(np.clip(mdp.discount + noise(rng) * 1e-3, 0, 0.9999))
        changed = replace(problem, mdp=mdp.replace(discount=discount))
    elif kind == 3 and problem.constraints:
        name = str(rng.choice(list(problem.constraints)))
        limit = problem.constraints[name]
        moved = replace(limit, exact_bound=limit.exact_bound + Fraction(noise(rng)))
        changed = replace(problem, constraints={**problem.constraints, name: moved})
    else:
        start = (1 - size) * mdp.initial + size * rng.dirichlet(np.ones(mdp.n_states))
        changed = replace(problem, mdp=mdp.replace(initial=start / start.sum()))
    told = lie.about(changed, signed=bool(rng.random() < 0.7))
    return evaluated(told) if rng.random() < 0.6 else told


def another_question(rng: np.random.Generator, lie: Lie) -> Lie:
    """The answer told about another question with as many states and pairs."""
    others = [problem for problem in QUESTIONS.values() if problem is not lie.problem]
    fitting = [problem for problem in others if problem.mdp.pairs.same_as(lie.problem.mdp.pairs)]
    if not fitting:
        return a_model(rng, lie)
    told = lie.about(fitting[rng.integers(len(fitting))], signed=bool(rng.random() < 0.7))
    return evaluated(told) if rng.random() < 0.5 else told


CHANGES: dict[Callable[[np.random.Generator, Lie], Lie], float] = {
    a_number: 0.14, an_array: 0.16, prices: 0.08, tighter_bounds: 0.12, majorants: 0.05, fractions: 0.08,
    another_kind_of_claim: 0.04, a_policy: 0.1, a_figure: 0.06, a_model: 0.12, another_question: 0.05,
}  # fmt: skip


def tell(rng: np.random.Generator, name: str) -> Lie:
    """A lie of one to three changes about a question."""
    honest = answers(name)
    lie = Lie(QUESTIONS[name], honest[rng.integers(len(honest))])
    for change in rng.choice(np.array(list(CHANGES)), size=rng.integers(1, 4), p=list(CHANGES.values())):
        try:
            lie = replace(change(rng, lie), words=(*lie.words, change.__name__))
        except (OccupancyError, ValueError):  # no such model, policy or evaluation: another lie then
            continue
    return lie if lie.words else tell(rng, name)


@cache
def known_truth(name: str) -> Truth:
    """What is true of a question as it stands."""
    return Truth(QUESTIONS[name])


# The score ---------------------------------------------------------------------------------------------------


@dataclass
class Score:
    """How the audit took the lies."""

    refused: int = 0
    true: int = 0
    moved: int = 0  # of those refused: told about another model under the old fingerprint
    remodelled: int = 0  # of those accepted: about another model, where the bounds hold as well
    false: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    @property
    def told(self) -> int:
        """How many lies were told."""
        return self.refused + self.true + len(self.false)

    def __str__(self) -> str:
        return (
            f"{self.told:,} lies: {self.refused:,} refused, {self.true:,} accepted with bounds that are true, "
            f"{len(self.false)} accepted with a false bound"
        )

    def hear(self, name: str, lie: Lie) -> None:
        """Put one lie to the audit."""
        try:
            oc.verify(lie.problem, lie.told)
        except AuditFailed:
            self.refused += 1
            self.moved += lie.moved
            return
        truth = known_truth(name) if lie.problem is QUESTIONS[name] else Truth(lie.problem)
        false = "fingerprint" if lie.moved else truth.denies(lie.told)
        if false is not None:
            self.false.append(f"{name}: a false {false} passed after {', '.join(lie.words)}: {lie.told.certificate}")
            return
        self.true += 1
        self.remodelled += lie.problem is not QUESTIONS[name]
        self.kinds.update(lie.words)


def score(count: int, seed: int) -> Score:
    """Tell lies about all questions in turn."""
    rng, found = np.random.default_rng(seed), Score()
    with np.errstate(all="ignore"):
        for n in range(count):
            name = list(QUESTIONS)[n % len(QUESTIONS)]
            found.hear(name, tell(rng, name))
    return found


def main() -> None:
    """Tell the lies and print the score."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lies", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=2024)
    given = parser.parse_args()
    found = score(given.count, given.seed)
    print(*found.false, sep="\n", end="\n" if found.false else "")
    print(found)
    print(
        f"{len(QUESTIONS)} questions; {found.moved:,} were refused for the fingerprint of another model alone or among "
        f"others, {found.remodelled:,} accepted lies are about a changed model of which the bounds are true."
    )
    sys.exit(bool(found.false))


if __name__ == "__main__":
    main()
