"""The occupancy program as a cvxpy problem, with a constraint of one's own added to it.

Constraints are not in `oc.Problem` yet. The program is, so cvxpy solves them; and the bounds of the library still
prove the answer: with a price y ≥ 0 on "wear ≤ b", nothing can earn more than the best of r − y·wear, plus y·b.
"""

import cvxpy as cp

import occlp as oc

BUDGET = 0.25

mdp = oc.instances.get("machine-repair")
problem = oc.Problem(mdp)
free = oc.solve(problem)
print(f"free:        {free.objective:.6f} a period, wear {free.expected['wear']:.6f}")

program = oc.OccupancyProgram().program(problem)  # maximise r·d; constraints "flow", "mass" and "nonnegative"
(occupancy,) = program.variables()  # [pairs]
budget = mdp.pair_costs["wear"] @ occupancy <= BUDGET
constrained = cp.Problem(program.objective, [*program.constraints, budget])
constrained.solve(solver="CLARABEL")

# Believe the policy, not the backend: evaluate it exactly.
policy = oc.Policy.from_occupancy(mdp, occupancy.value)
found = oc.evaluate(problem, policy)
print(f"constrained: {found.objective:.6f} a period, wear {found.expected['wear']:.6f}")
print(f"in state worn: {policy['worn']['repair']:.4f} repair")

# The price of the constraint proves how good that is.
price = float(budget.dual_value)
priced = oc.solve(mdp.replace(rewards=mdp.pair_rewards - price * mdp.pair_costs["wear"]))
bound = priced.certificate.upper + price * BUDGET
print(f"price of wear {price:.4f}; no policy within the budget earns more than {bound:.6f}")
print(f"gap {max(bound - found.objective, 0):.0e}, budget exceeded by {max(found.expected['wear'] - BUDGET, 0):.0e}")
