"""Long-run averages in fractions: gains, frequencies and the bias of a policy, by graph search and elimination."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from helpers import Exact, solve_fractions

Rows = list[dict[int, Fraction]]


def chain_of(model: Exact, probabilities: Sequence[Fraction]) -> tuple[Rows, list[Fraction]]:
    """Rows [S] and rewards [S] of the chain of a policy, given by one probability a pair (divided by their sums)."""
    rows, rewards = [], []
    for span in model.spans:
        total = sum((probabilities[k] for k in span), start=Fraction(0))
        row: dict[int, Fraction] = {}
        for k in span:
            for j, p in model.rows[k].items():
                if p * probabilities[k]:
                    row[j] = row.get(j, Fraction(0)) + probabilities[k] / total * p
        rows.append(row)
        rewards.append(sum((probabilities[k] / total * model.rewards[k] for k in span), start=Fraction(0)))
    return rows, rewards


def reached_from(rows: Rows, state: int) -> set[int]:
    """States that can be reached, the state itself included."""
    found, stack = {state}, [state]
    while stack:
        for j in rows[stack.pop()]:
            if j not in found:
                found.add(j)
                stack.append(j)
    return found


def recurrent_classes(rows: Rows) -> list[list[int]]:
    """Closed classes, each sorted, in the order of their first states."""
    reach = [reached_from(rows, s) for s in range(len(rows))]
    closed = {tuple(sorted(reach[s])) for s in range(len(rows)) if all(s in reach[j] for j in reach[s])}
    return [list(found) for found in sorted(closed)]


def limiting(rows: Rows) -> list[list[Fraction]]:
    """P*, [S][S]: the long-run share of each state, from each state."""
    n = len(rows)
    out = [[Fraction(0)] * n for _ in range(n)]
    classes = recurrent_classes(rows)
    inside = {s for members in classes for s in members}
    others = [s for s in range(n) if s not in inside]
    for members in classes:
        size = len(members)
        system = [[rows[i].get(j, Fraction(0)) - int(i == j) for i in members] for j in members]
        system[-1] = [Fraction(1)] * size
        share = solve_fractions(system, [Fraction(0)] * (size - 1) + [Fraction(1)])
        enter = [sum((rows[s].get(j, Fraction(0)) for j in members), start=Fraction(0)) for s in others]
        away = [[int(s == t) - rows[s].get(t, Fraction(0)) for t in others] for s in others]
        absorbed = dict(zip(others, solve_fractions(away, enter) if others else [], strict=True))
        for s in range(n):
            weight = absorbed.get(s, Fraction(int(s in members)))
            for j, d in zip(members, share, strict=True):
                out[s][j] += weight * d
    return out


def gains(rows: Rows, rewards: Sequence[Fraction]) -> list[Fraction]:
    """g = P* r, [S]."""
    return [sum((p * r for p, r in zip(line, rewards, strict=True)), start=Fraction(0)) for line in limiting(rows)]


def bias(rows: Rows, rewards: Sequence[Fraction]) -> list[Fraction]:
    """h = (I − P + P*)⁻¹ (r − g), [S] (Puterman 2005, theorem A.7)."""
    star, n = limiting(rows), len(rows)
    gain = gains(rows, rewards)
    system = [[int(i == j) - rows[i].get(j, Fraction(0)) + star[i][j] for j in range(n)] for i in range(n)]
    return solve_fractions(system, [r - g for r, g in zip(rewards, gain, strict=True)])


def best_gains(model: Exact, sense: str = "maximize") -> list[Fraction]:
    """The best gain from each state, [S], over all deterministic policies."""
    best = max if sense == "maximize" else min
    found = [gains(*chain_of(model, choice)) for choice in model.choices()]
    return [best(gain[s] for gain in found) for s in range(model.n_states)]


def best_bias(model: Exact) -> list[Fraction]:
    """The best bias from each state, [S], over the deterministic policies of best gain."""
    top = best_gains(model)
    found = [chain_of(model, choice) for choice in model.choices()]
    kept = [bias(*chain) for chain in found if gains(*chain) == top]
    return [max(h[s] for h in kept) for s in range(model.n_states)]
