"""One word for a model, as the command line takes it: a named instance, ``gym:ID`` or a file."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occlp import instances
from occlp.errors import InvalidProblem
from occlp.interop.files import load
from occlp.interop.gymnasium import from_gymnasium
from occlp.model.exact import shown

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from occlp.model.mdp import MDP

#: Discount of ``gym:ID``, whose environments have none of their own.
GYMNASIUM_DISCOUNT = 0.99


def read_model(name: str, **overrides: Any) -> MDP:
    """Build the model that a name stands for.

    Parameters
    ----------
    name : str
        ``gym:ID`` for a Gymnasium environment (discount 0.99 unless given), a name of
        `occlp.instances.names`, or the path of a file written by `occlp.interop.save`.
    **overrides
        ``discount`` and ``initial`` for every model, besides the parameters of an instance or the arguments
        of ``gymnasium.make``.

    Raises
    ------
    InvalidProblem
        For a name that is none of these, and for overrides that the model does not take.
    InvalidModel, BackendMissing
        As the reader that is asked.

    Examples
    --------
    >>> from occlp.interop import read_model
    >>> read_model("forest", discount=0.96)
    MDP(3 states, 2 actions, 6 pairs, 9 transitions, discount=0.96)
    """
    if not isinstance(name, str):
        raise InvalidProblem(f"{shown(name)} is no model: a name, gym:ID or the path of a file, as text.")
    if name.startswith("gym:"):
        discount = overrides.pop("discount", GYMNASIUM_DISCOUNT)
        start = {"initial": overrides.pop("initial")} if "initial" in overrides else {}
        mdp = from_gymnasium(name.removeprefix("gym:"), discount=discount, **overrides)
        return mdp.replace(**start) if start else mdp
    if name in instances.names():
        return instances.get(name, **overrides)
    if Path(name).is_file():
        unknown = sorted(set(overrides) - {"discount", "initial"})
        if unknown:
            raise InvalidProblem(f"a model from a file takes discount and initial, not {unknown[0]!r}.")
        mdp = load(name)
        return mdp.replace(**overrides) if overrides else mdp
    close = difflib.get_close_matches(name.lower().replace("_", "-"), instances.names(), n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise InvalidProblem(
        f"{name!r} is no model.{hint} Give one of {', '.join(instances.names())}; gym:ID for a Gymnasium environment, "
        "such as gym:FrozenLake-v1; or the path of a file that occlp.interop.save wrote (.npz)."
    )


def read_states(mdp: MDP, texts: Sequence[str]) -> list[Hashable]:
    """Labels of the states that words stand for, as the command line takes them.

    Parameters
    ----------
    mdp : MDP
    texts : sequence of str
        Each the label of a state as `str` writes it.

    Raises
    ------
    InvalidProblem
        For a word that is no state, or that stands for several.
    """
    known: dict[str, list[Hashable]] = {}
    for label in mdp.states:
        known.setdefault(str(label), []).append(label)
    found = []
    for text in texts:
        labels = known.get(text, [])
        if len(labels) != 1:
            shown = ", ".join([*list(known)[:8], *(["..."] if len(known) > 8 else [])])
            what = f"stands for {len(labels)} states" if labels else "is no state"
            raise InvalidProblem(f"{text!r} {what}. The states are {shown}.")
        found += labels
    return found
