"""Compiled kernels against dense numpy and exact fractions, compiled and as plain Python."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from helpers import Exact, dense_chain, dense_transitions, doubles, fractions, random_policy, solve_fractions
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mdps, mdps_with_policies

import occlp as oc
from occlp import parallel
from occlp.chains.chain import policy_chain
from occlp.chains.resolvent import band_order
from occlp.chains.sweeps import to_matrix
from occlp.kernels import backup, elimination, flow, horizon, rounds
from occlp.kernels import softmax as soft
from occlp.standard import flow_matrix, standardize

FORMS = pytest.mark.parametrize("form", ["compiled", "python"])


def either(kernel, form):
    """The compiled kernel, or the Python function that it was made of."""
    return kernel if form == "compiled" else getattr(kernel, "py_func", kernel)  # nothing is compiled with the jit off


def rows_of(mdp):
    """indptr, indices, data of a model."""
    matrix = mdp.transitions
    return matrix.indptr, matrix.indices, matrix.data


def exact_residuals(mdp, rewards, rest, high, low=None):
    """R + γ Σ p (V' − V) − rest · V of each pair, in fractions, from the doubles as they are."""
    values = fractions(high) if low is None else [a + b for a, b in zip(fractions(high), fractions(low), strict=True)]
    indptr, indices, data = rows_of(mdp)
    gamma, rest = Fraction(mdp.discount), Fraction(rest)
    out = []
    for k, s in enumerate(mdp.pairs.states.tolist()):
        steps = [Fraction(float(data[e])) * (values[indices[e]] - values[s]) for e in range(indptr[k], indptr[k + 1])]
        out.append(Fraction(float(rewards[k])) + gamma * sum(steps) - rest * values[s])
    return out


def call_residuals(kernel, mdp, rewards, rest, *values):
    out, error = np.full(mdp.n_pairs, np.nan), np.full(mdp.n_pairs, np.nan)
    kernel(0, mdp.n_pairs, *rows_of(mdp), mdp.pairs.states, rewards, mdp.discount, rest, *values, out, error)
    return out, error


@FORMS
@given(mdps(max_states=5), st.integers(0, 10**6))
@settings(max_examples=40)
def test_residuals_are_those_of_dense_algebra(form, mdp, seed):
    values = np.random.default_rng(seed).normal(size=mdp.n_states)
    out, error = call_residuals(either(backup.residuals, form), mdp, mdp.pair_rewards, 1 - mdp.discount, values)
    matrix = dense_transitions(mdp)
    expected = mdp.pair_rewards + mdp.discount * matrix @ values - values[mdp.pairs.states]
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-13)
    assert (error <= 1e-13).all()


@FORMS
@given(mdps(max_states=4), st.integers(0, 10**6), st.sampled_from([1.0, 1e6, 1e12]))
@settings(max_examples=60)
def test_the_error_of_residuals_bounds_their_rounding(form, mdp, seed, size):
    values = size * np.random.default_rng(seed).normal(size=mdp.n_states)
    rest = 1e-9
    out, error = call_residuals(either(backup.residuals, form), mdp, mdp.pair_rewards, rest, values)
    truth = exact_residuals(mdp, mdp.pair_rewards, rest, values)
    for found, bound, expected in zip(fractions(out), fractions(error), truth, strict=True):
        assert abs(found - expected) <= bound
        assert bound <= Fraction(1e-13) * Fraction(12 + size)


@FORMS
@given(mdps(max_states=4), st.integers(0, 10**6), st.sampled_from([1.0, 1e6, 1e12]))
@settings(max_examples=60)
def test_extended_residuals_keep_the_digits_that_one_double_loses(form, mdp, seed, size):
    rng = np.random.default_rng(seed)
    high = size * rng.normal(size=mdp.n_states)
    low = np.spacing(high) * rng.uniform(-0.5, 0.5, size=mdp.n_states)
    rest = 1e-9
    kernel = either(backup.residuals_extended, form)
    out, error = call_residuals(kernel, mdp, mdp.pair_rewards, rest, high, low)
    truth = exact_residuals(mdp, mdp.pair_rewards, rest, high, low)
    scale = [abs(r) + abs(t) for r, t in zip(fractions(mdp.pair_rewards), truth, strict=True)]
    for found, bound, expected, size_here in zip(fractions(out), fractions(error), truth, scale, strict=True):
        assert abs(found - expected) <= bound
        # Second order in the values, first order in the result.
        assert bound <= Fraction(1e-14) * size_here + Fraction(1e-28) * Fraction(size)


