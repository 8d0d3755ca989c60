"""Time-0 mixtures: one deterministic policy is drawn at the start and followed for ever.

The occupancies of all policies are the convex hull of those of deterministic ones. So any stationary
policy, however it randomises, can be replaced by a lottery over deterministic policies that is held once:
same occupancy, same expectations, but a plan without dice for whoever carries it out. Sources:
Altman (1999), chapter 3; Feinberg and Rothblum, Splitting randomized stationary policies in total-reward
Markov decision processes, Mathematics of Operations Research 37 (2012).
"""

from __future__ import annotations

from occlp.mixture.lottery import Mixture as Mixture
from occlp.mixture.lottery import MixtureEvaluation as MixtureEvaluation
from occlp.mixture.splitting import mixture as mixture
from occlp.mixture.splitting import purify as purify
