"""What tables, figures and pages have in common: which states to show, and words for numbers and policies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from occlp.errors import InvalidProblem
from occlp.graph import structure
from occlp.plain import visible
from occlp.storage import replacing

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

    from occlp._typing import AnyArray, FloatArray
    from occlp.comparison import Comparison, Row
    from occlp.instances.registry import Instance
    from occlp.model import MDP, Pairs
    from occlp.result import Result

#: States shown of a large model.
SHOWN_STATES = 50
#: Up to this many actions all are shown; of more, those in use, and never more than twice as many.
ALL_ACTIONS = 12
#: Pairs shown where the loss sits.
SHOWN_LOSSES = 8
#: Pairs that hold less than this share of a loss are not listed.
SMALL_SHARE = 1e-3
#: Actions less probable than this are summed up.
RARE = 5e-4
#: What stands for a figure that does not exist.
MISSING = "–"


@dataclass(frozen=True)
class Choice:
    """What a policy does in one state, in words."""

    actions: str
    unvisited: bool
    differs: bool = False


@dataclass(frozen=True)
class Loss:
    """What one pair takes away from the objective."""

    state: str
    action: str
    mass: float
    shortfall: float
    lost: float
    share: float


def number(value: float | None, digits: int = 10) -> str:
    """Write a number with at most `digits` significant digits."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return f"{value + 0.0:.{digits}g}"


def size(value: float | None) -> str:
    """Write the order of a gap: two digits."""
    if value is None or math.isnan(value):
        return MISSING
    if value == 0 or math.isinf(value):
        return number(value)
    if 1e-2 <= value < 1e5:
        return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
    return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-").replace("e+0", "e+")


def seconds(value: float | None) -> str:
    """Write a duration in seconds, so that columns line up."""
    if value is None or math.isnan(value):
        return MISSING
    return f"{value:.4f}" if value < 10 else f"{value:.1f}"


def label(value: Hashable, width: int = 40) -> str:
    """Write a label on one line, cut in the middle where it is long."""
    text = visible(" ".join(str(value).split()) or repr(value))
    return text if len(text) <= width else f"{text[: width - width // 3 - 1]}…{text[-(width // 3) :]}"


def run_name(row: Row, comparison: Comparison) -> str:
    """Name of a run; the seed goes with it where a method has several."""
    several = sum(other.name == row.name for other in comparison) > 1
    return f"{display(row.name)} #{row.seed}" if several else display(row.name)


def display(name: str) -> str:
    """Name of a method for the eye: without the brackets of a solver in its default settings."""
    return name.removesuffix("()")


def reason(row: Row) -> str | None:
    """Why a run is not certified, or None where it is."""
    if row.result is None:
        return row.error
    return None if row.result.status.name == "CERTIFIED" else row.result.message


def answer(row: Row) -> Result | None:
    """The result of a run, or None where its policy answers nothing because it is proved that nothing does."""
    if row.result is None or row.result.status.name in ("INFEASIBLE", "UNBOUNDED"):
        return None
    return row.result


def first_runs(comparison: Comparison) -> list[tuple[str, Result]]:
    """The first result of every method, with the method's name."""
    found: dict[str, Result] = {}
    for row in comparison:
        if (result := answer(row)) is not None:
            found.setdefault(row.name, result)
    return list(found.items())


def best_result(results: Sequence[Result]) -> Result:
    """The result with the smallest certified gap (the first of equals, which rounding tells apart only in name)."""
    return min(results, key=lambda result: max(result.gap, result.certificate.rounding))


def top_states(results: Sequence[Result], limit: int = SHOWN_STATES) -> AnyArray:
    """Indices of the states with most occupancy, averaged over the results, in decreasing order, [shown]."""
    mass = np.mean([result.state_occupancy for result in results], axis=0)
    return np.argsort(-mass, kind="stable")[:limit]


