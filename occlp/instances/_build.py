"""What the builders share: exact parameters, and models written as rows of a table."""

from __future__ import annotations

import operator
from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, SupportsIndex, TypeAlias

import numpy as np
from scipy import sparse

from occlp.errors import InvalidModel
from occlp.model.exact import to_fraction
from occlp.model.mdp import MDP

Number: TypeAlias = "int | float | str | Fraction"

#: A table of up to this many entries (rows times states) is kept in exact fractions.
EXACT_ENTRIES = 250_000


class Row(NamedTuple):
    """One admissible pair: labels, ``{next state: probability}`` and expected reward."""

    state: Hashable
    action: Hashable
    successors: Mapping[Any, Fraction]
    reward: Fraction


def rational(value: Number, name: str) -> Fraction:
    """Read a parameter exactly, a float as the decimal it prints as: 0.1 is one tenth."""
    if isinstance(value, float | np.floating):
        value = repr(float(value))
    return to_fraction(value, f"parameter {name}")


def read_discount(value: Number | None, *, exact: bool = True) -> Fraction | float | None:
    """Read a discount like any other parameter; a double for models that keep no fractions."""
    if value is None:
        return None
    gamma = rational(value, "discount")
    return gamma if exact else float(gamma)


def probability(value: Number, name: str) -> Fraction:
    """Read a parameter in [0, 1]."""
    number = rational(value, name)
    if not 0 <= number <= 1:
        raise InvalidModel(f"{name}={value!r} is not a probability. Give a number in [0, 1].")
    return number


def count(value: SupportsIndex, name: str, minimum: int) -> int:
    """Read an integer parameter that is at least `minimum`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise InvalidModel(f"{name}={value!r} is not an integer.") from None
    if number < minimum:
        raise InvalidModel(f"{name}={number} is too small. It must be at least {minimum}.")
    return number


def from_rows(
    rows: Sequence[Row],
    states: Sequence[Hashable] | int,
    *,
    discount: Number | None,
    initial: Mapping[Any, Number] | None = None,
    costs: Mapping[str, Sequence[Fraction]] | None = None,
    actions: Sequence[Hashable] | None = None,
) -> MDP:
    """Build a model from rows that use labels throughout.

    Parameters
    ----------
    rows : sequence of Row [pairs]
    states : sequence of labels [S], or their number where states are 0, 1, ...
    discount : number or None
    initial : mapping of state to probability, optional
        Default uniform.
    costs : mapping of name to fractions [pairs], optional
    actions : sequence of labels, optional
        Default: in the order in which the rows mention them.
    """
    labels = list(range(states)) if isinstance(states, int) else list(states)
    state_at = {label: i for i, label in enumerate(labels)}
    exact = len(rows) * len(labels) <= EXACT_ENTRIES
    column = _exact_column if exact else _float_column
    start: Any = None
    if initial is None and exact:
        start = _exact_column([Fraction(1, len(labels))] * len(labels))  # 1/S as a double would not be exact
    elif initial is not None:
        fractions = {label: rational(value, "initial") for label, value in initial.items()}
        start = fractions if exact else {label: float(value) for label, value in fractions.items()}
    return MDP.from_pairs(
        [row.state for row in rows],
        [row.action for row in rows],
        _matrix(rows, state_at, exact),
        column([row.reward for row in rows]),
        discount=read_discount(discount, exact=exact),
        initial=start,
        costs={name: column(values) for name, values in (costs or {}).items()},
        states=None if isinstance(states, int) else labels,
        actions=list(dict.fromkeys(row.action for row in rows)) if actions is None else actions,
    )


def _matrix(rows: Sequence[Row], state_at: Mapping[Hashable, int], exact: bool) -> Any:
    entries = [(i, state_at[label], p) for i, row in enumerate(rows) for label, p in row.successors.items() if p != 0]
    shape = (len(rows), len(state_at))
    i, j, weights = zip(*entries, strict=True)
    if not exact:
        return sparse.csr_array((_float_column(weights), (i, j)), shape=shape)
    dense = np.zeros(shape, dtype=object)
    dense[list(i), list(j)] = weights
    return dense


def _exact_column(values: Sequence[Fraction]) -> Any:
    out = np.empty(len(values), dtype=object)
    out[:] = list(values)
    return out


def _float_column(values: Sequence[Fraction]) -> Any:
    return np.array([float(value) for value in values])
