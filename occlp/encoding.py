"""Questions as plain data, and back: what a file of an answer holds beside the model.

Nothing is executed: a function of the user becomes its name, and what it is worth follows from the certificate alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from occlp.atoms import Atom
from occlp.constraints import ConcaveConstraint, Constraint, Limit, LinearExpression
from occlp.errors import InvalidProblem, Unsupported
from occlp.model import MDP
from occlp.model.exact import exact_numbers, shown, to_floats
from occlp.plain import plain_array, plain_fraction, plain_number, written
from occlp.policy import Policy
from occlp.problem import Problem
from occlp.terms import (
    KL,
    ConditionalKL,
    LogSum,
    NamedUtility,
    OccupancyEntropy,
    PolicyEntropy,
    StateEntropy,
    TotalVariation,
    Utility,
    WorstCase,
)

#: Terms that are a strength and, the first two, a reference policy.
STRENGTHS: Mapping[str, Any] = {
    "KL": KL,
    "ConditionalKL": ConditionalKL,
    "PolicyEntropy": PolicyEntropy,
    "OccupancyEntropy": OccupancyEntropy,
    "StateEntropy": StateEntropy,
}


def encode_question(problem: Problem) -> dict[str, Any]:
    """Return a question without its model as lists, numbers and text.

    Raises `Unsupported` for terms that are not of the library.
    """
    goal = np.flatnonzero(problem.goal_states).tolist() if problem.goal is not None else None
    return {
        "sense": problem.sense,
        "criterion": problem.criterion,
        "objective": problem.objective,
        "goal": goal,
        "constraints": {name: _encode_limit(problem, limit) for name, limit in problem.all_limits.items()},
        "regularizer": _encode_term(problem, problem.regularizer),
        "utility": _encode_term(problem, problem.utility),
    }


def decode_question(mdp: MDP, plain: Any) -> Problem:
    """Read what `encode_question` wrote; raises `InvalidProblem`, or TypeError and the like, for anything else."""
    pairs = mdp.pairs
    goal = plain["goal"]
    if goal is not None:
        if not all(type(state) is int and 0 <= state < mdp.n_states for state in goal):
            raise InvalidProblem(f"the goal {shown(goal)} is not a list of states")
        goal = [pairs.state_name(state) for state in goal]
    return Problem(
        mdp,
        sense=plain["sense"],
        criterion=plain["criterion"],
        constraints={str(name): _decode_limit(mdp, limit) for name, limit in plain["constraints"].items()},
        regularizer=_decode_term(mdp, plain["regularizer"]),
        utility=_decode_term(mdp, plain["utility"]),
        goal=goal,
        objective=plain["objective"],
    )


def read_pairs(values: Any, count: int) -> Any:
    """Read a list of that many numbers, one a pair."""
    array = plain_array(values, "a list of the file")
    if len(array) != count:
        raise InvalidProblem(f"the file has {len(array)} numbers where {count} are needed")
    return array


def _encode_limit(problem: Problem, limit: Limit) -> dict[str, Any]:
    if isinstance(limit, ConcaveConstraint):
        return {"utility": _encode_term(problem, limit.utility), "bound": _encode_number(limit.exact_bound)}
    terms = _encode_expression(problem.mdp, limit.expression)
    bound = _encode_number(limit.exact_bound)
    return {"terms": terms, "relation": limit.relation, "bound": bound, "label": limit.label}


def _encode_expression(mdp: MDP, expression: LinearExpression) -> list[Any]:
    """Weight, name or numbers (one a pair; sets of pairs are ones and zeros), and whether it is a total."""
    terms = []
    for weight, atom in expression.terms:
        what = atom.what
        if atom.kind != "name":
            what = [_encode_number(number) for number in atom.fractions(mdp, exact_numbers(mdp))]
        terms.append([_encode_number(weight), what, atom.total])
    return terms


def _encode_number(number: Fraction) -> float | str:
    """A double, where the number is one; else text that `plain_fraction` reads."""
    near = float(number)
    return near if Fraction(near) == number else written(number)


def _encode_term(problem: Problem, setting: Any) -> dict[str, Any] | None:
    if setting is None:
        return None
    name, mdp = type(setting).__name__, problem.mdp
    if name in STRENGTHS and isinstance(setting, STRENGTHS[name]):
        return {"kind": name, "strength": setting.strength, "reference": _encode_policy(setting)}
    if isinstance(setting, Utility):
        return {"kind": "Utility", "name": setting.parts(mdp)[1]}
    if isinstance(setting, TotalVariation):
        policy = isinstance(setting.target, Policy)
        target = setting.target.pair_probabilities if policy else setting.target[mdp.pairs.states, mdp.pairs.actions]
        return {"kind": "TotalVariation", "policy": policy, "target": target.tolist()}
    if isinstance(setting, LogSum | WorstCase):
        given: Any = setting.expectations
        listed = [what if isinstance(what, str) else _encode_expression(mdp, what) for what in given]
        weights = None if isinstance(setting, WorstCase) or setting.weights is None else list(setting.weights)
        return {"kind": "LogSum" if isinstance(setting, LogSum) else "WorstCase", "of": listed, "weights": weights}
    raise Unsupported(f"{name} cannot be written to a file; the terms of the library and oc.Utility can.")


def _encode_policy(setting: Any) -> list[float] | None:
    reference = getattr(setting, "reference", None)
    return None if reference is None else reference.pair_probabilities.tolist()


def _decode_limit(mdp: MDP, plain: Any) -> Limit:
    bound = plain_fraction(plain["bound"], "a bound")
    if "utility" in plain:
        limit: Limit = _decode_term(mdp, plain["utility"]) >= bound  # a TypeError where it is no utility
        return limit
    if plain["relation"] not in ("<=", ">=", "=="):
        raise InvalidProblem(f"{plain['relation']!r} {float(bound)!r} is not a limit")
    label = plain["label"]
    expression = _decode_expression(mdp, plain["terms"])
    return Constraint(expression, plain["relation"], bound, None if label is None else str(label))


def _decode_expression(mdp: MDP, plain: Any) -> LinearExpression:
    terms = []
    for weight, what, total in plain:
        if isinstance(what, str):
            atom = Atom("name", what, bool(total))
        else:
            atom = _decode_table(mdp, what, bool(total))
        terms.append((plain_fraction(weight, "a weight"), atom))
    return LinearExpression(tuple(terms))


def _decode_table(mdp: MDP, plain: Any, total: bool) -> Atom:
    """One number a pair; kept as fractions where one is written as such."""
    if not isinstance(plain, list) or not any(isinstance(number, str) for number in plain):
        return Atom("array", mdp.pairs.table(read_pairs(plain, mdp.n_pairs), 0.0), total)
    numbers = [plain_fraction(number, "a list of the file") for number in plain]
    exact = np.full((mdp.n_states, mdp.n_actions), Fraction(0), dtype=object)
    exact[mdp.pairs.states, mdp.pairs.actions] = numbers
    return Atom("array", to_floats(exact), total, exact)


def _decode_term(mdp: MDP, plain: Any) -> Any:
    if plain is None:
        return None
    kind = plain["kind"]
    if kind == "Utility":
        return NamedUtility(str(plain["name"]))
    if kind == "TotalVariation":
        target = read_pairs(plain["target"], mdp.n_pairs)
        return TotalVariation(Policy.from_pairs(mdp.pairs, target) if plain["policy"] else mdp.pairs.table(target, 0.0))
    if kind in ("LogSum", "WorstCase"):
        listed = [what if isinstance(what, str) else _decode_expression(mdp, what) for what in plain["of"]]
        if kind == "WorstCase":
            return WorstCase(listed)
        weights = plain["weights"]
        return LogSum(listed, None if weights is None else plain_array(weights, "weights").tolist())
    strength = plain_number(plain["strength"], "a strength")
    if plain["reference"] is None:
        return STRENGTHS[kind](strength=strength)
    reference = Policy.from_pairs(mdp.pairs, read_pairs(plain["reference"], mdp.n_pairs))
    return STRENGTHS[kind](strength=strength, reference=reference)
