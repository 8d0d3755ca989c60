"""What a policy loses, pair by pair: where it goes, times how much worse its action there is than the best.

Exact natural policy gradient is stopped early. The table of its losses adds up to its distance from the optimum, so
it says which decisions are worth learning next.
"""

import numpy as np

import occlp as oc

mdp = oc.instances.get("russell-norvig-grid")
best = oc.solve(mdp)

for steps in (1, 2, 4, 8, 16):
    result = oc.solve(mdp, oc.NaturalPolicyGradient(), limit=oc.Limit(iterations=steps))
    short, lost = best.objective - result.objective, result.lost.sum()
    print(f"{steps:3} iterations: {short:.2e} below the optimum; the losses of all pairs sum to {lost:.2e}")

early = oc.solve(mdp, oc.NaturalPolicyGradient(), limit=oc.Limit(iterations=4))
order = np.argsort(early.lost, axis=None)[::-1]
print("\nafter 4 iterations, the dearest decisions:")
for state, action in zip(*np.unravel_index(order[:5], early.lost.shape), strict=True):
    cell, move = mdp.states[state], mdp.actions[action]
    share = early.lost[state, action] / early.lost.sum()
    print(
        f"  cell {cell}, {move:5}: {share:5.1%} of the loss "
        f"(its probability is {early.policy[cell][move]:.3f}, the best is {best.policy.actions[cell]})"
    )
