"""A budget on a cost, what it is worth, and what happens when no policy can keep it.

The price of a constraint is what the objective gains when the bound is relaxed by one unit.
"""

import occlp as oc

mdp = oc.instances.get("machine-repair")
free = oc.solve(mdp)
print(f"free:   {free.objective:.4f} a period, wear {free.expected['wear']:.4f}, {free.policy.actions}")

for budget in (0.3, 0.25, 0.1, 0.0):
    problem = oc.Problem(mdp, constraints={"budget": oc.expected("wear") <= budget})
    result = oc.solve(problem)
    print(
        f"{budget:6}: {result.objective:.4f} a period, wear {result.expected['wear']:.4f}, "
        f"price {result.multipliers['budget']:.4f}, repairs a worn machine with {result.policy['worn', 'repair']:.4f}"
    )

# The price is a derivative: the same from two budgets nearby.
low, high = (oc.solve(oc.Problem(mdp, constraints=[oc.expected("wear") <= b])).objective for b in (0.2499, 0.2501))
print(f"difference quotient at 0.25: {(high - low) / 0.0002:.4f}")

# Constraints may contradict each other. The error names a smallest set that does, and what would be enough.
try:
    oc.solve(
        oc.Problem(
            mdp,
            constraints={
                "budget": oc.expected("wear") <= 0.1,
                "busy": oc.visits(actions="run") >= 19,  # discounted visits; all pairs together are 1 / (1 − γ) = 20
                "earning": oc.expected("reward") >= 1,
            },
        )
    )
except oc.Infeasible as error:
    print(error)
