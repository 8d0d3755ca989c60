"""A PyTorch network as the policy, trained by exact and by sampled gradients against the true optimum.

occlp never looks inside: it asks for logits, and for products of weights with their derivative, which autograd gives.
Needs `pip install torch`; everything else runs without it.
"""

from __future__ import annotations

import sys

import numpy as np

import occlp as oc

try:
    import torch
except ImportError:
    sys.exit("This example needs PyTorch: pip install torch")

torch.manual_seed(0)
torch.set_num_threads(1)  # the network is tiny
torch.set_default_dtype(torch.float64)

grid = oc.instances.get("hazard-gridworld")
cells = torch.tensor(grid.states, dtype=torch.float64)
inputs = (cells - cells.mean(0)) / cells.std(0)  # the network sees a cell's row and column
network = torch.nn.Sequential(torch.nn.Linear(2, 24), torch.nn.Tanh(), torch.nn.Linear(24, grid.n_actions))
shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
start = torch.nn.utils.parameters_to_vector(network.parameters()).detach()


def forward(parameters: torch.Tensor) -> torch.Tensor:
    """Logits [S, A] of a flat vector of parameters."""
    sizes = [shape.numel() for shape in shapes.values()]
    parts = [part.view(shape) for part, shape in zip(parameters.split(sizes), shapes.values(), strict=True)]
    return torch.func.functional_call(network, dict(zip(shapes, parts, strict=True)), (inputs,))


def logits(parameters: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return forward(torch.from_numpy(parameters)).numpy()


def vjp(parameters: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return torch.func.vjp(forward, torch.from_numpy(parameters))[1](torch.from_numpy(weights))[0].numpy()


policy = oc.parametrizations.Network(logits, vjp, start.numpy())
uniform = oc.evaluate(grid, oc.Policy.uniform(grid)).objective
best = oc.solve(grid).objective
METHODS = {
    "natural gradient, exact": oc.NaturalPolicyGradient(steps=100, parametrization=policy),
    "TRPO, exact": oc.TRPO(steps=60, parametrization=policy, estimator=oc.estimators.Exact()),
    "gradient, exact": oc.PolicyGradient(policy, update=oc.updates.GradientStep(0.05, adaptive=True), steps=100),
    "PPO, sampled": oc.PPO(steps=100, parametrization=policy),
}
print(f"{len(start)} parameters for {grid.n_pairs} pairs; optimum {best:.4f}, uniform policy {uniform:.4f}")
for name, method in METHODS.items():
    run = oc.solve(grid, method, rng=0)
    print(f"{name:24} {run.objective:.4f}  certified within {run.gap:.1e}, {run.samples} samples")
