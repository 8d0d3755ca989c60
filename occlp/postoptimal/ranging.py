"""Reward ranging: how far one reward can move before the returned policy stops being optimal.

Plain questions. A change δ of the reward of pair k changes the objective of any policy by δ d(k), so the
policy stays optimal exactly while r·d' + δ d'(k) ≤ r·d + δ d(k) for all occupancies d'. Where every state
is visited this is the ratio test of the simplex method on one column of the inverse basis: advantages are
a + δ c, with c the advantages of the reward "one at pair k". Where some states are never visited the basis
is degenerate and that test too strict; then the first breakpoint of a piecewise linear function is found
by Newton's method, each step an ordinary MDP. Source: Puterman 2005, section 6.9; Gal (1979).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from occlp._typing import FloatArray
from occlp.chains.chain import policy_chain, relative_values
from occlp.errors import InvalidProblem, Unsupported
from occlp.postoptimal.face import OptimalFace, best_occupancy, policy_occupancy
from occlp.residuals import pair_residuals

#: Changes of an advantage, or of an occupancy, below this are rounding.
ROUNDING = 1e-12


class RewardRanging:
    """Intervals of the rewards of single pairs, computed one by one (nothing of size S x S is stored)."""

    def __init__(self, face: OptimalFace) -> None:
        if face.problem.limits:
            raise Unsupported(
                "reward ranges are of plain questions; with constraints use the derivatives and action gaps."
            )
        if not face.intact:
            raise InvalidProblem(
                "the returned policy is optimal only within the tolerance, so no reward has a range. "
                "Analyse the answer of an exact method: oc.solve(problem, oc.PolicyIteration())."
            )
        self.face = face
        self._chain = policy_chain(face.form, face.policy.pair_probabilities)

    def interval(self, pair: int) -> tuple[float, float]:
        """How much the reward of a pair may fall and rise, (≤ 0, ≥ 0), in the units of the standard form."""
        face = self.face
        if face.policy.pair_probabilities[pair] == 0 and face.visited[face.form.states[pair]]:
            return -np.inf, max(0.0, -float(face.advantages[pair]))
        if face.visited.all():
            return self._ratio_test(pair)
        low = -np.inf if self._occupancy[pair] == 0 else -self._breakpoint(pair, -1.0)
        return low, self._breakpoint(pair, 1.0)

    @cached_property
    def _occupancy(self) -> FloatArray:
        return policy_occupancy(self.face.form, self.face.policy)

    def _ratio_test(self, pair: int) -> tuple[float, float]:
        form, probabilities = self.face.form, self.face.policy.pair_probabilities
        unit = (np.arange(form.n_pairs) == pair).astype(np.float64)
        scores, _ = pair_residuals(form, self._response(pair), None, unit)
        mean = np.add.reduceat(scores * probabilities, form.start[:-1])
        slopes = scores - mean[form.states]
        room = np.maximum(-self.face.advantages, 0.0)
        up, down = slopes > ROUNDING, slopes < -ROUNDING
        rise = float((room[up] / slopes[up]).min(initial=np.inf))
        fall = float((room[down] / -slopes[down]).min(initial=np.inf))
        return -fall, rise

    def _response(self, pair: int) -> FloatArray:
        """Relative values of the reward "one at this pair" under the policy: a column of the inverse basis."""
        form = self.face.form
        earned = np.zeros(form.n_states)
        earned[form.states[pair]] = self.face.policy.pair_probabilities[pair]
        self._chain = replace(self._chain, rewards=earned)  # with the factors found for the pair before
        bracket = relative_values(self._chain)
        return bracket.high + bracket.low

    def _breakpoint(self, pair: int, direction: float) -> float:
        """Largest change in a direction under which the policy stays optimal; inf where there is no end."""
        face, own = self.face, self._occupancy
        form, pairs = face.form, face.problem.mdp.pairs
        unit = np.zeros(form.n_pairs)
        unit[pair] = direction
        other = best_occupancy(form, pairs, unit)
        change = float(unit @ other - unit @ own)
        if change <= ROUNDING * max(own[pair], other[pair]):  # both are accurate relative to themselves
            return float(np.inf)
        step = np.inf
        while (shorter := max(0.0, float(form.rewards @ (own - other))) / change) < step:
            step = shorter
            changed = form.rewards + step * unit
            other = best_occupancy(form, pairs, changed)
            change = float(unit @ other - unit @ own)
            if float(changed @ (other - own)) <= ROUNDING * (1.0 + step) or change <= 0:
                break
        return step
