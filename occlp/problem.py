"""Questions about a model: what is optimised, in which sense, under which criterion."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from occlp.constraints import Constraint, name_constraints
from occlp.errors import InvalidProblem, Unsupported
from occlp.model import MDP
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
    criterion : {"discounted", "average"}
        The expected discounted reward, for ``0 <= mdp.discount < 1``; or the long-run average reward of
        models whose policies have one recurrent class, for a discount left out or 1.
    constraints : dict or list of Constraint, optional
        Limits such as ``oc.expected("wear") <= 0.25``; any number. The keys of a dict name them; in a
        list the cost's name does.
    regularizer : Regularizer, optional
        A term that joins the reward: `KL`, `ConditionalKL` (penalties), `PolicyEntropy`,
        `StateEntropy`, `OccupancyEntropy` (bonuses).
    utility : ConcaveUtility, optional
        A concave function of the occupancy that takes the place of the reward: `StateEntropy`,
        `TotalVariation`, `LogSum`, `WorstCase`, or your own, ``oc.Utility(f)``.

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
    criterion: Literal["discounted", "average"] = "discounted"
    constraints: Mapping[str, Constraint] | Sequence[Constraint] | None = None
    regularizer: Regularizer | None = None
    utility: ConcaveUtility | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.mdp, MDP):
            raise InvalidProblem(f"a problem is asked of an MDP, not of {type(self.mdp).__name__}.")
        if self.sense not in ("maximize", "minimize"):
            raise InvalidProblem(f"sense={self.sense!r} is unknown. Use 'maximize' or 'minimize'.")
        if str(self.criterion) == "total":
            raise Unsupported("criterion='total' is not answered by this version; 'discounted' and 'average' are.")
        if self.criterion not in ("discounted", "average"):
            raise InvalidProblem(f"criterion={self.criterion!r} is unknown. Use 'discounted' or 'average'.")
        self._check_discount()
        named = name_constraints(self.constraints)
        object.__setattr__(self, "constraints", named)
        for constraint in named.values():
            constraint.expression.coefficients(self.mdp, self.rest)  # names and shapes are checked here
        self._check_terms()

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
        if self.criterion == "average":
            if discount is not None and discount != 1.0:
                raise InvalidProblem(
                    f"the model's discount is {discount}, but the average criterion does not discount. Use "
                    "mdp.replace(discount=None) to say so, or criterion='discounted'."
                )
            return
        if discount is None:
            raise InvalidProblem("the model has no discount. Give one: problem = Problem(mdp.replace(discount=0.95)).")
        if discount == 1.0:
            raise InvalidProblem(
                "a discount of 1 makes discounted values infinite. Use mdp.replace(discount=...) with a number below 1 "
                "here, or ask for criterion='average'."
            )

    @property
    def limits(self) -> dict[str, Constraint]:
        """The constraints by name."""
        assert isinstance(self.constraints, dict)
        return self.constraints

    @property
    def discount(self) -> float:
        """γ: below 1 when discounted, 1 for the average."""
        return 1.0 if self.criterion == "average" or self.mdp.discount is None else self.mdp.discount

    @property
    def rest(self) -> float:
        """1 − γ, rounded once from the exact discount where the model has one."""
        exact = self.mdp.exact
        if self.criterion == "average":
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
        for term in (self.regularizer, self.utility):
            for part in [] if term is None else term.parts():
                parts.append(part if isinstance(part, np.ndarray) else np.frombuffer(repr(part).encode(), np.uint8))
        for name, constraint in self.limits.items():
            digest.update(f"{name} {constraint.relation} {constraint.bound!r}".encode())
            parts.append(constraint.expression.coefficients(mdp, self.rest))
        for part in parts:
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def as_problem(question: Problem | MDP) -> Problem:
    """Return the question itself; an MDP is the plain question about it."""
    return question if isinstance(question, Problem) else Problem(question)
