"""Averages: the policy of an occupancy whose mass lies in classes that nothing joins.

Constraints may be kept only by a mixture of policies that each stay in a class of their own. The policy of the
mixture's occupancy then stays in whichever it comes to first. With a small share of an occupancy that goes
everywhere, it is stationary under its own policy: classes are left so seldom that the shares of time are those of the
mixture.
"""

from __future__ import annotations

import numpy as np

from occlp._typing import FloatArray
from occlp.chains.chain import policy_chain
from occlp.evaluation import assess
from occlp.policy import Policy
from occlp.standard import StandardForm

#: Share of an occupancy that goes everywhere, where there is no other way from class to class.
JOIN = 1e-11


def joined_policy(form: StandardForm, occupancy: FloatArray, elsewhere: Policy) -> Policy:
    """The policy of an occupancy [pairs], and another one where it has no mass, whose classes are joined."""
    policy = Policy.from_occupancy(elsewhere.pairs, occupancy, elsewhere)
    if form.rest > 0 or policy_chain(form, policy.pair_probabilities).n_classes == 1:
        return policy
    evenly = 1.0 / form.on_pairs(np.diff(form.start).astype(np.float64))
    everywhere = assess(form, evenly).pair_occupancy
    return Policy.from_occupancy(elsewhere.pairs, occupancy + JOIN * everywhere, elsewhere)
