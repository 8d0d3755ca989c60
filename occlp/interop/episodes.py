"""Episodes of a Gymnasium environment, stepped one action at a time."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeAlias

import numpy as np

from occlp.arguments import read_generator
from occlp.errors import InvalidProblem
from occlp.interop.gymnasium import TERMINAL, make
from occlp.model import MDP
from occlp.policy import Policy, read_policy

#: (state, action, reward, next state), as labels of the model.
Step: TypeAlias = tuple[Hashable, Hashable, float, Hashable]


def gymnasium_episodes(
    env: Any, model: MDP, policy: Policy, *, n_trajectories: int, longest: int | None = None, rng: Any = None
) -> list[tuple[list[Step], bool]]:
    """Step an environment under a policy; return the steps of each episode, and whether it terminated.

    Parameters
    ----------
    env : str or environment
        An id, which is made and closed here, or an environment, which stays open.
    model : MDP
        As `from_gymnasium` reads it: states are labelled by observations, and actions are Gymnasium's.
    policy : Policy
    n_trajectories : int
    longest : int, optional
        Steps after which an episode is cut, besides the environment's own time limit.
    rng : int, Generator, SeedSequence or None
        For the actions, and for the seed of the environment.
    """
    policy = read_policy(policy, model.pairs)
    if n_trajectories < 1 or (longest is not None and longest < 1):
        raise InvalidProblem(f"n_trajectories and longest are at least 1, not {n_trajectories} and {longest}.")
    generator = read_generator(rng)
    stepped = make(env, {}) if isinstance(env, str) else env
    try:
        seed = int(generator.integers(2**31))
        return [
            _episode(stepped, model, policy, generator, longest, seed if n == 0 else None)
            for n in range(n_trajectories)
        ]
    finally:
        if isinstance(env, str):
            stepped.close()


def _episode(
    env: Any, model: MDP, policy: Policy, generator: np.random.Generator, longest: int | None, seed: int | None
) -> tuple[list[Step], bool]:
    pairs = model.pairs
    steps: list[Step] = []
    state, _ = _label(model, env.reset(seed=seed)[0])
    while longest is None or len(steps) < longest:
        s = pairs.state(state)
        first, last = int(pairs.start[s]), int(pairs.start[s + 1])
        pair = first + int(generator.choice(last - first, p=policy.pair_probabilities[first:last]))
        observation, reward, terminated, truncated, _ = env.step(int(pairs.actions[pair]))
        following, ended = (TERMINAL, True) if terminated else _label(model, observation)
        steps.append((state, pairs.action_name(pairs.actions[pair]), float(reward), following))
        if ended:
            return steps, True
        if truncated:
            break
        state = following
    return steps, False


def _label(model: MDP, observation: Any) -> tuple[Hashable, bool]:
    """State of an observation, and whether it is one in which nothing happens any more."""
    label = observation.item() if isinstance(observation, np.generic) else observation
    try:
        model.pairs.state(label)
    except InvalidProblem:
        model.pairs.state(TERMINAL)  # absorbing states have been merged into it
        return TERMINAL, True
    return label, False
