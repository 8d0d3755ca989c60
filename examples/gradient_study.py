"""Policy gradients and saddle points, several seeds, four models: what is left of the loss after as many samples.

`python examples/gradient_study.py 10 1000000` runs ten seeds with a million samples each; the default is small. Every
figure is exact: policies are evaluated by linear algebra, and the optimum is known from policy iteration. A page with
all runs and a picture of medians and bands are written for each model.
"""

from __future__ import annotations

import sys

import numpy as np

import occlp as oc

SEEDS = int(sys.argv[1]) if len(sys.argv) > 1 else 2
SAMPLES = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000

swim = oc.instances.get("riverswim", discount=0.95)
MODELS = {
    "machine repair": oc.instances.get("machine-repair"),
    "riverswim": swim.replace(initial=np.full(swim.n_states, 1 / swim.n_states)),
    "random": oc.instances.get("garnet", n_states=30, n_actions=4, branching=3, seed=7, discount=0.9),
    "two states": oc.instances.get("kakade-two-state"),
}
ESTIMATORS = oc.estimators
METHODS = {
    "total return": oc.Reinforce(returns="total", steps=10**6),
    "REINFORCE": oc.Reinforce(steps=10**6),
    "REINFORCE, baseline": oc.Reinforce(baseline="average", steps=10**6),
    "REINFORCE, no gamma^t": oc.Reinforce(baseline="average", discounting="drop", steps=10**6),
    "actor-critic": oc.ActorCritic(steps=10**6),
    "A2C": oc.A2C(steps=10**6),
    "natural, sampled": oc.NaturalPolicyGradient(0.05, 10**6, estimator=ESTIMATORS.MonteCarlo(baseline="average")),
    "TRPO": oc.TRPO(steps=10**6),
    "PPO": oc.PPO(steps=10**6),
    "saddle point, sampled": oc.SampledSaddlePoint(steps=SAMPLES // 64),
    "saddle point, exact": oc.SaddlePoint(),
    "natural, exact": oc.NaturalPolicyGradient(),
}

print(f"loss left, in per cent of the uniform policy's: median (worst) of {SEEDS} seeds, {SAMPLES} samples")
print(f"{'':24}" + "".join(f"{name:>18}" for name in MODELS))
left: dict[str, list[str]] = {name: [] for name in METHODS}
for model, mdp in MODELS.items():
    best = oc.solve(mdp).objective
    first = best - oc.evaluate(mdp, oc.Policy.uniform(mdp)).objective
    table = oc.compare(mdp, METHODS, seeds=SEEDS, limit=oc.Limit(samples=SAMPLES))
    table.plot_seeds(f"study of {model}.png")
    table.report(f"study of {model}.html")
    for name in METHODS:
        losses = [100 * row.result.gap / first for row in table if row.name == name and row.result is not None]
        left[name].append(f"{np.median(losses):8.2f} ({max(losses):6.2f})")
for name, cells in left.items():
    print(f"{name:24}" + "".join(f"{cell:>18}" for cell in cells))
