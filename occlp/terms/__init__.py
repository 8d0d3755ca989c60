"""Concave functions of the occupancy: regularizers that join the reward, utilities that replace it.

What a user writes (`KL`, `StateEntropy`, ...) is settings; bound to a problem it becomes a `Term`, one
small protocol, so that the certificate is one formula: value, gradient, bound, expression.
"""

from occlp.terms.base import Binding as Binding
from occlp.terms.base import ConcaveUtility as ConcaveUtility
from occlp.terms.base import Majorant as Majorant
from occlp.terms.base import ProgramSize as ProgramSize
from occlp.terms.base import Regularizer as Regularizer
from occlp.terms.base import Term as Term
from occlp.terms.custom import CustomTerm as CustomTerm
from occlp.terms.custom import NamedUtility as NamedUtility
from occlp.terms.custom import Utility as Utility
from occlp.terms.divergences import KL as KL
from occlp.terms.divergences import ConditionalKL as ConditionalKL
from occlp.terms.divergences import JointTerm as JointTerm
from occlp.terms.divergences import PolicyTerm as PolicyTerm
from occlp.terms.entropies import OccupancyEntropy as OccupancyEntropy
from occlp.terms.entropies import PolicyEntropy as PolicyEntropy
from occlp.terms.entropies import StateEntropy as StateEntropy
from occlp.terms.entropies import StateTerm as StateTerm
from occlp.terms.utilities import LogSum as LogSum
from occlp.terms.utilities import LogTerm as LogTerm
from occlp.terms.utilities import TotalVariation as TotalVariation
from occlp.terms.utilities import VariationTerm as VariationTerm
from occlp.terms.utilities import WorstCase as WorstCase
from occlp.terms.utilities import WorstTerm as WorstTerm
