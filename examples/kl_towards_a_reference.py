"""Stay close to what is done today: a penalty on the divergence from the occupancy of a reference policy.

The strength buys closeness with reward. Two methods that have nothing in common, Newton's method on the dual and an
exponential-cone program, give the same certified answer.
"""

import occlp as oc

mdp = oc.instances.get("inventory")
today = oc.Policy.uniform(mdp)  # orders anything that fits, with equal probability
print(f"reference: {oc.evaluate(mdp, today).objective:.4f} a period")

print("\nstrength   reward   penalty   objective   gap")
for strength in (10.0, 1.0, 0.1, 0.01):
    problem = oc.Problem(mdp, regularizer=oc.KL(strength=strength, reference=today))
    result = oc.solve(problem)
    reward, objective = result.expected["reward"], result.objective
    print(f"{strength:8}   {reward:6.4f}   {reward - objective:7.4f}   {objective:9.4f}   {result.gap:.0e}")
print(f"optimum:   {oc.solve(mdp).objective:.4f}")

problem = oc.Problem(mdp, regularizer=oc.KL(strength=1.0, reference=today))
table = oc.compare(problem, [oc.KLDual(), oc.OccupancyProgram(backend="CLARABEL")])
print("\nstrength 1, two methods:")
for row in table.to_records():
    print(f"  {row['solver']:38} {row['status']}  {row['objective']:.8f}")
print("in an empty shop, orders of 0, 1, 2, ... with probability")
print("  dual   ", " ".join(f"{p:.4f}" for p in table["KLDual()"].policy[0].values()))
