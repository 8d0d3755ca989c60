"""Everything that may be handed to a function instead of what it asks for."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

ROWS = [[[0.9, 0.1], [1.0, 0.0]], [[0.0, 1.0], [0.5, 0.5]]]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([0, 1, -1, 2**31, 2**63, 2**64, 10**400]), st.floats(),
    st.complex_numbers(), st.text(max_size=4), st.binary(max_size=3), st.fractions(), st.decimals(),
    st.sampled_from(["1/2", "0.5", "1", "-inf", "nan", "1e400", "1e-400", "1e99999999", "1/0", "½", "１", "1_0"]),
    st.sampled_from([np.float32(0.5), np.float64("nan"), np.int8(1), np.True_, np.str_("1/2"), np.datetime64("NaT")]),
    st.builds(object),
)  # fmt: skip
NESTED = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner), max_leaves=12)
TYPES = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.floating_dtypes(),
    hnp.complex_number_dtypes(), hnp.unicode_string_dtypes(max_len=3), hnp.byte_string_dtypes(max_len=3),
    hnp.datetime64_dtypes(), st.just(np.dtype(object)),
)  # fmt: skip


@st.composite
def arrays(draw, shapes=None):
    """Arrays of any type, of shapes that sometimes fit."""
    shapes = shapes or st.sampled_from([(2, 2, 2), (2, 2), (2,), (4, 2), (1, 1, 1), (), (0, 2, 0), (2, 1, 2), (3, 3)])
    dtype = draw(TYPES)
    array = draw(hnp.arrays(dtype, draw(shapes), elements=SCALARS if dtype.kind == "O" else None))
    return array if draw(st.booleans()) else array.T


@st.composite
def sparse_matrices(draw):
    """Sparse matrices of any format with a few odd numbers."""
    numbers = st.sampled_from([0.0, 0.5, 1.0, -1.0, np.nan, np.inf, 1e300, 1e-300])
    dense = draw(hnp.arrays(np.float64, draw(st.sampled_from([(4, 2), (2, 2), (1, 1), (3, 2)])), elements=numbers))
    form = draw(st.sampled_from(["csr", "csc", "coo", "bsr", "lil", "dok", "dia"]))
    with np.errstate(all="ignore"):
        dense = dense.astype(draw(st.sampled_from(["f8", "f4", "i1", "?", "c16"])))
    return sparse.csr_array(dense).asformat(form)


GARBAGE = NESTED | arrays() | sparse_matrices() | st.lists(sparse_matrices(), max_size=3) | st.sampled_from(
    [ROWS, [[2.0, 0.0], [1.0, -1.0]], {"new": 1}, {"wear": [1.0]}, range(2), set("ab"), float,
     np.ma.masked_all((2, 2, 2))]
)  # fmt: skip
