"""Questions about a model: what is optimised, in which sense, under which criterion."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np

from occlp._typing import BoolArray, FloatArray, frozen
from occlp.arguments import check_word
from occlp.constraints import (
    ConcaveConstraint,
    Constraint,
    Limit,
    LinearExpression,
    expected_total,
    name_constraints,
)
from occlp.errors import InvalidProblem, Unsupported
from occlp.model import MDP
from occlp.model.exact import rounded_away
from occlp.terms import ConcaveUtility, Regularizer


@dataclass(frozen=True, eq=False)
class Problem:
    """A question about a model.

    Parameters
    ----------
    mdp : MDP
    sense : {"maximize", "minimize"}
        Whether the reward is earned or paid. Penalties are taken off a reward and added to
        a cost; bonuses the other way round.
    criterion : {"discounted", "average", "total"}
        The expected discounted reward, for ``0 <= mdp.discount < 1``; or, for a discount left out or 1,
        the long-run average reward, or the expected total of the rewards.
    constraints : dict or list of constraints, optional
        Limits such as ``oc.expected("wear") <= 0.25``, or on a concave utility, ``oc.StateEntropy() >= 1.5``;
        any number. The keys of a dict name them; in a list the name of the cost or utility does. A list in the
        place of a constraint stands for all that it holds.
    regularizer : Regularizer, optional
        A term that joins the reward: `KL`, `ConditionalKL` (penalties), `PolicyEntropy`,
        `StateEntropy`, `OccupancyEntropy` (bonuses).
    utility : ConcaveUtility, optional
        A concave function of the occupancy that takes the place of the reward: `StateEntropy`,
        `TotalVariation`, `LogSum`, `WorstCase`, or your own, ``oc.Utility(f)``.
    goal : label or collection of labels, optional
        Total criterion: states that end the process. Policies must reach them almost surely (with
        ``objective="reward"``); nothing is earned there.
    objective : {"reward", "reach"}
        Total criterion: the expected total reward, or the probability of reaching the goal.

    Raises
    ------
    InvalidProblem
        When the question does not fit the model.
    Unsupported
        For a criterion that this version does not answer.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("howard-toymaker")
    >>> problem = oc.Problem(mdp, regularizer=oc.KL(strength=0.5, reference=oc.Policy.uniform(mdp)))
    """

    mdp: MDP
    sense: Literal["maximize", "minimize"] = "maximize"
    criterion: Literal["discounted", "average", "total"] = "discounted"
    constraints: Mapping[str, Limit | Sequence[Limit]] | Sequence[Limit | Sequence[Limit]] | None = None
    regularizer: Regularizer | None = None
    utility: ConcaveUtility | None = None
    goal: Hashable | Collection[Hashable] | None = None
    objective: Literal["reward", "reach"] = "reward"

    def __post_init__(self) -> None:
        if not isinstance(self.mdp, MDP):
            raise InvalidProblem(f"a problem is asked of an MDP, not of {type(self.mdp).__name__}.")
        check_word(self.sense, "sense", ("maximize", "minimize"))
        check_word(self.criterion, "criterion", ("discounted", "average", "total"))
        self._check_discount()
        self._check_goal()
        named = name_constraints(self.constraints)
        object.__setattr__(self, "constraints", named)
        for constraint in named.values():  # names and shapes are checked here
            if isinstance(constraint, ConcaveConstraint):
                constraint.utility.check(self.mdp)
            else:
                self.coefficients(constraint)
        self._check_terms()
        if self.criterion == "total":
            refuse_concave(self, "criterion='total' takes")

    def _check_goal(self) -> None:
        check_word(self.objective, "objective", ("reward", "reach"))
        if self.criterion != "total":
            if self.goal is not None or self.objective != "reward":
                raise InvalidProblem("goal= and objective='reach' belong to criterion='total'.")
            return
        if self.goal is None and self.objective == "reach":
            raise InvalidProblem("objective='reach' needs goal=, the states to be reached.")
        if self.goal is not None and not self.goal_states.any():
            raise InvalidProblem("goal= names no state. Leave it out for a total reward without a goal.")
        if self.regularizer is not None or self.utility is not None:
            raise Unsupported(
                "regularizers and utilities are functions of an occupancy that sums to one; under criterion='total' "
                "it does not. Ask with criterion='discounted' or 'average', or give the term's linearisation as a cost."
            )

    def _check_terms(self) -> None:
        given: tuple[Any, Any] = (self.regularizer, self.utility)
        if self.regularizer is not None:
            if not isinstance(given[0], Regularizer):
                name = type(given[0]).__name__
                raise InvalidProblem(f"regularizer= takes oc.KL(...) and its like, not {name}.")
            self.regularizer.check(self.mdp)
        if self.utility is not None:
            if not isinstance(given[1], ConcaveUtility):
                name = type(given[1]).__name__
                raise InvalidProblem(f"utility= takes oc.StateEntropy() and its like, not {name}.")
            if self.regularizer is not None:
                raise InvalidProblem("a utility takes the place of the reward, a regularizer joins it: give one.")
            if self.sense == "minimize":
                raise InvalidProblem("a utility is concave and is maximised; sense='minimize' would not be convex.")
            self.utility.check(self.mdp)

    def _check_discount(self) -> None:
        discount = self.mdp.discount
        if self.criterion != "discounted":
            if discount is not None and discount != 1.0:
                raise InvalidProblem(
                    f"the model's discount is {discount}, but the {self.criterion} criterion does not discount. Use "
                    "mdp.replace(discount=None) to say so, or criterion='discounted'."
                )
            return
        if discount is None:
            raise InvalidProblem("the model has no discount. Give one: problem = Problem(mdp.replace(discount=0.95)).")
        if discount == 1.0:
            raise InvalidProblem(
                "a discount of 1 makes discounted values infinite. Use mdp.replace(discount=...) with a number below 1 "
                "here, or ask for criterion='average' or 'total'."
            )

    @property
    def limits(self) -> dict[str, Constraint]:
        """The linear constraints by name."""
        assert isinstance(self.constraints, dict)
        return {name: limit for name, limit in self.constraints.items() if isinstance(limit, Constraint)}

    @property
    def concave_limits(self) -> dict[str, ConcaveConstraint]:
        """The constraints on concave utilities by name."""
        assert isinstance(self.constraints, dict)
        return {name: limit for name, limit in self.constraints.items() if isinstance(limit, ConcaveConstraint)}

    @property
    def all_limits(self) -> dict[str, Limit]:
        """All constraints by name, in the order in which answers name them: linear, then concave."""
        return {**self.limits, **self.concave_limits}

    @cached_property
    def goal_states(self) -> BoolArray:
        """Mask of the goal, [S]; total criterion."""
        mask = np.zeros(self.mdp.n_states, dtype=np.bool_)
        if self.goal is not None:
            pairs, given = self.mdp.pairs, cast(Any, self.goal)
            mask[pairs.states[np.asarray(pairs.select(given, None), dtype=np.bool_)]] = True
        return frozen(mask)

    def coefficients(self, what: Constraint | LinearExpression) -> FloatArray:
        """What an expression, or that of a constraint, weighs the occupancy with, [pairs].

        Under the total criterion the occupancy is the expected visits, so totals are what it weighs. Raises
        `InvalidProblem` for names and shapes that the model does not know, and for expectations per step of
        a total.
        """
        expression = what.expression if isinstance(what, Constraint) else what
        if self.criterion != "total":
            return expression.coefficients(self.mdp, self.rest)
        per_step = [atom for _, atom in expression.terms if not atom.total]
        shares = isinstance(what, Constraint) and not what.exact_bound and len(per_step) == len(expression.terms)
        if per_step and not shares:
            raise InvalidProblem(
                f"{per_step[0]} is an expectation per step, which a total does not have. Use oc.expected_total(...) "
                "or oc.visits(...) under criterion='total'."
            )
        return expression.coefficients(self.mdp, 1.0)

    def in_numbers(self, limit: Constraint) -> Constraint:
        """The same limit with the model's numbers written out: it holds still where rewards or costs are replaced."""
        if self.criterion != "total":
            return limit.in_numbers(self.mdp, self.rest)
        table = self.mdp.pairs.table(self.coefficients(limit), 0.0)
        return Constraint(expected_total(table), limit.relation, limit.exact_bound, str(limit))

    @property
    def discount(self) -> float:
        """γ: below 1 when discounted, 1 for the other criteria."""
        return 1.0 if self.criterion != "discounted" or self.mdp.discount is None else self.mdp.discount

    @property
    def rest(self) -> float:
        """1 − γ, rounded once from the exact discount where the model has one."""
        exact = self.mdp.exact
        if self.criterion != "discounted":
            return 0.0
        if exact is not None and exact.discount is not None:
            return float(1 - exact.discount)
        return 1.0 - self.discount

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every number that the answer depends on."""
        mdp, digest = self.mdp, hashlib.sha256()
        digest.update(f"occlp-problem-1 {self.sense} {self.criterion} {self.discount!r} {self.rest!r}".encode())
        parts = [mdp.pairs.start, mdp.pairs.actions, mdp.transitions.indptr, mdp.transitions.indices]
        parts += [mdp.transitions.data, mdp.pair_rewards, mdp.initial]
        exact = [] if mdp.exact is None else mdp.exact.beyond_doubles  # numbers are told apart beyond their doubles
        if self.criterion == "total":
            digest.update(self.objective.encode())
            parts.append(self.goal_states)
        for role, term in (("regularizer", self.regularizer), ("utility", self.utility)):
            for part in [] if term is None else [role, *term.parts(mdp)]:
                parts.append(_as_array(part))
        for name, constraint in self.limits.items():
            digest.update(f"{name} {constraint.relation} {constraint.bound!r}".encode(errors="surrogatepass"))
            parts.append(self.coefficients(constraint))
            exact += rounded_away(name, [constraint.exact_bound]) + constraint.expression.beyond_doubles(mdp)
        for name, limit in self.concave_limits.items():
            digest.update(f"{name} concave >= {limit.bound!r}".encode(errors="surrogatepass"))
            parts += [_as_array(part) for part in limit.utility.parts(mdp)]
            exact += rounded_away(name, [limit.exact_bound])
        digest.update(" ".join(exact).encode(errors="surrogatepass"))
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()


def refuse_concave(problem: Problem, what: str) -> None:
    """Raise `Unsupported` for a problem with a constraint on a concave utility; `what` begins the sentence."""
    for name, limit in problem.concave_limits.items():
        raise Unsupported(f"{what} linear constraints only in this version; {name!r} ({limit}) is concave.")


def refuse_total(problem: Problem, what: str) -> None:
    """Raise `Unsupported` for a problem under the total criterion; `what` begins the sentence."""
    if problem.criterion == "total":
        raise Unsupported(f"{what} discounted and average questions only in this version, not totals.")


def _as_array(part: Any) -> Any:
    return part if isinstance(part, np.ndarray) else np.frombuffer(repr(part).encode(), np.uint8)


def as_problem(question: Problem | MDP) -> Problem:
    """Return the question itself; an MDP is the plain question about it."""
    return question if isinstance(question, Problem) else Problem(question)