def test_plain_residuals_lose_what_extended_ones_keep():
    mdp = oc.MDP.from_arrays([[[0.5, 0.5]], [[0.25, 0.75]]], [1.0, -1.0], discount=0.5)
    high, low = np.array([3e15, 3e15 + 1.0]), np.array([0.0625, -0.03125])
    truth = doubles(exact_residuals(mdp, mdp.pair_rewards, 0.0, high, low))
    plain, doubt = call_residuals(backup.residuals, mdp, mdp.pair_rewards, 0.0, high)
    extended, error = call_residuals(backup.residuals_extended, mdp, mdp.pair_rewards, 0.0, high, low)
    assert np.abs(plain - truth).max() > 1e-3
    np.testing.assert_allclose(extended, truth, rtol=0, atol=error.max())
    assert error.max() < 1e-14
    assert doubt.max() < 1e-14  # of the values that it was given: the tail is not its business


@pytest.mark.parametrize("p", [0.1, 0.3, 0.7])
def test_extended_residuals_where_everything_cancels(p):
    """Values of 1e9 that solve the equations to the last digit: what is left is the error, and it must be bounded."""
    mdp = oc.MDP.from_arrays([[[0, p, 1 - p]], [[0, 1, 0]], [[0, 0, 1]]], [1.0, 0.0, 0.0], discount=1 - 1e-9)
    gamma, rest, far = Fraction(mdp.discount), Fraction(1e-9), Fraction(-(10**9))
    leaving = gamma * (Fraction(p) + Fraction(1 - p))
    solution = [(1 + gamma * Fraction(1 - p) * far) / (rest + leaving), Fraction(0), far]
    high = doubles(solution)
    low = doubles([x - Fraction(y) for x, y in zip(solution, high.tolist(), strict=True)])
    out, error = call_residuals(backup.residuals_extended, mdp, mdp.pair_rewards, 1e-9, high, low)
    truth = exact_residuals(mdp, mdp.pair_rewards, 1e-9, high, low)
    assert abs(truth[0]) < 1e-15  # the sum of terms of 1e9
    assert abs(Fraction(out[0]) - truth[0]) <= Fraction(error[0])
    assert error[0] <= 1e-14


@FORMS
@given(mdps(max_states=5), st.integers(0, 10**6))
@settings(max_examples=40)
def test_improvements_take_the_first_of_the_best(form, mdp, seed):
    values = np.random.default_rng(seed).integers(-3, 4, size=mdp.n_states).astype(float)
    best, choice = np.empty(mdp.n_states), np.empty(mdp.n_states, dtype=np.int32)
    rest = 1 - mdp.discount
    either(backup.improvements, form)(
        0, mdp.n_states, mdp.pair_start, *rows_of(mdp), mdp.pair_rewards, mdp.discount, rest, values, best, choice
    )
    scores = mdp.pair_rewards + mdp.discount * dense_transitions(mdp) @ values
    for s, (first, last) in enumerate(itertools.pairwise(mdp.pair_start)):
        top = scores[first:last].max()
        assert abs(best[s] - (top - values[s])) <= 1e-13
        assert first <= choice[s] < last
        assert scores[choice[s]] >= top - 1e-13
        assert not (scores[first : choice[s]] > scores[choice[s]] + 1e-13).any()
        assert (scores[first : choice[s]] < top).all() or abs(scores[first : choice[s]] - top).min() < 1e-13


def test_improvements_break_exact_ties_by_order():
    mdp = oc.MDP.from_arrays(np.ones((1, 4, 1)), [[0.5, 2.0, 2.0, 1.0]], discount=0.5)
    best, choice = np.empty(1), np.empty(1, dtype=np.int32)
    rows = (mdp.pair_start, *rows_of(mdp), mdp.pair_rewards, 0.5, 0.5)
    backup.improvements(0, 1, *rows, np.array([4.0]), best, choice)
    assert (best[0], choice[0]) == (0.0, 1)


@FORMS
@given(mdps(max_states=5), st.integers(0, 10**6))
@settings(max_examples=40)
def test_a_policy_sweep_is_one_backup_of_its_pairs(form, mdp, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=mdp.n_states)
    chosen = np.array([rng.integers(a, b) for a, b in itertools.pairwise(mdp.pair_start)], dtype=np.int32)
    out = np.empty(mdp.n_states)
    rows = (chosen, *rows_of(mdp), mdp.pair_rewards, mdp.discount, 1 - mdp.discount)
    either(backup.policy_sweep, form)(0, mdp.n_states, *rows, values, out)
    expected = mdp.pair_rewards + mdp.discount * dense_transitions(mdp) @ values - values[mdp.pairs.states]
    np.testing.assert_allclose(out, expected[chosen], rtol=0, atol=1e-13)


def filled_band(mdp, probabilities, form="compiled"):
    """The band of a policy's chain in the order that the library chooses, with that order."""
    order = np.arange(mdp.n_states, dtype=np.int32)
    band = either(elimination.fill_policy, form)(
        mdp.pair_start, *rows_of(mdp), probabilities, order, order, mdp.n_states - 1, mdp.discount
    )
    return band, order