def crop_occupancies(results: Sequence[Result]) -> tuple[list[FloatArray], AnyArray, AnyArray]:
    """Occupancy tables of the states and actions with most mass, NaN where there is no pair."""
    pairs = results[0].pairs
    states = np.sort(top_states(results, SHOWN_STATES + 10))
    if len(states) < pairs.n_states:
        states = np.sort(top_states(results, SHOWN_STATES))
    use = np.sum([np.bincount(pairs.actions, r.pair_occupancy, pairs.n_actions) for r in results], axis=0)
    actions = np.arange(pairs.n_actions)
    if pairs.n_actions > ALL_ACTIONS:
        leading = np.argsort(-use, kind="stable")[: 2 * ALL_ACTIONS]
        actions = np.sort(leading[use[leading] >= min(1e-3, use.max())])
    column = np.full(pairs.n_actions, -1)
    column[actions] = np.arange(len(actions))
    row = np.full(pairs.n_states, -1)
    row[states] = np.arange(len(states))
    i, j = row[pairs.states], column[pairs.actions]
    kept = (i >= 0) & (j >= 0)
    tables = []
    for result in results:
        table = np.full((len(states), len(actions)), np.nan)
        table[i[kept], j[kept]] = result.pair_occupancy[kept]
        tables.append(table)
    return tables, states, actions


def crop_words(pairs: Pairs, tables: Sequence[FloatArray], states: AnyArray, actions: AnyArray) -> str:
    """Say what a crop leaves out, and how much mass it keeps; empty when it is the whole."""
    parts = []
    if len(states) < pairs.n_states:
        parts.append(f"{len(states)} of {pairs.n_states} states")
    if len(actions) < pairs.n_actions:
        parts.append(f"{len(actions)} of {pairs.n_actions} actions")
    words = "grey: no such action" if np.isnan(tables[0]).any() else ""
    if not parts:
        return words
    shares = [float(np.nansum(table)) for table in tables]
    low, high = (f"{share:.1%}" if share < 0.9995 else "over 99.9%" for share in (min(shares), max(shares)))
    cut = f"{' and '.join(parts)}: those with most mass, {low if low == high else f'{low} to {high}'} of all"
    return f"{cut}; {words}" if words else cut


def choice(result: Result, state: int, reference: Result | None = None) -> Choice:
    """Put what a policy does in a state into words, marked where it prefers another action than `reference`."""
    pairs, policy = result.pairs, result.policy
    span = np.arange(pairs.start[state], pairs.start[state + 1])
    probabilities = policy.pair_probabilities[span]
    order = np.argsort(-probabilities, kind="stable")
    names = [label(pairs.action_name(pairs.actions[span[k]]), 24) for k in order]
    visited = bool(result.visited[state])
    differs = False
    if reference is not None and visited and bool(reference.visited[state]):
        own, other = probabilities, reference.policy.pair_probabilities[span]
        differs = bool(0.5 * np.abs(own - other).sum() > 0.01)
    return Choice(_mixture(names, probabilities[order]), not visited, differs)


def _mixture(names: Sequence[str], probabilities: AnyArray) -> str:
    if probabilities[0] == 1.0:
        return names[0]
    if probabilities[0] > 1 - RARE:
        return f"{names[0]}: >0.999"
    shown = [k for k in range(len(names)) if probabilities[k] >= RARE][:3]
    words = ", ".join(f"{names[k]}: {probabilities[k]:.3f}" for k in shown)
    rest = int((probabilities > 0).sum()) - len(shown)
    return f"{words}, {rest} more" if rest else words


def losses(result: Result, limit: int = SHOWN_LOSSES) -> list[Loss] | None:
    """Pairs that cost the objective most; empty when nothing but rounding is lost, None when it does not split.

    The gap of a linear objective is the sum over the pairs of d(s, a) times the reduced cost. With a
    regularizer, or with a priced constraint that is not used up, it is not, and then no table is better
    than a wrong one.
    """
    certificate, pairs = result.certificate, result.pairs
    lost = result.pair_occupancy * certificate.reduced_costs
    total = float(lost.sum())
    if not abs(total - result.gap) <= 4 * certificate.rounding + 1e-6 * result.gap:
        return None
    if total <= 4 * certificate.rounding:
        return []
    order = np.argsort(-lost, kind="stable")[:limit]
    return [
        Loss(
            label(pairs.state_name(int(pairs.states[k]))), label(pairs.action_name(int(pairs.actions[k]))),
            float(result.pair_occupancy[k]), float(certificate.reduced_costs[k]), float(lost[k]),
            float(lost[k]) / total,
        )
        for k in order
        if lost[k] >= SMALL_SHARE * total
    ]  # fmt: skip


