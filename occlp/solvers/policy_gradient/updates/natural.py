"""Natural steps: along the gradient in the metric of the Fisher matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from occlp._typing import FloatArray
from occlp.arguments import check_positive, check_word
from occlp.errors import InvalidProblem
from occlp.parallel import inner_product
from occlp.solvers.policy_gradient.parametrizations import Parametrization, Softmax
from occlp.solvers.policy_gradient.updates.base import Landscape, Position, Update, advance, needs_step

#: Conjugate gradients stop when the residual is this small, relative to the right-hand side.
RESIDUAL = 1e-10


@dataclass(frozen=True, repr=False)
class NaturalStep(Update):
    """Natural gradient, θ ← θ + η F⁺∇J, with F = Σ d(s) π(a | s) ∇log π ∇log πᵀ.

    Parameters
    ----------
    step_size : float, optional
        A fixed η. Default: a line search as in `GradientStep`, begun at a step that moves no logit
        by more than one; for exact estimators.
    fisher : {"expected", "sampled"}
        Whether the mean over the actions in F is taken with the policy's probabilities, or over the visits
        of the estimator; the same for exact ones. With "sampled", F⁺∇J is the least-squares fit of the advantages
        by the compatible features ∇log π (Kakade 2001, Theorem 1; Peters and Schaal 2008).
    damping : float
        A multiple of the identity added to F, relative to the mean of its diagonal.

    Notes
    -----
    For tabular softmax F⁺∇J is A / (1 − γ) plus a constant in each state where d(s) > 0 and zero elsewhere, and the
    step is mirror descent in the policy, π ∝ π exp(η Q / (1 − γ)). Other parametrizations solve with F by
    conjugate gradients, from products alone; where they allow fewer products (a `Network`: ten) than the solution
    takes, the direction is the best in the space that the products span, and still uphill. Source: Kakade (2001).
    """

    step_size: float | None = None
    fisher: str = "expected"
    damping: float = 0.0

    def __post_init__(self) -> None:
        check_positive("step_size", self.step_size, none="a line search")
        check_fisher(self.fisher, self.damping)

    def unsupported(self, parametrization: Parametrization, *, is_sampled: bool) -> str | None:
        """Return why this update cannot be joined with these other two choices, or None."""
        return needs_step(self.step_size, is_sampled=is_sampled)

    def step(self, landscape: Landscape, position: Position) -> Position | None:
        """Move along the natural gradient."""
        direction = landscape.unit * natural_direction(landscape, position, self.fisher, self.damping)
        slope = float(landscape.gradient(position) @ direction)
        return advance(landscape, position, direction, slope, self.step_size)


def natural_direction(landscape: Landscape, position: Position, fisher: str, damping: float) -> FloatArray:
    """F⁺ Σ v ∇π for the slopes v of an estimate, on the normalised scale, [k]."""
    form, estimate = landscape.form, position.estimate
    if isinstance(landscape.parametrization, Softmax) and damping == 0:
        mass = np.add.reduceat(estimate.pair_mass, form.start[:-1])[form.states]
        if not landscape.is_sampled:
            return np.where(mass > 0, estimate.advantages, 0.0)
        if fisher == "expected":
            probabilities = landscape.probabilities(position.parameters)
            slopes = estimate.slopes - np.add.reduceat(probabilities * estimate.slopes, form.start[:-1])[form.states]
            return np.where(mass > 0, slopes / np.where(mass > 0, mass, 1.0), 0.0)
    gradient = landscape.pullback(position.parameters, estimate.slopes)
    products = landscape.parametrization.most_products
    return conjugate_gradients(fisher_product(landscape, position, fisher, damping), gradient, products)


def fisher_product(
    landscape: Landscape, position: Position, fisher: str, damping: float
) -> Callable[[FloatArray], FloatArray]:
    """Return u ↦ F u + δ u, F = Σ m(s, a) ∇log π ∇log πᵀ."""
    form, parameters, masses = landscape.form, position.parameters, position.estimate.pair_mass
    if fisher == "expected":
        masses = np.add.reduceat(masses, form.start[:-1])[form.states] * landscape.probabilities(parameters)
    product = landscape.parametrization.fisher(landscape.pairs, parameters, masses)
    if damping == 0:
        return product
    # The mean of the diagonal, from one random product (Hutchinson 1990) with a fixed sign pattern.
    signs = np.where(np.random.default_rng(0).random(len(parameters)) < 0.5, -1.0, 1.0)
    shift = damping * abs(float(inner_product(signs, product(signs)))) / len(parameters)
    return lambda direction: product(direction) + shift * direction


def conjugate_gradients(
    product: Callable[[FloatArray], FloatArray], right: FloatArray, most_products: int
) -> FloatArray:
    """Solve with a positive semidefinite matrix; begun at zero, so the shortest solution where there are many.

    Source: Hestenes and Stiefel (1952).
    """
    out, residual = np.zeros_like(right), right.copy()
    direction, size = residual.copy(), float(inner_product(right, right))
    target, largest = RESIDUAL**2 * size, 0.0
    for _ in range(min(most_products, 2 * len(right))):
        if size <= target:
            break
        image = product(direction)
        curvature = float(inner_product(direction, image))
        norm = float(inner_product(direction, direction))
        largest = max(largest, curvature / norm)
        if curvature <= np.finfo(float).eps * largest * norm:  # what is left lies in the null space
            break
        length = size / curvature
        out = out + length * direction
        residual = residual - length * image
        before, size = size, float(inner_product(residual, residual))
        direction = residual + size / before * direction
    return out


def check_fisher(fisher: str, damping: float) -> None:
    """Raise `InvalidProblem` for an unknown kind of Fisher matrix or a damping that makes no sense."""
    check_word(fisher, "fisher", ("expected", "sampled"))
    if isinstance(damping, bool) or not 0 <= damping < np.inf:
        raise InvalidProblem(f"damping={damping!r} must be finite and not negative.")
