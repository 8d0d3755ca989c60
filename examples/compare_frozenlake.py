"""A linear program, dynamic programming and policy gradients on one question, judged alike.

Needs gymnasium. Writes ``comparison.html``, one page that stands by itself, and ``convergence.png``.
"""

import occlp as oc

mdp = oc.interop.from_gymnasium("FrozenLake-v1", discount=0.99)
table = oc.compare(
    mdp,
    [
        oc.OccupancyProgram(),
        oc.PolicyIteration(),
        oc.ValueIteration(),
        oc.NaturalPolicyGradient(),
        oc.PolicyGradient(),
    ],
)
print(table)

# The optimum and the gradient's answer, laid side by side: how much of its time does the gradient spend elsewhere?
optimum, gradient = table["PolicyIteration()"], table["PolicyGradient()"]
distance = 0.5 * abs(optimum.occupancy - gradient.occupancy).sum()
print(f"\ntotal variation between the two occupancies: {distance:.4f}")

print("written:", table.report("comparison.html"))
table.plot("convergence.png")
