"""The register of named models: a decorator that enters a builder, and the look-ups by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from occlp.errors import InvalidProblem
from occlp.model.mdp import MDP
from occlp.model.pairs import is_known

Builder: TypeAlias = Callable[..., MDP]
Sense: TypeAlias = Literal["maximize", "minimize"]

_BuilderT = TypeVar("_BuilderT", bound=Builder)
_REGISTER: dict[str, Instance] = {}


@dataclass(frozen=True)
class Instance:
    """A named model: where it comes from and how to build it.

    Attributes
    ----------
    name : str
        What `get` takes.
    title : str
        One line.
    source : str
        Book or paper, with chapter, figure or equation.
    parameters : mapping of str to default
        What the builder accepts; `get` accepts ``initial`` besides, for every model.
    build : callable
        ``build(**parameters) -> MDP``.
    sense : {"maximize", "minimize"}
        The question of the source: with "minimize" the rewards of the model are costs, as positive numbers.
    """

    name: str
    title: str
    source: str
    parameters: Mapping[str, Any]
    build: Builder
    sense: Sense = "maximize"


def instance(name: str, *, title: str, source: str, sense: Sense = "maximize") -> Callable[[_BuilderT], _BuilderT]:
    """Enter the decorated builder, whose parameters all have defaults, under `name`."""

    def enter(build: _BuilderT) -> _BuilderT:
        if is_known(name, _REGISTER):
            raise ValueError(f"two models are called {name!r}")
        defaults = {key: item.default for key, item in inspect.signature(build).parameters.items()}
        _REGISTER[name] = Instance(name, title, source, defaults, build, sense)
        return build

    return enter


def names() -> list[str]:
    """Names of all models, sorted."""
    return sorted(_REGISTER)


def describe(name: str) -> Instance:
    """Title, source, parameters and sense of a named model.

    Raises
    ------
    InvalidProblem
        For an unknown name, with the names that come close.
    """
    if is_known(name, _REGISTER):
        return _REGISTER[name]
    close = difflib.get_close_matches(str(name).lower().replace("_", "-"), _REGISTER, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else f"The names are {', '.join(names())}."
    raise InvalidProblem(f"there is no instance called {name!r}. {hint}")


def get(name: str, /, **parameters: Any) -> MDP:
    """Build a named model.

    Numbers among the parameters are read as the decimals they are written as: ``p=0.1`` and ``p="1/10"``
    mean the same, and small textbook models keep exact fractions in ``mdp.exact``.

    Parameters
    ----------
    name : str
        One of `names`.
    **parameters
        Those of the model (see ``describe(name).parameters``); every model takes ``discount`` and ``initial``.

    Raises
    ------
    InvalidProblem
        For an unknown name or parameter.
    InvalidModel
        For a parameter of a value that gives no model.

    Examples
    --------
    >>> from occlp import instances
    >>> instances.get("forest", n_states=10, discount=0.96)
    MDP(10 states, 2 actions, 20 pairs, 30 transitions, discount=0.96)
    """
    entry = describe(name)
    unknown = sorted(set(parameters) - set(entry.parameters) - {"initial"})
    if unknown:
        known = ", ".join(f"{key}={value!r}" for key, value in entry.parameters.items())
        raise InvalidProblem(f"{name!r} has no parameter {unknown[0]!r}. Its parameters are {known} and initial.")
    built = entry.build(**{key: value for key, value in parameters.items() if key in entry.parameters})
    own = "initial" in entry.parameters or "initial" not in parameters
    return built if own else built.replace(initial=parameters["initial"])
