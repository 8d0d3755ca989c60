"""Garbage for every argument of everything public: an `OccupancyError` with a message, or a sound object.

Never another exception, a warning of numpy, or a number made from something that is none. Constructors of models
have their own such tests in test_bad_inputs.py, files in test_bad_files.py. Operators follow Python (a TypeError for
operands that are no numbers), and so do paths.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from garbage import GARBAGE
from hypothesis import given, settings

import occlp as oc

MACHINE = oc.instances.get("machine-repair")
INVENTORY = oc.instances.get("inventory")
JOBS = oc.instances.get("tijms-maintenance")
UNDISCOUNTED = MACHINE.replace(discount=None)
UNIFORM = oc.Policy.uniform(MACHINE)
STEP = ("new", "run", 1.0, "worn")
DATA = oc.Dataset.from_rollouts(oc.rollouts(MACHINE, UNIFORM, n_trajectories=20, horizon=9, rng=0), UNIFORM)
LIMITED = oc.Problem(MACHINE, constraints={"c": oc.expected("wear") <= 0.25})


def limited(limit: Any) -> oc.Problem:
    return oc.Problem(MACHINE, constraints={"c": limit})


#: What is asked, with arguments that are right: each is exchanged for garbage in turn.
ASKED: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "Policy.from_pairs": (lambda p: oc.Policy.from_pairs(MACHINE, p), {"p": [0.5] * 6}),
    "Policy.from_table": (lambda p: oc.Policy.from_table(MACHINE, p), {"p": [[0.5, 0.5]] * 3}),
    "Policy.deterministic": (lambda a: oc.Policy.deterministic(MACHINE, a), {"a": ["run"] * 3}),
    "Policy.from_choice": (lambda c: oc.Policy.from_choice(MACHINE, c), {"c": [0, 2, 4]}),
    "Policy.from_occupancy": (lambda d: oc.Policy.from_occupancy(MACHINE, d), {"d": np.full(6, 1 / 6)}),
    "Policy[]": (lambda key: UNIFORM[key], {"key": ("new", "run")}),
    "Policy.sample": (UNIFORM.sample, {"state": "new", "rng": 0, "size": 3}),
    "Problem": (
        oc.Problem,
        {"mdp": MACHINE, "sense": "maximize", "criterion": "discounted", "constraints": [oc.expected("wear") <= 0.3],
         "regularizer": None, "utility": None, "goal": None, "objective": "reward"},
    ),
    "Problem, total": (
        lambda **options: oc.Problem(UNDISCOUNTED, criterion="total", **options),
        {"goal": "broken", "objective": "reward", "constraints": None},
    ),
    "expected": (lambda what: limited(oc.expected(what) <= 1), {"what": "wear"}),
    "<=": (lambda bound: limited(oc.expected("wear") <= bound), {"bound": 0.3}),
    "==": (lambda bound: limited(oc.expected("wear") == bound), {"bound": 0.3}),
    "visits": (lambda **which: limited(oc.visits(**which) <= 1), {"states": "new", "actions": None}),
    "conditional": (
        lambda states, actions, bound: limited(oc.conditional(states, actions) <= bound),
        {"states": "new", "actions": "run", "bound": 0.5},
    ),
    "ratio": (
        lambda above, below, bound: limited(oc.ratio(above, below) <= bound),
        {"above": "wear", "below": np.ones((3, 2)), "bound": 0.5},
    ),
    "KL": (
        lambda strength, reference: oc.Problem(MACHINE, regularizer=oc.KL(strength, reference)),
        {"strength": 1.0, "reference": UNIFORM},
    ),
    "ConditionalKL": (
        lambda strength, reference: oc.Problem(MACHINE, regularizer=oc.ConditionalKL(strength, reference)),
        {"strength": 1.0, "reference": UNIFORM},
    ),
    "PolicyEntropy": (lambda tau: oc.Problem(MACHINE, regularizer=oc.PolicyEntropy(tau)), {"tau": 1.0}),
    "StateEntropy": (lambda tau: oc.Problem(MACHINE, utility=oc.StateEntropy(tau)), {"tau": 1.0}),
    "TotalVariation": (lambda target: oc.Problem(MACHINE, utility=oc.TotalVariation(target)), {"target": UNIFORM}),
    "LogSum": (
        lambda expectations, weights: oc.Problem(MACHINE, utility=oc.LogSum(expectations, weights)),
        {"expectations": ["wear"], "weights": None},
    ),
    "WorstCase": (lambda what: oc.Problem(MACHINE, utility=oc.WorstCase(what)), {"what": ["wear"]}),
    "utility >=": (lambda bound: limited(oc.StateEntropy() >= bound), {"bound": 0.1}),
    "semi_markov": (
        lambda sojourn, **rest: oc.semi_markov(JOBS, sojourn, **rest),
        {"sojourn": "days", "rate": None, "distribution": None, "reward_rates": None, "cost_rates": None},
    ),
    "semi_markov, discounted": (
        lambda **parts: oc.semi_markov(JOBS, **parts),
        {"sojourn_discounts": np.full(JOBS.n_pairs, 0.5), "rate": 0.1, "reward_rates": None},
    ),
    "continuous_time": (
        oc.continuous_time,
        {"rates": [[[0, "1/10"]], [[1, 0]]], "reward_rates": [[1], [0]], "rate": None, "initial": None, "costs": None,
         "states": None, "actions": None, "layout": "sas", "admissible": None},
    ),
    "Dataset.from_transitions": (
        lambda steps, **rest: oc.Dataset.from_transitions(MACHINE, steps, **rest),
        {"steps": [STEP], "terminated": None, "behavior": None},
    ),
    "a transition": (
        lambda s, a, r, following: oc.Dataset.from_transitions(MACHINE, [(s, a, r, following)]),
        dict(zip(("s", "a", "r", "following"), STEP, strict=True)),
    ),
    "Dataset.from_trajectories": (
        lambda steps, **rest: oc.Dataset.from_trajectories(MACHINE, steps, **rest),
        {"steps": [[STEP]], "terminated": None, "behavior": None},
    ),
    "rollouts": (
        lambda policy, **rest: oc.rollouts(MACHINE, policy, **rest),
        {"policy": UNIFORM, "n_trajectories": 3, "horizon": 4, "longest": None, "terminal": None, "rng": 0},
    ),
    "solve": (
        lambda solver, **rest: oc.solve(MACHINE, solver, check=False, **rest),
        {"solver": oc.PolicyIteration(), "tol": 1e-8, "atol": 0.0, "certify": "float", "rng": 0, "limit": None,
         "start": None},
    ),
    "Limit": (oc.Limit, {"seconds": None, "iterations": None, "samples": None}),
    "backward_induction": (
        lambda horizon, **rest: oc.backward_induction(INVENTORY, horizon, **rest),
        {"horizon": 3, "terminal": None, "sense": "maximize", "keep": None, "certify": "float"},
    ),
    "unrolled": (INVENTORY.unrolled, {"horizon": 3, "terminal": None}),
    "evaluate": (lambda problem, policy: oc.evaluate(problem, policy), {"problem": MACHINE, "policy": UNIFORM}),
    "structure": (lambda goal: oc.structure(MACHINE, goal=goal), {"goal": "new"}),
    "mixture": (lambda policy: oc.mixture(MACHINE, policy), {"policy": UNIFORM}),
    "density_ratio": (lambda one, two: oc.density_ratio(MACHINE, one, two), {"one": UNIFORM, "two": UNIFORM}),
    "trajectory_ratio": (
        oc.trajectory_ratio, {"policy": UNIFORM, "reference": UNIFORM, "trajectory": [("new", "run")]}
    ),
    "instances.get": (
        lambda name, discount: oc.instances.get(name, discount=discount), {"name": "forest", "discount": 0.9}
    ),
    "read_model": (oc.interop.read_model, {"name": "forest"}),
    "importance_sampling": (lambda policy: oc.importance_sampling(DATA, policy), {"policy": UNIFORM}),
    "doubly_robust": (
        lambda policy, **rest: oc.doubly_robust(DATA, policy, **rest), {"policy": UNIFORM, "values": None, "folds": 2}
    ),
    "estimate_ratio": (
        lambda policy, **rest: oc.estimate_ratio(DATA, policy, **rest),
        {"policy": UNIFORM, "features": None, "model": None},
    ),
    "pareto": (
        lambda **options: oc.pareto(MACHINE, **options),
        {"maximize": ["reward"], "minimize": ["wear"], "tol": 1e-8, "max_solves": 50},
    ),
    "limit_curve": (lambda name: oc.limit_curve(LIMITED, name), {"name": "c"}),
    "policy_gradient": (
        lambda policy, scale: oc.policy_gradient(MACHINE, policy, scale=scale), {"policy": UNIFORM, "scale": "return"}
    ),
}  # fmt: skip


def check_object(found: Any) -> None:
    """What was accepted holds no garbage."""
    if isinstance(found, oc.Policy):
        sums = np.add.reduceat(found.pair_probabilities, MACHINE.pair_start[:-1])
        assert np.abs(sums - 1).max() <= 1e-12
        assert (found.pair_probabilities >= 0).all()
    elif isinstance(found, oc.Dataset):
        assert np.isfinite(found.rewards).all()
        assert ((found.pair_index >= 0) & (found.pair_index < MACHINE.n_pairs)).all()
    elif isinstance(found, oc.Result):
        assert np.isfinite(found.objective)
        assert found.certificate.lower <= found.certificate.upper
    elif isinstance(found, oc.Problem):
        assert all(np.isfinite(limit.bound) for limit in found.all_limits.values())
        assert len(found.fingerprint) == 64


@pytest.mark.parametrize("name", ASKED)
def test_the_arguments_are_right(name):
    ask, arguments = ASKED[name]
    check_object(ask(**arguments))


@pytest.mark.parametrize(("name", "argument"), [(name, key) for name, (_, given) in ASKED.items() for key in given])
@given(garbage=GARBAGE)
@settings(max_examples=12, deadline=None)
def test_garbage(name, argument, garbage):
    ask, arguments = ASKED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", oc.ModelWarning)
        try:
            found = ask(**{**arguments, argument: garbage})
        except oc.OccupancyError as error:
            words = str(error)
        else:
            check_object(found)
            return
    assert len(words) > 15
