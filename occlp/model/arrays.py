"""Reading transitions and rewards: every accepted shape becomes rows, one per state-action pair.

Dense arrays, nested lists, scipy sparse matrices of every format and lists of them are read; the
caller's arrays are never changed or shared. Sparse duplicates are summed, explicit zeros dropped.
Whatever cannot be read is an `InvalidModel`, never a complaint of numpy or scipy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from scipy import sparse

from occlp.errors import InvalidModel
from occlp.model.exact import expectation, is_exact, to_floats, to_fractions

if TYPE_CHECKING:
    from occlp._typing import AnyArray

Layout: TypeAlias = Literal["sas", "ass"]

#: What indices of 32 bits can count.
MOST_TRANSITIONS = 2**31 - 2


@dataclass(frozen=True, eq=False)
class Rows:
    """Transition rows before validation: row ``i`` belongs to pair (states[i], actions[i])."""

    states: AnyArray  # [rows]
    actions: AnyArray  # [rows]
    matrix: Any  # csr_array [rows, S'], float64, sorted, no duplicates, no zeros
    exact: AnyArray | None  # object [nnz], aligned with matrix.data
    n_actions: int
    layout: Layout | None  # None: rows were given one by one (from_pairs)
    single: bool = False  # some input was float32
    notes: tuple[str, ...] | None = None  # of rows that a model has checked already

    @property
    def n_rows(self) -> int:
        """Number of rows given."""
        return int(self.matrix.shape[0])

    @property
    def n_states(self) -> int:
        """Number of states S."""
        return int(self.matrix.shape[1])


@dataclass(frozen=True, eq=False)
class RowValues:
    """One number per row (rewards or a cost), with its exact twin where the input was exact."""

    floats: AnyArray  # [rows]
    exact: AnyArray | None  # object [rows]


def read_array_rows(transitions: Any, layout: str) -> Rows:
    """Read ``transitions`` of `MDP.from_arrays` into rows ordered by state, then action."""
    if not isinstance(layout, str) or layout not in ("sas", "ass"):
        raise InvalidModel(f"layout={layout!r} is unknown. Use 'sas' for [S, A, S'] or 'ass' for [A, S, S'].")
    exact = None
    if _is_sparse(transitions):
        matrix, single = _read_sparse(transitions, layout, "transitions")
        n_states = matrix.shape[1]
        n_actions, rest = divmod(matrix.shape[0], max(n_states, 1))
        if rest or n_actions == 0:
            raise InvalidModel(
                f"sparse transitions of shape {list(matrix.shape)} are not [S*A, S']: the number of rows must be a "
                "multiple of the number of columns. Use MDP.from_pairs when action sets differ per state."
            )
        if layout == "ass":
            matrix = matrix[_action_major_order(n_states, n_actions)]
    else:
        array, single = read_array(transitions, "transitions")
        array = _cube(array, layout)
        n_states, n_actions = array.shape[0], array.shape[1]
        matrix, exact = _dense_rows(array.reshape(n_states * n_actions, array.shape[2]))
    states, actions = np.divmod(np.arange(n_states * n_actions), n_actions)
    return Rows(states, actions, _clean(matrix), exact, n_actions, "ass" if layout == "ass" else "sas", single)


def read_pair_rows(states: AnyArray, actions: AnyArray, transitions: Any, n_actions: int) -> Rows:
    """Read ``transitions`` [pairs, S'] of `MDP.from_pairs`."""
    if sparse.issparse(transitions):
        matrix, single = _to_csr(transitions, "transitions")
        exact = None
    else:
        array, single = read_array(transitions, "transitions")
        if array.ndim != 2:
            raise InvalidModel(f"transitions of from_pairs must be [pairs, S'], not of shape {list(array.shape)}.")
        matrix, exact = _dense_rows(array)
    if not len(states) == len(actions) == matrix.shape[0]:
        raise InvalidModel(
            f"pair_states, pair_actions and transitions have {len(states)}, {len(actions)} and {matrix.shape[0]} "
            "rows. Give one row for each pair."
        )
    return Rows(states, actions, _clean(matrix), exact, n_actions, None, single)


def read_values(values: Any, rows: Rows, name: str) -> RowValues:
    """Read rewards or a cost of any accepted shape into one expected number per row.

    ``[S]``, ``[S, A]``, ``[S, A, S']`` (axes in the order of the layout), sparse ``[S*A, S']`` or
    ``[S, A]``, lists of sparse matrices; for rows given one by one ``[rows]`` or ``[rows, S']``.
    Numbers on transitions of probability zero are ignored, NaN included.
    """
    if _is_sparse(values):
        return _read_sparse_values(values, rows, name)
    array, _ = read_array(values, name)
    if rows.layout is None:
        shapes = {(rows.n_rows,): "[pairs]", (rows.n_rows, rows.n_states): "[pairs, S']"}
    else:
        axes = (rows.n_states, rows.n_actions)
        shapes = {(rows.n_states,): "[S]"}
        if rows.layout == "sas":
            shapes |= {axes: "[S, A]", (*axes, rows.n_states): "[S, A, S']"}
        else:
            shapes |= {axes[::-1]: "[A, S]", (*axes[::-1], rows.n_states): "[A, S, S']"}
    if array.shape not in shapes:
        wanted = ", ".join(f"{label} = {list(shape)}" for shape, label in shapes.items())
        raise InvalidModel(f"{name} has shape {list(array.shape)}; with this model it must be one of {wanted}.")
    if rows.layout == "ass" and array.ndim > 1:
        array = np.swapaxes(array, 0, 1)
    if rows.layout is not None and array.ndim == 1:
        array = array[rows.states]
    if array.size != rows.n_rows:
        return _expect(array.reshape(rows.n_rows, rows.n_states)[_entry_rows(rows), rows.matrix.indices], rows, name)
    array = array.reshape(rows.n_rows)
    if array.dtype == object:
        return RowValues(to_floats(array), array)
    return RowValues(array, None)


def _read_sparse_values(values: Any, rows: Rows, name: str) -> RowValues:
    matrix, _ = _read_sparse(values, rows.layout or "sas", name)
    n_states, n_actions = rows.n_states, rows.n_actions
    if matrix.shape == (rows.n_rows, n_states) and not (rows.layout and n_actions == 1 and n_states == 1):
        if rows.layout == "ass":
            matrix = matrix[_action_major_order(n_states, n_actions)]
        return _expect(np.asarray(matrix[_entry_rows(rows), rows.matrix.indices]).ravel(), rows, name)
    if rows.layout is not None:
        shape = (n_states, n_actions) if rows.layout == "sas" else (n_actions, n_states)
        if matrix.shape == shape:
            return read_values(matrix.toarray(), rows, name)
    raise InvalidModel(
        f"sparse {name} has shape {list(matrix.shape)}; give [{rows.n_rows}, {n_states}] (one number per transition) "
        "or a dense array."
    )


def _expect(entries: AnyArray, rows: Rows, name: str) -> RowValues:
    """Take the expected number of each row from one number per stored transition, [nnz]."""
    starts, stops = rows.matrix.indptr[:-1], rows.matrix.indptr[1:]
    if entries.dtype == object or rows.exact is not None:
        objects = entries if entries.dtype == object else to_fractions(entries, name)
        weights = to_fractions(rows.matrix.data, "transitions") if rows.exact is None else rows.exact
        exact = np.empty(rows.n_rows, dtype=object)
        for row, (first, last) in enumerate(zip(starts, stops, strict=True)):
            exact[row] = expectation(weights[first:last], objects[first:last])
        return RowValues(to_floats(exact), exact)
    with np.errstate(invalid="ignore", over="ignore"):  # inf and NaN are judged by the checks, with their pair
        products = rows.matrix.data * entries
        sums = np.zeros(rows.n_rows)
        full = stops > starts
        sums[full] = np.add.reduceat(products, starts[full]) if len(products) else 0.0
    return RowValues(sums, None)


def _entry_rows(rows: Rows) -> AnyArray:
    return np.repeat(np.arange(rows.n_rows), np.diff(rows.matrix.indptr))


def _is_sparse(value: Any) -> bool:
    parts = value if isinstance(value, Sequence) else [value]
    return len(parts) > 0 and all(sparse.issparse(part) for part in parts)


def _read_sparse(value: Any, layout: str, name: str) -> tuple[Any, bool]:
    """Read a sparse matrix, or a list of them stacked, as float64 CSR; say whether any was in single precision."""
    if sparse.issparse(value):
        return _to_csr(value, name)
    read = [_to_csr(part, f"{name}[{i}]") for i, part in enumerate(value)]
    shapes = sorted({matrix.shape for matrix, _ in read})
    rows, columns = shapes[0]
    if len(shapes) > 1:
        raise InvalidModel(f"the sparse matrices of {name} have different shapes: {shapes}.")
    if (rows if layout == "ass" else len(value)) != columns:
        raise InvalidModel(
            f"with layout={layout!r} a list of sparse matrices is "
            + ("A matrices [S, S']" if layout == "ass" else "S matrices [A, S']")
            + f"; {name} has {len(value)} of shape [{rows}, {columns}]."
        )
    return sparse.vstack([matrix for matrix, _ in read], format="csr"), any(single for _, single in read)


def _action_major_order(n_states: int, n_actions: int) -> AnyArray:
    """Rows a*S + s, in the order s*A + a."""
    return np.arange(n_states * n_actions).reshape(n_actions, n_states).T.ravel()


def _cube(array: AnyArray, layout: str) -> AnyArray:
    if array.ndim == 2 and array.shape[1] and array.shape[0] % array.shape[1] == 0:
        n_states = array.shape[1]
        array = array.reshape((n_states, -1, n_states) if layout == "sas" else (-1, n_states, n_states))
    if array.ndim != 3:
        raise InvalidModel(
            f"dense transitions must have three axes, [S, A, S'] (or [A, S, S'] with layout='ass'); "
            f"yours have shape {list(array.shape)}."
        )
    if layout == "ass":
        array = np.swapaxes(array, 0, 1)
    if array.shape[0] != array.shape[2]:
        axes, other = ("[S, A, S']", "ass") if layout == "sas" else ("[A, S, S']", "sas")
        raise InvalidModel(
            f"transitions of shape {list(array.shape)} (states, actions, next states) are not square in the states. "
            f"With layout={layout!r} the axes are {axes}; pass layout={other!r} if yours are the other way round."
        )
    if 0 in array.shape:
        raise InvalidModel("the model is empty: it needs at least one state and one action.")
    return array


def read_array(value: Any, name: str) -> tuple[AnyArray, bool]:
    """Read anything array-like into a fresh float64 array, and say whether it was in single precision.

    Where any entry is written as a string or a fraction, all of them come back as fractions, in an object array.
    """
    if np.ma.is_masked(value):
        raise InvalidModel(f"{name} is a masked array. Fill the masked entries: a model has no missing numbers.")
    try:
        array = np.asarray(value)
        if array.dtype.kind in "US" and not isinstance(value, np.ndarray):
            array = np.asarray(value, dtype=object)  # numbers among strings stay the numbers they are
    except (ValueError, TypeError, OverflowError):
        raise InvalidModel(f"{name} is ragged (nested lists of different lengths), or not an array.") from None
    if is_exact(array):
        return to_fractions(array, name), False
    if array.dtype.kind not in "buif":
        raise InvalidModel(f"{name} has dtype {array.dtype}; give real numbers, or strings such as '1/3'.")
    with np.errstate(over="ignore"):  # beyond the range of doubles is inf, which the checks report
        return array.astype(np.float64), array.dtype.itemsize < 8 and array.dtype.kind == "f"


def _to_csr(matrix: Any, name: str) -> tuple[Any, bool]:
    if matrix.ndim != 2:
        raise InvalidModel(f"sparse {name} must have two axes; shape {list(matrix.shape)} has {matrix.ndim}.")
    if matrix.dtype.kind not in "buif":
        raise InvalidModel(f"sparse {name} has dtype {matrix.dtype}; give real numbers.")
    single = matrix.dtype.itemsize < 8 and matrix.dtype.kind == "f"
    try:
        # Promote before duplicates are summed: int8 entries would overflow.
        copy = matrix.astype(np.float64, copy=True)
        if hasattr(copy, "check_format"):
            copy.check_format(full_check=True)
        return sparse.csr_array(copy), single
    except (ValueError, IndexError) as error:
        raise InvalidModel(f"sparse {name} is damaged: {error}. Every index must lie inside its shape.") from None


def _dense_rows(array: AnyArray) -> tuple[Any, AnyArray | None]:
    if array.dtype != object:
        return sparse.csr_array(array), None
    rows, columns = np.nonzero(array != 0)
    exact = array[rows, columns]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(array)))])
    return sparse.csr_array((to_floats(exact), columns, indptr), shape=array.shape), exact


def _clean(matrix: Any) -> Any:
    if max(matrix.nnz, matrix.shape[0]) > MOST_TRANSITIONS:
        raise InvalidModel(f"the model has {matrix.nnz} transitions; at most {MOST_TRANSITIONS} fit its 32-bit index.")
    if not matrix.has_canonical_format:
        matrix.sum_duplicates()
    if (matrix.data == 0).any():
        matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix
