"""Estimators: how the slopes of a policy's objective are obtained, exactly or from sampled trajectories.

An estimator of your own derives from `Estimator`, or from `TrajectoryEstimator` if it weighs the steps of trajectories.
"""

from occlp.solvers.policy_gradient.estimators.base import Estimate as Estimate
from occlp.solvers.policy_gradient.estimators.base import Estimator as Estimator
from occlp.solvers.policy_gradient.estimators.exact import Exact as Exact
from occlp.solvers.policy_gradient.estimators.off_policy import OffPolicy as OffPolicy
from occlp.solvers.policy_gradient.estimators.sampled import GAE as GAE
from occlp.solvers.policy_gradient.estimators.sampled import MonteCarlo as MonteCarlo
from occlp.solvers.policy_gradient.estimators.sampled import TemporalDifference as TemporalDifference
from occlp.solvers.policy_gradient.estimators.trajectories import TrajectoryEstimator as TrajectoryEstimator
