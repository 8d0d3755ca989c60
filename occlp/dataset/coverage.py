"""Whether data can tell what a policy earns."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from occlp._typing import AnyArray, BoolArray, IntArray, frozen
from occlp.errors import Unsupported
from occlp.model import Pairs


@dataclass(frozen=True, eq=False, kw_only=True)
class Coverage:
    """Which pairs a policy needs, as far as the data can follow it, and which of these the data hold.

    Attributes
    ----------
    pairs : Pairs
    needed : BoolArray [pairs]
        Pairs that the policy takes in the states that it reaches: from the initial states of the data, along
        transitions that the data hold.
    counts : IntArray [pairs]
        How often the data hold each pair.
    """

    pairs: Pairs
    needed: BoolArray  # [pairs]
    counts: IntArray  # [pairs]

    @property
    def missing(self) -> list[tuple[Hashable, Hashable]]:
        """Pairs that the policy needs and the data lack, as (state, action) labels."""
        return [self._labels(int(k)) for k in np.flatnonzero(self.needed & (self.counts == 0))]

    @property
    def is_complete(self) -> bool:
        """Whether every needed pair is in the data. What lies behind a missing pair is unknown."""
        return not (self.needed & (self.counts == 0)).any()

    @property
    def rarest(self) -> tuple[tuple[Hashable, Hashable], int]:
        """The needed pair that the data hold least often, as labels, and how often."""
        needed = np.flatnonzero(self.needed)
        rarest = int(needed[np.argmin(self.counts[needed])])
        return self._labels(rarest), int(self.counts[rarest])

    def _labels(self, pair: int) -> tuple[Hashable, Hashable]:
        return self.pairs.state_name(self.pairs.states[pair]), self.pairs.action_name(self.pairs.actions[pair])

    def require(self) -> None:
        """Raise `Unsupported`, naming the pairs, unless the coverage is complete."""
        missing = np.flatnonzero(self.needed & (self.counts == 0))
        if len(missing):
            raise Unsupported(
                f"the data lack {len(missing)} of {int(self.needed.sum())} pairs that the policy needs: "
                f"{name_pairs(self.pairs, missing)}. Collect data there, or ask about a policy that stays away."
            )


def name_pairs(pairs: Pairs, listed: AnyArray, most: int = 4) -> str:
    """Words for some pairs."""
    words = "; ".join(pairs.describe(int(k)) for k in listed[:most])
    return words + (f"; and {len(listed) - most} more" if len(listed) > most else "")


def cover(
    pairs: Pairs, taken: BoolArray, initial: BoolArray, links: tuple[IntArray, IntArray], counts: IntArray
) -> Coverage:
    """Follow the pairs `taken` [pairs] from the states `initial` [S] along the links (pair, next state) of the data."""
    used = taken[links[0]]
    origins, targets = pairs.states[links[0][used]], links[1][used]
    graph = sparse.csr_array((np.ones(len(origins)), (origins, targets)), shape=(pairs.n_states, pairs.n_states))
    reached = initial.copy()
    frontier: AnyArray = np.flatnonzero(initial)
    while len(frontier):
        found = np.unique(graph[frontier].indices)
        frontier = found[~reached[found]]
        reached[frontier] = True
    needed = taken & reached[pairs.states]
    return Coverage(pairs=pairs, needed=frozen(needed), counts=frozen(counts))