@FORMS
@given(mdps_with_policies(max_states=5))
@settings(max_examples=40)
def test_bands_hold_the_chain_of_a_policy(form, drawn):
    mdp, table = drawn
    policy = oc.Policy.from_table(mdp, table)
    band, order = filled_band(mdp, policy.pair_probabilities, form)
    n = mdp.n_states
    expected = mdp.discount * dense_chain(mdp, policy.pair_probabilities)
    np.fill_diagonal(expected, 0.0)
    unrolled = np.array([[band[i, j - i + n - 1] for j in range(n)] for i in range(n)])
    np.testing.assert_allclose(unrolled, expected, rtol=1e-15, atol=1e-16)
    # The chain itself, in the order that makes its band narrow.
    chain = policy_chain(standardize(oc.Problem(mdp)), policy.pair_probabilities).matrix
    order, width = band_order(chain)
    position = np.argsort(order).astype(np.int32)
    again = either(elimination.fill_chain, form)(
        chain.indptr, chain.indices, chain.data, order, position, width, mdp.discount
    )
    for i, j in itertools.product(range(n), repeat=2):
        inside = abs(j - i) <= width
        entry = again[i, j - i + width] if inside else 0.0
        assert abs(entry - expected[order[i], order[j]]) <= 1e-15


@FORMS
@given(mdps_with_policies(max_states=5), st.sampled_from([None, 1e-3, 1e-9, 1e-15]), st.booleans())
@settings(max_examples=60)
def test_elimination_is_exact_to_the_last_digits_of_every_component(form, drawn, rest, even):
    """O'Cinneide (1993): no component loses relative accuracy, whatever 1 − γ is, also where it differs by state."""
    mdp, table = drawn
    mdp = mdp.replace(discount=mdp.discount if rest is None else 1.0 - rest)
    rest = 1.0 - mdp.discount
    band, order = filled_band(mdp, oc.Policy.from_table(mdp, table).pair_probabilities)
    n = mdp.n_states
    leave = np.full(n, rest) if even else rest * np.array([1.0, 1e-6, 3.0, 1e3, 1.0])[:n]
    system = [[-Fraction(float(band[i, j - i + n - 1])) if i != j else Fraction(0) for j in range(n)] for i in range(n)]
    for i in range(n):
        system[i][i] = Fraction(leave[i]) - sum(system[i])
    right = np.random.default_rng(0).integers(0, 3, size=n).astype(float)
    columns = doubles(solve_fractions(system, fractions(right)))
    rows = doubles(solve_fractions([list(line) for line in zip(*system, strict=True)], fractions(right)))
    pivots = either(elimination.eliminate, form)(band, leave.copy())
    assert (pivots > 0).all()
    for kernel, truth in ((elimination.solve_columns, columns), (elimination.solve_rows, rows)):
        found = either(kernel, form)(band, pivots, order, right)
        assert (np.abs(found - truth) <= 1e-14 * n * truth).all()


def haddad_monmege(n, p, rest):
    """Ends of a walk that starts over at every other step, 2n + 1 states, as a band; and the exact answer.

    From the middle one step right with p, left with 1 − p; elsewhere outwards or back to the middle with 1/2
    each. The ends absorb. Source: Haddad and Monmege, Theoretical Computer Science 735 (2018), Figure 2.
    """
    size = 2 * n + 1
    band = np.zeros((size, 2 * n + 1))  # entry (i, j) at band[i, j − i + n]
    for i in range(1, size - 1):
        outward = i + (1 if i > n else -1)
        if i == n:
            band[n, n + 1], band[n, n - 1] = p, 1 - p
        else:
            band[i, outward - i + n] += 0.5
            band[i, n - i + n] += 0.5
    # Right of the middle the probability of ending there is a + b x, x that from the middle.
    factor = Fraction(1, 2) / (1 + Fraction(rest))
    a, b, right = Fraction(1), Fraction(0), []
    left = [(Fraction(0), Fraction(0))]
    for _ in range(n):
        right.append((a, b))
        a, b = factor * a, factor * (b + 1)
    for _ in range(n - 1):
        left.append((Fraction(0), factor * (left[-1][1] + 1)))
    up, down = Fraction(p) / (1 + Fraction(rest)), Fraction(1 - p) / (1 + Fraction(rest))
    (a, b), (_, c) = right[-1], left[-1]
    middle = up * a / (1 - up * b - down * c)
    values = [u + v * middle for u, v in left] + [middle] + [u + v * middle for u, v in right[::-1]]
    return band, values


