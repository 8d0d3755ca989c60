"""Finite horizons: backward induction, policies that depend on the time, and results sorted by time."""

from __future__ import annotations

from occlp.horizon.by_time import ByTime as ByTime
from occlp.horizon.by_time import by_time as by_time
from occlp.horizon.induction import HorizonResult as HorizonResult
from occlp.horizon.induction import backward_induction as backward_induction
from occlp.horizon.timed_policy import TimedPolicy as TimedPolicy
