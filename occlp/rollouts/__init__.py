"""Sampled trajectories of a policy: stored as arrays, or summed while they run.

The answer is a function of the model, the policy and the seed alone; the number of threads does not change a bit
of it, and the first trajectories of a larger sample are those of a smaller one.
"""

from __future__ import annotations

from occlp.rollouts.requests import rollout_totals as rollout_totals
from occlp.rollouts.requests import rollouts as rollouts
from occlp.rollouts.requests import terminal_states as terminal_states
from occlp.rollouts.sampler import Paths as Paths
from occlp.rollouts.sampler import Sampler as Sampler
from occlp.rollouts.sampler import Seed as Seed
from occlp.rollouts.samples import Rollouts as Rollouts
from occlp.rollouts.samples import RolloutTotals as RolloutTotals