@FORMS
@pytest.mark.parametrize("n", [10, 100])
def test_elimination_on_a_chain_where_lu_fails(form, n):
    p, rest = 0.7, 1e-60
    band, truth = haddad_monmege(n, p, rest)
    size = 2 * n + 1
    assert abs(float(truth[n]) - 0.7) < 1e-15
    order, goal = np.arange(size, dtype=np.int32), np.zeros(size)
    goal[-1] = rest
    dense = np.zeros((size, size))
    for i, j in itertools.product(range(size), repeat=2):
        if abs(i - j) <= n and i != j:
            dense[i, j] = -band[i, j - i + n]
    np.fill_diagonal(dense, rest - dense.sum(axis=1))
    pivots = either(elimination.eliminate, form)(band, np.full(size, rest))
    found = either(elimination.solve_columns, form)(band, pivots, order, goal)
    expected = doubles(truth)
    assert (np.abs(found - expected) <= 1e-13 * expected).all()
    start = np.zeros(size)
    start[n] = rest
    mass = either(elimination.solve_rows, form)(band, pivots, order, start)
    assert abs(mass[-1] - 0.7) <= 1e-13
    assert abs(mass[0] - 0.3) <= 1e-13
    if n == 100:  # the chain is as hard as it is meant to be
        assert not abs(np.linalg.solve(dense, goal)[n] - 0.7) < 0.1


def test_a_hard_chain_through_the_library():
    """The same walk with N = 30 and 1 − γ = 1e-15: one visit to an end takes 2^30 steps; 0.7 of them lead right."""
    n, rest = 30, Fraction(1, 10**15)
    rows = []
    for i in range(2 * n + 1):
        row = ["0"] * (2 * n + 1)
        if i in (0, 2 * n):
            row[i] = "1"
        elif i == n:
            row[n + 1], row[n - 1] = "0.7", "0.3"
        else:
            row[n], row[i + (1 if i > n else -1)] = "0.5", "0.5"
        rows.append([row])
    rewards = ["0"] * (2 * n) + ["1"]
    mdp = oc.MDP.from_arrays(rows, rewards, discount=str(1 - rest), initial=n)
    evaluation = oc.evaluate(mdp, oc.Policy.uniform(mdp))
    exact = Exact.of(mdp)
    mass = exact.occupancy([Fraction(1)] * mdp.n_pairs)
    np.testing.assert_allclose(evaluation.state_occupancy, doubles(mass), rtol=1e-12, atol=0)
    np.testing.assert_allclose(evaluation.objective, float(mass[-1]), rtol=1e-12, atol=0)
    assert 0.69 < evaluation.objective < 0.7


@FORMS
@given(mdps(max_states=4), st.floats(0.1, 1e4))
@settings(max_examples=30)
def test_softmax_of_logits(form, mdp, size):
    logits = size * np.random.default_rng(1).normal(size=mdp.n_pairs)
    found = either(soft.softmax, form)(mdp.pair_start, logits)
    for first, last in itertools.pairwise(mdp.pair_start):
        weights = np.exp(logits[first:last] - logits[first:last].max())
        np.testing.assert_allclose(found[first:last], weights / weights.sum(), rtol=1e-14, atol=0)


@FORMS
@given(mdps(max_states=4))
@settings(max_examples=30)
def test_score_gradient_is_the_pullback_of_the_logarithm(form, mdp):
    rng = np.random.default_rng(2)
    logits, weights = rng.normal(size=mdp.n_pairs), rng.normal(size=mdp.n_pairs)
    start = mdp.pair_start
    found = either(soft.score_gradient, form)(start, soft.softmax(start, logits), weights)
    step = 1e-6
    for k in range(mdp.n_pairs):
        moved = []
        for sign in (1, -1):
            shifted = logits.copy()
            shifted[k] += sign * step
            moved.append(weights @ np.log(soft.softmax(start, shifted)))
        assert abs(found[k] - (moved[0] - moved[1]) / (2 * step)) <= 1e-8


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_blocks_and_threads_change_nothing(workers, monkeypatch):
    mdp = oc.instances.get("garnet", n_states=997, n_actions=4, branching=3, seed=4)
    rng = np.random.default_rng(0)
    values = rng.normal(size=mdp.n_states)
    serial = call_residuals(backup.residuals, mdp, mdp.pair_rewards, 0.05, values)
    improved = np.empty(mdp.n_states), np.empty(mdp.n_states, dtype=np.int32)
    rows = (mdp.pair_start, *rows_of(mdp), mdp.pair_rewards, mdp.discount, 0.05, values)
    backup.improvements(0, mdp.n_states, *rows, *improved)
    monkeypatch.setattr(parallel, "SERIAL_SIZE", 0)
    monkeypatch.setattr(parallel, "n_threads", lambda: workers)
    out, error = np.empty(mdp.n_pairs), np.empty(mdp.n_pairs)
    arguments = (*rows_of(mdp), mdp.pairs.states, mdp.pair_rewards, mdp.discount, 0.05, values, out, error)
    parallel.run_rows(backup.residuals, mdp.n_pairs, mdp.transitions.nnz, *arguments)
    np.testing.assert_array_equal(out, serial[0])
    np.testing.assert_array_equal(error, serial[1])
    best, choice = np.empty(mdp.n_states), np.empty(mdp.n_states, dtype=np.int32)
    parallel.run_rows(backup.improvements, mdp.n_states, mdp.transitions.nnz, *rows, best, choice)
    np.testing.assert_array_equal(best, improved[0])
    np.testing.assert_array_equal(choice, improved[1])


