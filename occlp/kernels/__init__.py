"""Compiled kernels: plain arrays in, arrays out; nothing of occlp is imported here but the decorator.

Legend for the letters used in this package::

    indptr, indices, data   transition rows in CSR form, one row a pair      [pairs + 1], [nnz], [nnz]
    start                   first pair of each state                         [S + 1]
    discount, rest          γ and 1 − γ (given apart: 1 − γ keeps its digits)
    values (high, low)      any V; the sum high + low carries twice the digits  [S]

Rows are read as generators: γ Σ p (V' − V) − (1 − γ) V, so that the entry that stays is one minus
the others. Nothing cancels when 1 − γ is tiny, and a row that misses 1 by rounding has one meaning.
"""
