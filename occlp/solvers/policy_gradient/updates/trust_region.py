"""Trust region policy optimisation: the natural direction, as far as a bound on the KL divergence allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import rel_entr

from occlp._typing import FloatArray
from occlp.arguments import check_positive
from occlp.solvers.policy_gradient.updates.base import Landscape, Position, Update
from occlp.solvers.policy_gradient.updates.natural import check_fisher, natural_direction

#: A step that leaves the region or does not improve is shortened by this factor, ...
SHRINK = 0.8
#: ... at most this often.
MOST_SHRINKINGS = 100


@dataclass(frozen=True, repr=False)
class TrustRegion(Update):
    """Maximise the importance-weighted surrogate subject to E_{s~d} KL(π_old(· | s) ‖ π_new(· | s)) ≤ radius.

    The direction solves with the Fisher matrix by conjugate gradients; its length makes the quadratic model of the
    divergence equal to the radius, and is shortened until the divergence itself is within the radius and the surrogate
    has improved. With an exact estimator J must not get worse either, so that every step improves it.

    Parameters
    ----------
    radius : float
        Bound δ on the mean divergence, in nats.
    fisher : {"expected", "sampled"}
        As in `NaturalStep`.
    damping : float
        As in `NaturalStep`.

    Notes
    -----
    Source: Schulman, Levine, Abbeel, Jordan and Moritz (2015), section 6 and appendix C.
    """

    radius: float = 0.01
    fisher: str = "expected"
    damping: float = 0.0

    def __post_init__(self) -> None:
        check_positive("radius", self.radius)
        check_fisher(self.fisher, self.damping)

    def step(self, landscape: Landscape, position: Position) -> Position | None:
        """Move to the edge of the region, or as near as the surrogate allows."""
        estimate = position.estimate
        gradient = landscape.pullback(position.parameters, estimate.slopes)
        direction = natural_direction(landscape, position, self.fisher, self.damping)
        curvature = float(direction @ gradient)  # of F, since F u is the gradient
        if not curvature > 0:
            # Nothing is known to improve: the end of an exact run, a batch without news of a sampled one.
            return landscape.move(position, position.parameters) if landscape.is_sampled else None
        length = float(np.sqrt(2.0 * self.radius * estimate.pair_mass.sum() / curvature))
        old = landscape.probabilities(position.parameters)
        for _ in range(MOST_SHRINKINGS):
            parameters = landscape.parametrization.project(landscape.pairs, position.parameters + length * direction)
            new = landscape.probabilities(parameters)
            gain = float(estimate.slopes @ (new - old))
            if gain > 0 and mean_divergence(landscape, estimate.pair_mass, old, new) <= self.radius:
                found = landscape.move(position, parameters)
                if landscape.is_sampled or found.estimate.objective > estimate.objective:
                    return found
            length *= SHRINK
        return landscape.move(position, position.parameters) if landscape.is_sampled else None


def mean_divergence(landscape: Landscape, pair_mass: FloatArray, old: FloatArray, new: FloatArray) -> float:
    """Σ_s d(s) KL(old(· | s) ‖ new(· | s)), d the states' shares of the pair masses."""
    mass = np.add.reduceat(pair_mass, landscape.form.start[:-1])[landscape.form.states]
    terms = np.where(mass > 0, mass * rel_entr(old, new), 0.0)
    return float(terms.sum() / pair_mass.sum())
