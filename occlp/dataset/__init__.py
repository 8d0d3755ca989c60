"""Sampled data of a behaviour policy, and what they tell of another policy.

`Dataset` holds transitions or trajectories. The estimators are importance sampling along trajectories, doubly
robust estimation, and reweighting by the ratio of occupancies d^π / d^D; each returns an `Estimate` with its
standard error, and refuses where the data have no support for what the policy does.
"""

from __future__ import annotations

from occlp.dataset.coverage import Coverage as Coverage
from occlp.dataset.data import Dataset as Dataset
from occlp.dataset.estimate import Estimate as Estimate
from occlp.dataset.gradient import score_weights as score_weights
from occlp.dataset.importance import importance_sampling as importance_sampling
from occlp.dataset.robust import doubly_robust as doubly_robust
from occlp.dataset.stationary import RatioEstimate as RatioEstimate
from occlp.dataset.stationary import estimate_ratio as estimate_ratio
from occlp.dataset.stationary import marginalized_importance_sampling as marginalized_importance_sampling
