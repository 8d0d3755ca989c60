"""The occupancy program as a cvxpy problem, with a constraint of one's own that `oc.Problem` cannot express.

Here: stay within a distance of today's occupancy, h(d) = ‖d − d_today‖² ≤ b. Any convex h will do. The library's bounds
still prove the answer. With a price y ≥ 0 and the tangent of h at the answer, h(d) ≥ h(d̂) + g·(d − d̂), no policy that
keeps the constraint earns more than the best of the rewards r − y g, plus y (b − h(d̂) + g·d̂).
"""

import cvxpy as cp

import occlp as oc

LIMIT = 0.01

mdp = oc.instances.get("machine-repair")
problem = oc.Problem(mdp)
today = oc.evaluate(problem, oc.Policy.deterministic(mdp, {"new": "run", "worn": "repair", "broken": "repair"}))
print(f"today: {today.objective:.6f} a period; the best: {oc.solve(problem).objective:.6f}")

program = oc.OccupancyProgram().program(problem)  # maximise r·d; constraints "flow", "mass" and "nonnegative"
(occupancy,) = program.variables()  # [pairs]
near = cp.sum_squares(occupancy - today.pair_occupancy) <= LIMIT
constrained = cp.Problem(program.objective, [*program.constraints, near])
constrained.solve(solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12)

# Believe the policy, not the backend: evaluate it exactly.
policy = oc.Policy.from_occupancy(mdp, occupancy.value)
found = oc.evaluate(problem, policy)
change = found.pair_occupancy - today.pair_occupancy
distance = float(change @ change)
print(f"near today: {found.objective:.6f} a period, distance {distance:.6f}")

# The price of the constraint proves how good that is.
price, tangent = near.dual_value.item(), 2 * change
priced = oc.solve(mdp.replace(rewards=mdp.pair_rewards - price * tangent))
bound = priced.certificate.upper + price * (LIMIT - distance + tangent @ found.pair_occupancy)
print(f"price of distance {price:.3f}; no policy this near earns more than {bound:.6f}")
print(f"gap {bound - found.objective:.1e}; limit exceeded by {max(distance - LIMIT, 0):.0e}")