@pytest.mark.parametrize("rows", [0, 1, 7, 1000])
def test_every_row_is_in_exactly_one_block(rows, monkeypatch):
    monkeypatch.setattr(parallel, "SERIAL_SIZE", 0)
    monkeypatch.setattr(parallel, "n_threads", lambda: 3)
    counts = np.zeros(rows, dtype=int)
    calls = []

    def count(first, last):
        calls.append((first, last))
        counts[first:last] += 1

    parallel.run_rows(count, rows, 10**9)
    assert (counts == 1).all()
    assert rows < 2 or len(calls) > 1
    calls.clear()
    parallel.run_rows(count, rows, -1)
    assert calls == [(0, rows)]


def test_an_error_in_a_block_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(parallel, "SERIAL_SIZE", 0)
    monkeypatch.setattr(parallel, "n_threads", lambda: 2)

    def fail(first, last):
        if first > 0:
            raise ZeroDivisionError(f"{first} .. {last}")

    with pytest.raises(ZeroDivisionError):
        parallel.run_rows(fail, 100, 1)


def test_values_of_a_policy_against_the_kernels():
    """A fixed model, all kernels in one line: A x = r gives the values of dense algebra."""
    mdp = oc.instances.get("garnet", n_states=40, n_actions=3, branching=4, seed=1, discount=0.99)
    policy = random_policy(mdp, np.random.default_rng(3))
    band, order = filled_band(mdp, policy.pair_probabilities)
    pivots = elimination.eliminate(band, np.full(len(band), 1 - mdp.discount))
    earned = np.bincount(mdp.pairs.states, weights=policy.pair_probabilities * mdp.pair_rewards)
    system = np.eye(40) - 0.99 * dense_chain(mdp, policy.pair_probabilities)
    np.testing.assert_allclose(
        elimination.solve_columns(band, pivots, order, earned), np.linalg.solve(system, earned), rtol=1e-12
    )


@FORMS
@given(mdps(max_states=4), st.integers(1, 6), st.integers(0, 10**6))
@settings(max_examples=30)
def test_induction_goes_back_in_time(form, mdp, steps, seed):
    random = np.random.default_rng(seed)
    last = random.normal(size=mdp.n_states)
    h, offset = last - last[0], np.array([last[0], 0.0, 2.0**-52 * np.abs(last - last[0]).max()])
    values, choices = np.full((steps, mdp.n_states), np.nan), np.full((steps, mdp.n_states), -1, dtype=np.int32)
    plain = either(horizon.induce, form)
    growth = mdp.discount * (1 + 2.0**-40)
    plain(
        steps, mdp.pair_start, *rows_of(mdp), mdp.pair_rewards, mdp.discount, growth,
        h, np.empty(mdp.n_states), offset, values, choices,
    )  # fmt: skip
    exact = Exact.of(mdp)
    truth = fractions(last)
    for t in reversed(range(steps)):
        scores = exact.action_values(truth)
        truth = [max(scores[k] for k in span) for span in exact.spans]
        np.testing.assert_allclose(values[t], doubles(truth), rtol=0, atol=1e-12)
        assert all(k in span for k, span in zip(choices[t], exact.spans, strict=True))
        assert all(scores[k] >= best - Fraction(1, 10**12) for k, best in zip(choices[t], truth, strict=True))
    found = [Fraction(x) + Fraction(offset[0]) + Fraction(offset[1]) for x in h.tolist()]
    assert max(abs(x - y) for x, y in zip(found, truth, strict=True)) <= Fraction(offset[2])
    assert offset[2] < 1e-11
    alone, again = last - last[0], np.array([last[0], 0.0, 2.0**-52 * np.abs(last - last[0]).max()])
    nothing = np.empty((0, mdp.n_states)), np.empty((0, mdp.n_states), dtype=np.int32)
    plain(
        steps, mdp.pair_start, *rows_of(mdp), mdp.pair_rewards, mdp.discount, growth,
        alone, np.empty(mdp.n_states), again, *nothing,
    )  # fmt: skip
    np.testing.assert_array_equal(alone, h)  # what is not kept changes nothing
    np.testing.assert_array_equal(again, offset)


