"""Small questions of every kind, and honest answers to them at every level: what lies are made of.

They have few deterministic policies, so that their truth can be found by looking at all of them (`lie_truth`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

import occlp as oc

MACHINE = oc.instances.get("machine-repair")
FREE = MACHINE.replace(discount=None)
TOYMAKER = oc.instances.get("howard-toymaker")
#: Two classes that are never left, and a way to either: discounted, and not.
CLASSES = oc.MDP.from_arrays(
    [[["1/2", "1/2", 0], [0, 0, 1]], [[0, 1, 0]] * 2, [[0, 0, 1]] * 2], [[0, 0], [2, 1], [3, 1]],
    discount="0.999", initial=[0.5, 0.25, 0.25],
)  # fmt: skip
DRIFT = oc.MDP.from_arrays(
    [[[0.5, 0.5, 0], [0, 0, 1]], [[0, 1, 0]] * 2, [[0, 0, 1]] * 2], [[0, 0], [2, 1], [3, 1]], initial=[0.5, 0.25, 0.25]
)
WALK = oc.MDP.from_arrays(
    [[[0.5, 0.5, 0, 0], [0, 0, 1, 0]], [[0, 0.25, 0.5, 0.25]] * 2, [[0.5, 0, 0, 0.5], [0, 0.5, 0, 0.5]],
     [[0, 0, 0, 1]] * 2],
    [[-1, -3], [-2, -2.5], [-1, 0.5], [0, 0]], initial=0, costs={"toll": [[1, 0], [0, 1], [2, 0], [0, 0]]},
)  # fmt: skip
PIT = oc.MDP.from_arrays(
    [[[0, 1, 0, 0], [0, 0, 1, 0]], [[0, 0, 0, 1]] * 2, [[0, 0, 1, 0]] * 2, [[0, 0, 0, 1]] * 2],
    [[-1, 5], [-2, -3], [-1, -2], [0, 0]], initial=0,
)  # fmt: skip
CIRCLE = oc.MDP.from_arrays([[[1, 0], [0, 1]], [[0, 1]] * 2], [[1, 0], [0, 0]], initial=0)
LOSING = oc.MDP.from_arrays([[[0, 1]], [[1, 0]]], [[1], [-2]], initial=0)
TWO_STATES = oc.MDP.from_arrays([[[0.75, 0.25], [0.5, 0.5]], [[0.5, 0.5], [0.25, 0.75]]], [[1, 2], [0, -1]], initial=0)


def questions() -> Mapping[str, oc.Problem]:
    """Every kind of question that the audit takes."""
    uniform, wear = oc.Policy.uniform(MACHINE), oc.expected("wear") <= 0.25
    tilted = oc.Policy.from_pairs(TOYMAKER, [0.25, 0.75, 0.5, 0.5])
    total: dict[str, Any] = {"criterion": "total", "goal": 3}
    return {
        "rewards": oc.Problem(TOYMAKER),
        "costs": oc.Problem(MACHINE, "minimize"),
        "an offset of the rewards": oc.Problem(TOYMAKER.replace(rewards=TOYMAKER.pair_rewards + 100.0)),
        "classes that are never left": oc.Problem(CLASSES),
        "one limit": oc.Problem(MACHINE, constraints=[wear]),
        "two limits": oc.Problem(MACHINE, constraints=[wear, oc.visits(actions="repair") <= 5]),
        "an equality": oc.Problem(MACHINE, "minimize", constraints=[oc.expected("wear") == 0.2]),
        "average": oc.Problem(FREE, criterion="average"),
        "average with a limit": oc.Problem(FREE, criterion="average", constraints=[wear]),
        "averages by state": oc.Problem(CLASSES.replace(discount=None), criterion="average"),
        "least averages by state": oc.Problem(CLASSES.replace(discount=None), "minimize", "average"),
        "KL": oc.Problem(TOYMAKER, regularizer=oc.KL(2.0, tilted)),
        "KL of costs, with a limit": oc.Problem(
            MACHINE, "minimize", regularizer=oc.KL(0.5, uniform), constraints=[wear]
        ),
        "conditional KL": oc.Problem(MACHINE, regularizer=oc.ConditionalKL(1.0, uniform)),
        "policy entropy of costs": oc.Problem(MACHINE, "minimize", regularizer=oc.PolicyEntropy(0.5)),
        "occupancy entropy": oc.Problem(MACHINE, regularizer=oc.OccupancyEntropy(0.5), constraints=[wear]),
        "state entropy": oc.Problem(MACHINE, utility=oc.StateEntropy()),
        "total variation": oc.Problem(MACHINE, utility=oc.TotalVariation(uniform), constraints=[wear]),
        "log sum": oc.Problem(MACHINE, utility=oc.LogSum(["wear", "reward"])),
        "worst case": oc.Problem(MACHINE, utility=oc.WorstCase(["wear", "reward"])),
        "a concave limit": oc.Problem(MACHINE, constraints=[oc.StateEntropy() >= 1.05]),
        "total": oc.Problem(WALK, **total),
        "least total": oc.Problem(WALK.replace(rewards=-WALK.pair_rewards), "minimize", **total),
        "total without a goal": oc.Problem(WALK, criterion="total"),
        "total beside a pit": oc.Problem(PIT, **total),
        "total with a limit": oc.Problem(WALK, constraints=[oc.expected_total("toll") >= 1], **total),
        "reaching": oc.Problem(WALK, criterion="total", goal=1, objective="reach"),
        "a horizon": oc.Problem(TWO_STATES.unrolled(3, terminal=[0.0, 1.0]), criterion="total"),
        "infeasible": oc.Problem(MACHINE, constraints=[oc.expected("wear") <= 0, oc.expected("reward") >= 7.4]),
        "infeasible total": oc.Problem(WALK, constraints=[oc.expected_total("toll") <= -1], **total),
        "a goal out of reach": oc.Problem(CIRCLE.replace(initial=1), criterion="total", goal=0),
        "unbounded": oc.Problem(CIRCLE, criterion="total"),
        "losing for ever": oc.Problem(LOSING, criterion="total"),
    }  # fmt: skip


QUESTIONS = questions()


@cache
def answers(name: str) -> tuple[oc.Result, ...]:
    """Honest answers: the best one at each level that there is, and one that is far from optimal."""
    problem = QUESTIONS[name]
    found = [oc.solve(problem, check=False)]
    if find_spec("flint") is not None:
        levels = [oc.solve(problem, certify=level, check=False) for level in ("interval", "exact")]
        found += [result for result in levels if result.certificate.level != "float"]
    with suppress(oc.Unsupported):
        found.append(oc.solve(problem, oc.NaturalPolicyGradient(steps=0), check=False))
    return tuple(found)


def rebuilt(mdp: oc.MDP, transitions: Any = None, **changes: Any) -> oc.MDP:
    """The model with other rows [pairs, S], initial distribution, discount or rewards."""
    pairs = mdp.pairs
    rows = mdp.transitions.toarray() if transitions is None else transitions
    given = {"rewards": mdp.pair_rewards, "discount": mdp.discount, "initial": mdp.initial, "costs": mdp.pair_costs}
    given |= changes
    return oc.MDP.from_pairs(pairs.states, pairs.actions, np.asarray(rows), given.pop("rewards"), **given)
