"""Parametrizations: how parameters become a policy, and how slopes of the objective become a gradient.

A class of your own derives from `Parametrization`, or from `PreferenceParametrization` if its policy is a softmax.
"""

from occlp.solvers.policy_gradient.parametrizations.base import Parametrization as Parametrization
from occlp.solvers.policy_gradient.parametrizations.base import PreferenceParametrization as PreferenceParametrization
from occlp.solvers.policy_gradient.parametrizations.features import Gaussian as Gaussian
from occlp.solvers.policy_gradient.parametrizations.features import LogLinear as LogLinear
from occlp.solvers.policy_gradient.parametrizations.network import Network as Network
from occlp.solvers.policy_gradient.parametrizations.tabular import Direct as Direct
from occlp.solvers.policy_gradient.parametrizations.tabular import Softmax as Softmax