@FORMS
def test_nothing_is_lost_where_nothing_is_earned(form):
    mdp = oc.MDP.from_arrays(np.eye(2)[:, None], [0.0, 0.0], discount=0.5)
    h, offset = np.zeros(2), np.zeros(3)
    kept = np.empty((0, 2)), np.empty((0, 2), dtype=np.int32)
    rows = (mdp.pair_start, *rows_of(mdp), mdp.pair_rewards)
    either(horizon.induce, form)(5, *rows, 0.5, 0.6, h, np.empty(2), offset, *kept)
    assert h.tolist() == [0, 0]
    assert offset.tolist() == [0, 0, 0]


@FORMS
@given(st.floats(-1e6, 1e6), st.floats(-1, 1), st.floats(0, 1), st.floats(-1e6, 1e6))
def test_offsets_are_moved_in_two_doubles(form, high, share, discount, pin):
    low = share * 2.0**-53 * high
    offset = np.array([high, low, 0.0])
    either(horizon.shift, form)(offset, discount, pin)
    truth = Fraction(discount) * (Fraction(high) + Fraction(low)) + Fraction(pin)
    found = Fraction(offset[0]) + Fraction(offset[1])
    size = abs(Fraction(offset[0])) + abs(Fraction(pin))
    assert abs(found - truth) <= 16 * Fraction(2) ** -104 * size + Fraction(horizon.TINY)


@FORMS
@given(pair=mdps_with_policies(discounts=(Fraction(1, 10), Fraction(1, 2), Fraction(9, 10))))
@settings(max_examples=15, deadline=None)
def test_sweeps_end_at_the_values_and_the_occupancy_of_the_chain(form, pair):
    mdp, table = pair
    standard = standardize(oc.Problem(mdp))
    chain = policy_chain(standard, oc.Policy.from_table(mdp, table).pair_probabilities)
    n, matrix = mdp.n_states, chain.matrix
    dense = matrix.toarray()
    system = np.eye(n) - standard.discount * dense
    exact = np.linalg.solve(system, chain.rewards)
    earned = (chain.rewards, standard.discount, standard.rest)
    plain = np.zeros(n)
    _, spread = either(rounds.sweep, form)(400, 1e-13, *chain.rows, *earned, plain, np.empty(n))
    assert spread <= 1e-13
    np.testing.assert_allclose(plain - plain[0], exact - exact[0], atol=1e-9)
    links = either(rounds.transpose, form)(*chain.rows, n)
    np.testing.assert_array_equal(to_matrix(links, n).toarray(), dense.T)
    mass = standard.initial.copy()
    left = either(rounds.spread_mass, form)(4000, 1e-14, *links, standard.discount, standard.rest, mass.copy(), mass)[1]
    occupancy = standard.rest * np.linalg.solve(system.T, standard.initial)
    np.testing.assert_allclose(mass, occupancy / occupancy.sum(), atol=1e-12)
    assert left == 0.0


@FORMS
def test_sweeps_give_slow_chains_up_early(form):
    """A walk on a ring: the target would take 195,728 sweeps."""
    n = 60
    steps = np.roll(np.eye(n), 1, axis=1) / 2 + np.roll(np.eye(n), -1, axis=1) / 2
    rows = rows_of(oc.MDP.from_arrays(steps[:, None], np.zeros(n), discount=0.9999))
    rewards = np.linspace(0.0, 1.0, n)
    done, spread = either(rounds.sweep, form)(600, 1e-14, *rows, rewards, 0.9999, 1e-4, np.zeros(n), np.empty(n))
    assert done <= 4 * rounds.LOOK
    assert spread > 1e-3
    initial = np.eye(n)[0]
    mass = initial.copy()
    done, left = either(rounds.spread_mass, form)(600, 1e-14, *rows, 0.9999, 1e-4, initial, mass)
    assert done <= 4 * rounds.LOOK
    assert left > 1e-6
    assert either(rounds.spread_mass, form)(3, 1e-14, *rows, 0.9999, 1e-4, initial, initial.copy())[0] == 3


@FORMS
@given(mdps(max_states=5), st.integers(0, 10**6))
@settings(max_examples=25)
def test_rows_follow_the_choice(form, mdp, seed):
    rng = np.random.default_rng(seed)
    matrix, rewards, start = mdp.transitions, mdp.pair_rewards, mdp.pair_start
    first, second = (rng.integers(start[:-1], start[1:]).astype(np.int32) for _ in range(2))
    nothing = np.full(mdp.n_states, -1, dtype=np.int32)
    rows = either(rounds.gather, form)(first, nothing, *rows_of(mdp), rewards, *rows_of(mdp))
    for choice, found in (
        (first, rows),
        (second, either(rounds.gather, form)(second, first, *rows_of(mdp), rewards, *rows[:3])),
    ):
        np.testing.assert_array_equal(to_matrix(found[:3], mdp.n_states).toarray(), matrix[choice].toarray())
        np.testing.assert_array_equal(found[3], rewards[choice])
    fit = bool((np.diff(matrix.indptr)[first] == np.diff(matrix.indptr)[second]).all())
    assert either(rounds.patch, form)(second, first, *rows_of(mdp), rewards, *rows) == fit
    choice = second if fit else first
    np.testing.assert_array_equal(to_matrix(rows[:3], mdp.n_states).toarray(), matrix[choice].toarray())


