"""Semi-Markov and continuous-time models: sojourns of any length, as a model whose steps are equally long.

With ω(s, a) decisions in a unit of (discounted) time, staying longer becomes staying with a higher
probability: r → ωr, P → I + ω(Q − I), up to a common factor (Schweitzer 1971; Puterman 1994, sections 11.4
and 11.5). The occupancy of the new model is the fraction of time, no longer the fraction of decisions.
"""

from __future__ import annotations

from occlp.semi_markov.construction import continuous_time as continuous_time
from occlp.semi_markov.construction import semi_markov as semi_markov
from occlp.semi_markov.process import SemiMarkov as SemiMarkov
