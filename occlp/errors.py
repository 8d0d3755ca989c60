"""Every exception and warning that occlp raises on purpose.

::

    OccupancyError
    ├── InvalidModel (ValueError)      the numbers given are not a Markov decision process
    ├── InvalidProblem (ValueError)    the question makes no sense for this model
    ├── Unsupported                    the question makes sense; this solver cannot answer it
    ├── BackendMissing (ImportError)   an optional package or a cvxpy backend is not installed
    ├── AuditFailed                    ``oc.verify`` found a certificate that does not hold
    ├── BrokenSolver                   ``oc.check_solver`` found a solver that breaks its contract; carries ``.checks``
    └── SolveError                     a solve ended without the answer; carries ``.result``
        ├── Infeasible                 proved: no policy meets the constraints
        ├── Unbounded                  proved: the objective has no finite optimum
        └── NotCertified               the gap promised was not reached

    ModelWarning (UserWarning)         the model was accepted, with a departure worth knowing
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from occlp.checking.battery import SolverCheck
    from occlp.result import Result


class OccupancyError(Exception):
    """Base class of all errors that occlp raises on purpose."""


class InvalidModel(OccupancyError, ValueError):
    """The numbers given do not form a Markov decision process.

    The message names the state, the action and the offending value, and says what to do.
    """


class InvalidProblem(OccupancyError, ValueError):
    """The question does not make sense for this model (a discount of 1, an unknown cost name, ...)."""


class Unsupported(OccupancyError):
    """The chosen solver cannot answer this question; the message names what can."""


class BackendMissing(OccupancyError, ImportError):
    """An optional package or a cvxpy backend is not installed; the message says which are."""


class AuditFailed(OccupancyError):
    """An independent audit found that a result does not follow from its certificate."""


class BrokenSolver(OccupancyError):
    """A solver does not do what every solver must.

    Attributes
    ----------
    checks : tuple of SolverCheck
        Every check with its outcome.
    """

    def __init__(self, message: str, checks: tuple[SolverCheck, ...]) -> None:
        super().__init__(message)
        self.checks = checks

    def __reduce__(self) -> tuple[type[BrokenSolver], tuple[str, tuple[SolverCheck, ...]]]:
        return type(self), (str(self), self.checks)


class SolveError(OccupancyError):
    """A solve ended without the answer that was asked for.

    Attributes
    ----------
    result : Result
        What was found all the same: the best policy, its certificate and the reason in ``status``.
    """

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[type[SolveError], tuple[str, Result]]:
        return type(self), (str(self), self.result)


class Infeasible(SolveError):
    """It is proved that no policy meets the constraints."""


class Unbounded(SolveError):
    """It is proved that the objective has no finite optimum."""


class NotCertified(SolveError):
    """The gap that was asked for could not be certified."""


class ModelWarning(UserWarning):
    """The model was accepted, but something in it is worth knowing."""
