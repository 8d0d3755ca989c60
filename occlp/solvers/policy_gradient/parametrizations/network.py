"""Any outside function that maps parameters to logits, with its derivative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from occlp._typing import FloatArray
from occlp.errors import InvalidProblem
from occlp.model import Pairs
from occlp.policy import Policy
from occlp.solvers.policy_gradient.parametrizations.base import PreferenceParametrization

#: Step of the central difference, relative to the size of the parameters: (machine epsilon)^(1/3).
DIFFERENCE = 6e-6


@dataclass(frozen=True, eq=False, repr=False)
class Network(PreferenceParametrization):
    """A softmax of logits from any function: a neural network in numpy, PyTorch or JAX.

    Parameters
    ----------
    logits : callable
        ``logits(parameters) -> h`` for parameters [k]; h is [S, A], or [pairs].
    vjp : callable
        ``vjp(parameters, weights) -> Σ w(s, a) ∇h(s, a)`` [k], for weights of the shape of h. Weights of pairs
        that do not exist are zero.
    parameters : FloatArray [k]
        Where a run begins.
    jvp : callable, optional
        ``jvp(parameters, direction) -> ∇h · u`` of the shape of h, for natural steps and trust regions. Default: a
        central difference of the logits, good to about ten digits.

    Notes
    -----
    The functions must be importable (no lambdas) if the solver is to be sent to other processes. A gradient takes one
    call of each; natural steps and trust regions solve with the Fisher matrix in ten products at most, which is what
    Schulman et al. (2015, appendix C.1) do: each takes one vjp, and one jvp or two calls of the logits.
    """

    most_products = 10

    logits: Callable[[FloatArray], Any] = field(repr=False)
    vjp: Callable[[FloatArray, FloatArray], Any] = field(repr=False)
    parameters: Any = field(repr=False)
    jvp: Callable[[FloatArray, FloatArray], Any] | None = field(default=None, repr=False)

    def initial(self, pairs: Pairs, policy: Policy | None) -> FloatArray:
        """Return the parameters given; no others are known for a policy."""
        if policy is not None:
            raise InvalidProblem("a Network cannot begin at a policy (start=): give parameters= to begin with.")
        parameters = np.array(self.parameters, dtype=np.float64).ravel()
        found = np.shape(self.logits(parameters))
        if found not in ((pairs.n_pairs,), (pairs.n_states, pairs.n_actions)):
            raise InvalidProblem(
                f"the network's logits have shape {list(found)}; this model needs [S, A] = "
                f"[{pairs.n_states}, {pairs.n_actions}] or [pairs] = [{pairs.n_pairs}]."
            )
        gradient = np.shape(self.vjp(parameters, np.zeros(found)))
        if gradient != parameters.shape:
            raise InvalidProblem(
                f"the network's vjp has shape {list(gradient)}, its parameters {list(parameters.shape)}."
            )
        return parameters

    def preferences(self, pairs: Pairs, parameters: FloatArray) -> FloatArray:
        """Return the logits of the function, [pairs]."""
        found = _pair_values(pairs, self.logits(parameters))
        if not np.isfinite(found).all():
            pair = int(np.flatnonzero(~np.isfinite(found))[0])
            raise InvalidProblem(f"the network's logit of {pairs.describe(pair)} is {found[pair]}.")
        return found

    def preferences_vjp(self, pairs: Pairs, parameters: FloatArray, weights: FloatArray) -> FloatArray:
        """Return the function's own product, [k]."""
        shaped = pairs.table(weights, 0.0) if self._is_table else weights
        return np.asarray(self.vjp(parameters, shaped), dtype=np.float64)

    def preferences_jvp(self, pairs: Pairs, parameters: FloatArray, direction: FloatArray) -> FloatArray:
        """Return the function's own product, or a central difference, [pairs]."""
        if self.jvp is not None:
            return _pair_values(pairs, self.jvp(parameters, direction))
        size = float(np.abs(direction).max(initial=0.0))
        if size == 0:
            return np.zeros(pairs.n_pairs)
        step = DIFFERENCE * max(float(np.abs(parameters).max()), 1.0) / size
        forward, back = (self.preferences(pairs, parameters + sign * step * direction) for sign in (1, -1))
        return (forward - back) / (2 * step)

    @cached_property
    def _is_table(self) -> bool:
        """Whether the logits are [S, A]."""
        return np.ndim(self.logits(np.array(self.parameters, dtype=np.float64).ravel())) == 2


def _pair_values(pairs: Pairs, values: Any) -> FloatArray:
    """[pairs] of what is given as [S, A] or [pairs]."""
    array = np.asarray(values, dtype=np.float64)
    return array[pairs.states, pairs.actions] if array.ndim == 2 else array
