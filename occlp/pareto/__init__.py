"""Families of questions: fronts of several objectives, the optimum along a bound or along a strength."""

from __future__ import annotations

from occlp.pareto.curve import LimitCurve as LimitCurve
from occlp.pareto.curve import limit_curve as limit_curve
from occlp.pareto.front import Front as Front
from occlp.pareto.front import pareto as pareto
from occlp.pareto.strengths import RegularizationPath as RegularizationPath
from occlp.pareto.strengths import path as path