@FORMS
@given(mdps(max_states=5), st.integers(0, 10**6))
@settings(max_examples=40)
def test_improvements_that_leave_states_out_lose_nothing(form, mdp, seed):
    rng, standard = np.random.default_rng(seed), standardize(oc.Problem(mdp))
    n, known = mdp.n_states, np.zeros(mdp.n_states)
    choice, best = either(rounds.largest, form)(standard.start, standard.rewards), np.empty(n)
    first = np.array([standard.rewards[a:b].argmax() + a for a, b in itertools.pairwise(standard.start.tolist())])
    np.testing.assert_array_equal(choice, first)
    leads, drift, values = np.zeros(n), 0.0, rng.normal(size=n)
    for size in (1.0, 0.3, 0.1, 0.03, 0.0):
        values = values + size * rng.normal(size=n)
        span, largest = either(rounds.moved, form)(values, known)
        np.testing.assert_array_equal(known, values)
        assert largest >= np.abs(values).max()
        drift += standard.discount * span + 1e-13 * (1 + largest)
        own = rounds.gather(choice, np.full(n, -1, dtype=np.int32), *rows_of(mdp), standard.rewards, *rows_of(mdp))
        rows = (standard.start, *rows_of(mdp), standard.rewards, standard.discount)
        either(rounds.improve, form)(0, n, *rows, *own[:3], values, drift, leads, choice, best)
        gain, expected = np.empty(n), np.empty(n, dtype=np.int32)
        backup.improvements(0, n, *rows, standard.rest, values, gain, expected)
        np.testing.assert_allclose(best, gain, atol=1e-12)
        scores = call_residuals(backup.residuals, mdp, standard.rewards, standard.rest, values)[0]
        np.testing.assert_allclose(scores[choice], scores[expected], atol=1e-12)  # ties aside the same pairs
        assert either(rounds.extent, form)(best) == (best.min(), best.max())


@FORMS
@given(mdps(max_states=5), st.integers(0, 10**6))
@settings(max_examples=25)
def test_one_pass_tells_each_state_what_it_needs_to_know(form, mdp, seed):
    values = np.random.default_rng(seed).normal(size=mdp.n_states)
    start, rest = mdp.pair_start, 1 - mdp.discount
    scores, error = call_residuals(backup.residuals, mdp, mdp.pair_rewards, rest, values)

    def room():
        return np.empty(mdp.n_states, np.int32), *(np.empty(mdp.n_states) for _ in range(3))

    out, found, again = np.empty(mdp.n_pairs), room(), room()
    rows = (start, *rows_of(mdp), mdp.pair_rewards, mdp.discount, rest)
    either(backup.judge, form)(0, mdp.n_states, *rows, values, out, *found)
    np.testing.assert_array_equal(out, scores)
    either(backup.summarize, form)(start, scores, error, *again)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one, other)
    best, ceiling, slack, doubt = found
    for s, (a, b) in enumerate(itertools.pairwise(start.tolist())):
        assert best[s] == a + scores[a:b].argmax()
        assert ceiling[s] == (scores + error)[a:b].max()
        assert slack[s] in error[a:b]
        assert doubt[s] == error[a:b].max()


@FORMS
def test_what_is_not_a_number_proves_nothing(form):
    mdp = oc.MDP.from_arrays(np.eye(2)[:, None], [0.0, 0.0], discount=0.5)
    room = (np.empty(2), np.empty(2, np.int32), np.empty(2), np.empty(2), np.empty(2))
    rows = (mdp.pair_start, *rows_of(mdp), mdp.pair_rewards, 0.5, 0.5)
    either(backup.judge, form)(0, 2, *rows, np.array([np.nan, 0.0]), *room)
    assert room[2][0] == np.inf


