"""Updates: how an estimate changes the parameters.

Step sizes refer to the gradient on the return scale and in the user's units, ∇J = Σ d A ∇π / (1 − γ). An update of
your own derives from `Update`.
"""

from occlp.solvers.policy_gradient.updates.base import Landscape as Landscape
from occlp.solvers.policy_gradient.updates.base import Position as Position
from occlp.solvers.policy_gradient.updates.base import Update as Update
from occlp.solvers.policy_gradient.updates.clipped import ClippedRatio as ClippedRatio
from occlp.solvers.policy_gradient.updates.gradient import GradientStep as GradientStep
from occlp.solvers.policy_gradient.updates.mirror import MirrorStep as MirrorStep
from occlp.solvers.policy_gradient.updates.natural import NaturalStep as NaturalStep
from occlp.solvers.policy_gradient.updates.trust_region import TrustRegion as TrustRegion
