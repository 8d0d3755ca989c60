"""From the words of a command to models, questions and solvers."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import occlp as oc

if TYPE_CHECKING:
    from occlp.instances.registry import Instance

Sense: TypeAlias = Literal["maximize", "minimize"]
Criterion: TypeAlias = Literal["discounted", "average", "total"]

#: What ``--methods`` and ``--method`` understand, besides the names of the classes.
METHODS = {
    "lp": "OccupancyProgram", "lp-highs": "OccupancyProgram", "lp-clarabel": "OccupancyProgram",
    "lp-scs": "OccupancyProgram", "pi": "PolicyIteration", "mpi": "ModifiedPolicyIteration", "vi": "ValueIteration",
    "pg": "PolicyGradient", "npg": "NaturalPolicyGradient", "md": "MirrorDescent", "reinforce": "Reinforce",
    "ac": "ActorCritic", "a2c": "A2C", "trpo": "TRPO", "ppo": "PPO", "kl": "KLDual", "dec": "Decomposition",
    "pd": "PrimalDualGradient", "saddle": "SaddlePoint", "exact": "ExactPolicyIteration",
}  # fmt: skip


def instance_of(model: str) -> Instance | None:
    """Return the named instance, if it is one."""
    return oc.instances.describe(model) if model in oc.instances.names() else None


def read_model(model: str, discount: str | None, settings: Sequence[str] | None) -> oc.MDP:
    """Build the model that the words name, with parameters such as "n=10"."""
    overrides: dict[str, Any] = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise oc.InvalidProblem(f"--set {setting} is not of the form NAME=VALUE.")
        overrides[name.replace("-", "_")] = _value(value, model.startswith("gym:"))
    if discount is not None:
        overrides["discount"] = discount
    return oc.interop.read_model(model, **overrides)


def _value(text: str, for_gymnasium: bool) -> Any:
    """Read a parameter: integers and booleans as such, fractions as text (exact), except for Gymnasium."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float) if for_gymnasium else (int,):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@dataclass(frozen=True)
class Question:
    """The options that make a question, as they were written."""

    model: str
    discount: str | None
    settings: Sequence[str] | None
    sense: Sense | None
    criterion: Criterion | None
    horizon: int | None
    goal: Sequence[str] | None
    reach: bool
    limits: Sequence[str] | None
    kl: float | None

    def problem(self) -> oc.Problem:
        """Read the model and ask the question."""
        instance = instance_of(self.model)
        mdp = read_model(self.model, self.discount, self.settings)
        own: Sense = "maximize" if instance is None or self.reach else instance.sense
        criterion = self.criterion or ("discounted" if self.horizon is None and not self.goal else "total")
        objective: Literal["reward", "reach"] = "reach" if self.reach else "reward"
        goal = oc.interop.read_states(mdp, self.goal) if self.goal else None
        if self.horizon is not None:
            if criterion != "total" or goal is not None:
                raise oc.InvalidProblem(
                    "--horizon asks for the total of that many steps: leave --criterion and --goal."
                )
            mdp = mdp.unrolled(self.horizon)
        elif criterion != "discounted" and mdp.discount is not None:
            mdp = mdp.replace(discount=None)
        constraints: dict[str, oc.Constraint] = {}
        for text in self.limits or []:
            name, constraint = _constraint(text, oc.expected_total if criterion == "total" else oc.expected)
            constraints[text if name in constraints else name] = constraint
        regularizer = None if self.kl is None else oc.KL(strength=self.kl, reference=oc.Policy.uniform(mdp))
        return oc.Problem(mdp, self.sense or own, criterion, constraints, regularizer, goal=goal, objective=objective)


def _constraint(text: str, expectation: Callable[[str], oc.LinearExpression]) -> tuple[str, oc.Constraint]:
    """Read "wear <= 0.25"."""
    for sign, compared in (("<=", operator.le), (">=", operator.ge), ("==", operator.eq)):
        name, found, bound = text.partition(sign)
        if found:
            try:
                return name.strip(), compared(expectation(name.strip()), bound.strip())
            except ValueError:
                break
    raise oc.InvalidProblem(f'--constraint "{text}" is not of the form "COST <= NUMBER", with <=, >= or ==.')


def default_methods(problem: oc.Problem) -> str:
    """The methods that can answer a question, by their short names."""
    if problem.regularizer is not None:
        return "lp,kl"
    if problem.limits:
        return "lp" if problem.criterion == "total" else "lp,dec"
    return "lp,vi,pi" if problem.criterion == "average" else "lp,vi,pi,pg,npg"


def read_solvers(names: Sequence[str], backend: str | None) -> list[oc.Solver]:
    """Make the solvers that the names stand for."""
    classes = {name.lower(): name for name in METHODS.values()}
    solvers: list[oc.Solver] = []
    taken = False
    for given in names:
        name = given.strip().lower()
        if name not in METHODS and name not in classes:
            close = difflib.get_close_matches(name, [*METHODS, *classes], n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise oc.InvalidProblem(
                f"there is no method {given.strip()!r}.{hint} The methods are {', '.join(METHODS)}."
            )
        kind = METHODS.get(name) or classes[name]
        settings: dict[str, Any] = {}
        if name.startswith("lp-"):
            settings["backend"] = name.removeprefix("lp-").upper()
        elif kind == "OccupancyProgram" and backend is not None:
            settings["backend"], taken = backend, True
        solvers.append(getattr(oc, kind)(**settings))
    if backend is not None and not taken:
        raise oc.InvalidProblem(f"--backend {backend} is for the method lp, which is not among {','.join(names)}.")
    return solvers