@FORMS
@given(mdps(max_states=5), st.integers(0, 10**6))
@settings(max_examples=25)
def test_products_with_the_flow_matrix(form, mdp, seed):
    rng = np.random.default_rng(seed)
    mass, values = rng.random(mdp.n_pairs) * rng.integers(0, 2, mdp.n_pairs), rng.normal(size=mdp.n_states)
    question = standardize(oc.Problem(mdp))
    matrix = flow_matrix(question).toarray()
    rows = (mdp.pair_start, *rows_of(mdp), mdp.discount, question.rest, mass)
    out, squares = (np.full(mdp.n_states, np.nan) for _ in range(2))
    either(flow.flow, form)(*rows, out, squares)
    np.testing.assert_allclose(out, matrix @ mass, atol=1e-14)
    np.testing.assert_allclose(squares, matrix**2 @ mass, atol=1e-14)
    mean = either(flow.curvature, form)(*rows, values, out)
    np.testing.assert_allclose(out, (matrix * mass) @ (matrix.T @ values), atol=1e-13)
    assert mean == pytest.approx(mass @ matrix.T @ values, abs=1e-13)


@FORMS
@given(mdps(max_states=5))
@settings(max_examples=20)
def test_improving_in_place_there_and_back_finds_the_optimal_values(form, mdp):
    mdp = mdp.replace(discount=0.8)
    standard = standardize(oc.Problem(mdp))
    matrix, values = standard.transitions, np.zeros(mdp.n_states)
    rows = (standard.start, matrix.indptr, matrix.indices, matrix.data, standard.rewards, 0.8, standard.rest)
    steps = either(backup.sojourns, form)(*rows[:4], *rows[5:])
    np.testing.assert_allclose(1 / steps, 1 - 0.8 * mdp.transitions.toarray()[np.arange(mdp.n_pairs), mdp.pairs.states])
    ways = np.arange(mdp.n_states, dtype=np.int32), np.arange(mdp.n_states, dtype=np.int32)[::-1].copy()
    choice = np.full(mdp.n_states, -1, dtype=np.int32)
    for turn in range(120):
        before = choice.copy()
        changes = either(backup.improve_in_place, form)(ways[turn % 2], *rows, steps, values, choice)
        assert changes == (choice != before).sum()
    dense, first = dense_transitions(mdp), standard.start[:-1]
    exact = np.zeros(mdp.n_states)
    for _ in range(200):
        exact = np.maximum.reduceat(standard.rewards + 0.8 * (dense @ exact), first)
    np.testing.assert_allclose(values, exact, atol=1e-10)


@FORMS
def test_states_that_cannot_be_improved_alone_are_left_as_they_are(form):
    """Without discount: one that is never left, one whose only pair is ruled out, and one that leads to the first."""
    mdp = oc.MDP.from_arrays(np.eye(3)[[0, 0, 0]][:, None], np.zeros(3))
    rows = (mdp.pair_start, *rows_of(mdp))
    values, rates = np.array([5.0, 7.0, 9.0]), np.array([0.0, 1.0, 1.0])
    order, choice, rewards = np.arange(3, dtype=np.int32), np.zeros(3, dtype=np.int32), np.array([1.0, -np.inf, 2.0])
    either(backup.improve_in_place, form)(order, *rows, rewards, 1.0, 0.0, rates, values, choice)
    assert values.tolist() == [5, 7, 7]
    soft_values, base = np.array([5.0, 7.0, 9.0]), np.ones(3)
    either(soft.relax_soft_values, form)(1, *rows, np.array([1.0, 1.0, 2.0]), base, 1.0, 1.0, 0.0, 0.0, soft_values)
    assert soft_values.tolist() == [5, 6, 7]


@FORMS
@given(mdps(max_states=4), st.integers(0, 10**6), st.sampled_from([0.01, 1.0]))
@settings(max_examples=20)
def test_soft_sweeps_lead_to_the_soft_bellman_equation(form, mdp, seed, strength):
    """V = τ log Σ_a base exp((r − λ + γPV) / τ), which the sweeps contract to for any level λ."""
    rng = np.random.default_rng(seed)
    base, level, values = random_policy(mdp, rng).pair_probabilities.copy(), float(rng.normal()), np.zeros(mdp.n_states)
    left_out = rng.random(mdp.n_pairs) < 0.3
    left_out[mdp.pair_start[:-1]] = False
    base[left_out] = 0.0
    rows = (mdp.pair_start, *rows_of(mdp), mdp.pair_rewards, base, strength, mdp.discount, 1 - mdp.discount, level)
    either(soft.relax_soft_values, form)(40 + round(40 / (1 - mdp.discount)), *rows, values)
    ahead = mdp.pair_rewards + mdp.discount * (dense_transitions(mdp) @ values) - values[mdp.pairs.states]
    ahead[left_out] = -np.inf
    top = np.maximum.reduceat(ahead, mdp.pair_start[:-1])
    weights = base * np.exp((ahead - top[mdp.pairs.states]) / strength)
    residual = top + strength * np.log(np.add.reduceat(weights, mdp.pair_start[:-1]))
    size = 1 + np.abs(mdp.pair_rewards).max() / (1 - mdp.discount)
    np.testing.assert_allclose(residual, level, atol=1e-10 * size)
