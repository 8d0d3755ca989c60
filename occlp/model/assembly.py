"""From what was read to what a model holds: pairs selected, sorted and checked, exact twins kept aligned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import sparse

from occlp.errors import InvalidModel
from occlp.model import arrays, checks
from occlp.model.exact import ExactNumbers, shown, to_fractions
from occlp.model.pairs import Pairs, index_pairs, is_known

if TYPE_CHECKING:
    from occlp._typing import AnyArray, BoolArray, FloatArray


class Parts(NamedTuple):
    """Everything a model holds, checked; transitions as the three arrays of a CSR matrix."""

    pairs: Pairs
    data: AnyArray
    indices: AnyArray
    indptr: AnyArray
    rewards: FloatArray
    costs: Mapping[str, FloatArray]
    discount: float | None
    initial: FloatArray
    notes: tuple[str, ...]
    exact: ExactNumbers | None


def assemble(
    rows: arrays.Rows,
    rewards: Any,
    *,
    costs: Any,
    discount: Any,
    initial: Any,
    states: Any,
    actions: Any,
    admissible: Any = None,
) -> Parts:
    """Select, sort and check rows; everything that builds a model passes here."""
    reward = arrays.read_values(rewards, rows, "rewards")
    cost = {name: arrays.read_values(value, rows, f"cost {name!r}") for name, value in read_costs(costs).items()}
    keep = np.ones(rows.n_rows, dtype=np.bool_) if admissible is None else _read_mask(admissible, rows)
    closed = keep & (reward.floats == -np.inf)
    kept = np.flatnonzero(keep & ~closed)
    pairs, order = index_pairs(
        rows.states[kept], rows.actions[kept], n_states=rows.n_states, n_actions=rows.n_actions,
        states=states, actions=actions,
    )  # fmt: skip
    order = kept[order]
    matrix, weights = _take(rows, order)
    notes = [] if rows.notes is None else list(rows.notes)
    notes += _closed_notes(closed, rows, pairs)
    if rows.notes is None:
        notes += checks.check_transitions(matrix, pairs, single=rows.single, exact=weights)
    checks.check_values(reward.floats[order], pairs, "the reward")
    for name, value in cost.items():
        checks.check_values(value.floats[order], pairs, f"cost {name!r}")
    gamma, exact_gamma = checks.check_discount(discount)
    start = initial if isinstance(initial, checks.Start) else checks.read_initial(initial, pairs)
    exact = None
    if any(twin is not None for twin in (weights, reward.exact, start.exact, exact_gamma)) or any(
        value.exact is not None for value in cost.values()
    ):
        if initial is None:  # uniform: 1/S as a double would not be exact
            start = checks.Start(start.floats, (Fraction(1, pairs.n_states),) * pairs.n_states)
        exact = ExactNumbers(
            transitions=_twin(matrix.data, weights),
            rewards=_twin(reward.floats[order], None if reward.exact is None else reward.exact[order]),
            initial=_twin(start.floats, start.exact),
            discount=Fraction(gamma) if exact_gamma is None and gamma is not None else exact_gamma,
            costs={
                name: _twin(value.floats[order], None if value.exact is None else value.exact[order])
                for name, value in cost.items()
            },
        )
    notes += checks.initial_notes(start)
    return Parts(
        pairs, matrix.data, matrix.indices, matrix.indptr,
        reward.floats[order], {name: value.floats[order] for name, value in cost.items()},
        gamma, start.floats, tuple(notes), exact,
    )  # fmt: skip


def read_costs(costs: Any) -> dict[str, Any]:
    """Read named costs: None, or a mapping of names to values."""
    if costs is None:
        return {}
    if not isinstance(costs, Mapping) or not all(isinstance(name, str) for name in costs):
        raise InvalidModel(f"costs must map names to numbers, as in costs={{'wear': wear}}; got {shown(costs)}.")
    if "reward" in costs:
        raise InvalidModel("a cost named 'reward' would hide the reward. Choose another name.")
    return dict(costs)


def read_index(values: Any, labels: Sequence[Any] | None, what: str) -> AnyArray:
    """Positions [pairs] from labels where the model has them, from indices otherwise.

    Where no label is an integer, indices cannot be mistaken for labels, and are read as well.
    """
    try:
        listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    except (TypeError, NotImplementedError):  # the latter from sparse matrices
        raise InvalidModel(f"pair_{what}s must be a list, one {what} per pair; got {shown(values)}.") from None
    integers = isinstance(listed, list) and all(isinstance(value, int | np.integer) for value in listed)
    if labels is not None and isinstance(listed, list):
        positions = {label: i for i, label in enumerate(labels)}
        unknown = [value for value in listed if not is_known(value, positions)]
        if not unknown:
            return np.array([positions[value] for value in listed], dtype=np.int64)
        if not integers or any(isinstance(label, int) for label in labels):
            raise InvalidModel(f"pair_{what}s holds {shown(unknown[0])}, which is not among {what}s=.")
    if not integers or any(isinstance(value, bool) for value in listed):
        raise InvalidModel(f"pair_{what}s must be one {what} index per pair, or labels with {what}s= given.")
    wrong = next((value for value in listed if not 0 <= value < 2**31 - 1), None)
    if wrong is not None:
        raise InvalidModel(
            f"row {listed.index(wrong)} has {what} index {shown(wrong)}. Indices count from 0 to 2^31 - 2."
        )
    return np.array(listed, dtype=np.int64)


def per_pair(values: Any, pairs: Pairs, name: str) -> Any:
    """Numbers for the pairs of a model that exists, from [pairs], [pairs, S'], [S], [S, A] or [S, A, S']."""
    if sparse.issparse(values):
        return values
    array, _ = arrays.read_array(values, name)
    n_states, n_actions, n_pairs = pairs.n_states, pairs.n_actions, pairs.n_pairs
    if array.shape in ((n_states, n_actions), (n_states, n_actions, n_states)):
        return array[pairs.states, pairs.actions]
    if array.shape in ((n_pairs,), (n_pairs, n_states)):
        return array
    if array.shape == (n_states,):
        return array[pairs.states]
    raise InvalidModel(
        f"{name} has shape {list(array.shape)}; give [S, A] = {[n_states, n_actions]}, [S], [S, A, S'], "
        f"[pairs] = {[n_pairs]} or [pairs, S']."
    )


def _take(rows: arrays.Rows, order: AnyArray) -> tuple[Any, AnyArray | None]:
    """Rows of the matrix in the given order, with their exact entries in the same order."""
    if len(order) == rows.n_rows and bool((order == np.arange(rows.n_rows)).all()):
        return rows.matrix, rows.exact
    exact, indptr = rows.exact, rows.matrix.indptr
    if exact is not None:
        exact = np.concatenate([exact[indptr[row] : indptr[row + 1]] for row in order])
    return rows.matrix[order], exact


def _twin(floats: AnyArray, exact: Any) -> tuple[Fraction, ...]:
    return tuple(to_fractions(floats, "") if exact is None else exact)


def _read_mask(admissible: Any, rows: arrays.Rows) -> BoolArray:
    shape = [rows.n_states, rows.n_actions]
    mask, _ = arrays.read_array(admissible, "admissible")
    if list(mask.shape) != shape or not np.isin(mask, (0, 1)).all():
        raise InvalidModel(f"admissible must be a boolean array [S, A] = {shape}; got {shown(admissible)}.")
    return mask.astype(np.bool_).ravel()


def _closed_notes(closed: AnyArray, rows: arrays.Rows, pairs: Pairs) -> list[str]:
    if not closed.any():
        return []
    listed = [
        f"({pairs.state_name(int(rows.states[i]))!r}, {pairs.action_name(int(rows.actions[i]))!r})"
        for i in np.flatnonzero(closed)[:5]
    ]
    more = ", ..." if int(closed.sum()) > 5 else ""
    return [f"{int(closed.sum())} pairs have reward -inf and are not available: {', '.join(listed)}{more}"]
