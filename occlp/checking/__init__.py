"""One public battery that any solver must pass."""

from __future__ import annotations

from occlp.checking.battery import SolverCheck as SolverCheck
from occlp.checking.battery import check_solver as check_solver
