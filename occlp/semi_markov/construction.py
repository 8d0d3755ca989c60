"""What users give (sojourns, discounts of sojourns, rates), read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray
from occlp.errors import InvalidModel
from occlp.model import MDP, arrays
from occlp.model.assembly import per_pair, read_costs
from occlp.model.exact import is_exact, shown, to_floats, to_fraction
from occlp.model.mdp import from_rows
from occlp.model.unrolling import WholeRows
from occlp.semi_markov.clock import Clock, Given, column
from occlp.semi_markov.process import SemiMarkov


def semi_markov(
    embedded: MDP,
    sojourn: Any = None,
    *,
    rate: Any = None,
    distribution: Literal["exponential", "constant"] | None = None,
    sojourn_discounts: Any = None,
    reward_rates: Any = None,
    cost_rates: Mapping[str, Any] | None = None,
) -> SemiMarkov:
    """Build a semi-Markov model: after a decision the process stays for a while, then moves.

    Numbers written as strings or fractions stay exact, except with constant sojourns under discounting.

    Parameters
    ----------
    embedded : MDP
        Where it moves, and what a decision earns and costs at once (when discounted: worth at the decision);
        its discount is left out, or 1.
    sojourn : str, or array [S, A], [S], [pairs], [S, A, S'] or [pairs, S'], optional
        Mean times until the next decision, positive; a name means the cost of that name. Without `rate` the
        model is for the average criterion.
    rate : number, optional
        Continuous discount rate α > 0: a payment in time t is worth exp(−αt).
    distribution : {"exponential", "constant"}, optional
        Of the sojourns under discounting: an expected discount of 1 / (1 + ατ), or exp(−ατ).
    sojourn_discounts : array [S, A], [S], [pairs], [S, A, S'] or [pairs, S'], optional
        Expected discounts E[exp(−ατ)] of sojourns with any other distribution, in [0, 1); per transition where
        they depend on where the process moves.
    reward_rates : array [S, A], [S] or [pairs], optional
        Earned per unit of time during the sojourn, besides what the decision earns.
    cost_rates : mapping of str to array, optional
        The same for costs, of names that the model has or new ones.

    Returns
    -------
    SemiMarkov

    Raises
    ------
    InvalidModel
        For times that are not positive, discounts outside [0, 1), or parts that do not fit together.

    References
    ----------
    Schweitzer (1971), Iterative solution of the functional equations of undiscounted Markov renewal
    programming; Puterman (1994), sections 11.3 and 11.4; Tijms (2003), chapter 7.

    Examples
    --------
    >>> import occlp as oc
    >>> process = oc.semi_markov(oc.instances.get("tijms-maintenance"), "days")
    >>> result = oc.solve(oc.Problem(process.mdp, criterion="average", sense="minimize"))
    >>> round(result.objective, 12)  # 95/219 a day
    0.433789954338
    """
    if embedded.discount not in (None, 1.0):
        raise InvalidModel(
            f"the embedded model has discount {embedded.discount} a decision. Leave it out: time is discounted by "
            "rate= or sojourn_discounts=."
        )
    rows = WholeRows.of(embedded)
    times = None if sojourn is None else _read(sojourn, embedded, rows, "sojourn")
    if times is not None:
        _check_range(times.values <= 0, times, embedded, rows, "a sojourn takes time: that of")
    given = None if sojourn_discounts is None else _read(sojourn_discounts, embedded, rows, "sojourn_discounts")
    if given is not None:
        outside = (given.values < 0) | (given.values >= 1)
        _check_range(outside, given, embedded, rows, "a sojourn's discount is in [0, 1); that of")
    alpha = None if rate is None else _read_rate(rate)
    rates = ({} if reward_rates is None else {"reward": reward_rates}) | read_costs(cost_rates)
    _check_parts(times, alpha, distribution, given, bool(rates))
    read = {name: _read(value, embedded, rows, f"the rate of {name!r}") for name, value in rates.items()}
    parts = [part.values for part in (times, given, *read.values()) if part is not None]
    exact = distribution != "constant" and (embedded.exact is not None or any(map(is_exact, [*parts, alpha])))
    clock = Clock(embedded, rows, exact)
    accrued = {name: clock.expected(value) for name, value in read.items()}
    if given is not None:
        return clock.discounted(given, given.map(lambda q: 1 - clock.numbers(q)), alpha, accrued)
    assert times is not None
    if alpha is None:
        return clock.average(clock.expected(times), accrued)
    ages = times.map(lambda time: clock.numbers(time) * clock.number(alpha))
    if distribution == "exponential":
        return clock.discounted(
            ages.map(lambda age: 1 / (1 + age)), ages.map(lambda age: age / (1 + age)), alpha, accrued
        )
    return clock.discounted(ages.map(lambda age: np.exp(-age)), ages.map(lambda age: -np.expm1(-age)), alpha, accrued)


def continuous_time(rates: Any, reward_rates: Any, *, rate: Any = None, **model: Any) -> SemiMarkov:
    """Build a continuous-time Markov decision process from its transition rates, by uniformisation.

    Parameters
    ----------
    rates : array [S, A, S'], or any form of transitions that `MDP.from_arrays` takes
        Transition rates, not negative; what stands on the diagonal is ignored. A state whose rates are all
        zero is never left.
    reward_rates : array [S, A] or [S]
        Earned per unit of time; a payment at a transition counts with its rate.
    rate : number, optional
        Continuous discount rate α > 0; without it the criterion is the average.
    **model
        ``costs`` (rates too), ``initial``, ``admissible``, ``states``, ``actions`` and ``layout`` as in
        `MDP.from_arrays`.

    Returns
    -------
    SemiMarkov

    Raises
    ------
    InvalidModel
        For rates that are negative or not finite.

    References
    ----------
    Lippman (1975), Applying a new device in the optimization of exponential queuing systems; Puterman (1994),
    section 11.5.

    Examples
    --------
    A machine breaks once in ten days and is repaired in one:

    >>> import occlp as oc
    >>> process = oc.continuous_time([[[0, "1/10"]], [[1, 0]]], [[1], [0]])
    >>> process.mdp.exact.transitions
    (Fraction(9, 10), Fraction(1, 10), Fraction(1, 1))
    """
    layout = model.pop("layout", "sas")
    rows = arrays.read_array_rows(rates, layout)
    matrix, states = rows.matrix, rows.states
    entries = matrix.data if rows.exact is None else rows.exact
    lines = np.repeat(np.arange(rows.n_rows), np.diff(matrix.indptr))
    away = matrix.indices != states[lines]
    bad = away & ~(np.isfinite(matrix.data) & (matrix.data >= 0))
    if bad.any():
        entry = int(np.flatnonzero(bad)[0])
        raise InvalidModel(
            f"the rate from state {int(states[lines[entry]])} to state {int(matrix.indices[entry])} is "
            f"{matrix.data[entry]}. Rates are finite and not negative."
        )
    zero = Fraction(0) if rows.exact is not None else 0.0
    exits = np.full(rows.n_rows, zero)
    np.add.at(exits, lines[away], entries[away])
    still = np.flatnonzero(exits == 0)
    longest = exits.max() or zero + 1  # a state that is never left is looked at as often as the busiest one
    order = np.lexsort((np.append(matrix.indices[away], states[still]), np.append(lines[away], still)))
    columns = np.append(matrix.indices[away], states[still])[order]
    shares = np.append(entries[away] / exits[lines[away]], np.full(len(still), zero + 1))[order]
    counts = np.bincount(np.append(lines[away], still), minlength=rows.n_rows)
    floats = to_floats(shares) if rows.exact is not None else shares
    whole = sparse.csr_array((floats, columns, np.append(0, np.cumsum(counts))), shape=matrix.shape)
    jumps = arrays.Rows(
        rows.states, rows.actions, whole, rows.exact if rows.exact is None else shares, rows.n_actions, rows.layout
    )
    exits[still] = longest
    costs = read_costs(model.pop("costs", None))
    parts = {"initial": None, "admissible": None, "states": None, "actions": None} | model
    embedded = from_rows(jumps, reward_rates, costs=costs, discount=None, **parts)
    pairs, nothing = embedded.pairs, np.zeros(embedded.n_pairs)
    return semi_markov(
        embedded.replace(rewards=nothing, costs=dict.fromkeys(costs, nothing)),
        1 / exits[pairs.states.astype(np.int64) * rows.n_actions + pairs.actions],
        rate=rate,
        distribution=None if rate is None else "exponential",
        reward_rates=column(embedded, "reward"),
        cost_rates={name: column(embedded, name) for name in costs},
    )


def _read(values: Any, mdp: MDP, rows: WholeRows, name: str) -> Given:
    """Finite numbers from any shape or the name of a cost; what stands at a probability of zero does not matter."""
    if isinstance(values, str):
        if values not in mdp.pair_costs:
            raise InvalidModel(f"{name}={values!r} is not a cost of the model; it has {sorted(mdp.pair_costs)}.")
        return Given(column(mdp, values))
    read: Any = per_pair(values, mdp.pairs, name)
    if read.ndim == 2:
        if read.shape != rows.matrix.shape:
            raise InvalidModel(f"{name} has shape {list(read.shape)}; give [pairs, S'] = {list(rows.matrix.shape)}.")
        matrix: Any = read
        if sparse.issparse(read):
            matrix = matrix.tocsr()
        found = Given(np.asarray(matrix[_lines(rows), rows.matrix.indices]).ravel(), of_transitions=True)
    else:
        found = Given(read)
    floats = to_floats(found.values) if found.values.dtype == object else found.values
    if not np.isfinite(floats).all():
        pair = _pair_of(int(np.argmin(np.isfinite(floats))), found, rows)
        raise InvalidModel(f"{name} of {mdp.pairs.describe(pair)} is not a finite number.")
    return found


def _lines(rows: WholeRows) -> AnyArray:
    lines: AnyArray = np.repeat(np.arange(rows.matrix.shape[0]), np.diff(rows.matrix.indptr))
    return lines


def _pair_of(position: int, given: Given, rows: WholeRows) -> int:
    return int(_lines(rows)[position]) if given.of_transitions else position


def _check_range(wrong: AnyArray, given: Given, mdp: MDP, rows: WholeRows, message: str) -> None:
    """Raise for the first number that is wrong."""
    if wrong.any():
        first = int(np.argmax(wrong))
        pair = _pair_of(first, given, rows)
        raise InvalidModel(f"{message} {mdp.pairs.describe(pair)} is {float(given.values[first])}.")


def _check_parts(times: Any, alpha: Any, distribution: Any, given: Any, with_rates: bool) -> None:
    if (times is None) == (given is None):
        raise InvalidModel("give either sojourn=, mean times, or sojourn_discounts=, expected discounts.")
    if times is not None and (alpha is None) != (distribution is None):
        raise InvalidModel(
            "discounted sojourns need both rate= and distribution= ('exponential' or 'constant'); the average needs "
            "neither. For other distributions give sojourn_discounts=."
        )
    if distribution not in (None, "exponential", "constant"):
        raise InvalidModel(f"distribution={distribution!r} is unknown. Use 'exponential' or 'constant'.")
    if given is not None and distribution is not None:
        raise InvalidModel("sojourn_discounts= say all about the sojourns: leave distribution= out.")
    if given is not None and with_rates and alpha is None:
        raise InvalidModel("what is earned per unit of time needs rate=, the continuous discount rate.")


def _read_rate(rate: Any) -> Fraction | float:
    number = to_fraction(rate, "rate")
    if number <= 0:
        raise InvalidModel(f"rate={shown(rate)} is not positive. Without discounting leave it out.")
    return number if is_exact(rate) else float(number)
