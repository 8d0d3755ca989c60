"""Policies with features: log-linear ones, and Gaussians on a grid of numeric actions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from occlp._typing import FloatArray
from occlp.errors import InvalidProblem
from occlp.model import Pairs
from occlp.policy import Policy
from occlp.solvers.policy_gradient.parametrizations.base import (
    PreferenceParametrization,
    log_of_policy,
    state_sums,
)


@dataclass(frozen=True, eq=False, repr=False)
class LogLinear(PreferenceParametrization):
    """Softmax of linear preferences, π(a | s) ∝ exp(φ(s, a) · θ); with two actions, logistic regression.

    Parameters
    ----------
    features : array [S, A, k] or [pairs, k]
        φ(s, a). Entries of pairs that do not exist are not looked at.

    Notes
    -----
    ∇ log π(a | s) = φ(s, a) − E_π φ(s, ·) (Sutton et al. 2000, section 2). A run that begins at a policy begins
    at the parameters whose log-probabilities are nearest, by least squares in each state up to its constant.

    Examples
    --------
    >>> import occlp as oc
    >>> mdp = oc.instances.get("machine-repair")
    >>> wear = np.arange(mdp.n_states)[:, None, None] * np.array([0.0, 1.0])[:, None]  # [S, A, 1]
    >>> result = oc.solve(mdp, oc.PolicyGradient(oc.parametrizations.LogLinear(wear)))
    >>> result.policy.probabilities[0]  # no feature tells the actions apart in the first state
    array([0.5, 0.5])
    """

    features: Any = field(repr=False)

    def initial(self, pairs: Pairs, policy: Policy | None) -> FloatArray:
        """Zeros (the uniform policy), or the nearest parameters to a policy."""
        features = _pair_features(pairs, self.features)
        if policy is None:
            return np.zeros(features.shape[1])
        return _least_squares(pairs, features, log_of_policy(policy))

    def preferences(self, pairs: Pairs, parameters: FloatArray) -> FloatArray:
        """φ · θ, [pairs]."""
        return _pair_features(pairs, self.features) @ parameters

    def preferences_vjp(self, pairs: Pairs, parameters: FloatArray, weights: FloatArray) -> FloatArray:
        """Σ w φ, [k]."""
        return weights @ _pair_features(pairs, self.features)

    def preferences_jvp(self, pairs: Pairs, parameters: FloatArray, direction: FloatArray) -> FloatArray:
        """φ · u, [pairs]."""
        return _pair_features(pairs, self.features) @ direction


@dataclass(frozen=True, eq=False, repr=False)
class Gaussian(PreferenceParametrization):
    """A normal density with mean φ(s) · w, taken at numeric actions and normalised on their grid.

    π(a | s) ∝ exp(−(x_a − φ(s) · w)² / (2σ²)) over the admissible actions of the state, x_a the action's number.

    Parameters
    ----------
    action_points : array [A]
        The number x_a of each action.
    features : array [S, k]
        φ(s), linear features of the mean.
    sigma : float
        σ, or where it begins if it is learnt.
    learn_sigma : bool
        Whether log σ is the last parameter.

    Notes
    -----
    On the grid the score of the mean is (x_a − E x)/σ² · φ(s), with the expectation over the grid, and that of
    log σ is ((x_a − μ)² − E(x − μ)²)/σ². The formulas of the continuous Gaussian, which have μ and σ² in the
    place of these expectations, have no zero mean here; the difference vanishes as the grid refines.
    """

    action_points: Any = field(repr=False)
    features: Any = field(repr=False)
    sigma: float = 1.0
    learn_sigma: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.sigma, bool) or not 0 < self.sigma < np.inf:
            raise InvalidProblem(f"sigma={self.sigma!r} must be positive and finite.")

    def initial(self, pairs: Pairs, policy: Policy | None) -> FloatArray:
        """Return the weights whose means are nearest to the middle of the actions, or to those of a policy."""
        points, features = self._points(pairs), self._features(pairs)
        probabilities = (Policy.uniform(pairs) if policy is None else policy).pair_probabilities
        means = state_sums(pairs, probabilities * points)
        weights = np.asarray(np.linalg.lstsq(features, means, rcond=None)[0], dtype=np.float64)
        if not self.learn_sigma:
            return weights
        width = self.sigma
        if policy is not None:
            spread = float(np.sqrt(state_sums(pairs, probabilities * (points - means[pairs.states]) ** 2).mean()))
            width = max(spread, 1e-3 * self.sigma)
        return np.append(weights, np.log(width))

    def preferences(self, pairs: Pairs, parameters: FloatArray) -> FloatArray:
        """−(x − μ)²/(2σ²), [pairs]."""
        offset, sigma = self._offset(pairs, parameters)
        return -0.5 * (offset / sigma) ** 2

    def preferences_vjp(self, pairs: Pairs, parameters: FloatArray, weights: FloatArray) -> FloatArray:
        """Σ w (x − μ)/σ² φ, and Σ w (x − μ)²/σ² for log σ, [k]."""
        offset, sigma = self._offset(pairs, parameters)
        out = state_sums(pairs, weights * offset / sigma**2) @ self._features(pairs)
        return np.append(out, weights @ (offset / sigma) ** 2) if self.learn_sigma else out

    def preferences_jvp(self, pairs: Pairs, parameters: FloatArray, direction: FloatArray) -> FloatArray:
        """(x − μ)/σ² φ · u, and (x − μ)²/σ² for log σ, [pairs]."""
        offset, sigma = self._offset(pairs, parameters)
        features = self._features(pairs)
        out = offset / sigma**2 * (features @ direction[: features.shape[1]])[pairs.states]
        return out + direction[-1] * (offset / sigma) ** 2 if self.learn_sigma else out

    def _offset(self, pairs: Pairs, parameters: FloatArray) -> tuple[FloatArray, float]:
        """x_a − μ(s), [pairs], and σ."""
        features = self._features(pairs)
        mean = features @ parameters[: features.shape[1]]
        sigma = float(np.exp(parameters[-1])) if self.learn_sigma else float(self.sigma)
        return self._points(pairs) - mean[pairs.states], sigma

    def _points(self, pairs: Pairs) -> FloatArray:
        points = np.asarray(self.action_points, dtype=np.float64)
        if points.shape != (pairs.n_actions,) or not np.isfinite(points).all():
            raise InvalidProblem(
                f"action_points= needs one finite number for each of the {pairs.n_actions} actions, not shape "
                f"{list(points.shape)}."
            )
        return points[pairs.actions]

    def _features(self, pairs: Pairs) -> FloatArray:
        features = np.asarray(self.features, dtype=np.float64)
        if features.ndim != 2 or len(features) != pairs.n_states or not np.isfinite(features).all():
            raise InvalidProblem(
                f"features= of a Gaussian is a finite array [S, k] with S = {pairs.n_states}, not of shape "
                f"{list(features.shape)}."
            )
        return features


def _pair_features(pairs: Pairs, features: Any) -> FloatArray:
    """φ as [pairs, k]."""
    array = np.asarray(features, dtype=np.float64)
    if array.ndim == 3 and array.shape[:2] == (pairs.n_states, pairs.n_actions):
        array = array[pairs.states, pairs.actions]
    if array.ndim != 2 or len(array) != pairs.n_pairs:
        raise InvalidProblem(
            f"features= of a LogLinear is [S, A, k] = [{pairs.n_states}, {pairs.n_actions}, k] or [pairs, k] = "
            f"[{pairs.n_pairs}, k], not of shape {list(array.shape)}."
        )
    if not np.isfinite(array).all():
        pair = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise InvalidProblem(f"features= holds a number that is not finite for {pairs.describe(pair)}.")
    return array


def _least_squares(pairs: Pairs, features: FloatArray, target: FloatArray) -> FloatArray:
    """θ with φ·θ nearest to the target, both less their means in each state."""
    counts = np.diff(pairs.start)
    mean = np.add.reduceat(features, pairs.start[:-1], axis=0) / counts[:, None]
    centred = target - (state_sums(pairs, target) / counts)[pairs.states]
    return np.asarray(np.linalg.lstsq(features - mean[pairs.states], centred, rcond=None)[0], dtype=np.float64)