def model_facts(mdp: MDP, name: str, instance: Instance | None = None) -> dict[str, Any]:
    """Facts of a model, as plain data in the order in which people ask for them.

    Parameters
    ----------
    mdp : MDP
    name : str
        What the model was asked for by.
    instance : Instance, optional
        The entry of a named model, which knows title, source, parameters and sense.

    Returns
    -------
    dict
        Strings, numbers, booleans, lists and None only.
    """
    known: Mapping[str, Any] = {} if instance is None else instance.parameters
    return {
        "model": name,
        "title": None if instance is None else instance.title,
        "source": None if instance is None else instance.source,
        "sense": "maximize" if instance is None else instance.sense,
        "states": mdp.n_states,
        "actions": mdp.n_actions,
        "pairs": mdp.n_pairs,
        "transitions": int(mdp.transitions.nnz),
        "discount": mdp.discount,
        "initial_states": int((mdp.initial > 0).sum()),
        "reward_min": float(mdp.pair_rewards.min()),
        "reward_max": float(mdp.pair_rewards.max()),
        "costs": sorted(mdp.pair_costs),
        "exact": mdp.exact is not None,
        "notes": list(mdp.notes),
        "parameters": {key: plain(value) for key, value in known.items()},
    }


def structure_facts(mdp: MDP, goal: Sequence[Hashable] | None = None) -> dict[str, Any]:
    """Facts of the graph of a model, as plain data; with a goal also where it is out of reach.

    Parameters
    ----------
    mdp : MDP
    goal : sequence of state labels, optional
    """
    found = structure(mdp, goal=goal)
    facts = {
        "class": found.classification,
        "unichain": found.chains.unichain,
        "strongly_connected_components": found.n_strongly_connected_components,
        "maximal_end_components": found.n_maximal_end_components,
        "absorbing_states": int(found.absorbing.sum()),
        "unreachable_states": int((~found.reachable).sum()),
    }
    if found.goal is not None:
        facts["goal_states"] = int(found.goal.goal.sum())
        facts["dead_ends"] = int((~found.goal.positive_for_some).sum())
        facts["goal_certain_for_some"] = int(found.goal.certain_for_some.sum())
        facts["goal_certain_for_all"] = int(found.goal.certain_for_all.sum())
    return facts


def result_row(result: Result) -> dict[str, Any]:
    """Figures of one result for a machine: its summary, and what the policy costs."""
    return result.summary() | {
        "expected": dict(result.expected),
        "expected_total": dict(result.expected_total) if result.has_return else None,
        "multipliers": dict(result.multipliers),
        "sensitivity": dict(result.sensitivity),
        "deterministic": result.policy.is_deterministic,
        "visited_states": int(result.visited.sum()),
    }


def policy_rows(result: Result) -> list[dict[str, Any]]:
    """The pairs that a policy takes, with probability and occupancy, in the order of the states."""
    pairs, probabilities = result.pairs, result.policy.pair_probabilities
    return [
        {
            "state": pairs.state_name(int(pairs.states[k])),
            "action": pairs.action_name(int(pairs.actions[k])),
            "probability": float(probabilities[k]),
            "occupancy": float(result.pair_occupancy[k]),
        }
        for k in probabilities.nonzero()[0]
    ]


def plain(value: Any) -> Any:
    """Turn a value into what strict JSON knows; NaN and infinities become None."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value)


def title(comparison: Comparison) -> str:
    """The question of a comparison, as a title."""
    return comparison.title[:1].upper() + comparison.title[1:]


def drawable_results(comparison: Comparison) -> list[tuple[str, Result]]:
    """First runs, or an `InvalidProblem` that says why there is nothing to draw."""
    found = first_runs(comparison)
    if not found:
        raise InvalidProblem("no method of this comparison has an answer, so there is no occupancy to draw.")
    return found


def write_file(path: Path, content: str) -> Path:
    """Write text so that a reader never sees half of it."""
    with replacing(path) as stream:
        stream.write(content.encode())
    return path
