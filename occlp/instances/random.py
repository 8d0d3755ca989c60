"""Random models: garnets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from occlp.errors import InvalidModel
from occlp.instances._build import Number, count, read_discount
from occlp.instances.registry import instance
from occlp.model.mdp import MDP

if TYPE_CHECKING:
    from occlp._typing import AnyArray


@instance(
    "garnet",
    title="A random sparse model: every pair has a few random successors",
    source="Archibald, McKinnon and Thomas, Journal of the Operational Research Society 46 (1995)",
)
def garnet(
    *,
    n_states: int = 100,
    n_actions: int = 5,
    branching: int = 5,
    seed: Any = 0,
    n_costs: int = 0,
    discount: Number | None = 0.95,
) -> MDP:
    """Build a garnet: the same numbers for the same seed, with no table of S × S.

    Each pair has `branching` distinct successors, every set of them equally likely; their probabilities are
    the gaps between uniform cuts of [0, 1]. Rewards and costs are uniform on [0, 1).

    Parameters
    ----------
    n_states, n_actions, branching : int
        At least 1; ``branching <= n_states``.
    seed : int or anything that ``numpy.random.default_rng`` takes
    n_costs : int
        Number of costs, named "cost0", "cost1", ...; they leave transitions and rewards as they are.
    discount : number

    References
    ----------
    Archibald, McKinnon and Thomas, On the generation of Markov decision processes (1995).
    """
    states, actions = count(n_states, "n_states", 1), count(n_actions, "n_actions", 1)
    width, extra = count(branching, "branching", 1), count(n_costs, "n_costs", 0)
    if width > states:
        raise InvalidModel(f"branching={width} is more than n_states={states}: successors are distinct.")
    rng = np.random.default_rng(seed)
    rows = states * actions
    successors = _distinct(rng, rows, width, states)
    cuts = np.sort(rng.random((rows, width - 1)), axis=1)
    # Cuts are multiples of 2^-53, so the gaps are exact and every row sums to exactly 1.
    weights = np.diff(cuts, axis=1, prepend=0.0, append=1.0)
    matrix = sparse.csr_array(
        (weights.ravel(), successors.ravel(), np.arange(0, rows * width + 1, width)), shape=(rows, states)
    )
    rewards = rng.random((states, actions))
    return MDP.from_arrays(
        matrix,
        rewards,
        discount=read_discount(discount, exact=False),
        costs={f"cost{i}": rng.random((states, actions)) for i in range(extra)},
    )


def _distinct(rng: np.random.Generator, rows: int, width: int, n_states: int) -> AnyArray:
    """Rows of distinct states [rows, width], every set equally likely (Floyd's sampling, all rows at once)."""
    if width == n_states:
        return np.tile(np.arange(n_states), (rows, 1))
    chosen = np.empty((rows, width), dtype=np.int64)
    for k, newcomer in enumerate(range(n_states - width, n_states)):
        drawn = rng.integers(0, newcomer + 1, size=rows)
        taken = (chosen[:, :k] == drawn[:, None]).any(axis=1)
        chosen[:, k] = np.where(taken, newcomer, drawn)
    return chosen
