"""Models out of Gymnasium's tabular environments, with termination honoured."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from occlp.errors import BackendMissing, InvalidModel, InvalidProblem
from occlp.model.mdp import MDP

if TYPE_CHECKING:
    from collections.abc import Hashable

    from occlp._typing import AnyArray, BoolArray

#: Label of the state in which an episode has ended.
TERMINAL = "terminal"

#: Names of the actions by class of environment, in Gymnasium's order.
ACTION_NAMES = {
    "CliffWalkingEnv": ("up", "right", "down", "left"),
    "FrozenLakeEnv": ("left", "down", "right", "up"),
    "TaxiEnv": ("south", "north", "east", "west", "pickup", "dropoff"),
}

_WITH_TABLE = "FrozenLake-v1, FrozenLake8x8-v1, CliffWalking-v1, CliffWalkingSlippery-v1 and Taxi-v4"


@dataclasses.dataclass(frozen=True, eq=False)
class _Table:
    """``P`` as columns: one row per pair, and the outcomes that belong to the rows."""

    states: list[Hashable]  # [S], Gymnasium's states
    pair_states: AnyArray  # [pairs], positions in states
    pair_actions: AnyArray  # [pairs]
    owner: AnyArray  # [outcomes], row of pair_states
    successors: AnyArray  # [outcomes], positions in states
    weights: AnyArray  # [outcomes], probabilities > 0
    rewards: AnyArray  # [outcomes]
    done: BoolArray  # [outcomes]


def from_gymnasium(env: Any, *, discount: Any, **make_arguments: Any) -> MDP:
    """Read the transition table ``P`` of a Gymnasium environment.

    A transition marked ``terminated`` goes to one extra state, labelled "terminal", and pays its reward on
    entry; one action (index 0) stays there for nothing. States that are absorbing and pay nothing already are
    merged into it and leave the list. All other states stay, reachable or not, labelled by Gymnasium's
    numbers, so that ``policy.actions[36]`` speaks of state 36 of the environment. Column a of [S, A] tables
    is Gymnasium's action a, labelled by name where the environment is known (``mdp.actions.index("up")`` is
    what ``env.step`` takes). Repeated successors are summed. A time limit is no part of ``P``: it is left
    out, and ``mdp.notes`` says so.

    Parameters
    ----------
    env : str or environment
        An id such as "FrozenLake-v1", or an environment (wrapped or not).
    discount : float, str or None
    **make_arguments
        Passed to ``gymnasium.make`` with an id, as in ``is_slippery=False``.

    Returns
    -------
    MDP
        Started from the environment's ``initial_state_distrib``.

    Raises
    ------
    InvalidModel
        For an environment without ``P`` (Blackjack, anything continuous), or with one that is malformed.
    InvalidProblem
        For an id or arguments that Gymnasium refuses.
    BackendMissing
        When an id is given and gymnasium, or what the environment needs, is not installed.

    Examples
    --------
    >>> from occlp.interop import from_gymnasium
    >>> from_gymnasium("FrozenLake-v1", discount=0.99)  # doctest: +SKIP
    MDP(12 states, 4 actions, 45 pairs, 127 transitions, discount=0.99)
    """
    if not isinstance(env, str):
        if make_arguments:
            given = ", ".join(sorted(make_arguments))
            raise InvalidProblem(f"{given}: only an id takes arguments. Pass them where you make the environment.")
        return _convert(env, type(getattr(env, "unwrapped", env)).__name__, discount)
    made = make(env, make_arguments)
    try:
        return _convert(made, env, discount)
    finally:
        made.close()


def make(name: str, arguments: Mapping[str, Any]) -> Any:
    """Make an environment by its id; what Gymnasium refuses is an `InvalidProblem`."""
    try:
        import gymnasium
    except ImportError:
        raise BackendMissing(
            f'{name!r} needs gymnasium, which is not installed. Run:  pip install "occlp[gymnasium]"'
        ) from None
    try:
        return gymnasium.make(name, **arguments)
    except ImportError as error:
        raise BackendMissing(f"gymnasium cannot make {name!r}: {error}") from error
    except (gymnasium.error.Error, TypeError, ValueError) as error:
        raise InvalidProblem(f"gymnasium cannot make {name!r}: {error}") from error


def _convert(env: Any, name: str, discount: Any) -> MDP:
    inner = getattr(env, "unwrapped", env)
    table = _read_table(getattr(inner, "P", None), name)
    start, notes = _read_start(inner, table, name)
    ended = _absorbing(table)
    with_sink = bool(ended.any() or table.done.any())
    labels = [label for label, gone in zip(table.states, ended, strict=True) if not gone]
    sink = len(labels)
    place = np.where(ended, sink, np.cumsum(~ended) - 1)  # [S] -> position in the model
    rows = np.flatnonzero(~ended[table.pair_states])
    row_of = np.full(len(table.pair_states), -1)
    row_of[rows] = np.arange(len(rows))
    used = row_of[table.owner] >= 0
    i, weights = row_of[table.owner[used]], table.weights[used]
    j = np.where(table.done[used], sink, place[table.successors[used]])
    rewards = np.bincount(i, weights * table.rewards[used], minlength=len(rows))
    pair_states, pair_actions = place[table.pair_states[rows]], table.pair_actions[rows]
    if with_sink:
        i, j, weights = np.append(i, len(rows)), np.append(j, sink), np.append(weights, 1.0)
        pair_states, pair_actions = np.append(pair_states, sink), np.append(pair_actions, 0)
        rewards, labels = np.append(rewards, 0.0), [*labels, TERMINAL]
    names = ACTION_NAMES.get(type(inner).__name__)
    mdp = MDP.from_pairs(
        [labels[s] for s in pair_states],
        pair_actions,
        sparse.csr_array((weights, (i, j)), shape=(len(pair_states), len(labels))),
        rewards,
        discount=discount,
        initial=np.bincount(place, start, minlength=len(labels)),
        states=labels,
        actions=names if names is not None and len(names) > pair_actions.max() else None,
    )
    notes += _limit_notes(env) + _reach_notes(mdp)
    return dataclasses.replace(mdp, notes=(*mdp.notes, *notes))


def _read_table(table: Any, name: str) -> _Table:
    """Read ``P[s][a] = [(probability, next state, reward, terminated), ...]``, dictionaries or lists."""
    if not isinstance(table, Mapping | list | tuple) or len(table) == 0:
        raise InvalidModel(
            f"{name} has no transition table P. Of Gymnasium's environments {_WITH_TABLE} have one (Blackjack has "
            "none). Write the model down with MDP.from_function instead."
        )
    states = [_plain(state) for state, _ in _items(table)]
    position = {state: i for i, state in enumerate(states)}
    pairs: list[tuple[int, int]] = []
    outcomes: list[tuple[int, int, float, float, bool]] = []
    for s, (_, choices) in enumerate(_items(table)):
        for action, listed in _items(choices):
            try:
                for weight, successor, reward, done in listed:
                    if weight != 0:  # is_slippery=False and the like list impossible outcomes
                        outcomes.append((len(pairs), position[successor], float(weight), float(reward), bool(done)))
                pairs.append((s, operator.index(action)))
            except (TypeError, ValueError, KeyError):
                raise InvalidModel(
                    f"P[{states[s]!r}][{action!r}] of {name} is {listed!r}, not a list of (probability, next state, "
                    "reward, terminated) under an action number."
                ) from None
    if not outcomes:
        raise InvalidModel(f"the transition table P of {name} has no outcomes.")
    pair_states, pair_actions = (np.array(column) for column in zip(*pairs, strict=True))
    owner, successors, weights, rewards, ends = (np.array(column) for column in zip(*outcomes, strict=True))
    return _Table(states, pair_states, pair_actions, owner, successors, weights, rewards, ends)


def _items(level: Any) -> Any:
    return level.items() if isinstance(level, Mapping) else enumerate(level)


def _plain(label: Any) -> Hashable:
    """Return the label as a Python object: 5 rather than np.int64(5)."""
    plain: Hashable = label.item() if isinstance(label, np.generic) else label
    return plain


def _read_start(inner: Any, table: _Table, name: str) -> tuple[AnyArray, list[str]]:
    size = len(table.states)
    start = getattr(inner, "initial_state_distrib", None)
    if start is None:
        return np.full(size, 1.0 / size), [f"{name} has no initial_state_distrib: the start is uniform"]
    start = np.asarray(start, dtype=np.float64)
    if start.shape != (size,):
        raise InvalidModel(f"initial_state_distrib of {name} has shape {list(start.shape)}; P has {size} states.")
    return start, []


def _absorbing(table: _Table) -> BoolArray:
    """States whose every outcome ends the episode or stays, for a reward of 0, [S]."""
    origin = table.pair_states[table.owner]
    leaves = (~table.done & (table.successors != origin)) | (table.rewards != 0)
    ended = np.zeros(len(table.states), dtype=np.bool_)
    ended[origin] = True  # a state without outcomes is an error, which the model reports
    ended[origin[leaves]] = False
    return ended


def _limit_notes(env: Any) -> list[str]:
    limit = getattr(getattr(env, "spec", None), "max_episode_steps", None)
    if not limit or limit < 0:
        return []
    return [f"the time limit of {limit} steps is ignored: the model has no clock"]


def _reach_notes(mdp: MDP) -> list[str]:
    graph = sparse.coo_array(mdp.transitions)
    origins = mdp.pairs.states[graph.row]
    reached = mdp.initial > 0
    count = -1
    while count != reached.sum():
        count = int(reached.sum())
        reached[graph.col[reached[origins]]] = True
    if reached.all():
        return []
    return [f"{mdp.n_states - count} states cannot be reached from the initial distribution; they are kept"]
